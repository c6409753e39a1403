"""A scan that writes one object a volume and was stopped: the last object has fewer slices."""

from collections.abc import Sequence

import numpy as np

from halfscan_plugin.parts import located, named
from halfscan_plugin.slices import Slice

__all__ = ["stopped_object"]

SAME_PLACE_MM = 0.1  # the slices of a mosaic have computed positions


def stopped_object(groups: Sequence[list[Slice]], names: Sequence[str]) -> str | None:
    """Tell whether the last object holds some slices of another one, and no more.

    Parameters
    ----------
    groups : sequence of list of Slice
        Slices of one orientation and, where it has several, of one object, in the order of the
        objects' numbers.
    names : sequence of str
        SOPInstanceUID of each object.

    Returns
    -------
    str or None
        What is to be left out, the last group; None where it is not.
    """
    last = groups[-1]
    if len({image.source for image in last}) > 1:
        return None
    for group in groups[:-1]:
        if len(group) > len(last) and _is_within(last, group):
            return (
                f"left out: {len(last)} images of a volume that is not whole: the last object has "
                f"{len(last)} of {len(group)} slices ({named(located(last), names)})"
            )
    return None


def _is_within(some: Sequence[Slice], more: Sequence[Slice]) -> bool:
    theirs = [image.position for image in more if image.position is not None]
    own = [image.position for image in some if image.position is not None]
    if not theirs or len(own) < len(some) or some[0].orientation is None:
        return False
    if some[0].orientation != more[0].orientation or _stack(some) != _stack(more):
        return False
    distances = np.linalg.norm(np.array(own)[:, np.newaxis] - np.array(theirs), axis=2)
    return bool((distances.min(axis=1) <= SAME_PLACE_MM).all())


def _stack(slices: Sequence[Slice]) -> str:
    return dict(slices[0].labels).get("StackID", "")
