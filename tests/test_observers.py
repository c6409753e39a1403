"""Model observers on images whose answer is known in closed form."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from halfscan_models.observers.channels import channel_outputs, difference_of_gaussians, gabor
from halfscan_models.observers.errors import ObserverError
from halfscan_models.observers.forced_choice import proportion_correct, wilson_interval
from halfscan_models.observers.hotelling import train_hotelling
from halfscan_models.observers.roc import Areas, correlated_areas, mean_areas
from halfscan_stats.figures import covariance_matrix, figures_of

Array = npt.NDArray[np.float64]

HALF, PIXEL_MM = 8, 0.75


def blob(width_mm: float = 1.5) -> Array:
    """Gaussian of amplitude 1 in the middle of a window."""
    axis = np.arange(-HALF, HALF + 1) * PIXEL_MM
    return np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * width_mm**2))


def outputs(rng: np.random.Generator, count: int, signal: Array | float, channels: Array) -> Array:
    """What channels show of a signal in white noise of standard deviation 1."""
    side = 2 * HALF + 1
    return channel_outputs(signal + rng.standard_normal((count, side, side)), channels)


def analytic_detectability(signal: Array, channels: Array) -> float:
    """Detectability of the channelised Hotelling observer in white noise: s U (U'U)^-1 U' s."""
    seen = signal.ravel() @ channels
    return math.sqrt(float(seen @ np.linalg.solve(channels.T @ channels, seen)))


# --- channels ---


def test_a_difference_of_gaussians_is_the_transform_of_its_ring() -> None:
    """On a window that holds it whole, the spectrum is the formula's, at any frequency."""
    half, pixel_mm, width = 64, 0.5, 0.1
    channel = difference_of_gaussians(half, pixel_mm, lowest=width, count=1)[:, 0]
    side = 2 * half + 1
    spectrum = np.fft.fft2(np.fft.ifftshift(channel.reshape(side, side)))
    f = np.fft.fftfreq(side, pixel_mm)
    squared = f[:, None] ** 2 + f[None] ** 2
    ring = np.exp(-squared / (2 * (1.67 * width) ** 2)) - np.exp(-squared / (2 * width**2))
    np.testing.assert_allclose(spectrum.imag, 0.0, atol=1e-9)
    scale = float(spectrum.real.max() / ring.max())
    np.testing.assert_allclose(spectrum.real, scale * ring, atol=1e-3 * spectrum.real.max())
    assert abs(spectrum[0, 0]) < 1e-3 * spectrum.real.max()


def test_a_gabor_channel_is_at_half_height_on_the_edges_of_its_band() -> None:
    half, pixel_mm = 64, 0.5
    bank = gabor(half, pixel_mm, edges=(0.1, 0.2), orientations=2)
    assert bank.shape == ((2 * half + 1) ** 2, 2)
    along_row = bank[:, 0].reshape(2 * half + 1, -1)[half]
    position = np.arange(-half, half + 1) * pixel_mm

    def response(frequency: float) -> float:
        # The channel is even: its transform along a row is a sum of cosines.
        return float(along_row @ np.cos(2 * math.pi * frequency * position))

    assert response(0.1) == pytest.approx(0.5 * response(0.15), rel=0.02)
    assert response(0.2) == pytest.approx(0.5 * response(0.15), rel=0.02)
    np.testing.assert_allclose(
        bank[:, 1].reshape(2 * half + 1, -1), bank[:, 0].reshape(2 * half + 1, -1).T, atol=1e-12
    )


def test_channels_have_unit_norm_and_round_ones_do_not_see_direction() -> None:
    for bank in (difference_of_gaussians(HALF, PIXEL_MM), gabor(HALF, PIXEL_MM)):
        np.testing.assert_allclose(np.linalg.norm(bank, axis=0), 1.0)
    image = np.random.default_rng(0).standard_normal((2 * HALF + 1, 2 * HALF + 1))
    bank = difference_of_gaussians(HALF, PIXEL_MM)
    np.testing.assert_allclose(channel_outputs(image, bank), channel_outputs(image.T, bank))
    turned = channel_outputs(image.T, gabor(HALF, PIXEL_MM))
    assert not np.allclose(channel_outputs(image, gabor(HALF, PIXEL_MM)), turned)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (difference_of_gaussians, {"half_pixels": 0}, "half_pixels must be > 0, got 0"),
        (difference_of_gaussians, {"pixel_mm": -1.0}, "pixel_mm must be > 0, got -1.0"),
        (difference_of_gaussians, {"lowest": 0.0}, "lowest must be > 0, got 0.0"),
        (difference_of_gaussians, {"count": 0}, "count must be > 0, got 0"),
        (difference_of_gaussians, {"spacing": 1.0}, "spacing must be > 1, got 1.0"),
        (difference_of_gaussians, {"ratio": math.nan}, "ratio must be > 1, got nan"),
        (gabor, {"edges": (0.1,)}, r"rising frequencies > 0, got \(0.1,\)"),
        (gabor, {"edges": (0.2, 0.1)}, r"rising frequencies > 0, got \(0.2, 0.1\)"),
        (gabor, {"orientations": 0}, "orientations must be > 0, got 0"),
    ],
)
def test_channels_without_sense_are_refused(
    make: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ObserverError, match=message):
        make(**({"half_pixels": HALF, "pixel_mm": PIXEL_MM} | options))


def test_windows_must_be_the_channels() -> None:
    bank = difference_of_gaussians(HALF, PIXEL_MM)
    with pytest.raises(ObserverError, match=r"289 pixels, got shape \(3, 5, 5\)"):
        channel_outputs(np.ones((3, 5, 5)), bank)


# --- the Hotelling observer ---


@pytest.mark.parametrize("strength", [0.1, 0.3])
@pytest.mark.parametrize("make", [difference_of_gaussians, gabor])
def test_in_white_noise_the_area_is_the_analytic_one(make: Any, strength: float) -> None:
    rng = np.random.default_rng(7)
    signal, bank = strength * blob(), make(HALF, PIXEL_MM)
    wanted = analytic_detectability(signal, bank)
    observer = train_hotelling(outputs(rng, 4000, signal, bank), outputs(rng, 4000, 0.0, bank))
    scores = [observer.scores(outputs(rng, 4000, kind, bank)) for kind in (signal, 0.0)]
    areas = correlated_areas([scores[0]], [scores[1]])
    sd = math.sqrt(areas.covariance[0, 0])
    # Training on 4000 images of each kind costs a channel's share of them.
    assert areas.values[0] == pytest.approx(norm.cdf(wanted / math.sqrt(2)), abs=4 * sd)
    assert areas.values[0] > 0.5 + 4 * sd
    right = proportion_correct(*scores)
    assert right.value == pytest.approx(areas.values[0], abs=0.03)
    assert right.low < norm.cdf(wanted / math.sqrt(2)) < right.high


def test_the_template_is_the_inverse_covariance_on_the_signal() -> None:
    rng = np.random.default_rng(1)
    mixing, signal = rng.standard_normal((4, 4)), np.array([1.0, -0.5, 0.2, 0.0])
    kinds = [rng.standard_normal((200_000, 4)) @ mixing.T + shift for shift in (signal, 0.0)]
    observer = train_hotelling(*kinds)
    wanted = np.linalg.solve(mixing @ mixing.T, signal)
    np.testing.assert_allclose(observer.template, wanted, atol=0.05 * np.abs(wanted).max())
    assert observer.detectability == pytest.approx(math.sqrt(signal @ wanted), rel=0.03)


def test_without_a_signal_the_area_is_a_half() -> None:
    rng = np.random.default_rng(3)
    bank = difference_of_gaussians(HALF, PIXEL_MM)
    observer = train_hotelling(outputs(rng, 500, 0.0, bank), outputs(rng, 500, 0.0, bank))
    kinds = [observer.scores(outputs(rng, 500, 0.0, bank)) for _ in range(2)]
    found = correlated_areas([kinds[0]], [kinds[1]]).area(0)
    assert found.low < 0.5 < found.high


def test_internal_noise_divides_the_detectability() -> None:
    rng = np.random.default_rng(5)
    present, absent = rng.standard_normal((2, 100_000, 2))
    present[:, 0] += 1.5
    observer = train_hotelling(present, absent)
    share = 0.75
    noisy = [observer.scores(kind, internal_noise=share, rng=rng) for kind in (present, absent)]
    wanted = norm.cdf(1.5 / math.sqrt(1 + share**2) / math.sqrt(2))
    assert proportion_correct(*noisy).value == pytest.approx(wanted, abs=0.006)


def test_training_that_cannot_be_is_refused() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((40, 3))
    with pytest.raises(ObserverError, match=r"more than 3 images of each kind .* got 3"):
        train_hotelling(images, images[:3])
    with pytest.raises(ObserverError, match=r"same channels, got shapes \(40, 3\) and \(40, 2\)"):
        train_hotelling(images, images[:, :2])
    with pytest.raises(ObserverError, match="must be finite"):
        train_hotelling(np.where(images > 2, np.nan, images), np.full((40, 3), np.inf))
    with pytest.raises(ObserverError, match="depend on each other"):
        train_hotelling(np.ones((9, 2)), np.ones((9, 2)))
    observer = train_hotelling(images + 1, images)
    with pytest.raises(ObserverError, match=r"3 channels, got shape \(40, 2\)"):
        observer.scores(images[:, :2])
    with pytest.raises(ObserverError, match=r"internal_noise must be finite and >= 0, got -1\.0"):
        observer.scores(images, internal_noise=-1.0, rng=rng)
    with pytest.raises(ObserverError, match="needs rng"):
        observer.scores(images, internal_noise=1.0)


# --- areas under the curve ---


def scores_of_scans(seed: int, scans: int = 3) -> tuple[Array, Array]:
    """Correlated scores, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((1, 60)), rng.standard_normal((1, 45))
    present, absent = (
        np.round(common + rng.standard_normal((scans, common.size)), 1) for common in shared
    )
    return present + np.linspace(0.3, 1.2, scans)[:, None], absent


def test_without_clusters_the_covariance_is_delong_s() -> None:
    present, absent = scores_of_scans(11)
    areas = correlated_areas(present, absent)
    merit = figures_of(
        np.concatenate([present, absent], axis=1)[:, None],
        np.arange(105) < 60,
        "auc",
        None,
    )
    wanted = covariance_matrix(merit, "delong", 0, np.random.default_rng(0))
    assert merit.values is not None
    assert wanted is not None
    np.testing.assert_allclose(areas.values, merit.values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(areas.covariance, wanted, rtol=1e-12)


def clustered(
    rng: np.random.Generator, clusters: int, each: int, *, apart: bool = False
) -> tuple[Array, Array, Any, Any]:
    """Scores of two scans, whose clusters share most of what differs between images.

    Each cluster has images of both kinds, or of one kind where they are `apart`.
    """
    names = np.repeat(np.arange(clusters), each)
    both = names, names + clusters if apart else names
    common = rng.standard_normal(2 * clusters)
    kinds = [
        common[of] + 0.5 * rng.standard_normal((2, of.size)) + shift
        for of, shift in zip(both, (0.8, 0.0), strict=True)
    ]
    return kinds[0], kinds[1], *both


@pytest.mark.parametrize("apart", [False, True])
def test_clustered_spread_is_that_of_repeated_studies(*, apart: bool) -> None:
    """What one study of 40 clusters says about its spread, against 600 studies.

    Without clusters the spread is overrated where both kinds share what is common, and underrated
    where they do not.
    """
    rng = np.random.default_rng(2)
    values, told, naive = [], [], []
    for _ in range(600):
        present, absent, first, second = clustered(rng, 40, 6, apart=apart)
        areas = correlated_areas(present, absent, first, second)
        values.append(areas.values)
        told.append(areas.covariance)
        naive.append(correlated_areas(present, absent).covariance)
    spread = np.cov(np.transpose(values))
    np.testing.assert_allclose(np.mean(told, axis=0), spread, rtol=0.15)
    ratio = float(np.mean(naive, axis=0)[0, 0]) / spread[0, 0]
    assert ratio < 0.5 if apart else ratio > 1.2


def test_a_scan_differs_from_itself_by_nothing() -> None:
    present, absent, first, second = clustered(np.random.default_rng(4), 9, 5)
    twice = [np.stack([kind[0], kind[0]]) for kind in (present, absent)]
    found = correlated_areas(twice[0], twice[1], first, second).difference(1, 0)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_mean_of_groups_is_not_surer_than_its_groups() -> None:
    groups = [correlated_areas(*scores_of_scans(seed)) for seed in (1, 2)]
    mean = mean_areas(groups)
    np.testing.assert_allclose(mean.values, (groups[0].values + groups[1].values) / 2)
    np.testing.assert_allclose(mean.covariance, (groups[0].covariance + groups[1].covariance) / 2)
    assert mean.degrees_of_freedom == 104


def test_the_interval_holds_the_area_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    wanted, held = norm.cdf(1.0 / math.sqrt(2)), 0
    for _ in range(400):
        scores = rng.standard_normal((2, 1, 80)) + np.array([1.0, 0.0])[:, None, None]
        found = correlated_areas(*scores).area(0)
        held += found.low < wanted < found.high
    assert 0.92 * 400 <= held <= 0.98 * 400


@given(st.integers(0, 2**32 - 1))
def test_an_interval_lies_about_its_area_between_nothing_and_everything(seed: int) -> None:
    found = correlated_areas(*scores_of_scans(seed))
    for scan in range(3):
        area = found.area(scan)
        assert 0.0 <= area.low <= area.value <= area.high <= 1.0
    there, back = found.difference(0, 2), found.difference(2, 0)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)


def test_an_area_of_one_has_no_spread() -> None:
    found = correlated_areas([[2.0, 3.0, 4.0]], [[0.0, 1.0]]).area(0)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert str(found) == "1.000 (1.000 to 1.000)"


def test_scores_that_cannot_be_are_refused() -> None:
    fine = [[1.0, 2.0]]
    with pytest.raises(ObserverError, match=r"got shapes \(1, 2\) and \(2, 2\)"):
        correlated_areas(fine, [[1.0, 2.0], [1.0, 2.0]])
    with pytest.raises(ObserverError, match="scores must be finite"):
        correlated_areas(fine, [[math.nan, 1.0]])
    with pytest.raises(ObserverError, match=r"got shapes \(1,\) and \(2,\)"):
        correlated_areas(fine, fine, [0], [0, 1])
    with pytest.raises(ObserverError, match="two clusters of each kind, got 1"):
        correlated_areas(fine, fine, [0, 0], [0, 1])
    with pytest.raises(ObserverError, match="one group or more, got 0"):
        mean_areas([])


def test_few_clusters_widen_the_interval() -> None:
    few = Areas(np.array([0.8, 0.7]), np.diag([1e-4, 1e-4]), 2)
    many = Areas(few.values, few.covariance, 10_000)
    assert many.difference(0, 1).low == pytest.approx(0.1 - 1.96 * math.sqrt(2e-4), abs=1e-4)
    assert few.difference(0, 1).low == pytest.approx(0.1 - 4.303 * math.sqrt(2e-4), abs=1e-4)


# --- forced choice ---


def test_choices_are_counted_and_ties_are_guesses() -> None:
    found = proportion_correct([3.0, 1.0, 2.0, 5.0], [1.0, 2.0, 2.0, 0.0])
    assert found.value == pytest.approx(2.5 / 4)


def test_wilson_s_interval_is_the_published_one() -> None:
    """Newcombe RG, Stat Med 17 (1998) 857, Table I, method 3: 81 of 263 and 0 of 20."""
    found = wilson_interval(81 / 263, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = wilson_interval(0.0, 20)
    assert (round(none.low, 4), round(none.high, 4)) == (0.0, 0.1611)


def test_choices_that_cannot_be_are_refused() -> None:
    with pytest.raises(ObserverError, match=r"must be pairs, got shapes \(2,\) and \(1,\)"):
        proportion_correct([1.0, 2.0], [1.0])
    with pytest.raises(ObserverError, match=r"must be pairs, got shapes \(0,\) and \(0,\)"):
        proportion_correct([], [])
    with pytest.raises(ObserverError, match="must be finite"):
        proportion_correct([1.0], [math.inf])
    with pytest.raises(ObserverError, match=r"got 1\.5 of 3"):
        wilson_interval(1.5, 3)
