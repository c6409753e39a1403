"""The grey scale of a blinded series: the same numbers whichever arm is read.

A window that followed from the pixels of one arm would name it: a network cuts the background off
at 0, a scan does not. So the window, and whether values are signed and rescaled, follow from the
series of all arms of a case and sequence together. What a reader is told is then equal in each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from halfscan_api.blinded.source import PixelRange, SourceSeries

_LARGEST_SIGNED = 2**15 - 1


@dataclass(frozen=True, slots=True)
class GreyScale:
    """What a header tells of the pixel values of a series.

    Attributes
    ----------
    centre, width : float
        Of the window (PS3.3 C.11.2.1.2).
    signed : bool
        PixelRepresentation.
    shows_rescale : bool
        Whether slope and intercept are told.
    """

    centre: float
    width: float
    signed: bool
    shows_rescale: bool


def grey_scale(own: SourceSeries, others: Sequence[SourceSeries]) -> GreyScale:
    """Give the grey scale of a series.

    Parameters
    ----------
    own : SourceSeries
        The series that is read.
    others : sequence of SourceSeries
        Those of the other arms, of the same case and sequence. Where there is none, nothing can be
        made equal: the window is rounded so coarsely that it tells next to nothing.
    """
    spans = [one.range for one in (own, *others)]
    low, high = _ends(spans) if others else _coarse_ends(own.range)
    return GreyScale(
        centre=round((low + high) / 2, 1),
        width=max(round(high - low, 1), 1.0),
        signed=_signed(own.range, spans),
        shows_rescale=any(one.shows_rescale for one in (own, *others)),
    )


def _ends(spans: Sequence[PixelRange]) -> tuple[float, float]:
    """Give the mean of the arms' ends: none of them is shown better than another."""
    low = math.fsum(one.low for one in spans) / len(spans)
    high = math.fsum(one.high for one in spans) / len(spans)
    return low, high


def _coarse_ends(span: PixelRange) -> tuple[float, float]:
    low = -_power(-span.low) if span.low < 0 else 0.0
    return low, _power(span.high) if span.high > 0 else 0.0


def _power(value: float) -> float:
    """Round up to a power of the root of two."""
    return float(2.0 ** (math.ceil(2 * math.log2(value)) / 2))


def _signed(own: PixelRange, spans: Sequence[PixelRange]) -> bool:
    """Signed where any arm holds negative values, unless another needs all 16 bits."""
    fits = all(one.largest <= _LARGEST_SIGNED for one in spans)
    return any(one.smallest < 0 for one in spans) if fits else own.smallest < 0
