"""Headers that no scanner should write: what can be read can be derived and written."""

import contextlib
import random
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence

from derived_support import MADE_BY
from dicom_maker import encoded, mr_series, reread
from halfscan_plugin.derived import derive
from halfscan_plugin.headers import elements
from halfscan_plugin.volume import read_volume
from image_maker import enhanced_image, mosaic_image, united_imaging_image

MUTATED_SERIES = 2000
PIXEL_DATA = 0x7FE00010
REPRESENTATIONS = (
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OD", "OF",
    "OL", "OW", "PN", "SH", "SL", "SQ", "SS", "ST", "TM", "UC", "UI", "UL", "UN", "UR", "US",
    "UT",
)  # fmt: skip
BYTES = (
    b"", b"x" * 70, b"5", b"\xff\xfe", b"\x00\xff", b"1\\2", b"3.5 ", b"-7", b"1" * 21, b"1.2.3",
    b"\\\\", b"nan", b"1e400",
)  # fmt: skip


def nested(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set and all items below."""
    yield dataset
    for element in elements(dataset):
        if isinstance(element.value, Sequence):
            for item in element.value:
                yield from nested(item)


def mutate(dataset: Dataset, chance: random.Random) -> None:
    """Remove elements, or give them other representations and bytes, as a file may hold them."""
    for _ in range(chance.randint(1, 4)):
        place = chance.choice(list(nested(dataset)))
        tags = [tag for tag in place.keys() if tag != PIXEL_DATA]  # noqa: SIM118  (no dict: Dataset)
        if not tags:
            continue
        tag = chance.choice(tags)
        found = place._dict.pop(tag)
        representation = chance.choice([found.VR, chance.choice(REPRESENTATIONS)])
        if chance.random() < 0.75:
            content = chance.choice([*BYTES, chance.randbytes(chance.choice([1, 2, 4, 8, 64]))])
            # Not through __setitem__, which converts some values at once.
            place._dict[tag] = RawDataElement(
                tag, representation, len(content), content, 0, False, True
            )


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_mutated_headers_raise_nothing_else() -> None:
    tiles = np.random.default_rng(0).integers(0, 4096, (5, 6, 5))
    sources = [
        [encoded(dataset) for dataset in series]
        for series in (
            mr_series(2),
            [enhanced_image()],
            [enhanced_image(legacy=True, shared=False)],
            [mosaic_image(tiles)],
            [united_imaging_image(tiles)],
        )
    ]
    chance = random.Random(2024)
    written = 0
    for _ in range(MUTATED_SERIES):
        series = [dcmread(BytesIO(content)) for content in chance.choice(sources)]
        source = None
        for dataset in series:
            mutate(dataset, chance)
        with contextlib.suppress(Exception):  # how reading fails has a test of its own
            source = read_volume(series)
        if source is None:
            continue
        derived = derive(source, source.volume * np.float32(0.5), MADE_BY, series_number=7)
        for before, after in zip(source.sources, map(reread, derived.datasets), strict=True):
            assert len(after.PixelData) == len(before.PixelData)
        written += 1
    assert written > MUTATED_SERIES / 5
