"""Headers that are broken in every way: an answer comes back, or null, and nothing is raised.

Deterministic: each round has a seed of its own. HALFSCAN_FUZZ_ROUNDS asks for more rounds.
"""

import json
import logging
import math
import os
import random
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from dicom_maker import encoded
from halfscan_plugin.acquisition import Acquisition, read_acquisition
from vendor_layouts import implicit
from vendor_table import LAYOUTS

ROUNDS = int(os.environ.get("HALFSCAN_FUZZ_ROUNDS", "4000"))
CHUNK = 500
REPRESENTATIONS = ["AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB"]
REPRESENTATIONS += ["OW", "PN", "SH", "SL", "SQ", "SS", "ST", "TM", "UI", "UL", "UN", "US", "UT"]
TEXTS = ["", " ", "\0", "p", "p0", "p99999999999", "s-1", "nan", "inf", "1e999", "-2", "0.0", "\\"]
TEXTS += ["0.5\\1\\2", "YES", "NO", "MBSENSE", "CS", "3D", "ä\u202e\x1b[2J", "F:1e5", "9" * 5000]
TEXTS += ["### ASCCONV BEGIN ###\nsPat.lAccelFactPE = 0xffffffffffffffffffffffff\n"]
TEXTS += ["TOSHIBA", "GE", "PHILIPS", "UIH", "SIEMENS", "<MLTBF>999</MLTBF>", "DRB", "AI"]
OBJECTS: list[Any] = [None, [], [None], 2, -1, 0.0, 10**400, True, ["2", "3"], b"\0", b"2", {}]
FACTORS = (
    "in_plane_factor",
    "slice_factor",
    "multiband_factor",
    "compressed_sensing_factor",
    "averages",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep pydicom from logging what was broken on purpose."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def some_bytes(rng: random.Random) -> bytes:
    choice = rng.randrange(4)
    if choice == 0:
        return rng.choice(TEXTS).encode()
    if choice == 1:
        return b"\xfe\xff\x00\xe0" + rng.randbytes(rng.randrange(40))
    return rng.randbytes(rng.choice([0, 1, 2, 3, 4, 7, 8, 16, 300]))


def places(header: Dataset, rng: random.Random) -> Dataset:
    """Go down into sequences, at random."""
    place = header
    for _ in range(5):
        inner = [
            item
            for tag in list(place.keys())
            if place.get_item(tag) is not None and _vr(place, tag) == "SQ"
            for item in _items(place, tag)
        ]
        if not inner or rng.random() < 0.3:
            break
        place = rng.choice(inner)
    return place


def _vr(place: Dataset, tag: BaseTag) -> str | None:
    return getattr(place.get_item(tag), "VR", None)


def _items(place: Dataset, tag: BaseTag) -> list[Dataset]:
    try:
        value = place[tag].value
    except Exception:  # noqa: BLE001  (broken before)
        return []
    return list(value) if isinstance(value, Sequence) else []


def delete(place: Dataset, tag: BaseTag, _rng: random.Random) -> None:
    del place[tag]


def set_bytes(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    value, vr = some_bytes(rng), rng.choice(REPRESENTATIONS)
    place._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, rng.random() < 0.5, True)


def set_text(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    value = rng.choice(TEXTS)
    place._dict[tag] = DataElement(
        tag, rng.choice(["LO", "CS", "UT"]), value, already_converted=True
    )


def set_object(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    found = DataElement(tag, rng.choice(REPRESENTATIONS), b"", already_converted=True)
    found._value = rng.choice(OBJECTS)
    place._dict[tag] = found


def move(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    other = Tag(tag.group, rng.choice([0x10, 0x11, 0x1009, 0x1011, 0x1083, 0xFFFF, tag.element]))
    found = place._dict.pop(tag)
    if isinstance(found, RawDataElement):
        place._dict[other] = found._replace(tag=other)
    else:
        found.tag = other
        place._dict[other] = found


def nest(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    inner = Dataset()
    inner._dict[tag] = place._dict[tag]
    for _ in range(rng.choice([1, 2, 50])):
        outer = Dataset()
        outer._dict[tag] = DataElement(tag, "SQ", Sequence([inner]))
        inner = outer
    place._dict[tag] = DataElement(tag, "SQ", Sequence([inner]))


def damage(place: Dataset, tag: BaseTag, rng: random.Random) -> None:
    """Change some bytes of what stands there."""
    found = place.get_item(tag)
    if isinstance(found, RawDataElement) and found.value:
        changed = bytearray(found.value)
        for _ in range(rng.choice([1, 5, 50])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        place._dict[tag] = found._replace(value=bytes(changed))


Change = Callable[[Dataset, BaseTag, random.Random], None]
CHANGES: list[Change] = [delete, set_bytes, set_text, set_object, move, nest, damage]


def check(acquisition: Acquisition) -> None:
    """Demand what always holds."""
    report = acquisition.as_dict()
    json.dumps(report, allow_nan=False)
    for name in FACTORS:
        value = report[name]
        assert value is None or (math.isfinite(value) and value > 0), (name, value)
    for name in ("accelerated", "partial_fourier", "deep_learning"):
        assert report[name] in {True, False, None}
    for item in acquisition.evidence:
        assert len(item.value) <= 200
        assert all(text.isprintable() for text in (item.tag, item.name, item.value, item.says))
    known = [name for name, value in report.items() if value not in (None, (), {})]
    assert acquisition.evidence or known == ["evidence"]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """Every layout as a file, with explicit and with implicit VR."""
    headers = [layout.make() for layout in LAYOUTS]
    return [encoded(header) for header in [*headers, *map(implicit, headers)]]


# pydicom warns of what is broken on purpose.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", range(max(1, ROUNDS // CHUNK)))
def test_broken_headers(files: list[bytes], chunk: int) -> None:
    for number in range(CHUNK):
        rng = random.Random(chunk * CHUNK + number)
        header = dcmread(BytesIO(rng.choice(files)))
        for _ in range(rng.choice([1, 2, 4, 12])):
            place = places(header, rng)
            tags = list(place.keys())
            if tags:
                rng.choice(CHANGES)(place, rng.choice(tags), rng)
        check(read_acquisition(header))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", range(max(1, ROUNDS // CHUNK)))
def test_broken_files(files: list[bytes], chunk: int) -> None:
    read = 0
    for number in range(CHUNK):
        rng = random.Random(-1 - chunk * CHUNK - number)
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(132, len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(200, len(data)) :]
        try:
            header = dcmread(BytesIO(bytes(data)), force=True, stop_before_pixels=True)
        except Exception:  # noqa: BLE001, S112  (what no parser can read is not for us)
            continue
        read += 1
        check(read_acquisition(header))
    assert read > CHUNK // 4
