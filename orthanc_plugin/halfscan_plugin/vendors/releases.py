"""Which releases offer the vendor's own deep learning: one table, one policy.

- A mark that a vendor's reader knows decides, on or off.
- A release from before the product: false.
- Any other release, where no mark can be read: it cannot be ruled out, and the answer is null. So
  it is where the vendor is not listed, or no mark of its product is known, whatever the release.
- No release is named, and the product leaves a mark that is known: null as well, but nothing
  speaks for it. (SoftwareVersions is mandatory in enhanced objects, PS3.3 C.7.5.2.) Nor does
  anything in a simulation of ours.
"""

import re
from dataclasses import dataclass

from pydicom import Dataset

from halfscan_plugin.headers import text
from halfscan_plugin.vendors.findings import Findings, evidence_of

__all__ = ["PRODUCTS", "Product", "conclude_deep_learning"]


@dataclass(frozen=True, slots=True)
class Product:
    r"""A vendor's deep learning.

    Parameters
    ----------
    manufacturers : tuple of str
        Upper-case beginnings of (0008,0070) Manufacturer.
    name : str
        What it is called.
    before : re.Pattern
        Found in (0018,1020) SoftwareVersions, whose values are joined by ``\``, of releases from
        before the product.
    marked : bool
        Whether the vendor's reader knows the mark that it leaves.
    """

    manufacturers: tuple[str, ...]
    name: str
    before: re.Pattern[str]
    marked: bool


SIEMENS_BEFORE = re.compile(r"V[A-E]\d|syngo.?MR.?(?:\d{4}|[A-E]\d)|XA[12]\d", re.IGNORECASE)
GE_BEFORE = re.compile(r"\A(?:0?\d|1\d|2[0-6])(?:[\\.]|\Z)|[A-Z]{2}(?:1\d|2[0-6])\.\d")
PHILIPS_BEFORE = re.compile(r"\A(?:[1-4]\.|5\.[0-7](?!\d))")
PRODUCTS = (
    # Deep Resolve Gain and Sharp came with XA31 (510(k) K203443, whose predecessor is XA20).
    Product(("SIEMENS",), "Deep Resolve", SIEMENS_BEFORE, marked=True),
    # AIR Recon DL was cleared in April 2020 (K193282), when release 27 was current.
    Product(("GE ", "GEMS"), "AIR Recon DL or Sonic DL", GE_BEFORE, marked=True),
    # SmartSpeed AI was seen in release 11; what came between 5.7 and 11 was not.
    Product(("PHILIPS",), "SmartSpeed AI", PHILIPS_BEFORE, marked=True),
    # AiCE came with V6.0, PIQE with V8.0.
    Product(("CANON", "TOSHIBA"), "AiCE or PIQE", re.compile(r"\AV[0-5]\."), marked=False),
    # ACS came after these (2018).
    Product(("UIH", "UNITED IMAGING"), "ACS", re.compile(r"\AR00[12]\s*\Z"), marked=False),
    # Hitachi's V5.0 is of 2015 (K151015).
    Product(("FUJIFILM", "HITACHI"), "deep learning", re.compile(r"\AV[1-5]\."), marked=False),
)
SIMULATIONS = ("HALFSCAN",)  # what `halfscan simulate` writes


def conclude_deep_learning(header: Dataset, manufacturer: str, findings: Findings) -> None:
    """Conclude on deep learning from vendor and release, where no mark decides.

    Parameters
    ----------
    header : Dataset
        The object.
    manufacturer : str
        (0008,0070) Manufacturer in capitals.
    findings : Findings
        Takes ``deep_learning``, or ``deep_learning_possible`` where it cannot be ruled out.
    """
    if "deep_learning" in findings.facts or manufacturer.startswith(SIMULATIONS):
        return
    product = next((row for row in PRODUCTS if manufacturer.startswith(row.manufacturers)), None)
    if product is None:
        says = "a vendor whose deep learning leaves no known mark, if it has any"
        findings.add("deep_learning_possible", True, evidence_of(header, "Manufacturer", says))
        return
    release = text(header, "SoftwareVersions").strip()
    if product.before.search(release):
        says = f"a release from before {product.name}"
        findings.add("deep_learning", False, evidence_of(header, "SoftwareVersions", says))
    elif release or not product.marked:
        says = f"{product.name} cannot be ruled out: no mark of it can be read"
        evidence = evidence_of(header, "SoftwareVersions", says)
        findings.add("deep_learning_possible", True, evidence)
