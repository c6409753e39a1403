"""What the API reads of a real Orthanc: headers, pixels, and both after a restart."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from blinded_support import ARMS, Lumbar
from compressed import compressed
from dicom_maker import add_siemens_classic, encoded, mr_object, mr_series
from halfscan_api.archive import Archive, ArchivedSeries, ImagesMissing, SeriesIdentity
from halfscan_api.blinded.source import SourceCache
from halfscan_api.enrolment.headers import read_facts
from halfscan_plugin.stack import Stack, StartFailed
from image_maker import enhanced_image

pytest_plugins = ["api_fixtures", "blinded_fixtures"]


def series_of(archive: Archive, dataset: Dataset) -> ArchivedSeries:
    uids = (str(dataset.SeriesInstanceUID), str(dataset.StudyInstanceUID))
    return archive.series(SeriesIdentity(*uids))


def siemens() -> Dataset:
    dataset = add_siemens_classic(mr_object(name="siemens"), "p2")
    block = dataset.private_block(0x0051, "SIEMENS MR HEADER")
    block.add_new(0x0A, "LO", "TA 01:17")
    dataset.InversionTime = 0
    dataset.AcquisitionMatrix = [320, 0, 0, 256]
    return dataset


def general_electric() -> Dataset:
    dataset = mr_object(name="ge", Manufacturer="GE MEDICAL SYSTEMS", NumberOfAverages=1.5)
    block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
    block.add_new(0x5A, "FL", 77_000_000.0)
    return dataset


def philips() -> Dataset:
    dataset = enhanced_image(name="philips", Manufacturer="Philips")
    block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x33, "FL", 77.25)
    return dataset


def derived() -> Dataset:
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = "1.2", "1.2.3.4"
    equipment = Dataset()
    equipment.Manufacturer, equipment.ManufacturerModelName = "Halfscan", "dbpn-s 1"
    dataset = mr_object(
        name="derived", SeriesDescription="Wirbelsäule", PatientBirthDate="19700101"
    )
    dataset.SourceImageSequence = Sequence([source])
    dataset.ContributingEquipmentSequence = Sequence([equipment])
    dataset.DerivationDescription = "a \\ b"
    dataset.ImageComments = "x" * 400
    return dataset


@pytest.mark.parametrize("make", [siemens, general_electric, philips, derived])
def test_headers_are_those_of_the_files(lumbar: Lumbar, make: Callable[[], Dataset]) -> None:
    dataset = make()
    lumbar.store([dataset])
    expected = read_facts([dataset.to_json_dict()])
    with closing(Archive(lumbar.orthanc_url)) as archive:
        [header] = archive.headers(series_of(archive, dataset)).values()
    facts = read_facts([header])
    for name in ("kind", "unclear", "by_halfscan", "model", "derived", "sources", "patient"):
        assert getattr(facts, name) == getattr(expected, name), name
    for name in ("born", "sex", "day", "scan_time_s", "parameters"):
        assert getattr(facts, name) == getattr(expected, name), name
    assert len(facts.frames) == len(expected.frames)
    for frame, other in zip(facts.frames, expected.frames, strict=True):
        for one in fields(frame):
            value, wanted = getattr(frame, one.name), getattr(other, one.name)
            assert type(value) is type(wanted), one.name
            assert np.array_equal(value, wanted), one.name


def high_bits(dataset: Dataset) -> None:
    """The stored bits lie at the top, others below."""
    values = dataset.pixel_array.astype("<u2")
    dataset.HighBit = 15
    dataset.PixelData = (values << 4 | 5).astype("<u2").tobytes()


def overlay_bits(dataset: Dataset) -> None:
    values = dataset.pixel_array.astype("<u2")
    dataset.PixelData = (values | 0x9000).astype("<u2").tobytes()


def nothing(dataset: Dataset) -> None:
    del dataset


def wide(dataset: Dataset) -> None:
    values = dataset.pixel_array
    dataset.BitsAllocated = 32
    dataset.PixelData = values.astype("<u4").tobytes()


def padded(dataset: Dataset) -> None:
    dataset.PixelData += b"\0\0"


def made(name: str, **more: Any) -> Dataset:
    return mr_object(name=name, **more)


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: made("plain"), nothing),
        (lambda: made("signed", signed=True, pixels=signed_values()), nothing),
        (lambda: made("full", signed=True, bits=(16, 16)), nothing),
        (lambda: made("bytes", bits=(8, 8), rows=11, columns=9), nothing),
        (lambda: made("high bits"), high_bits),
        (lambda: made("overlay"), overlay_bits),
        (lambda: made("wide"), wide),
        (lambda: made("padded"), padded),
        (lambda: made("inverse", PhotometricInterpretation="MONOCHROME1"), nothing),
        (lambda: made("slope", RescaleSlope=2.5, RescaleIntercept=-100), nothing),
        (lambda: made("rle", signed=True), lambda dataset: compressed(dataset, RLELossless)),
        (lambda: made("jls"), lambda dataset: compressed(dataset, JPEGLSLossless)),
        (lambda: made("j2k", rows=40, columns=48), lambda one: compressed(one, JPEG2000Lossless)),
        (
            lambda: enhanced_image(name="j2k frames", rows=40, columns=48),
            lambda one: compressed(one, JPEG2000Lossless),
        ),
        (lambda: enhanced_image(name="frames"), nothing),
        (lambda: enhanced_image(name="tight"), lambda dataset: compressed(dataset, RLELossless)),
    ],
)
def test_stored_values_are_those_of_the_files(
    lumbar: Lumbar, make: Callable[[], Dataset], change: Callable[[Dataset], object]
) -> None:
    dataset = make()
    expected = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    change(dataset)
    lumbar.store([dataset])
    identity = SeriesIdentity(str(dataset.SeriesInstanceUID), str(dataset.StudyInstanceUID))
    with closing(Archive(lumbar.orthanc_url)) as archive:
        source = SourceCache().get(archive, identity)
        assert len(source.frames) == len(expected)
        for frame in source.frames:
            np.testing.assert_array_equal(source.stored(frame), expected[frame.number - 1])


def test_what_nobody_can_decode_is_said(lumbar: Lumbar) -> None:
    dataset = made("cut off")
    dataset.PixelData = dataset.PixelData[:20]
    lumbar.store([dataset])
    with closing(Archive(lumbar.orthanc_url)) as archive:
        [name] = series_of(archive, dataset).instances
        with pytest.raises(ImagesMissing, match="a form that cannot be decoded"):
            archive.frame(name, 1)
        with pytest.raises(ImagesMissing, match="does not hold"):
            archive.frame("-".join(["0" * 8] * 5), 1)


def signed_values() -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.random.default_rng(0).integers(-2048, 2048, (1, 12, 10), dtype=np.int16)


def test_a_whole_series_is_told_at_once(lumbar: Lumbar) -> None:
    uid = lumbar.uid(ARMS[1], "sag_t2")
    with closing(Archive(lumbar.orthanc_url)) as archive:
        series = archive.series(SeriesIdentity(uid, lumbar.study_uid()))
        assert tuple(archive.headers(series)) == series.instances
        facts = read_facts(list(archive.headers(series).values()))
    assert facts.by_halfscan
    assert len(facts.frames) == 4


def test_a_restart_between_two_reads_is_not_noticed(tmp_path: Path) -> None:
    """Kept connections are dead then; the archive is another process on the same data."""
    stack = Stack(tmp_path)
    try:
        program = stack.start_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    try:
        datasets = mr_series(3, name="restart")
        for dataset in datasets:
            content = encoded(dataset)
            httpx.post(f"{stack.orthanc_url}/instances", content=content).raise_for_status()
        with closing(Archive(stack.orthanc_url)) as archive:
            series = series_of(archive, datasets[0])
            before = archive.headers(series)
            program.stop()
            stack.programs.remove(program)
            stack.start_orthanc()
            assert archive.headers(series) == before
            assert archive.series_of_uid(series.series_instance_uid) == [series]
            [frame] = {archive.frame(name, 1).shape for name in series.instances}
            assert frame == (12, 10, 1)
    finally:
        stack.stop()
