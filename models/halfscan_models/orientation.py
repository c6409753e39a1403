"""One orientation for every slice, so that turning the input turns the result and nothing else.

A convolutional network is not exactly equivariant to mirroring and transposition, even one that has
seen all eight orientations in training. Averaging over the eight makes it so, at eight times the
cost. Here each slice is brought into an orientation that follows from its own content, as "frame
averaging" does in general [1]_: the heavier end of each axis last, the longer side along the rows.
All eight versions of a slice come to the same one, are restored once, and are turned back.

Where the content does not decide (a mirror-symmetric slice), every orientation that would do is
used and the results are averaged, which is exact again; for versions that are the same pixels the
network runs once.

Rows and columns of zeros around the picture are set aside first: they are padding, not signal.

References
----------
.. [1] Puny O, Atzmon M, Smith EJ, Misra I, Grover A, Ben-Hamu H, Lipman Y. Frame averaging for
   invariant and equivariant network design. ICLR 2022. arXiv:2110.03336
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float64]  # (row, column)

# Asymmetries below this share of the picture's moment are rounding of single precision, and decide
# nothing.
_TIE = 1e-7


@dataclass(frozen=True, slots=True)
class View:
    """A part of a slice in one of the eight orientations: transposed first, then mirrored.

    Attributes
    ----------
    rows, columns : slice
        The part.
    transpose, flip_rows, flip_columns : bool
        The orientation.
    """

    rows: slice
    columns: slice
    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def of(self, image: Image) -> Image:
        """Give the view of an image, as an array of its own."""
        part = image[self.rows, self.columns]
        part = part.T if self.transpose else part
        return part[self._steps()].copy()

    def back(self, part: Image, shape: tuple[int, ...]) -> Image:
        """Put the view of a result where it belongs, in an image of zeros."""
        image = np.zeros(shape)
        part = part[self._steps()]
        image[self.rows, self.columns] = part.T if self.transpose else part
        return image

    def _steps(self) -> tuple[slice, slice]:
        return slice(None, None, -1 if self.flip_rows else 1), slice(
            None, None, -1 if self.flip_columns else 1
        )


def canonical_views(image: Image) -> list[View]:
    """Find the views of a slice that its content prefers.

    Parameters
    ----------
    image : ndarray
        (row, column), not negative.

    Returns
    -------
    list of View
        One; several where the slice is symmetric; none where it is zero everywhere.
    """
    filled = image > 0.0
    rows, columns = (_extent(np.asarray(filled.any(axis=axis))) for axis in (1, 0))
    if rows.start == rows.stop:
        return []
    part = image[rows, columns]
    along_rows, along_columns = _asymmetry(part), _asymmetry(part.T)
    views = []
    for transpose, flip_rows, flip_columns in product((False, True), repeat=3):
        height, width = part.shape[::-1] if transpose else part.shape
        down, right = (along_columns, along_rows) if transpose else (along_rows, along_columns)
        down, right = (-down if flip_rows else down), (-right if flip_columns else right)
        if height < width or min(down, right) < -_TIE or (height == width and down < right - _TIE):
            continue
        views.append(View(rows, columns, transpose, flip_rows, flip_columns))
    return views


def distinct(views: list[View], image: Image) -> list[list[tuple[View, Image]]]:
    """Group views that show the same pixels.

    Parameters
    ----------
    views : list of View
        Some views of the image.
    image : ndarray
        (row, column).

    Returns
    -------
    list of list of (View, ndarray)
        One list for each different picture.
    """
    groups: list[list[tuple[View, Image]]] = []
    for view in views:
        picture = view.of(image)
        for group in groups:
            if np.array_equal(group[0][1], picture):
                group.append((view, picture))
                break
        else:
            groups.append([(view, picture)])
    return groups


def _extent(filled: npt.NDArray[np.bool_]) -> slice:
    """From the first to the last that holds something."""
    places = np.flatnonzero(filled)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _asymmetry(part: Image) -> float:
    """How much heavier the last rows are than the first: -1 to 1.

    Every sum is arranged so that mirroring the columns changes no rounding and mirroring the rows
    only the sign: the orientation that is found must not depend on the one that was given.
    """
    height, width = part.shape
    half = width // 2
    folded = np.ascontiguousarray(part[:, :half] + part[:, : width - half - 1 : -1])
    profile = folded.sum(axis=1)
    if width % 2:
        profile = profile + part[:, half]
    ends = height // 2
    lever = np.arange(height - 1, height - 1 - 2 * ends, -2, dtype=np.float64)
    first, last = profile[:ends], profile[: height - ends - 1 : -1]
    moment = float((lever * (first + last)).sum())
    return float((lever * (last - first)).sum()) / moment if moment > 0.0 else 0.0
