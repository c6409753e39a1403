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
from halfscan_plugin.derived import DerivedSeries, Origin, is_halfscan_output, pixel_digest, scan_of
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
                self._remove_copy(beside)
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

    def tidy(self, series: SourceSeries) -> str | None:
        """Remove a series of Halfscan's that doubles the one that the ledger knows.

        Returns
        -------
        str or None
            What was done, or what is odd about it, for people; None for what the ledger knows.
        """
        if self._is_known(series.series_instance_uid, series):
            return None
        origin = Origin.of(map(self._archive.header, series.instance_ids))
        for row in self._rows_in_study(series, status="done"):
            if row["replaced_at"] is not None or row["derived_orthanc_series_id"] is None:
                continue
            try:
                instances = self._archive.instance_ids(row["derived_orthanc_series_id"])
                known = Origin.of(map(self._archive.header, instances))
            except SeriesNotFound:
                continue
            if origin.lies_in(known):
                self._check()
                self._archive.remove_derived(series.orthanc_series_id)
                log.info("derived_copy_removed", id=row["id"], uid=series.series_instance_uid)
                return (
                    f"a copy of the derived series of reconstruction {row['id']}, which is in the "
                    "same study: the copy was removed"
                )
        for row in self._rows_in_study(series, status="skipped", reason_code="derived_deleted"):
            # Somebody had deleted it, and now it comes back.
            self._ledger.retry(row["id"])
            return f"it came back after it was deleted: reconstruction {row['id']} is made again"
        lost_source = self._job.get("look_again") and not self._has_source(series, origin)
        if lost_source and self._orphans == "remove":
            self._check()
            self._archive.remove_derived(series.orthanc_series_id)
            log.info("derived_copy_removed", id=self._job["id"], uid=series.series_instance_uid)
            return "a copy whose source was deleted: the copy was removed"
        return (
            "a copy: so far the ledger knows no derived series in its study that was made from "
            "the same pixels"
        )

    def _remove(self, earlier: dict[str, Any], study_id: str | None, removal: Removal) -> None:
        uid = earlier["derived_series_instance_uid"]
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

    def _remove_copy(self, copy: ArchivedSeries) -> None:
        self._check()
        self._archive.remove_derived(copy.orthanc_series_id)
        log.info("derived_copy_removed", id=self._job["id"], uid=copy.series_instance_uid)

    def _is_copy(self, beside: ArchivedSeries, source: SourceSeries, origin: Origin) -> bool:
        """Tell a copied derived series of this source from one that the ledger knows."""
        try:
            headers = [self._archive.header(instance_id) for instance_id in beside.instance_ids]
        except (SeriesNotFound, UnreadableSeries):
            return False
        if not headers or not all(map(is_halfscan_output, headers)):
            return False
        return Origin.of(headers).lies_in(origin) and not self._is_known(
            beside.series_instance_uid, source
        )

    def _is_known(self, derived_uid: str, source: SourceSeries) -> bool:
        """Tell whether an attempt in this study made a series, or is about to."""
        rows = self._ledger.rows(derived_series_instance_uid=derived_uid)["items"]
        return any(_in_study(row, source) for row in rows)

    def _rows_in_study(self, series: SourceSeries, **filters: str) -> list[dict[str, Any]]:
        filters["study_instance_uid"] = series.study_instance_uid
        rows = self._ledger.rows(**filters, per_page=200)["items"]
        return [row for row in rows if _in_study(row, series)]

    def _has_source(self, series: SourceSeries, origin: Origin) -> bool:
        """Tell whether an image of the same study is, or may be, one that a copy was made from."""
        for beside in self._archive.series_of_study(series.orthanc_study_id):
            if beside.orthanc_series_id != series.orthanc_series_id:
                for instance_id in beside.instance_ids:
                    image = self._image(instance_id)
                    if image.pixels & origin.pixels or image.uids & origin.uids:
                        return True
                    if not origin.pixels and image.scans & origin.scans:
                        return True
        return False

    def _image(self, instance_id: str) -> Origin:
        """Read an image as what may be made of it names it; nothing of what is none, or is gone."""
        try:
            dataset = self._archive.dataset(instance_id)
            pixels = pixel_digest(read_volume([dataset]), 0)
        except (SeriesNotFound, UnreadableSeries):
            return Origin()
        if is_halfscan_output(dataset):
            return Origin()
        uid = text(dataset, "SOPInstanceUID")
        return Origin(frozenset({pixels}), frozenset({uid}), frozenset({scan_of(dataset)}))

    def _stands(self, earlier: dict[str, Any], source: SourceSeries, removal: Removal) -> bool:
        """Tell whether each object of a derived series has its source, with the same pixels."""
        places = self._places(earlier, source.orthanc_study_id)
        headers = []
        for series_id in places:
            try:
                headers += [self._archive.header(i) for i in self._archive.instance_ids(series_id)]
            except SeriesNotFound:
                continue
        if not headers:
            removal.gone.append(earlier["derived_series_instance_uid"])
            return False
        origin = Origin.of(headers)
        held = frozenset[str]().union(*(self._image(i).pixels for i in source.instance_ids))
        return bool(origin.pixels) and origin.pixels <= held


def _in_study(row: dict[str, Any], source: SourceSeries) -> bool:
    """Tell whether a row is of the same study of Orthanc's, which has one patient."""
    if row.get("orthanc_study_id") is None:  # announced before that was noted
        return bool(row["study_instance_uid"] == source.study_instance_uid)
    return bool(row["orthanc_study_id"] == source.orthanc_study_id)
