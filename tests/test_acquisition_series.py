"""The whole series says how it was acquired, in whatever order its objects come."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_maker import add_averages, add_modifier, add_siemens_classic, enhanced_object, mr_series
from halfscan_plugin.acquisition import read_acquisition, read_series
from halfscan_plugin.rules import Decision, Rules, judge
from halfscan_plugin.rules_file import parse_rules
from vendor_layouts import ge


def series(*objects: dict[str, Any]) -> list[Dataset]:
    """Make a series one object of which has these attributes each, at factor 2 unless it says."""
    headers = mr_series(len(objects), ParallelReductionFactorInPlane=2.0, NumberOfAverages=1)
    for header, attributes in zip(headers, objects, strict=True):
        for keyword, value in attributes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
    return headers


def averages(*values: float | None) -> list[Dataset]:
    return series(*({"NumberOfAverages": value} for value in values))


def factors(*values: float | None) -> list[Dataset]:
    return series(*({"ParallelReductionFactorInPlane": value} for value in values))


def decided(headers: list[Dataset], rules: str = "") -> Decision:
    return judge(headers, parse_rules(rules, "rules.toml", models=[]) if rules else Rules())[1]


@pytest.mark.parametrize(
    ("headers", "code", "says"),
    [
        (averages(1, 1, 4), "mixed_acquisition", "averages 1 and 4"),
        (averages(1, 4, 8), "mixed_acquisition", "averages 1, 4 and 8"),
        (averages(2, 4, 2), "averaged", "averages 2 and 4"),
        (averages(0.5, 1, 1), "accelerated", "averages 0.5 and 1"),
        (averages(None, 1, None), "accelerated", "averages 1)"),
        (averages(None, 4, None), "averaged", "averages 4)"),
        (averages(None, None, None), "averages_unknown", "in plane 2"),
        (factors(2, 3, 2), "accelerated", "in plane 2 and 3"),
        (factors(1, 2, 2), "mixed_acquisition", "in plane 1 and 2"),
        (factors(1, 1.5, 1), "not_accelerated", "in plane 1 and 1.5"),
        (factors(None, 2, 2), "accelerated", "in plane 2"),
        (factors(None, 1, None), "not_accelerated", "in plane 1"),
        (factors(None, None, None), "acceleration_unknown", "no header"),
    ],
)
def test_every_object_counts_in_every_order(headers: list[Dataset], code: str, says: str) -> None:
    seen = set()
    for order in permutations(headers):
        acquisition, decision = judge(list(order))
        assert decision.reason_code == code
        assert says in decision.reason
        assert decision.action == ("reconstruct" if code == "accelerated" else "skip")
        seen.add((acquisition, decision.reason))
    assert len(seen) == 1, "the same evidence in the same order, too"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "NumberOfAverages": st.sampled_from([None, 0.5, 1, 2, 4]),
                "ParallelReductionFactorInPlane": st.sampled_from([None, 1.0, 1.5, 2.0, 3.0]),
                "ParallelAcquisition": st.sampled_from(["YES", "NO"]),
            }
        ),
        min_size=2,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_any_mixture_is_decided_alike_in_any_order(objects: list[Any], random: Any) -> None:
    headers = series(*objects)
    acquisition, decision = judge(headers)
    if decision.action == "reconstruct":
        # What is safe: no object that tells is unaccelerated or averaged.
        assert all((o["NumberOfAverages"] or 1) < 2 for o in objects)
        assert all((o["ParallelReductionFactorInPlane"] or 2) >= 2 for o in objects)
    random.shuffle(headers)
    assert judge(headers) == (acquisition, decision)


def test_what_differs_is_null_and_its_values_are_shown() -> None:
    report = read_series(averages(4, 1, 1)).as_dict()
    assert report["averages"] is None
    assert report["accelerated"] is True
    assert report["in_plane_factor"] == 2.0
    assert report["differing"] == {"averages": [1.0, 4.0]}
    written = [item["value"] for item in report["evidence"] if item["tag"] == "(0018,0083)"]
    assert list(map(float, written)) == [4.0, 1.0]
    mixed = read_series(factors(1, 2, 2))
    assert mixed.accelerated is None
    assert mixed.values("accelerated") == [False, True]


def test_one_that_was_accelerated_by_an_unknown_factor_beside_one_that_was_not() -> None:
    headers = factors(None, None)
    headers[0].ParallelAcquisition, headers[1].ParallelAcquisition = "YES", "NO"
    for header in headers:
        header.Manufacturer, header.SoftwareVersions = "TOSHIBA_MEC", "V5.0SP0001"
    for order in (headers, headers[::-1]):
        assert judge(order)[1].reason_code == "mixed_acquisition"


def test_a_condition_on_a_fact_holds_for_every_object() -> None:
    rule = '[[rule]]\nname = "r"\naction = "reconstruct"\nwhen.averages = {}\n'
    assert decided(averages(1, 4), rule.format('"< 2"')).rule == "default: mixed"
    assert decided(averages(1, 4), rule.format('">= 1"')).rule == "r"
    assert decided(averages(1, 4), rule.format('["1", "4"]'.replace('"', ""))).rule == "r"
    assert decided(averages(1, 4), rule.format('"unknown"')).rule == "default: mixed"


def test_an_object_that_lacks_private_elements_does_not_differ() -> None:
    """An archive tells all elements of the first object, and of the others the public ones."""
    headers = mr_series(3, NumberOfAverages=1)
    for header in headers:
        header.Manufacturer = "SIEMENS"
    add_siemens_classic(headers[0], "p2")
    acquisition, decision = judge(headers)
    assert acquisition == read_acquisition(headers[0])
    assert (decision.action, acquisition.ways) == ("reconstruct", ())


def test_a_mark_of_the_first_object_counts_where_the_others_lack_it() -> None:
    marked, bare = ge(["0.5", "1"]), ge(None, None, hypersense=None)
    for tag in [tag for tag in bare.keys() if tag.group == 0x0043]:  # noqa: SIM118
        del bare[tag]
    assert read_acquisition(bare).deep_learning_possible
    for order in ([marked, bare], [bare, marked]):
        acquisition = read_series(order)
        assert acquisition.deep_learning is False
        assert not acquisition.deep_learning_possible
        assert acquisition.in_plane_factor == 2.0


def test_one_object_that_deep_learning_has_touched_speaks_for_all() -> None:
    touched, other = ge(["0.5", "1"], recon_dl=["0.75", "High"]), ge(["0.5", "1"])
    assert read_series([other, touched]).deep_learning is True
    assert read_series([other, other]).deep_learning is False


@pytest.mark.parametrize("last", [1, 4])
def test_frames_that_differ_in_averages(last: int) -> None:
    header = add_averages(add_modifier(enhanced_object(4), ParallelReductionFactorInPlane=2.0), 1)
    header.PerFrameFunctionalGroupsSequence[-1].MRAveragesSequence[0].NumberOfAverages = last
    acquisition, decision = judge([header], complete=False)
    assert acquisition.values("averages") == sorted({1.0, float(last)})
    assert decision.reason_code == ("accelerated" if last == 1 else "mixed_acquisition")


def test_frames_that_differ_in_their_factor() -> None:
    header = add_averages(enhanced_object(3), 1)
    for frame, factor in zip(header.PerFrameFunctionalGroupsSequence, (2.0, 1.0, 2.0), strict=True):
        place = add_modifier(enhanced_object(1), ParallelReductionFactorInPlane=factor)
        group = place.SharedFunctionalGroupsSequence[0]
        frame.MRModifierSequence = group.MRModifierSequence
    acquisition, decision = judge([header], complete=False)
    assert acquisition.values("in_plane_factor") == [1.0, 2.0]
    assert decision.reason_code == "mixed_acquisition"
    assert len(header.PerFrameFunctionalGroupsSequence) == 3
