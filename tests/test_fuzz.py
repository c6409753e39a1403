"""Damaged headers and files: never anything but the project's own errors, soon, in little memory.

More than 20,000 series, seeded: a mutated object beside untouched ones goes from its bytes or its
elements to a volume, one in eight through the decision to the derived object. What comes out is a
result or a `HalfscanError`.
"""

import logging
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from compressed import compressed
from dicom_maker import add_siemens_classic, encoded, mr_series
from halfscan_plugin.acquisition import read_acquisition
from halfscan_plugin.derived import Provenance, derive
from halfscan_plugin.errors import HalfscanError
from halfscan_plugin.files import parse
from halfscan_plugin.headers import items
from halfscan_plugin.inspection import inspect_series
from halfscan_plugin.volume import read_volume
from image_maker import (
    enhanced_image,
    frame_grid,
    mosaic_image,
    slabs,
    tilted,
    united_imaging_image,
    volumes,
)

ROUNDS = 640  # of each kind, for bytes and for elements
ROUNDS_MULTIFRAME = 280  # they take longer
WHOLE_ROAD = 8  # one of so many goes on to the decision and the derived object
SLOWEST_S = 5.0  # processor time, for files of a few kilobytes; usually it takes milliseconds
MOST_MEMORY = 1536 * 2**20  # bytes of address space beyond what is there at the start
PROVENANCE = Provenance("net", "1", "ab" * 32, 1.0, "0.1.0")


def _big_endian(dataset: Dataset) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return dataset


def _implicit(dataset: Dataset) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _classic(syntax: UID, *, bits: tuple[int, int] = (16, 12)) -> Callable[[], list[Dataset]]:
    # JPEG 2000 with its six resolutions needs 32 pixels.
    return lambda: [compressed(d, syntax) for d in mr_series(1, rows=32, columns=32, bits=bits)]


def _padded() -> list[Dataset]:
    series = mr_series(2, signed=True, RescaleSlope=2, RescaleIntercept=1)
    for dataset in series:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
    return series


def _tiles(count: int) -> "np.ndarray[tuple[int, int, int], np.dtype[np.int64]]":
    return np.random.default_rng(0).integers(0, 4096, (count, 4, 6))


def _two_stacks() -> list[Dataset]:
    return [enhanced_image(frame_grid(2, times=2, orientations=[tilted(0), tilted(20)]))]


KINDS: dict[str, Callable[[], list[Dataset]]] = {
    "classic": lambda: [add_siemens_classic(d, "p2") for d in mr_series(2)],
    "implicit": lambda: [_implicit(d) for d in mr_series(2)],
    "big endian": lambda: [_big_endian(d) for d in mr_series(2)],
    "padded": _padded,
    "monochrome1": lambda: mr_series(2, PhotometricInterpretation="MONOCHROME1"),
    "echoes": lambda: volumes([{"EchoNumbers": 1}, {"EchoNumbers": 2}], 2),
    "slabs": lambda: slabs([tilted(0), tilted(30)], 2),
    "enhanced": lambda: [enhanced_image(frame_grid(2), index=i) for i in range(2)],
    "legacy": lambda: [enhanced_image(frame_grid(2), legacy=True, shared=False)],
    "stacks": _two_stacks,
    "mosaic": lambda: [mosaic_image(_tiles(5), index=i) for i in range(2)],
    "vframe": lambda: [united_imaging_image(_tiles(5), index=i) for i in range(2)],
    "deflated": _classic(DeflatedExplicitVRLittleEndian),
    "rle": _classic(RLELossless),
    "jpeg 2000": _classic(JPEG2000Lossless),
    "jpeg-ls": _classic(JPEGLSLossless),
    "jpeg-ls near": _classic(JPEGLSNearLossless),
    "jpeg lossless": _classic(JPEGLosslessSV1),
    "jpeg": _classic(JPEGBaseline8Bit, bits=(8, 8)),
}
MULTIFRAME = ("enhanced", "legacy", "stacks")
VRS = (
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OW", "PN",
    "SH", "SL", "SQ", "SS", "ST", "TM", "UI", "UL", "UN", "US", "UT",
)  # fmt: skip
VALUES = (
    b"", b" ", b"\0\0", b"0 ", b"1 ", b"-1", b"3 ", b"65535 ", b"abc ", b"1\\2\\3 ", b"nan ",
    b"inf ",
    b"1e400 ", b"1e30", b"-1e-30", b"99999999999999999999", b"\\\\\\ ", b"\xff\xfe\xfd\xfc",
    b"\xff\xff", b"\0\x80", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0\0\0\0\0\0\xf0\x7f",
    b"1\\0\\0\\0\\1\\0", b"0\\0\\0 ", b"1\\0\\0\\1\\0\\0",
    b"\xfe\xff\x00\xe0\x08\0\0\0" + b"\0" * 8,
)  # fmt: skip
ADDED = (
    "NumberOfFrames", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "EchoNumbers",
    "RescaleIntercept", "TemporalPositionIdentifier", "SpacingBetweenSlices", "ImageType",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "DiffusionBValue", "InstanceNumber", "LossyImageCompression", "ExtendedOffsetTable",
    "StackID", "DimensionIndexValues", "TriggerTime", "SourceImageSequence", "ImageComments",
)  # fmt: skip


def road(datasets: Sequence[Dataset], *, whole: bool) -> str:
    """Go from parsed files to a volume, or to derived objects; say where the road ended."""
    read_acquisition(datasets[0])
    if whole:
        inspect_series(datasets)
    source = read_volume(datasets)
    if whole:
        derived = derive(source, source.volume, PROVENANCE, series_number=1005)
        for dataset in derived.datasets:
            dcmwrite(BytesIO(), dataset, enforce_file_format=True)
    return "done"


def damage_bytes(content: bytes, rng: random.Random) -> Dataset:
    """Overwrite, cut, repeat, remove or insert bytes, the header more often than the pixels."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        end = len(damaged) if rng.random() < 0.5 else min(len(damaged), 1200)
        place = rng.randrange(128, max(end, 130))
        length = rng.randrange(1, 9)
        action = rng.random()
        if action < 0.6:
            damaged[place : place + 1] = bytes([rng.randrange(256)])
        elif action < 0.7:
            damaged[place : place + length] = rng.choice(VALUES)[:length].ljust(length, b"\xff")
        elif action < 0.8:
            del damaged[place : place + length]
        elif action < 0.9:
            damaged[place:place] = damaged[place - length : place]
        else:
            del damaged[place:]
    return parse(BytesIO(bytes(damaged)))


def damage_elements(content: bytes, rng: random.Random) -> Dataset:
    """Give elements, also of nested items, other bytes, another VR, or take them away."""
    dataset = parse(BytesIO(content))
    little = dataset.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.choice(list(_datasets(dataset)))
        tags = list(place.keys())
        tag: BaseTag = rng.choice(tags) if tags and rng.random() < 0.8 else Tag(rng.choice(ADDED))
        if rng.random() < 0.15:
            place._dict.pop(tag, None)  # pop() converts the value first
            continue
        value = rng.choice(VALUES) if rng.random() < 0.8 else rng.randbytes(rng.randrange(0, 12, 2))
        known = place._dict.get(tag)
        vr = known.VR if known is not None and rng.random() < 0.7 else rng.choice(VRS)
        place._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, little)
    return dataset


def _datasets(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for tag in list(dataset.keys()):
        for below in items(dataset, tag):
            yield from _datasets(below)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Make large allocations fail, as they would in a container."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (no file on a disk)
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def rounds_of(kind: str) -> int:
    return ROUNDS_MULTIFRAME if kind in MULTIFRAME else ROUNDS


def test_there_are_more_than_20000() -> None:
    assert 2 * sum(map(rounds_of, KINDS)) > 20_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [damage_bytes, damage_elements])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_series_are_read_or_refused(
    kind: str,
    damage: Callable[[bytes, random.Random], Dataset],
    little_memory: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "pydicom")  # it logs every frame that it cannot decode
    first, *others = [encoded(dataset) for dataset in KINDS[kind]()]
    rest = [parse(BytesIO(content)) for content in others]
    assert road([parse(BytesIO(first)), *rest], whole=True) == "done"
    rng = random.Random(f"{kind} {damage.__name__}")
    ends: Counter[str] = Counter()
    for number in range(rounds_of(kind)):
        started = time.process_time()
        try:
            end = road([damage(first, rng), *rest], whole=number % WHOLE_ROAD == 0)
        except HalfscanError as error:
            end = str(getattr(error, "code", type(error).__name__))
        except Exception as error:
            raise AssertionError(f"round {number} of {kind}: {error!r}") from error
        ends[end] += 1
        took = time.process_time() - started
        assert took < SLOWEST_S, f"round {number} of {kind} took {took:.1f} s"
    assert len(ends) > 3, ends
    assert 0 < ends["done"] < rounds_of(kind), ends
