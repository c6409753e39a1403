"""The grey scale of a reading: equal in all arms of a case, coarse where there is one arm alone."""

import itertools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from halfscan_api.blinded.greyscale import grey_scale
from halfscan_api.blinded.source import PixelRange, SourceSeries


def series(
    low: float, high: float, *, smallest: int = 0, largest: int = 4095, rescale: bool = False
) -> SourceSeries:
    """A series as far as the grey scale asks: what its pixels span, and whether it is rescaled."""
    span = PixelRange(smallest, largest, low, high)
    return cast("SourceSeries", SimpleNamespace(range=span, shows_rescale=rescale))


# What a scan and a network leave of the same slices: background of noise, and cut off at 0.
SCAN, NETWORK = series(7, 2750.3), series(0, 2731.9)


@pytest.mark.parametrize(
    "arms",
    [
        [SCAN, NETWORK],
        [SCAN, series(-3, 2700, smallest=-9)],
        [SCAN, series(-100, 900, rescale=True)],
        [SCAN, NETWORK, series(3.3, 2800.1)],
    ],
    ids=["a network", "negative values", "an intercept", "three arms"],
)
def test_every_arm_is_told_the_same(arms: Sequence[SourceSeries]) -> None:
    told = {
        grey_scale(own, others)
        for own, *others in itertools.permutations(arms)  # in any order
    }
    assert len(told) == 1


def test_the_window_lies_between_those_of_the_arms() -> None:
    told = grey_scale(SCAN, [NETWORK])
    assert told.centre == pytest.approx(1372.3)
    assert told.width == pytest.approx(2737.6)


def test_one_arm_alone_is_told_coarsely() -> None:
    """Its background does not show, and few numbers are possible for its bright end."""
    told = [grey_scale(one, []) for one in (SCAN, NETWORK, series(8, 2100))]
    assert len(set(told)) == 1
    assert told[0].width == pytest.approx(2048 * math.sqrt(2), abs=0.1)
    assert told[0].centre == pytest.approx(told[0].width / 2, abs=0.1)


def test_an_empty_series_has_a_window() -> None:
    assert grey_scale(series(0, 0), []).width == 1


def test_what_needs_all_sixteen_bits_stays_unsigned() -> None:
    wide, negative = series(0, 9000, largest=40_000), series(0, 9000, smallest=-5)
    assert not grey_scale(wide, [negative]).signed
    assert grey_scale(negative, [wide]).signed
