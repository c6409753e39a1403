"""The manual of the rules: its examples are rules, and decide as it says."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_maker import mr_series
from halfscan_plugin.acquisition import Acquisition
from halfscan_plugin.components import NOT_MAGNITUDE, OTHER_COMPONENTS
from halfscan_plugin.conditions import FACTS
from halfscan_plugin.exclusions import PROJECTIONS
from halfscan_plugin.maps import MAPS
from halfscan_plugin.planes import PLANES
from halfscan_plugin.rules import DEFAULT_RULES, Decision, Rules, decide
from halfscan_plugin.rules_file import ACTIONS, KEYS, load_rules, parse_rules

ROOT = Path(__file__).resolve().parents[1]
MANUAL = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
FAST = Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=False)
VENDOR = Acquisition(in_plane_factor=3.0, averages=1.0, deep_learning=True)


def example(name: str) -> Rules:
    """Read the example in the manual that holds a rule of this name."""
    for text in re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL):
        if f'name = "{name}"' in text and ("[[rule]]\n" in text.split(name)[1] or name in text):
            found = parse_rules(text, "docs/rules.md", models=["dbpn-s"])
    return found


def decided(name: str, acquisition: Acquisition = FAST, **attributes: Any) -> Decision:
    attributes.setdefault("orientation", "sagittal")
    return decide(mr_series(3, **attributes), acquisition, example(name))


def test_every_example_is_a_rules_file() -> None:
    texts = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    assert len(texts) == 6
    for text in texts:
        assert parse_rules(text, "docs/rules.md", models=[]).rules


def test_the_example_of_the_images_is_a_rules_file() -> None:
    rules = load_rules(ROOT / "docker" / "rules" / "example.toml")
    assert [rule.name for rule in rules.rules] == [
        "no knees",
        "half strength for fat-suppressed T2",
    ]
    fat = decide(mr_series(3, SeriesDescription="T2_TSE_FS_SAG"), FAST, rules)
    assert (fat.strength, fat.series_description) == (0.5, "T2_TSE_FS_SAG HS50")


@pytest.mark.parametrize(
    ("part", "scanner", "rule"),
    [
        ("KNEE", "MRC1", "no knees"),
        ("LKNEE", "MRC30003", "no knees"),
        ("HIP", "MRC30003", "not scanner 3"),
        ("HIP", "MRC1", "default: accelerated"),
        (None, None, "default: accelerated"),
    ],
)
def test_knees_and_a_scanner(part: str | None, scanner: str | None, rule: str) -> None:
    decision = decided("not scanner 3", BodyPartExamined=part, StationName=scanner)
    assert decision.rule == rule
    assert decision.action == ("reconstruct" if rule.startswith("default") else "skip")
    if decision.action == "skip":
        assert decision.reason_code == "by_rule"
        assert decision.reason.startswith(f"rule {rule!r}: ")


@pytest.mark.parametrize(
    ("description", "orientation", "strength", "called"),
    [
        ("t2_stir_sag", "sagittal", None, None),  # an underscore is part of a word
        ("T2 STIR sag", "sagittal", 0.5, "T2 STIR sag HS50"),
        ("tirm sag", "sagittal", 0.5, "tirm sag HS50"),
        ("tirm sag", "axial", None, None),
        ("t2 tse sag", "sagittal", None, None),
    ],
)
def test_half_the_strength(
    description: str, orientation: str, strength: float | None, called: str | None
) -> None:
    decision = decided(
        "STIR at half strength", SeriesDescription=description, orientation=orientation
    )
    assert decision.action == "reconstruct"
    assert (decision.strength, decision.series_description) == (strength, called)


def test_a_vendors_deep_learning() -> None:
    name = "vendor deep learning, high factors"
    taken = decided(name, VENDOR)
    assert (taken.action, taken.rule, taken.strength) == ("reconstruct", name, 0.3)
    low = decided(name, Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=True))
    assert (low.action, low.reason_code) == ("skip", "vendor_deep_learning")
    assert low.trials[0].failure == "in_plane_factor >= 3: no, it is 2"
    assert low.trials[-1].failure is not None
    assert "only deep_learning = true lifts that" in low.trials[-1].failure
    without = decided(name, FAST)
    assert without.rule == "default: accelerated"
    assert without.trials[0].failure == "deep_learning is true: no, it is false"


@pytest.mark.parametrize(
    ("part", "scanner", "code"),
    [
        ("LSPINE", "MRC30001", "by_rule"),
        ("CSPINE", "MRC30002", "by_rule"),
        ("LSPINE", "MRC30003", "no_rule"),
        ("HEAD", "MRC30001", "no_rule"),
    ],
)
def test_nothing_but_the_spine(part: str, scanner: str, code: str) -> None:
    decision = decided("spine", BodyPartExamined=part, StationName=scanner)
    assert decision.reason_code == code
    assert decision.action == ("reconstruct" if code == "by_rule" else "skip")


@pytest.mark.parametrize(
    ("technique", "learning", "scanner", "rule"),
    [
        ("diffusion", "none", "MRC30001", "diffusion to look at"),
        ("diffusion", "unknown", "MRC30004", "default: diffusion"),
        ("perfusion", "none", "MRC30001", "default: perfusion"),
        (None, "unknown", "MRC30001", "default: deep learning unknown"),
        (None, "unknown", "MRC30004", "scanner without deep learning"),
    ],
)
def test_what_the_defaults_skip(
    technique: str | None, learning: str, scanner: str, rule: str
) -> None:
    known = {
        "none": FAST,
        "unknown": replace(FAST, deep_learning=None, deep_learning_possible=True),
    }
    acquisition = replace(known[learning], technique=technique)
    decision = decided("diffusion to look at", acquisition, StationName=scanner)
    assert decision.rule == rule
    assert decision.action == ("skip" if rule.startswith("default") else "reconstruct")


def test_a_rule_that_skips_sees_the_vendors_deep_learning_too() -> None:
    """Or else a later rule that lifts it would take what an earlier one protects."""
    skip = '[[rule]]\nname = "a"\naction = "skip"\nreason = "r"\nwhen.Modality = "MR"\n'
    lift = '[[rule]]\nname = "b"\naction = "reconstruct"\nwhen.deep_learning = true\n'
    for written, name in ((skip + lift, "a"), (lift + skip, "b")):
        decision = decide(mr_series(), VENDOR, parse_rules(written, "x", models=[]))
        assert decision.rule == name


def test_the_manual_names_every_fact_key_plane_and_word() -> None:
    for name in (*FACTS, *PLANES, *KEYS, *ACTIONS, "defaults"):
        assert re.search(rf'[`"( .]{name}[`" ]', MANUAL), name
    for word in (*MAPS, *PROJECTIONS, *NOT_MAGNITUDE, *OTHER_COMPONENTS):
        assert f"`{word}`" in MANUAL or word.endswith("MAP"), word
    for rule in DEFAULT_RULES.all:
        assert f"`{rule.reason_code}`" in MANUAL
