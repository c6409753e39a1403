"""Which derived series stay in the archive: one for each source that exists.

A new derived series takes the place of the earlier ones of its source, and of copies of them: when
a patient is corrected, a study merged or anonymised, the archive copies source and derived series
alike, and the copied source is reconstructed for itself. A derived series whose source is gone, or
holds other pixels by now, is removed or kept, as `Orphans` says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from halfscan_plugin.archive import Archive, ArchivedSeries, NotOurs, SeriesNotFound, SourceSeries
from halfscan_plugin.derived import DerivedSeries, Origin, is_halfscan_output, pixel_digest
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.headers import text
from halfscan_plugin.ledger import Ledger
from halfscan_plugin.volume import read_volume

__all__ = ["Orphans", "Removal", "Succession"]

Orphans = Literal["remove", "keep"]
log = structlog.get_logger()


@dataclass(slots=True)
class Removal:
    """What became of derived series.

    Parameters
    ----------
    gone : list of str
        SeriesInstanceUIDs of those that are no longer in the archive.
    warnings : list of str
        What had to stay, and why.
    """

    gone: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Give what an outcome says of it; nothing where there is nothing to say."""
        named = {"replaced": self.gone, "warnings": self.warnings}
        return {name: value for name, value in named.items() if value}


class Succession:
    """The derived series beside one job.

    Parameters
    ----------
    archive : Archive
    ledger : Ledger
    job : dict
        The claimed row.
    check : callable
        Called before every change of the archive; raises if the lease is lost.
    orphans : {"remove", "keep"}
        What happens to a derived series that has lost its source.
    """

    def __init__(
        self,
        archive: Archive,
        ledger: Ledger,
        job: dict[str, Any],
        check: Callable[[], None],
        orphans: Orphans,
    ) -> None:
        self._archive, self._ledger, self._job = archive, ledger, job
        self._check, self._orphans = check, orphans

    def replace(self, source: SourceSeries, series: DerivedSeries) -> Removal:
        """Remove what a derived series that was just stored takes the place of."""
        removal = Removal()
        for earlier in self._job["supersedes"]:
            if earlier["derived_series_instance_uid"] != series.series_instance_uid:
                self._remove(earlier, source.orthanc_study_id, removal)
        origin = Origin.of(series.datasets)
        for beside in self._archive.series_of_study(source.orthanc_study_id):
            own = beside.orthanc_series_id == source.orthanc_series_id
            if own or beside.series_instance_uid == series.series_instance_uid:
                continue
            if self._is_copy(beside, source, origin):
                self._remove_copy(beside.orthanc_series_id, beside.series_instance_uid)
                removal.warnings.append(
                    f"took the place of {beside.series_instance_uid}, a copy of a derived series "
                    "that came into the archive with its source"
                )
        return removal

    def keep(self, source: SourceSeries) -> Removal:
        """Clear away what was left half done, or stands for pixels that are not there any more.

        Nothing takes the place of the earlier derived series: the source is skipped by now.
        """
        removal = Removal()
        for earlier in self._job["supersedes"]:
            if earlier["complete"] and (
                self._orphans == "keep" or self._stands(earlier, source, removal)
            ):
                removal.warnings.append(
                    f"the derived series {earlier['derived_series_instance_uid']} of "
                    f"reconstruction {earlier['id']} stays in the archive: nothing took its place"
                )
            elif earlier["derived_series_instance_uid"] not in removal.gone:
                self._remove(earlier, source.orthanc_study_id, removal)
        return removal

    def orphan(self) -> Removal:
        """Remove or keep the derived series of a source that is gone."""
        removal = Removal()
        for earlier in self._job["supersedes"]:
            if earlier["complete"] and self._orphans == "keep":
                removal.warnings.append(
                    f"the derived series {earlier['derived_series_instance_uid']} stays in the "
                    "archive without its source, as it was set"
                )
            else:
                self._remove(earlier, self._job.get("orthanc_study_id"), removal)
        return removal

    def tidy(self, series: SourceSeries) -> dict[str, Any]:
        """Remove a series of Halfscan's that doubles the one that the ledger knows.

        Returns
        -------
        dict
            What an outcome says of it: ``reason`` for what was done, or what is odd about it, and
            ``source_orthanc_series_id`` for a copy that stands beside its source; nothing of what
            the ledger knows.
        """
        if self._is_known(series.series_instance_uid, series):
            return {}
        origin = Origin.of(map(self._archive.header, series.instance_ids))
        for row in self._rows_in_study(series, status="done"):
            if self._is_twin(origin, row):
                self._remove_copy(series.orthanc_series_id, series.series_instance_uid)
                reason = f"a copy of the derived series of reconstruction {row['id']}: removed"
                return {"reason": reason}
        for row in self._rows_in_study(series, status="skipped", reason_code="derived_deleted"):
            attempts = self._ledger.row(row["id"])["attempts"]
            made = {attempt["derived_series_instance_uid"] for attempt in attempts}
            if series.series_instance_uid in made:  # somebody had deleted it, and it comes back
                self._ledger.retry(row["id"])
                return {"reason": f"it came back: reconstruction {row['id']} is made again"}
        return self._beside_its_source(series, origin)

    def _beside_its_source(self, series: SourceSeries, origin: Origin) -> dict[str, Any]:
        """Note the source that a copy stands beside; one that has lost what was noted goes."""
        source, all_read = self._source_of(series, origin)
        if source is not None:
            return {
                "reason": "a copy beside its source, which was not reconstructed here",
                "source_orthanc_series_id": source,
            }
        if self._job.get("look_again") and all_read and self._orphans == "remove":
            self._remove_copy(series.orthanc_series_id, series.series_instance_uid)
            return {"reason": "a copy whose source was deleted: removed"}
        return {"reason": "a copy, and nothing in its study is known that it was made from"}

    def _remove(self, earlier: dict[str, Any], study_id: str | None, removal: Removal) -> None:
        uid = earlier["derived_series_instance_uid"]
        if earlier["derived_orthanc_series_id"] is None and study_id is None:
            removal.warnings.append(f"not looked for: {uid}, whose study is not known")
            return
        for series_id in self._places(earlier, study_id):
            self._check()
            try:
                removed = self._archive.remove_derived(series_id)
            except NotOurs as error:
                removal.warnings.append(f"not removed: {error}")
                return
            log.info("derived_series_removed", id=earlier["id"], uid=uid, there=removed)
        removal.gone.append(uid)

    def _places(self, earlier: dict[str, Any], study_id: str | None) -> list[str]:
        """Give Orthanc's identifiers of a derived series: that of this patient and study."""
        if earlier["derived_orthanc_series_id"] is not None:
            return [earlier["derived_orthanc_series_id"]]
        beside = [] if study_id is None else self._archive.series_of_study(study_id)
        uid = earlier["derived_series_instance_uid"]
        return [s.orthanc_series_id for s in beside if s.series_instance_uid == uid]

    def _remove_copy(self, series_id: str, uid: str) -> None:
        self._check()
        self._archive.remove_derived(series_id)
        log.info("derived_copy_removed", id=self._job["id"], uid=uid)

    def _is_copy(self, beside: ArchivedSeries, source: SourceSeries, origin: Origin) -> bool:
        """Tell a copied derived series of this source from one that the ledger knows."""
        try:
            # Most series of a study are not ours: their first object says so.
            first = [self._archive.header(i) for i in beside.instance_ids[:1]]
            if not first or not is_halfscan_output(first[0]):
                return False
            rest = [self._archive.header(instance_id) for instance_id in beside.instance_ids[1:]]
        except (SeriesNotFound, UnreadableSeries):
            return False
        return (
            all(map(is_halfscan_output, rest))
            and Origin.of([*first, *rest]).lies_in(origin)
            and not self._is_known(beside.series_instance_uid, source)
        )

    def _is_twin(self, origin: Origin, row: dict[str, Any]) -> bool:
        """Tell whether the derived series of a row was made from the same images."""
        derived = row["derived_orthanc_series_id"]
        if row["replaced_at"] is not None or derived is None:
            return False
        return origin.lies_in(self._archive.origin(derived))

    def _is_known(self, derived_uid: str, source: SourceSeries) -> bool:
        """Tell whether an attempt in this study made a series, or is about to."""
        rows = self._ledger.rows(derived_series_instance_uid=derived_uid)["items"]
        return any(_in_study(row, source) for row in rows)

    def _rows_in_study(self, series: SourceSeries, **filters: str) -> list[dict[str, Any]]:
        filters["study_instance_uid"] = series.study_instance_uid
        rows = self._ledger.rows(**filters, per_page=200)["items"]
        return [row for row in rows if _in_study(row, series)]

    def _source_of(self, series: SourceSeries, origin: Origin) -> tuple[str | None, bool]:
        """Find the series of the same study that a copy was made from.

        Returns
        -------
        str or None, bool
            Orthanc's identifier; and whether everything beside the copy could be read.
        """
        all_read = True
        for beside in self._archive.series_of_study(series.orthanc_study_id):
            if beside.orthanc_series_id == series.orthanc_series_id:
                continue
            for instance_id in beside.instance_ids:
                image = self._image(instance_id)
                if image is None:
                    all_read = False
                elif image.pixels & origin.pixels or image.uids & origin.uids:
                    return beside.orthanc_series_id, all_read
        return None, all_read

    def _image(self, instance_id: str) -> Origin | None:
        """Read an image as what may be made of it names it; None for what cannot be read."""
        try:
            dataset = self._archive.dataset(instance_id)
            if is_halfscan_output(dataset):
                return Origin()
            pixels = pixel_digest(read_volume([dataset]), 0)
        except SeriesNotFound:
            return Origin()
        except UnreadableSeries:
            return None
        return Origin(frozenset({pixels}), frozenset({text(dataset, "SOPInstanceUID")}))

    def _stands(self, earlier: dict[str, Any], source: SourceSeries, removal: Removal) -> bool:
        """Tell whether each object of a derived series may have its source, with the same pixels.

        False only where all of it could be read, and something is not there.
        """
        headers = []
        for series_id in self._places(earlier, source.orthanc_study_id):
            try:
                headers += [self._archive.header(i) for i in self._archive.instance_ids(series_id)]
            except SeriesNotFound:
                continue
        if not headers:
            removal.gone.append(earlier["derived_series_instance_uid"])
            return False
        origin = Origin.of(headers)
        images = [self._image(instance_id) for instance_id in source.instance_ids]
        read = [image for image in images if image is not None]
        if len(read) < len(images):
            return True
        pixels = frozenset[str]().union(*(image.pixels for image in read))
        uids = frozenset[str]().union(*(image.uids for image in read))
        return origin.pixels <= pixels if origin.pixels else origin.uids <= uids


def _in_study(row: dict[str, Any], source: SourceSeries) -> bool:
    """Tell whether a row is of the same study of Orthanc's, which has one patient."""
    if row.get("orthanc_study_id") is None:  # announced before that was noted
        return bool(row["study_instance_uid"] == source.study_instance_uid)
    return bool(row["orthanc_study_id"] == source.orthanc_study_id)
