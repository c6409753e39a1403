"""The simulated lumbar exam: anatomy, physics, sampling, truth."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import exp, pi, sqrt
from typing import Any

import numpy as np
import pytest

from halfscan_models.errors import ModelsError
from halfscan_models.simulation import (
    ARMS,
    KINDS,
    LEVELS,
    PROTOCOL,
    Pathology,
    PatientExam,
    SimulationError,
    draw_pathologies,
    simulate_patient,
)
from halfscan_models.simulation.anatomy import Anatomy, draw_anatomy
from halfscan_models.simulation.arrays import ComplexArray, FloatArray, LabelArray
from halfscan_models.simulation.coils import CoilArray
from halfscan_models.simulation.exam import scan_plane
from halfscan_models.simulation.kspace import (
    acquired_lines,
    acs_block,
    complex_noise,
    resize_centre,
    to_image,
    to_kspace,
)
from halfscan_models.simulation.parallel import combine, g_factor, grappa, sense
from halfscan_models.simulation.pathology import PREVALENCE, Kind, Level
from halfscan_models.simulation.phantom import Phantom
from halfscan_models.simulation.protocol import Plane
from halfscan_models.simulation.signal import signal_table, spin_echo
from halfscan_models.simulation.tissues import TISSUES, Label

QUICK: dict[str, Any] = {"matrix_scale": 0.25, "slices": 2}


def phantom_of(seed: int, *pathologies: Pathology) -> Phantom:
    return Phantom(draw_anatomy(np.random.default_rng(seed)), pathologies)


@pytest.fixture(scope="module")
def exam() -> PatientExam:
    """All series of both arms, coarse, of a patient without pathologies."""
    rng = np.random.default_rng(11)
    return simulate_patient(rng, pathologies=(), matrix_scale=0.5, slices=3)


@pytest.fixture(scope="module")
def full_stack() -> PatientExam:
    """All slices of one sequence in each plane, coarse."""
    rng = np.random.default_rng(11)
    options: dict[str, Any] = {"sequences": ("sag_t2", "tra_t2"), "arms": ("accelerated",)}
    return simulate_patient(rng, pathologies=(), matrix_scale=0.3, **options)


# --------------------------------------------------------------------------------- protocol

TABLE_1 = {  # TR, TE, FOV, matrix, bandwidth, (factor, averages, seconds) of both arms
    "sag_t2": (2400, 92, 280, (384, 268), 250, (1, 1, 77), (2, 1, 41)),
    "sag_t2_fs": (2800, 80, 280, (320, 224), 252, (2, 2, 70), (2, 1, 42)),
    "sag_t1": (621, 9.2, 280, (384, 268), 250, (1, 1, 101), (2, 1, 53)),
    "tra_t2": (3290, 92, 180, (320, 256), 252, (1, 1, 69), (2, 1, 39)),
}


@pytest.mark.parametrize("name", TABLE_1)
def test_protocol_is_table_1_of_the_reference_study(name: str) -> None:
    sequence = PROTOCOL[name]
    arms = [(a.acceleration, a.averages, a.scan_time_s) for a in map(sequence.arm, ARMS)]
    assert TABLE_1[name] == (
        sequence.tr_ms,
        sequence.te_ms,
        sequence.fov_mm,
        sequence.matrix,
        sequence.bandwidth_hz_px,
        *arms,
    )
    assert sequence.thickness_mm == 4


def test_protocol_adds_up_to_the_printed_scan_times() -> None:
    totals = [sum(s.arm(arm).scan_time_s for s in PROTOCOL.values()) for arm in ARMS]
    assert totals == [317, 175]


# ---------------------------------------------------------------------------------- anatomy


@pytest.mark.parametrize("seed", range(5))
def test_every_structure_lies_where_the_anatomy_says(seed: int) -> None:
    phantom = phantom_of(seed)
    anatomy = phantom.anatomy
    for name in ("L1", "L2", "L3", "L4", "L5"):
        frame = anatomy.vertebrae[name].frame
        assert phantom.label_at(*frame.point(0, -4, 0)) is Label.MARROW, name
    nucleus = {Label.NUCLEUS, Label.NUCLEUS_AGED}
    for level in LEVELS:
        assert phantom.label_at(*anatomy.discs[level].frame.point(0, 1.6, 2)) in nucleus, level
    for height, expected in (
        (anatomy.vertebrae["T11"].frame.z0, {Label.CORD}),
        (anatomy.vertebrae["L3"].frame.z0, {Label.FLUID, Label.ROOT}),
        (anatomy.vertebrae["L5"].frame.z0, {Label.FLUID, Label.ROOT}),
    ):
        assert phantom.label_at(*anatomy.sac.centre(height), height) in expected
    for side in ("right", "left"):
        height = anatomy.vertebrae["L4"].frame.z0
        found = phantom.label_at(*anatomy.psoas[side].centre(height), height)
        assert found in {Label.MUSCLE, Label.FAT}
        assert phantom.label_at(*anatomy.root_path("L4/L5", side)[2][0]) is Label.ROOT


def test_anatomy_varies_between_patients_within_human_limits() -> None:
    patients = [draw_anatomy(np.random.default_rng(seed)) for seed in range(40)]
    heights = np.array([p.vertebrae["L3"].height for p in patients])
    assert 23 < heights.min() < heights.max() < 32
    assert heights.std() > 0.3
    for patient in patients:
        order = [v.frame.z0 for v in patient.vertebrae.values()]
        assert order == sorted(order, reverse=True)
        reach = patient.discs["L1/L2"].frame.z0 - patient.discs["L5/S1"].frame.z0
        assert 115 < reach < 190


@pytest.mark.parametrize("seed", [0, 1])
def test_a_point_is_the_same_tissue_in_both_planes(seed: int) -> None:
    phantom = phantom_of(seed, Pathology("disc_herniation", "L4/L5"))
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-40, 40, 12)).astype(np.float32)
    y = np.sort(rng.uniform(-60, 90, 50)).astype(np.float32)
    z = np.sort(rng.uniform(-110, 110, 60)).astype(np.float32)
    sagittal = phantom.labels(x, y, z[::-1], axes="xzy")
    transverse = phantom.labels(x, y, z, axes="zxy")
    np.testing.assert_array_equal(sagittal[:, ::-1].transpose(1, 0, 2), transverse)
    assert len(np.unique(transverse)) > 10
    same = phantom.texture(x, y, z[::-1], axes="xzy")[:, ::-1].transpose(1, 0, 2)
    np.testing.assert_allclose(same, phantom.texture(x, y, z, axes="zxy"), atol=1e-4)


# -------------------------------------------------------------------------------- pathology


def spine_labels(phantom: Phantom) -> tuple[LabelArray, FloatArray]:
    """Labels (x, y, z) around the spine on a grid of 3, 2 and 2 mm, and the heights [mm]."""
    x, y = np.arange(-30, 31, 3, dtype=np.float32), np.arange(-30, 60, 2, dtype=np.float32)
    z = np.arange(-125, 100, 2, dtype=np.float32)
    return phantom.labels(x, y, z, axes="xyz"), z


@pytest.fixture(scope="module")
def healthy() -> tuple[Phantom, LabelArray]:
    phantom = phantom_of(3)
    return phantom, spine_labels(phantom)[0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_pathology_changes_its_own_level_only(
    healthy: tuple[Phantom, LabelArray], kind: Kind, level: Level
) -> None:
    phantom, before = healthy
    after, z = spine_labels(Phantom(phantom.anatomy, [Pathology(kind, level)]))
    changed = z[(before != after).any(axis=(0, 1))]
    assert changed.size, "nothing changed"
    # A tilted level reaches some way up and down; the next disc is 35 mm off.
    centre = phantom.anatomy.discs[level].frame.z0
    assert np.abs(changed - centre).max() < 30


@pytest.mark.parametrize(
    ("kind", "grown"),
    [
        ("disc_degeneration", Label.NUCLEUS_DEGENERATED),
        ("disc_bulge", Label.ANNULUS),
        ("disc_herniation", Label.HERNIATED),
        ("facet_synovial_cyst", Label.CYST),
        ("modic_changes", Label.MODIC_2),
        ("schmorl_nodes", Label.NUCLEUS_AGED),
        ("spinal_stenosis", Label.FLAVUM),
        ("foraminal_stenosis", Label.FLAVUM),
    ],
)
def test_a_pathology_brings_its_tissue(
    healthy: tuple[Phantom, LabelArray], kind: Kind, grown: Label
) -> None:
    phantom, before = healthy
    after, _ = spine_labels(Phantom(phantom.anatomy, [Pathology(kind, "L4/L5")]))
    assert (after == grown).sum() > (before == grown).sum()


def test_stenosis_and_herniation_take_room_from_the_sac(
    healthy: tuple[Phantom, LabelArray],
) -> None:
    phantom, before = healthy
    inside = [Label.FLUID, Label.ROOT]
    for kind in ("spinal_stenosis", "disc_herniation"):
        after, _ = spine_labels(Phantom(phantom.anatomy, [Pathology(kind, "L3/L4")]))
        assert np.isin(after, inside).sum() < np.isin(before, inside).sum() - 8


def test_side_decides_where_a_cyst_lies(healthy: tuple[Phantom, LabelArray]) -> None:
    anatomy = healthy[0].anatomy
    for side, sign in (("right", -1), ("left", 1)):
        found = Pathology("facet_synovial_cyst", "L4/L5", side)  # type: ignore[arg-type]  # from the table above
        labels, _ = spine_labels(Phantom(anatomy, [found]))
        x = np.arange(-30, 31, 3)[np.nonzero(labels == Label.CYST)[0]]
        assert np.sign(x.mean()) == sign  # the x axis points to the patient's left


def test_an_image_shows_a_herniation_at_its_level_alone() -> None:
    options: dict[str, Any] = {**QUICK, "slices": 1, "noise_level": 0, "sequences": ("sag_t2",)}
    images = [
        simulate_patient(np.random.default_rng(11), pathologies=p, **options)
        for p in ((), (Pathology("disc_herniation", "L4/L5"),))
    ]
    assert [len(e.pathologies) for e in images] == [0, 1]
    clean, ill = (e.find("sag_t2", "accelerated") for e in images)
    _, row, _ = clean.stack.to_index(images[0].anatomy.discs["L4/L5"].frame.point(0, 0, 0))
    difference = np.abs(ill.volume - clean.volume)[0].max(axis=1)
    rows = np.arange(difference.size)
    near = np.abs(rows - row) * clean.stack.pixel_mm < 25
    assert difference[near].max() > 0.1
    assert difference[~near].max() < 0.1 * difference[near].max()


def test_drawn_pathologies_have_the_frequencies_of_the_reference_study() -> None:
    rng = np.random.default_rng(0)
    patients = 400
    drawn = Counter(p.kind for _ in range(patients) for p in draw_pathologies(rng))
    for kind, prevalence in PREVALENCE.items():
        share = drawn[kind] / (patients * len(LEVELS))
        expected = prevalence * (0.7 if kind == "disc_bulge" else 1)  # herniations replace bulges
        assert share == pytest.approx(expected, abs=0.035), kind


# ----------------------------------------------------------------------------------- signal


def test_spin_echo_follows_the_equation() -> None:
    assert spin_echo(0.8, 1400, 40, tr_ms=621, te_ms=9.2) == pytest.approx(
        0.8 * (1 - exp(-621 / 1400)) * exp(-9.2 / 40)
    )
    assert spin_echo(1, 1000, 100, tr_ms=1e9, te_ms=0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("sequence", "brightest_first"),
    [
        ("sag_t1", [Label.FAT, Label.MARROW, Label.MUSCLE, Label.FLUID, Label.CORTICAL]),
        ("sag_t2", [Label.FLUID, Label.NUCLEUS, Label.NUCLEUS_DEGENERATED, Label.ANNULUS]),
        ("sag_t2_fs", [Label.FLUID, Label.NUCLEUS, Label.MARROW, Label.FAT]),
        ("sag_t2_fs", [Label.MODIC_1, Label.MARROW, Label.MODIC_2]),
        ("sag_t1", [Label.MODIC_2, Label.MARROW, Label.MODIC_1]),
        ("tra_t2", [Label.FLUID, Label.ROOT, Label.FLAVUM, Label.CORTICAL]),
    ],
)
def test_contrast_is_that_of_the_sequence(sequence: str, brightest_first: list[Label]) -> None:
    table = signal_table(PROTOCOL[sequence])
    signal = (table.level.real + table.level.imag)[brightest_first]
    assert (np.diff(signal) < 0).all(), signal


def test_every_label_has_a_tissue() -> None:
    assert set(TISSUES) == set(Label)
    assert all(0 <= t.fat <= 1 and t.pd >= 0 and t.t1_ms > t.t2_ms for t in TISSUES.values())


# ----------------------------------------------------------------- k-space, parallel imaging

READOUT, LINES = 40, 64


@pytest.fixture(scope="module")
def maps() -> ComplexArray:
    """Sensitivities (coil, readout, phase) of a midline slice."""
    z = np.linspace(140, -140, READOUT, dtype=np.float32)
    y = np.linspace(-140, 135, LINES, dtype=np.float32)
    middle = np.zeros(1, np.float32)
    return CoilArray(115, -125).sensitivities(middle, y, z, axes="xzy")[:, 0]


@pytest.fixture(scope="module")
def body() -> ComplexArray:
    """A smooth complex object (readout, phase), zero outside of the body."""
    rng = np.random.default_rng(5)
    coarse = rng.standard_normal((2, 14, 20)) + 2
    object_ = coarse[0] + 1j * coarse[1]
    wide = resize_centre(to_kspace(to_kspace(object_.astype(np.complex64)), axis=0), LINES)
    return to_image(to_image(resize_centre(wide, READOUT, axis=0), axis=0))


def test_fourier_transform_is_centred_and_invertible() -> None:
    rng = np.random.default_rng(0)
    image = (rng.standard_normal((6, 10)) + 1j * rng.standard_normal((6, 10))).astype(np.complex64)
    for axis, n in ((-1, 10), (0, 6)):
        expected = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axis), axis=axis), axis) / n
        np.testing.assert_allclose(to_kspace(image, axis=axis), expected, atol=1e-6)
        np.testing.assert_allclose(
            to_image(to_kspace(image, axis=axis), axis=axis), image, atol=1e-5
        )


@pytest.mark.parametrize(("size", "expected"), [(4, [2, 3, 4, 5]), (10, [0, *range(8), 0])])
def test_resizing_keeps_the_centre(size: int, expected: list[int]) -> None:
    values = np.arange(8, dtype=np.complex64)
    np.testing.assert_array_equal(resize_centre(values, size), expected)


@pytest.mark.parametrize(
    ("lines", "factor", "count"), [(268, 2, 146), (268, 1, 268), (224, 2, 124)]
)
def test_every_second_line_and_the_centre_are_measured(lines: int, factor: int, count: int) -> None:
    chosen = acquired_lines(lines, factor, 24)
    assert chosen.sum() == count
    assert chosen[lines // 2]
    assert chosen[list(acs_block(lines, 24))].all()
    outer = np.flatnonzero(chosen[: lines // 2 - 12])
    assert (np.diff(outer) == factor).all()


def test_sensitivities_are_normalised_smooth_and_differ() -> None:
    grid = np.linspace(-30, 30, 7, dtype=np.float32)
    values = CoilArray(115, -125).sensitivities(grid, grid, grid, axes="xyz")
    total = np.sqrt((np.abs(values) ** 2).sum(axis=0))
    assert total[3, 3, 3] == pytest.approx(1, abs=0.1)
    assert total[3, 6, 3] > total[3, 3, 3], "the spine array lies behind"
    flat = values.reshape(CoilArray.count, -1)
    assert np.linalg.matrix_rank(flat, tol=1e-2) == CoilArray.count


@pytest.mark.parametrize("reconstruct", [sense, combine])
def test_reconstruction_without_noise_gives_the_object(
    maps: ComplexArray,
    body: ComplexArray,
    reconstruct: Callable[[ComplexArray, ComplexArray], ComplexArray],
) -> None:
    raw = to_kspace(maps * body)
    if reconstruct is sense:
        raw[..., LINES // 2 % 2 + 1 :: 2] = 0  # what is not measured must not matter
    np.testing.assert_allclose(reconstruct(raw, maps), body, atol=2e-4)


def test_sense_needs_the_sensitivities(maps: ComplexArray, body: ComplexArray) -> None:
    wrong = sense(to_kspace(maps * body), np.ascontiguousarray(maps[:, :, ::-1]))
    assert np.abs(wrong - body).mean() > 0.1


def test_grappa_fills_the_missing_lines(maps: ComplexArray, body: ComplexArray) -> None:
    raw = to_kspace(maps * body)
    measured = raw * acquired_lines(LINES, 2, 20)
    error = grappa(measured, maps, acs_block(LINES, 20)) - body
    aliased = combine(measured, maps) - body
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(body)
    assert np.linalg.norm(error) < 0.35 * np.linalg.norm(aliased)


def test_grappa_refuses_too_few_calibration_lines(maps: ComplexArray, body: ComplexArray) -> None:
    with pytest.raises(SimulationError, match="autocalibration lines, got 6"):
        grappa(to_kspace(maps * body), maps, acs_block(LINES, 6))


def test_sense_noise_is_root_two_times_g(maps: ComplexArray) -> None:
    rng = np.random.default_rng(1)
    shape = (CoilArray.count, READOUT, LINES)
    measured = {factor: acquired_lines(LINES, factor, 0) for factor in (1, 2)}
    squares = {1: np.zeros(shape[1:]), 2: np.zeros(shape[1:])}
    draws = 300
    for _ in range(draws):
        squares[1] += np.abs(combine(complex_noise(rng, shape, measured[1], 1.0), maps)) ** 2
        squares[2] += np.abs(sense(complex_noise(rng, shape, measured[2], 1.0), maps)) ** 2
    ratio = np.sqrt(squares[2] / squares[1])
    g = g_factor(maps)
    assert g.min() >= 1 - 1e-5
    assert g.max() < 3
    np.testing.assert_allclose(ratio / (sqrt(2) * g), 1, atol=0.25)  # each pixel: 300 draws
    assert (ratio / (sqrt(2) * g)).mean() == pytest.approx(1, abs=0.01)


def test_noise_has_the_standard_deviation_that_was_asked_for() -> None:
    rng = np.random.default_rng(2)
    every = acquired_lines(LINES, 1, 0)
    image = to_image(complex_noise(rng, (8, READOUT, LINES), every, 0.5))
    assert image.real.std() == pytest.approx(0.5, rel=0.03)
    assert image.imag.std() == pytest.approx(0.5, rel=0.03)


# ------------------------------------------------------------------------------- whole exams


def test_series_come_in_order_with_the_right_shapes(exam: PatientExam) -> None:
    assert [(s.sequence.name, s.arm) for s in exam.series] == [
        (n, a) for n in PROTOCOL for a in ARMS
    ]
    for series in exam.series:
        size = series.sequence.matrix[0] // 2
        assert series.volume.shape == series.noise_free.shape == (3, size, size)
        assert series.volume.dtype == np.float32
        assert np.isfinite(series.volume).all()
        assert series.volume.min() >= 0
        assert (series.technique is None) == (series.parameters.acceleration == 1)
        assert series.lines_acquired == series.sampling.acquired[1] or series.technique


@pytest.mark.parametrize("name", PROTOCOL)
def test_geometry_is_that_of_the_protocol(exam: PatientExam, name: str) -> None:
    stack = exam.find(name, "standard").stack
    directions = np.array([stack.normal, stack.column_direction, stack.row_direction])
    np.testing.assert_array_equal(directions @ directions.T, np.eye(3))
    np.testing.assert_array_equal(
        np.cross(stack.row_direction, stack.column_direction), stack.normal
    )
    assert stack.pixel_mm * stack.shape[1] == pytest.approx(PROTOCOL[name].fov_mm)
    point = stack.to_patient(2, 10, 20)
    np.testing.assert_allclose(stack.to_index(point), (2, 10, 20), atol=1e-9)
    step = np.subtract(stack.to_patient(1, 0, 0), stack.to_patient(0, 0, 0))
    assert np.linalg.norm(step) == pytest.approx(PROTOCOL[name].slice_spacing_mm)


@pytest.mark.parametrize("technique", ["SENSE", "GRAPPA"])
def test_without_noise_both_arms_show_the_same(technique: str) -> None:
    options: dict[str, Any] = {**QUICK, "matrix_scale": 0.5, "slices": 1, "technique": technique}
    options["sequences"] = ("sag_t2", "tra_t2")
    made = simulate_patient(np.random.default_rng(11), noise_level=0, pathologies=(), **options)
    for name in options["sequences"]:
        standard, fast = (made.find(name, arm).volume for arm in ARMS)
        peak = standard.max()
        assert np.abs(fast - standard).max() < 0.05 * peak
        assert np.sqrt(np.mean((fast - standard) ** 2)) < 0.005 * peak


def errors(exam: PatientExam, name: str, arm: str) -> FloatArray:
    series = exam.find(name, arm)  # type: ignore[arg-type]  # the name comes from ARMS
    bright = series.noise_free > 0.15 * series.noise_free.max()
    difference: FloatArray = (series.volume - series.noise_free)[bright]
    return difference


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("sag_t2", 1.40, 1.75),  # root two times a g-factor above 1
        ("sag_t1", 1.40, 1.75),
        ("tra_t2", 1.40, 1.90),
        ("sag_t2_fs", 1.38, 1.45),  # same factor in both arms, half the averages
    ],
)
def test_the_accelerated_arm_is_noisier_by_its_factor(
    exam: PatientExam, name: str, lowest: float, highest: float
) -> None:
    standard, fast = (errors(exam, name, arm) for arm in ARMS)
    assert lowest < fast.std() / standard.std() < highest
    assert abs(np.corrcoef(standard, fast)[0, 1]) < 0.05, "the noise must be independent"


def test_snr_of_the_standard_arm_is_plausible(full_stack: PatientExam) -> None:
    rng = np.random.default_rng(11)
    options: dict[str, Any] = {"sequences": ("sag_t1",), "arms": ("standard",), "slices": 1}
    series = simulate_patient(rng, pathologies=(), **options).find("sag_t1", "standard")
    regions = {r.name: r for r in full_stack.regions if r.plane == "sagittal"}
    ratios = {}
    for name in ("vertebra_L3", "fat", "csf"):
        mask = regions[name].mask(series.stack)
        mean = series.noise_free[mask].mean()
        ratios[name] = mean / (series.volume - series.noise_free)[mask].std()
    assert 20 < ratios["vertebra_L3"] < 80
    assert ratios["fat"] > ratios["vertebra_L3"] > ratios["csf"] > 5


def test_the_same_place_looks_the_same_in_both_planes(full_stack: PatientExam) -> None:
    """Means of the fluid, disc and fat regions of one plane, found again in the other."""
    both = full_stack
    for region in both.regions:
        if region.plane != "transverse" or region.name not in ("csf", "disc_L3_L4", "fat"):
            continue
        values = []
        for name in ("sag_t2", "tra_t2"):
            series = both.find(name, "accelerated")
            slice_, row, column = map(round, series.stack.to_index(region.centre_mm))
            patch = series.noise_free[slice_, row - 1 : row + 2, column - 1 : column + 2]
            values.append(patch.mean() / series.noise_free.max())
        assert values[0] == pytest.approx(values[1], rel=0.35), region.name


# ------------------------------------------------------------------------------------- truth

TISSUE_OF = {
    "vertebra": {Label.MARROW},
    "disc": {Label.NUCLEUS, Label.NUCLEUS_AGED},
    "psoas": {Label.MUSCLE},
    "nerve": {Label.ROOT},
    "csf": {Label.FLUID},
    "fat": {Label.FAT},
    "background": {Label.AIR},
}


def test_regions_are_those_of_the_reference_study(full_stack: PatientExam) -> None:
    names = sorted((r.plane, r.name) for r in full_stack.regions)
    sagittal = [f"vertebra_L{n}" for n in range(1, 6)] + ["psoas", "csf", "fat", "background"]
    sagittal += [f"disc_{level.replace('/', '_')}" for level in LEVELS]
    transverse = [f"{n}_{s}" for n in ("nerve_root", "psoas") for s in ("right", "left")]
    transverse += ["disc_L3_L4", "csf", "fat"]
    expected: list[tuple[Plane, str]] = [("sagittal", n) for n in sagittal]
    expected += [("transverse", n) for n in transverse]
    assert names == sorted(expected)
    areas = {(r.plane, r.name): r.area_mm2 for r in full_stack.regions}
    assert areas["sagittal", "vertebra_L3"] == pytest.approx(204.9)
    assert areas["transverse", "nerve_root_left"] == pytest.approx(1.1)


def test_regions_lie_in_their_tissue(full_stack: PatientExam) -> None:
    phantom = Phantom(full_stack.anatomy)
    angles = np.linspace(0, 2 * pi, 12, endpoint=False)
    for region in full_stack.regions:
        found = Counter[Label]()
        for angle, share in zip(angles, np.tile([0.35, 0.9], 6), strict=True):
            along = share * np.cos(angle) * region.half_axes_mm[0]
            across = share * np.sin(angle) * region.half_axes_mm[1]
            point = (
                np.array(region.centre_mm)
                + along * np.array(region.first_axis)
                + across * np.array(region.second_axis)
            )
            found[phantom.label_at(*point)] += 1
        right = sum(found[label] for label in TISSUE_OF[region.name.split("_")[0]])
        assert right >= 10, (region.name, found)


def test_region_masks_have_the_area_of_the_region(full_stack: PatientExam) -> None:
    series = full_stack.find("sag_t2", "accelerated")
    fine = replace(series.stack, pixel_mm=series.stack.pixel_mm / 4, shape=(15, 384, 384))
    for region in full_stack.regions:
        mask = region.mask(fine)
        if region.plane == "transverse":
            assert not mask.any()
        elif region.area_mm2 > 20:
            assert mask.sum() * fine.pixel_mm**2 == pytest.approx(region.area_mm2, rel=0.1)
            assert mask.any(axis=(1, 2)).sum() == 1


def plan_reaches(anatomy: Anatomy) -> bool:
    plan = scan_plane(anatomy, "transverse", 20)
    low, high = (anatomy.discs[level].frame.z0 for level in ("L5/S1", "L3/L4"))
    return plan.slices_mm[0] < low - 3 and plan.slices_mm[-1] > high + 3


def test_the_transverse_stack_covers_three_levels() -> None:
    assert all(plan_reaches(draw_anatomy(np.random.default_rng(s))) for s in range(30))


# ------------------------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_exam_and_parts_do_not_depend_on_the_rest() -> None:
    options: dict[str, Any] = {**QUICK, "slices": 1}
    whole = simulate_patient(np.random.default_rng(11), sequences=("tra_t2", "sag_t1"), **options)
    options |= {"sequences": ("sag_t1",), "arms": ("accelerated",)}
    again = simulate_patient(np.random.default_rng(11), **options)
    first, second = whole.find("sag_t1", "accelerated"), again.find("sag_t1", "accelerated")
    np.testing.assert_array_equal(first.volume, second.volume)
    assert whole.pathologies == again.pathologies
    other = simulate_patient(np.random.default_rng(9), **options)
    assert not np.array_equal(other.find("sag_t1", "accelerated").volume, first.volume)


def test_progress_counts_every_slice_of_every_sequence() -> None:
    seen: list[tuple[int, int]] = []
    options: dict[str, Any] = {**QUICK, "sequences": ("sag_t2", "sag_t1"), "arms": ("standard",)}
    simulate_patient(
        np.random.default_rng(11),
        progress=lambda done, total: seen.append((done, total)),
        **options,
    )
    assert seen == [(n, 4) for n in range(1, 5)]


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "slices must be >= 1, got 0"),
        ({"sequences": ("sag_t9",)}, "sequences must be some of sag_t2.*got .'sag_t9'"),
        ({"sequences": ()}, "sequences must be some of"),
        ({"arms": ("quick",)}, "arms must be some of standard, accelerated"),
        ({"arms": ()}, "arms must be some of"),
        ({"matrix_scale": 2}, r"matrix_scale must lie in \[0.1, 1\], got 2"),
        ({"technique": "CAIPI"}, "technique must be one of SENSE, GRAPPA, got 'CAIPI'"),
        ({"noise_level": -1}, "noise_level must be >= 0, got -1"),
        (
            {"pathologies": [Pathology("disc_bulge", "L4/L5")] * 2},
            "may stand once at a level and side",
        ),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        simulate_patient(np.random.default_rng(0), **{**QUICK, **options})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "flu"}, "kind must be one of .*got 'flu'"),
        ({"level": "L6/S1"}, "level must be one of .*got 'L6/S1'"),
        ({"side": "middle"}, "side must be right or left, got 'middle'"),
        ({"severity": 0}, r"severity must lie in \(0, 1\], got 0"),
        ({"modic_type": 3}, "modic_type must be 1 or 2, got 3"),
    ],
)
def test_a_wrong_pathology_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        Pathology(**{"kind": "disc_bulge", "level": "L4/L5", **fields})


def test_a_missing_series_is_named(exam: PatientExam) -> None:
    with pytest.raises(SimulationError, match="no series 'dwi'"):
        exam.find("dwi", "standard")


def test_errors_have_the_root_of_the_package() -> None:
    assert issubclass(SimulationError, ModelsError)
