"""Small accelerated series for a real archive, and what must hold of archive and ledger."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from pydicom import Dataset

from archive_fixtures import Site
from dicom_maker import add_siemens_classic, encoded, mr_series
from halfscan_plugin.archive import ArchivedSeries, SeriesNotFound
from halfscan_plugin.derived import (
    Origin,
    is_halfscan_output,
    pixel_digest,
    source_pixels,
)
from halfscan_plugin.reconciliation import Reconciliation
from halfscan_plugin.rules import judge
from halfscan_plugin.volume import read_volume


def fast_series(
    name: str, slices: int = 4, *, seed: int = 0, name_of_series: str = "", **attributes: Any
) -> list[Dataset]:
    """Make an accelerated series of its own study; another seed gives other pixels."""
    stored = np.random.default_rng(seed).integers(300, 900, (slices, 16, 16)).astype(np.uint16)
    made = {
        "PatientID": f"P-{name}",
        "StudyInstanceUID": f"2.25.{int.from_bytes(name.encode()[:12], 'big')}",
        "NumberOfAverages": 1,
        "SoftwareVersions": "syngo MR E11",
        **attributes,
    }
    series = mr_series(pixels=stored, name=name_of_series or name, **made)
    return [add_siemens_classic(dataset, "p2") for dataset in series]


def upload(site: Site, series: list[Dataset]) -> list[str]:
    """POST objects to Orthanc; give its identifiers of the instances."""
    answers = [site.upload(encoded(dataset)) for dataset in series]
    assert all(answer.is_success for answer in answers)
    return [answer.json()["ID"] for answer in answers]


def delete(site: Site, path: str) -> None:
    assert httpx.delete(f"{site.stack.orthanc_url}{path}", timeout=30).is_success


def post(site: Site, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{site.stack.orthanc_url}{path}", json=body, timeout=60)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made


def get(site: Site, path: str) -> Any:
    return httpx.get(f"{site.stack.orthanc_url}{path}", timeout=30).json()


def studies_of(site: Site) -> list[str]:
    """Give Orthanc's identifiers of all studies, in their order."""
    studies: list[str] = get(site, "/studies")
    return sorted(studies)


def orthanc_id(site: Site, level: str, **query: str) -> str:
    """Find the only resource of a level."""
    found = post_find(site, level, **query)
    assert len(found) == 1, found
    return found[0]


def post_find(site: Site, level: str, **query: str) -> list[str]:
    body = {"Level": level, "Query": query}
    answer = httpx.post(f"{site.stack.orthanc_url}/tools/find", json=body, timeout=30)
    found: list[str] = answer.json()
    return found


def series_of(site: Site, study: str) -> tuple[list[list[Dataset]], list[list[Dataset]]]:
    """Read the series of one of Orthanc's studies: the sources, and what Halfscan derived."""
    sources: list[list[Dataset]] = []
    derived: list[list[Dataset]] = []
    for series in site.archive.series_of_study(study):
        datasets = _datasets(site, series)
        if datasets:
            (derived if is_halfscan_output(datasets[0]) else sources).append(datasets)
    return sources, derived


def pixels_of(series: list[Dataset]) -> frozenset[str]:
    return frozenset(pixel_digest(read_volume([dataset]), 0) for dataset in series)


def sources_of(derived: list[Dataset], sources: Sequence[list[Dataset]] = ()) -> frozenset[str]:
    """Name the pixels that a derived series was made from; by its source where it does not."""
    noted = {source_pixels(dataset) for dataset in derived}
    if None not in noted:
        return frozenset(map(str, noted))
    origin = Origin.of(derived)
    for series in sources:
        named = {str(dataset.SOPInstanceUID) for dataset in series} & origin.uids
        if named or set(map(_scan, series)) & set(map(_scan, derived)):
            return pixels_of(series)
    return frozenset({"no source"})


def _scan(dataset: Dataset) -> tuple[str, ...]:
    """Name where an image was taken: all that anonymising and then correcting leave of it."""
    return str(dataset.ImagePositionPatient), str(dataset.FrameOfReferenceUID)


def settle(site: Site) -> None:
    """Wait until nothing moves any more, looked at twice: one thing may lead to another."""
    for _ in range(2):
        site.settled()
        time.sleep(0.3)
    site.settled()


def check_agreement(site: Site, patients: str = "*") -> None:
    """Check that each source has its derived series, each derived series its source.

    By pixels, in each study of some patients; and that a comparison of ledger and archive finds
    nothing.
    """
    for study in post_find(site, "Study", PatientID=patients):
        sources, derived = series_of(site, study)
        there = Counter(map(pixels_of, sources))
        wanted = Counter(
            pixels_of(series) for series in sources if judge(series)[1].action == "reconstruct"
        )
        stands = Counter(sources_of(series, sources) for series in derived)
        # Of a copied source that is not accelerated by its headers any more, the copy may stand.
        few = {"study": study, "wanted": wanted, "stands": stands, "there": there}
        assert wanted <= stands <= there, few
        persons = {str(dataset.PatientID) for series in [*sources, *derived] for dataset in series}
        assert len(persons) == 1
    comparison = Reconciliation(site.archive, site.ledger).compare()
    # Copies that stand beside sources which could not be reconstructed are unknown to the ledger.
    disagreements = [seen for seen in comparison.disagreements if seen.kind != "unknown"]
    assert not disagreements, comparison.facts()


def _datasets(site: Site, series: ArchivedSeries) -> list[Dataset]:
    """Read a series; nothing of one that was removed since it was listed."""
    try:
        return [site.archive.dataset(instance_id) for instance_id in series.instance_ids]
    except SeriesNotFound:
        return []
