"""The engine does what a decision says: model, strength, name, syntax."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import RawDataStorage

from dicom_maker import add_block, add_siemens_classic, mr_series
from halfscan_models.errors import ModelsError
from halfscan_models.registry import WEIGHTS
from halfscan_plugin.errors import BadInput, UnreadableSeries
from halfscan_plugin.reconstruction import Engine
from halfscan_plugin.rules import Decision, judge
from halfscan_plugin.rules_file import parse_rules
from image_maker import renumber


def fast(slices: int = 3, **attributes: Any) -> list[Dataset]:
    series = mr_series(slices, rows=24, columns=24, **{"NumberOfAverages": 1, **attributes})
    return [add_siemens_classic(dataset, "p2") for dataset in series]


def decision(**settings: Any) -> Decision:
    return Decision("reconstruct", "by_rule", "rule 'x' matches", **settings)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=1)


@pytest.fixture
def two_models(tmp_path: Path) -> Path:
    """Give a folder with one model under two names."""
    listed = json.loads((WEIGHTS / "models.json").read_text(encoding="utf-8"))
    (model,) = listed["models"]
    shutil.copy(WEIGHTS / model["file"], tmp_path)
    shutil.copy(WEIGHTS / model["card"], tmp_path)
    listed["models"] = [model, {**model, "name": "other", "version": "9"}]
    (tmp_path / "models.json").write_text(json.dumps(listed), encoding="utf-8")
    return tmp_path


def test_a_decision_without_settings_takes_the_engines_own(engine: Engine) -> None:
    outcome = engine.run(fast(), {}, decision=decision())
    assert outcome.provenance == engine.provenance
    assert outcome.series.datasets[0].SeriesDescription == "t2_tse_sag HS"
    assert engine.run(fast(), {}).series.series_instance_uid == outcome.series.series_instance_uid


def test_a_decision_gives_strength_and_name(engine: Engine) -> None:
    series = fast()
    outcome = engine.run(
        series, {}, decision=decision(strength=0.0, series_description="as it was")
    )
    assert outcome.facts()["strength"] == 0
    for source, derived in zip(series, outcome.series.datasets, strict=True):
        assert (source.pixel_array == derived.pixel_array).all()
        assert derived.SeriesDescription == "as it was"
        assert "strength 0" in derived.DerivationDescription
    full = engine.run(series, {}, decision=decision())
    assert full.series.series_instance_uid != outcome.series.series_instance_uid
    assert engine.provenance.strength == 1, "one decision does not change the next"


def test_a_model_is_loaded_when_a_rule_asks_for_it_and_then_kept(two_models: Path) -> None:
    engine = Engine(threads=1, weights=two_models)
    assert list(engine._reconstructors) == ["dbpn-s"]
    first = engine.run(fast(), {}, decision=decision(model="other"))
    assert (first.provenance.model_name, first.provenance.model_version) == ("other", "9")
    kept = engine._reconstructors["other"]
    engine.run(fast(), {}, decision=decision(model="other"))
    assert engine._reconstructors["other"] is kept
    assert engine.run(fast(), {}).provenance.model_name == "dbpn-s"
    with pytest.raises(ModelsError, match="no model is called 'nobody'"):
        engine.run(fast(), {}, decision=decision(model="nobody"))


def test_a_rule_reaches_the_objects(engine: Engine) -> None:
    rules = parse_rules(
        '[[rule]]\nname = "half"\naction = "reconstruct"\nstrength = 0.5\n'
        'series_description = "{SeriesDescription} R{in_plane_factor}"',
        "rules.toml",
        models=[],
    )
    series = fast()
    _, made = judge(series, rules)
    derived = engine.run(series, {}, decision=made).series.datasets[0]
    assert derived.SeriesDescription == "t2_tse_sag R2"
    assert "strength 0.5" in derived.DerivationDescription


def test_what_only_private_elements_tell_is_seen_before_anything_is_decoded(
    engine: Engine,
) -> None:
    series = fast()
    told = [without_private(dataset) for dataset in series]
    block = add_block(series[2], 0x0043, "GEMS_PARM_01")
    series[2].add_new(block + 0x2F, "SS", 1)
    _, made = judge([series[0], *told[1:]])
    assert made.action == "reconstruct", "the archive tells public elements of all but the first"
    with pytest.raises(UnreadableSeries) as caught:
        engine.run(series, {}, decision=made)
    assert caught.value.code == "not_magnitude"
    forced = replace(made, action="skip")
    assert engine.run(series, {}, decision=forced).series.datasets, "someone insisted"


def without_private(dataset: Dataset) -> Dataset:
    public = copy.deepcopy(dataset)
    public.remove_private_tags()
    return public


def test_what_is_odd_about_the_slices_is_passed_on(engine: Engine) -> None:
    series = fast(6)
    positions = [list(dataset.ImagePositionPatient) for dataset in series]
    for dataset, (x, y, z) in zip(series[3:], positions[3:], strict=True):
        dataset.ImagePositionPatient = [x, y, z + 1.0]  # a gap, but no missing slice
    acquisition, made = judge(series)
    assert acquisition.accelerated
    assert made.warnings
    outcome = engine.run(series, {}, decision=made)
    assert set(made.warnings) <= set(outcome.warnings)
    assert np.isfinite(outcome.series.datasets[0].pixel_array).all()


def test_images_that_are_left_out_are_named_in_ledger_and_objects(engine: Engine) -> None:
    series = [image for time in range(3) for image in fast(4, AcquisitionNumber=time + 1)][:-1]
    for index, dataset in enumerate(series):
        renumber(dataset, "stopped", index)
    _, decided = judge(series)
    assert decided.action == "reconstruct"
    outcome = engine.run(series[::-1], {}, decision=decided)
    says = "left out: 3 images of volumes that are not whole: AcquisitionNumber 3 has 3 of 4 slices"
    assert any(says in warning for warning in decided.warnings)
    assert any(says in warning for warning in outcome.warnings)
    derived = {dataset.InstanceNumber: dataset for dataset in outcome.series.datasets}
    assert sorted(derived) == list(range(1, 9))
    for dataset in derived.values():
        assert f"{says} (InstanceNumber 9 to 11)" in dataset.DerivationDescription


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range(strength: float) -> None:
    with pytest.raises(BadInput, match="strength must be between 0 and 1"):
        Engine(strength=strength)


def test_raw_data_among_the_images_is_set_aside(engine: Engine) -> None:
    series = fast()
    raw = mr_series(1, name="raw")[0]
    raw.SOPClassUID = raw.file_meta.MediaStorageSOPClassUID = RawDataStorage
    raw.SeriesInstanceUID = series[0].SeriesInstanceUID
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(raw, keyword)
    _, decided = judge([raw, *series])
    assert decided.action == "reconstruct"
    assert decided.warnings == ("set aside: 1 x Raw Data Storage, no image",)
    outcome = engine.run([raw, *series], {}, decision=decided)
    assert outcome.warnings[0] == decided.warnings[0]
    assert len(outcome.series.datasets) == len(series)
    assert judge([raw])[1].reason_code == "not_an_image", "alone it is what the series is"


def test_what_was_made_against_the_decision_says_so(engine: Engine) -> None:
    series = fast(NumberOfAverages=2)
    _, skipped = judge(series)
    assert skipped.reason_code == "averaged"
    forced = engine.run(series, {}, decision=skipped).series
    for derived in forced.datasets:
        assert "On demand, against the decision to skip it (averaged): " in (
            derived.DerivationDescription
        )
        assert skipped.reason in derived.DerivationDescription
    wanted = engine.run(series, {}, decision=decision()).series
    assert "On demand" not in wanted.datasets[0].DerivationDescription
    assert wanted.series_instance_uid != forced.series_instance_uid, "other bytes, other UIDs"


def test_a_series_that_replaces_another_takes_its_number(engine: Engine) -> None:
    first = engine.run(fast(3), {}, decision=decision()).series
    numbers = {first.series_instance_uid: int(first.datasets[0].SeriesNumber)}
    beside = engine.run(fast(4), numbers, decision=decision()).series
    instead = engine.run(fast(4), numbers, decision=decision(), replaces=list(numbers)).series
    assert [s.datasets[0].SeriesNumber for s in (first, beside, instead)] == [1005, 1006, 1005]
    assert beside.series_instance_uid != instead.series_instance_uid
