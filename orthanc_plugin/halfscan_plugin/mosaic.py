"""Mosaics: classic objects that hold the slices of a volume as tiles of one image.

Siemens (ImageType ``MOSAIC``) and United Imaging (``VFRAME``) arrange the slices row by row in a
grid; tiles behind the last slice are empty. How many there are stands in private elements only.
ImagePositionPatient of a Siemens mosaic is that of an image of the whole grid's size around the
centre of the first slice: https://nipy.org/nibabel/dicom/dicom_mosaic.html. United Imaging gives
each slice its own position, in a private sequence.
"""

import math
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from halfscan_plugin.csa import csa_values, protocol_number
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import (
    as_number,
    element,
    integer,
    items,
    private_block,
    text,
    texts,
    value_text,
)
from halfscan_plugin.slices import (
    Orientation,
    Position,
    Slice,
    classic_labels,
    orientation_of,
    pitch_of,
    position_of,
    spacing_of,
)

__all__ = ["Layout", "is_mosaic", "layout_of", "mosaic_slices"]

SIEMENS = (0x0019, "SIEMENS MR HEADER")
NUMBER_OF_IMAGES = 0x0A
UNITED_IMAGING = (0x0065, "Image Private Header")
FRAMES, FRAME_SEQUENCE = 0x50, 0x51
MOST_TILES = 4096
SAME_DIRECTION = 0.99  # cosine


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tiles of a mosaic lie.

    Parameters
    ----------
    tiles : int
        How many hold a slice.
    across, down : int
        Size of the grid [tiles].
    rows, columns : int
        Size of a tile [pixels].
    """

    tiles: int
    across: int
    down: int
    rows: int
    columns: int

    def window(self, tile: int) -> tuple[slice, slice]:
        """Give rows and columns of a tile within the mosaic."""
        top, left = tile // self.across * self.rows, tile % self.across * self.columns
        return slice(top, top + self.rows), slice(left, left + self.columns)


def is_mosaic(header: Dataset) -> bool:
    """Tell whether ImageType says that an object is a mosaic."""
    return not {"MOSAIC", "VFRAME"}.isdisjoint(texts(header, "ImageType"))


def layout_of(header: Dataset) -> Layout:
    """Find the tiles of a mosaic.

    Raises
    ------
    UnreadableSeries
        If no header tells their number, if two of them differ, or if the grid does not fit.
    """
    name = text(header, "SOPInstanceUID")
    if "VFRAME" in texts(header, "ImageType"):
        tiles = _united_imaging_tiles(header)
    else:
        tiles = _siemens_tiles(header, name)
    if tiles is None:
        raise UnreadableSeries("mosaic", f"instance {name}: no header tells the number of tiles")
    if not 1 <= tiles <= MOST_TILES or tiles != int(tiles):
        raise UnreadableSeries(
            "mosaic", f"instance {name}: tiles must be 1 to {MOST_TILES}, the header says {tiles:g}"
        )
    # A square grid at Siemens; United Imaging leaves out rows that would be empty.
    across = math.isqrt(int(tiles) - 1) + 1
    down = -(-int(tiles) // across) if "VFRAME" in texts(header, "ImageType") else across
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    if rows < down or columns < across or rows % down or columns % across:
        raise UnreadableSeries(
            "mosaic",
            f"instance {name}: {tiles:g} tiles need a grid of {down} x {across}, "
            f"which does not divide {rows} x {columns}",
        )
    return Layout(int(tiles), across, down, rows // down, columns // across)


def mosaic_slices(header: Dataset, source: int) -> list[Slice]:
    """Describe the tiles of a mosaic.

    Raises
    ------
    UnreadableSeries
        If the tiles cannot be found, or if their geometry is none.
    """
    layout = layout_of(header)
    name = text(header, "SOPInstanceUID")
    orientation, spacing = orientation_of(header, name), spacing_of(header, name)
    positions = _united_imaging_positions(header, layout, name)
    if positions is None:
        positions = _siemens_positions(header, layout, orientation, spacing)
    labels = classic_labels(header)
    return [
        # Where the tiles lie is known of all of them or of none: without it, their order stays.
        Slice(
            source,
            tile,
            None if positions is None else positions[tile],
            orientation,
            spacing,
            pitch_of(header),
            tile + 1,
            labels,
        )
        for tile in range(layout.tiles)
    ]


def _siemens_tiles(header: Dataset, name: str) -> float | None:
    """Read the number of tiles from the mosaic element, the CSA header or the protocol."""
    tag = private_block(header, *SIEMENS).get(NUMBER_OF_IMAGES)
    written = None if tag is None else element(header, tag)
    stated = None if written is None else as_number(written.value)
    in_csa = as_number("".join(csa_values(header).get("NumberOfImagesInMosaic", [])[:1]))
    known = {value for value in (stated, in_csa) if value}
    if len(known) > 1:
        raise UnreadableSeries(
            "mosaic",
            f"instance {name}: {stated:g} tiles in (0019,xx0A), {in_csa:g} in the CSA header",
        )
    return known.pop() if known else protocol_number(header, "sSliceArray.lSize")


def _siemens_positions(
    header: Dataset,
    layout: Layout,
    orientation: Orientation | None,
    spacing: tuple[float, float] | None,
) -> list[Position] | None:
    """Compute the positions of the tiles; None where the headers do not tell the direction."""
    whole = position_of(header, text(header, "SOPInstanceUID"))
    pitch = pitch_of(header)
    along = [as_number(value) for value in csa_values(header).get("SliceNormalVector", [])]
    known = [value for value in along if value is not None]
    if whole is None or orientation is None or spacing is None or pitch is None or len(known) != 3:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.array(known)
    if abs(float(np.cross(row, column) @ normal)) < SAME_DIRECTION or max(np.abs(known)) > 1.01:
        return None
    extra_columns = (layout.across - 1) * layout.columns / 2
    extra_rows = (layout.down - 1) * layout.rows / 2
    first = np.array(whole) + row * spacing[1] * extra_columns + column * spacing[0] * extra_rows
    places = (first + normal * pitch * tile for tile in range(layout.tiles))
    return [(float(x), float(y), float(z)) for x, y, z in places]


def _united_imaging(header: Dataset, low: int) -> str:
    tag = private_block(header, *UNITED_IMAGING).get(low)
    return "" if tag is None else value_text(element(header, tag)).strip()


def _united_imaging_tiles(header: Dataset) -> float | None:
    return as_number(_united_imaging(header, FRAMES))


def _united_imaging_positions(header: Dataset, layout: Layout, name: str) -> list[Position] | None:
    tag = private_block(header, *UNITED_IMAGING).get(FRAME_SEQUENCE)
    places = [] if tag is None else items(header, tag)
    found = [position_of(item, name) for item in places]
    known = [position for position in found if position is not None]
    return known if len(known) == len(found) == layout.tiles else None
