"""The trials of the model observers: what is scanned, and what is made of what they see."""

import json
import math
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from halfscan_models.evaluation.detection import (
    FEWEST_TRIALS,
    detection_measures,
    observer_rows,
    patients_for,
)
from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.evaluation.metrics import Likeness
from halfscan_models.evaluation.run import EvaluationSettings
from halfscan_models.evaluation.scans import Patient
from halfscan_models.evaluation.stimuli import STIMULI, TASKS, Disc, Lines
from halfscan_models.evaluation.trials import ARMS, PLACES, Responses, Site, respond
from halfscan_models.observers.errors import ObserverError

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
SCALE = 0.5
SEQUENCE = "sag_t2_fs"


def as_it_is(image: npt.ArrayLike) -> Image:
    """Do nothing."""
    return np.array(image, np.float32)


# --- stimuli ---


@pytest.mark.parametrize("diameter", [2.0, 6.0])
def test_a_disc_covers_its_area(diameter: float) -> None:
    rows, columns = np.arange(-10, 10, 0.7), np.arange(-10, 10, 1.0)
    cover = Disc(diameter, 0.1).cover(rows, columns)
    assert cover.sum() * 0.7 * 1.0 == pytest.approx(math.pi * diameter**2 / 4, rel=0.02)
    assert cover.max() <= 1.0


@pytest.mark.parametrize("separation", [1.5, 2.0, 3.0])
def test_one_line_has_the_signal_of_two(separation: float) -> None:
    axis = np.arange(-80, 81, dtype=np.float64) * 0.1
    one, two = Lines(separation, 1).cover(axis, axis), Lines(separation, 2).cover(axis, axis)
    assert one.sum() == pytest.approx(two.sum(), rel=1e-3)
    profile = two[80]
    assert abs(axis[np.argmax(profile)]) == pytest.approx(separation / 2, abs=0.15)
    assert profile[80] < profile.max()  # a dip between the two
    assert np.argmax(one[80]) == 80
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)


def test_the_tasks_are_those_of_the_protocol() -> None:
    detection = [task for task in TASKS if task.absent is None]
    sizes = {(task.present.diameter_mm, task.present.contrast)
             for task in detection if isinstance(task.present, Disc)}  # fmt: skip
    assert sizes == {(d, c) for d in (2.0, 3.0, 4.0, 6.0) for c in (0.05, 0.10, 0.20, 0.30)}
    assert len(TASKS) == len(detection) + 3
    assert len(set(STIMULI)) == len(STIMULI) == 1 + 16 + 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Disc(0.0, 0.1), "diameter_mm must be finite and > 0, got 0.0"),
        (lambda: Disc(2.0, math.nan), "contrast must be finite and > 0, got nan"),
        (lambda: Lines(-1.0, 2), "separation_mm must be finite and > 0, got -1.0"),
        (lambda: Lines(2.0, count=cast("Any", 3)), "count must be 1 or 2, got 3"),
    ],
)
def test_stimuli_without_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        make()


# --- scans ---


@pytest.mark.parametrize("sequence", ["sag_t1", "sag_t2_fs"])
def test_one_measurement_has_the_noise_of_two(sequence: str) -> None:
    """The arms share noise, and each has as much of it as when it is measured alone."""
    scan = Patient(3, matrix_scale=SCALE).scan(sequence, 5)
    truth = scan.noise_free()
    inside = truth > 0.2 * np.percentile(truth, 99)
    together = scan.retrospective(np.random.default_rng(1))
    noise = {arm: (image - truth)[inside] for arm, image in together.items()}
    for arm, seen in noise.items():
        alone = (scan.measured(arm) - truth)[inside]
        assert seen.std() == pytest.approx(alone.std(), rel=0.05)
    assert 0.5 < np.corrcoef(noise["standard"], noise["accelerated"])[0, 1] < 0.9
    apart = (
        (scan.measured("standard") - truth)[inside],
        (scan.measured("accelerated") - truth)[inside],
    )
    assert abs(np.corrcoef(*apart)[0, 1]) < 0.1


@pytest.fixture(scope="module")
def site() -> Site:
    """One slice at the full matrix."""
    return Site(1, SEQUENCE)


def test_a_stimulus_lies_in_the_middle_of_its_window_alone(site: Site) -> None:
    half = 6
    shown = [Disc(6.0, 0.3) if place % 2 else None for place in range(PLACES)]
    with_discs = site.scan(0, shown, as_it_is)[1].astype(np.float64)
    without = site.scan(0, [None] * PLACES, as_it_is)[1].astype(np.float64)
    windows = site.windows(with_discs - without, half)
    axis = np.arange(-half, half + 1)
    energy = np.sum(windows**2, axis=(1, 2))
    for place in range(1, PLACES, 2):
        weight = windows[place] / windows[place].sum()
        assert abs(np.sum(weight * axis[:, None])) < 0.25
        assert abs(np.sum(weight * axis[None])) < 0.25
        level = site.windows(without, half)[place, half, half]
        assert windows[place, half, half] / level == pytest.approx(0.3, abs=0.06)
    # What its neighbours see of it is ringing.
    assert energy[0::2].max() < 0.01 * energy[1::2].min()


def test_places_lie_in_marrow(site: Site) -> None:
    truth = site.scan(0, [None] * PLACES, as_it_is)[1]
    level = site.windows(truth, 3).reshape(PLACES, -1)
    assert len(site.pixels) == PLACES
    assert (level.std(axis=1) < 0.35 * level.mean(axis=1)).all()
    assert level.mean(axis=1).max() < 2.5 * level.mean(axis=1).min()


def test_arms_of_one_turn_share_the_truth_and_turns_have_noise_of_their_own(site: Site) -> None:
    images, truth = site.scan(4, [None] * PLACES, as_it_is)
    again, _ = site.scan(4, [None] * PLACES, as_it_is)
    other, same_truth = site.scan(5, [None] * PLACES, as_it_is)
    assert tuple(images) == ARMS
    np.testing.assert_array_equal(truth, same_truth)
    for arm in ARMS:
        np.testing.assert_array_equal(images[arm], again[arm])
        assert not np.array_equal(images[arm], other[arm])


# --- from scans to rows ---


@pytest.fixture(scope="module")
def untouched() -> list[Responses]:
    """Four patients at half the matrix, through a network that does nothing."""
    return [respond((SEQUENCE, number), as_it_is, matrix_scale=SCALE) for number in range(4)]


def test_a_network_that_does_nothing_differs_from_its_input_by_nothing(
    untouched: list[Responses],
) -> None:
    rows = observer_rows(untouched)
    assert [row.task for row in rows] == [task.name for task in TASKS]
    for row in rows:
        assert (row.trials, row.patients) == (FEWEST_TRIALS, 4)
        over = row.over_accelerated
        assert (over.value, over.low, over.high) == (0.0, 0.0, 0.0)
        assert row.areas["network"] == row.areas["accelerated"]
        assert row.correct["network"] == row.correct["accelerated"]
        assert row.signal_kept == pytest.approx(1.0)
        assert row.noise_kept == pytest.approx(1.0)
    assert rows[15].task == "lesion of 6 mm, 30 %"
    assert rows[15].areas["standard"].value > rows[0].areas["standard"].value
    assert rows[15].areas["standard"].low > 0.6


def test_the_same_patient_gives_the_same_responses(untouched: list[Responses]) -> None:
    again = respond((SEQUENCE, 1), as_it_is, matrix_scale=SCALE)
    for bank, outputs in again.outputs.items():
        np.testing.assert_array_equal(outputs, untouched[1].outputs[bank])
        assert np.abs(outputs).max(axis=(0, 2, 3)).min() > 0.0  # every stimulus was shown
    assert again.likeness == untouched[1].likeness


ALIKE = Likeness(40.0, 38.0, 0.95, 0.93)


def drawn(
    detectability: dict[str, float], *, patients: int = 40, seed: int = 0, shared: float = 0.0
) -> list[Responses]:
    """Responses in which every signal is seen in one channel of unit variance.

    Arms have noise of their own but for a share.
    """
    rng = np.random.default_rng(seed)
    found: list[Responses] = []
    for _ in range(patients):
        outputs = {}
        for bank in ("round", "oriented"):
            shape = (len(STIMULI), PLACES, 3)
            common = rng.standard_normal(shape)
            arms = []
            for arm in ARMS:
                own = rng.standard_normal(shape)
                values = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
                for task in TASKS:
                    values[STIMULI.index(task.present), :, 0] += detectability[arm]
                arms.append(values)
            outputs[bank] = np.stack(arms)
        found.append(Responses("made", outputs, (ALIKE, ALIKE, ALIKE)))  # type: ignore[arg-type]
    return found


def test_rows_have_the_areas_of_known_distributions() -> None:
    wanted = {"standard": 1.2, "accelerated": 0.8, "network": 0.8}
    rows = observer_rows(drawn(wanted))
    assert {row.trials for row in rows} == {40 * PLACES}
    for arm, detectability in wanted.items():
        area = norm.cdf(detectability / math.sqrt(2))
        areas = [row.areas[arm].value for row in rows]
        assert np.mean(areas) == pytest.approx(area, abs=0.01)
        held = sum(row.areas[arm].low < area < row.areas[arm].high for row in rows)
        assert held >= 15  # of 19 at 95 %; all tasks of a lesion share the marrow alone
        correct = [row.correct[arm].value for row in rows]
        assert np.mean(correct) == pytest.approx(area, abs=0.015)
    gap = norm.cdf(0.8 / math.sqrt(2)) - norm.cdf(1.2 / math.sqrt(2))
    assert np.mean([row.over_standard.value for row in rows]) == pytest.approx(gap, abs=0.015)


def test_a_network_that_wipes_the_marrow_leaves_nothing_to_read() -> None:
    responses = drawn(dict.fromkeys(ARMS, 1.0), patients=4)
    for item in responses:
        for outputs in item.outputs.values():
            outputs[ARMS.index("network")] = 0.0
    with pytest.raises(ObserverError, match="3 channels depend on each other"):
        observer_rows(responses)


def test_what_the_network_keeps_is_told() -> None:
    """Half of the signal and a quarter of the noise: the areas are those of twice the signal."""
    responses = drawn(dict.fromkeys(ARMS, 1.0), patients=40)
    network = ARMS.index("network")
    for item in responses:
        for outputs in item.outputs.values():
            outputs[network] = 0.25 * outputs[network]
            for task in TASKS:
                outputs[network, STIMULI.index(task.present), :, 0] += 0.25
    for row in observer_rows(responses):
        assert row.signal_kept == pytest.approx(0.5, abs=0.08)
        assert row.noise_kept == pytest.approx(0.25, abs=0.03)
        assert row.over_accelerated.low > 0.0


def test_noise_that_arms_share_narrows_the_difference() -> None:
    alike = dict.fromkeys(ARMS, 1.0)
    apart, shared = (observer_rows(drawn(alike, shared=share))[0] for share in (0.0, 0.9))
    widths = [row.over_standard.high - row.over_standard.low for row in (apart, shared)]
    assert widths[1] < 0.6 * widths[0]


def test_without_a_signal_no_arm_sees_one() -> None:
    """Both halves follow the same chance here, which the interval must know."""
    held: list[bool] = []
    for seed in range(10):
        rows = observer_rows(drawn(dict.fromkeys(ARMS, 0.0), patients=20, seed=seed))
        held += [row.areas[arm].low < 0.5 < row.areas[arm].high for row in rows for arm in ARMS]
        held += [row.over_standard.low < 0.0 < row.over_standard.high for row in rows]
    assert np.mean(held) > 0.93


def test_internal_noise_costs_every_arm_the_same() -> None:
    responses = drawn(dict.fromkeys(ARMS, 1.5))
    with_noise = observer_rows(responses, internal_noise=1.0)
    for arm in ARMS:
        mean = np.mean([row.areas[arm].value for row in with_noise])
        assert mean == pytest.approx(norm.cdf(1.5 / math.sqrt(2) / math.sqrt(2)), abs=0.02)
    again = observer_rows(responses, internal_noise=1.0)
    assert [asdict(row) for row in again] == [asdict(row) for row in with_noise]


@pytest.mark.parametrize(("network", "verdict"), [(1.4, "met"), (1.2, "met"), (0.8, "MISSED")])
def test_the_bar_is_held_against_the_lower_limit(network: float, verdict: str) -> None:
    responses = drawn(
        {"standard": 1.2, "accelerated": 1.0, "network": network}, patients=100, shared=0.9
    )
    rows = observer_rows(responses)
    measures = detection_measures(rows, responses)
    barred = [measure for measure in measures if measure.bar is not None]
    assert {measure.verdict for measure in barred} == {verdict}
    assert [m.values for m in barred] == [(row.over_standard.low,) for row in rows]
    assert {measure.bar_text for measure in barred} == {"above -0.02"}
    beside = {m.name: m for m in measures if m.bar is None}
    assert beside["made: PSNR"].values == (38.0, 38.0, 38.0)
    assert beside["made: SSIM"].values == pytest.approx((0.93, 0.93, 0.93))
    assert beside["made: correct forced choices less AUC"].values[0] < 0.04


def test_a_task_that_is_too_easy_says_so() -> None:
    responses = drawn(dict.fromkeys(ARMS, 20.0), patients=4)
    rows = observer_rows(responses)
    for measure in detection_measures(rows, responses)[: len(TASKS)]:
        assert measure.values == (0.0,)
        assert measure.note.endswith("too easy to tell scans apart: every trial is right")
    json.dumps([asdict(row) for row in rows], allow_nan=False)


# --- settings ---


@pytest.mark.parametrize(
    ("trials", "patients"), [(80, 4), (81, 6), (120, 6), (2000, 100), (2001, 102)]
)
def test_trials_are_made_of_whole_patients(trials: int, patients: int) -> None:
    assert patients_for(trials) == patients


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trials": 79}, "trials must be >= 80, got 79"),
        ({"observed": ("tra_t2",)}, r"observed must be some of sag_t2, .*, got \['tra_t2'\]"),
        ({"internal_noise": -0.1}, "internal_noise must be finite and >= 0, got -0.1"),
        ({"internal_noise": math.nan}, "internal_noise must be finite and >= 0, got nan"),
    ],
)
def test_settings_of_the_observers_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        EvaluationSettings(**settings)


@pytest.mark.parametrize("patients", [2, 5])
def test_halves_need_patients(patients: int) -> None:
    with pytest.raises(EvaluationError, match=f"even number of patients >= 4, got {patients}"):
        observer_rows(drawn(dict.fromkeys(ARMS, 1.0), patients=patients))
