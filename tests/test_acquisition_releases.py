"""The vendor's deep learning by vendor and release, where no mark decides."""

from typing import Any

import pytest

from dicom_maker import mr_object, mr_series
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.rules import Rules, judge
from halfscan_plugin.rules_file import parse_rules
from vendor_layouts import canon, ge

BEFORE: list[tuple[str, Any]] = [
    ("GE MEDICAL SYSTEMS", ["15", "LX", "MR Software release:15.0_M4_0910.a"]),
    ("GE MEDICAL SYSTEMS", ["24", "LX", "MR Software release:DV24.0_R01_1344.a"]),
    ("GE MEDICAL SYSTEMS", ["26", "LX", "DV26.0_R05_2008.a"]),
    ("GE MEDICAL SYSTEMS", "14.0"),
    ("Philips Medical Systems", ["3.2.2", "3.2.2.0"]),
    ("Philips", ["5.7.1", "5.7.1.3"]),
    ("TOSHIBA_MEC", "V4.50"),
    ("CANON_MEC", "V5.0SP0001*"),
    ("UIH", "R001"),
    ("UIH", "R002"),
    ("Hitachi, Ltd.", "V5.1J"),
    ("SIEMENS", "syngo MR E11"),
    ("SIEMENS", "syngo MR 2004A 4VA25A"),
    ("SIEMENS", "syngo MR XA20A"),
]
AFTER: list[tuple[str, Any]] = [
    ("GE MEDICAL SYSTEMS", ["29", "LX", "MR29.1_EA_2039.g"]),
    ("GE MEDICAL SYSTEMS", ["31", "LX", "SIGNA_LX1.MR31.0_DA"]),
    ("Philips", ["5.9.0", "5.9.0.1"]),
    ("Philips", ["11.1.0", "11.1.0.0"]),
    ("Philips", "12.1"),
    ("CANON_MEC", "V6.1SP3002*"),
    ("CANON_MEC", "V8.0SP0001"),
    ("CANON_MEC", "V10.0"),
    ("CANON_MEC", None),
    ("UIH", "R003"),
    ("UIH", "V2"),
    ("UIH", None),
    ("FUJIFILM Corporation", "V9.1A"),
    ("FUJIFILM Healthcare", None),
    ("Hitachi, Ltd.", "V6.0"),
    ("Siemens Healthineers", "syngo MR XA31"),
    ("Siemens Healthineers", "syngo MR XA60"),
    ("ESAOTE", "V7"),
    ("Hyperfine", None),
    ("", None),
]


def bare(manufacturer: str, release: Any) -> Any:
    """Give an accelerated series without any private element and without ImageType."""
    return mr_series(
        3,
        Manufacturer=manufacturer,
        SoftwareVersions=release,
        ImageType=None,
        ParallelReductionFactorInPlane=2.0,
        NumberOfAverages=1,
    )


@pytest.mark.parametrize(("manufacturer", "release"), BEFORE)
def test_a_release_from_before_the_product(manufacturer: str, release: Any) -> None:
    acquisition, decision = judge(bare(manufacturer, release))
    assert acquisition.deep_learning is False
    assert not acquisition.deep_learning_possible
    assert decision.action == "reconstruct"
    says = next(item for item in acquisition.evidence if item.fact == "deep_learning")
    assert (says.name, says.says[:21]) == ("SoftwareVersions", "a release from before")


@pytest.mark.parametrize(("manufacturer", "release"), AFTER)
def test_a_release_that_may_have_it_is_skipped(manufacturer: str, release: Any) -> None:
    acquisition, decision = judge(bare(manufacturer, release))
    assert acquisition.deep_learning is None
    assert acquisition.deep_learning_possible
    assert (decision.action, decision.reason_code) == ("skip", "deep_learning_unknown")
    assert decision.possible
    assert "deep learning cannot be ruled out: (" in decision.reason
    assert any("mark" in item.says for item in acquisition.evidence)


@pytest.mark.parametrize("manufacturer", ["GE MEDICAL SYSTEMS", "Philips", "Halfscan"])
def test_nothing_that_speaks_for_it(manufacturer: str) -> None:
    """No release is named and the product's mark is known; or there is no scanner at all."""
    acquisition, decision = judge(bare(manufacturer, None))
    assert acquisition.deep_learning is None
    assert not acquisition.deep_learning_possible
    assert decision.reason_code == "accelerated"


@pytest.mark.parametrize(
    "condition", ['deep_learning = "unknown"', "deep_learning_possible = true"]
)
def test_a_rule_takes_it_in(condition: str) -> None:
    text = f'[[rule]]\nname = "r"\naction = "reconstruct"\nwhen.{condition}\n'
    rules = parse_rules(text, "rules.toml", models=[])
    assert judge(bare("CANON_MEC", "V8.0"), rules)[1].rule == "r"
    assert judge(bare("CANON_MEC", "V5.0"), rules)[1].rule == "default: accelerated"


def test_a_reason_that_is_sure_comes_before_it() -> None:
    for attributes, code in (
        ({"NumberOfAverages": 4}, "averaged"),
        ({"ParallelReductionFactorInPlane": 1.0}, "not_accelerated"),
        ({"DiffusionBValue": 800.0}, "diffusion"),
    ):
        series = bare("CANON_MEC", "V8.0")
        for header in series:
            for keyword, value in attributes.items():
                setattr(header, keyword, value)
        assert judge(series, Rules())[1].reason_code == code


def test_a_mark_decides_whatever_the_release() -> None:
    assert read_acquisition(canon({"NRFLG": 0})).deep_learning is False, "NRFLG is 0"
    assert read_acquisition(canon({"NRFLG": 1})).deep_learning_possible
    on = read_acquisition(ge(release="MR31.0_DA", recon_dl=["0.75", "High"]))
    assert on.deep_learning is True
    assert read_acquisition(ge(release="MR29.1_EA_2039.g")).deep_learning is False
    newest = read_acquisition(ge(release="MR31.0_DA"))
    assert newest.deep_learning is None
    assert newest.deep_learning_possible
    classic = mr_object(Manufacturer="Siemens Healthineers", SoftwareVersions="syngo MR XA60")
    assert read_acquisition(classic).deep_learning is False, "ImageType names no Deep Resolve"
