"""Canon, and Toshiba as it was called before.

V6.1 writes the standard's attributes at the top level. V5.0 writes that parallel imaging was on,
without a factor: accelerated, by an unknown factor. The console's protocol, a text with tags in
(700D,xx19) of ``CANON_MEC_MR3^10``, holds the multiband factor (``MLTBF``) and the switch of the
noise reductions (``NRFLG``), of which AiCE is one. No object with AiCE on was seen: that 0 means
off is read from the names, and anything else stays unknown.
"""

import re

from pydicom import Dataset

from halfscan_plugin.headers import text, texts
from halfscan_plugin.vendors.findings import Evidence, Findings, evidence_of, tag_text
from halfscan_plugin.vendors.places import Block, find, private_places, public_places
from halfscan_plugin.vendors.standard import parallel_acquisition

__all__ = ["read"]

PROTOCOL = Block(0x700D, "CANON_MEC_MR3^10")
PROTOCOL_LOW = 0x19
LONGEST = 1 << 18  # bytes; seen: 10,000
MULTIBAND, NOISE_REDUCTION = "MLTBF", "NRFLG"
RELEASE = re.compile(r"V(\d+)\.")
# Compressed SPEEDER came with V6.0; up to V6 it is no technique for EPI.
FIRST_COMPRESSED = 6


def read(header: Dataset, findings: Findings) -> None:
    """Add what Canon's attributes say beyond the standard's reading of them."""
    places = public_places(header)
    flagged = [place for place in places if text(place, "ParallelAcquisition") == "YES"]
    if parallel_acquisition(places) and "in_plane_factor" not in findings.facts:
        says = "accelerated, by a factor that is not written"
        evidence = evidence_of(flagged[0], "ParallelAcquisition", says)
        findings.conclude("unknown_factor", True, evidence)
    _read_protocol(header, findings)
    _read_release(header, findings)


def _read_protocol(header: Dataset, findings: Findings) -> None:
    found = find(private_places(header, PROTOCOL.group), PROTOCOL, PROTOCOL_LOW)
    data = None if found is None else found.value
    if found is None or not isinstance(data, bytes):
        return

    def value_of(name: str) -> str | None:
        pattern = rf"<{name}>(\d{{1,3}})</{name}>".encode("ascii")
        values = set(re.findall(pattern, data[:LONGEST]))
        return values.pop().decode("ascii") if len(values) == 1 else None

    def evidence(name: str, value: str, says: str) -> Evidence:
        return Evidence(tag_text(found.tag), f"{PROTOCOL.name(PROTOCOL_LOW)} {name}", value, says)

    bands = value_of(MULTIBAND)
    if bands is not None and int(bands) >= 1:
        factor = float(bands)
        says = f"slices excited at once: {factor:g}"
        findings.add("multiband_factor", factor, evidence(MULTIBAND, bands, says))
    switch = value_of(NOISE_REDUCTION)
    if switch is not None and int(switch) == 0:
        says = "no noise reduction, thus no AiCE"
        findings.add("deep_learning", False, evidence(NOISE_REDUCTION, switch, says))
    elif switch is not None:
        says = "a noise reduction, AiCE perhaps"
        findings.evidence.append(evidence(NOISE_REDUCTION, switch, says))


def _read_release(header: Dataset, findings: Findings) -> None:
    release = RELEASE.match(text(header, "SoftwareVersions"))
    if release is None:
        return
    if int(release[1]) < FIRST_COMPRESSED:
        says = "a release from before Compressed SPEEDER"
        evidence = evidence_of(header, "SoftwareVersions", says)
        findings.conclude("compressed_sensing_factor", 1.0, evidence)
    elif int(release[1]) == FIRST_COMPRESSED:
        for keyword, word in (("ScanningSequence", "EP"), ("EchoPlanarPulseSequence", "YES")):
            if word in texts(header, keyword):
                evidence = evidence_of(header, keyword, "echo-planar: no Compressed SPEEDER")
                findings.conclude("compressed_sensing_factor", 1.0, evidence)
