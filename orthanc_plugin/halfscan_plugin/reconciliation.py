"""Ledger and archive compared: which derived series are not where the ledger says, and why.

The relay tells the ledger of what happens in the archive as it happens. What it could not tell, be
it that Orthanc was restored from a backup or that a plugin was off for a week, is found here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from halfscan_plugin.archive import Archive, ArchivedSeries, SeriesNotFound, SourceSeries
from halfscan_plugin.derived import Origin, is_halfscan_output
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.ledger import Ledger, LedgerRefused

__all__ = ["KINDS", "Comparison", "Disagreement", "Reconciliation"]

Kind = Literal["missing", "stale", "orphaned", "doubled", "unknown"]
KINDS: tuple[Kind, ...] = ("missing", "stale", "orphaned", "doubled", "unknown")
CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One derived series about which ledger and archive disagree.

    Parameters
    ----------
    kind : {"missing", "stale", "orphaned", "doubled", "unknown"}
        ``missing``: not in the archive, or not whole; ``stale``: its source holds another content
        by now; ``orphaned``: its source is gone; ``doubled``: a copy beside the one that the ledger
        knows; ``unknown``: written by Halfscan, and this ledger knows no source of it.
    reconstruction : int or None
        The row of the ledger.
    orthanc_series_ids : tuple of str
        The series that are meant: what is gone, or what is too much.
    source : str or None
        Orthanc's identifier of the source, where the ledger knows it.
    derived_series_instance_uid : str
    reason : str
        What was seen.
    remedy : str
        What would be done about it; empty for what is left to people.
    """

    kind: Kind
    reconstruction: int | None
    source: str | None
    orthanc_series_ids: tuple[str, ...]
    derived_series_instance_uid: str
    reason: str
    remedy: str = ""


@dataclass(slots=True)
class Comparison:
    """What a comparison came to.

    Parameters
    ----------
    checked : int
        Derived series that should be in the archive.
    disagreements : list of Disagreement
    mended : int
        Disagreements about which something was done.
    """

    checked: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    mended: int = 0

    @property
    def left(self) -> int:
        """How many of them could be mended, and are not."""
        return sum(bool(seen.remedy) for seen in self.disagreements) - self.mended

    def counts(self) -> dict[str, int]:
        """Give the numbers, as the ledger keeps them."""
        kinds = [seen.kind for seen in self.disagreements]
        return {
            "checked": self.checked,
            **{kind: kinds.count(kind) for kind in KINDS},
            "mended": self.mended,
        }

    def facts(self) -> dict[str, Any]:
        """Give all of it, JSON-able."""
        return {
            **self.counts(),
            "disagreements": [asdict(seen) for seen in self.disagreements],
        }


class Reconciliation:
    """Compares ledger and archive, and mends what they disagree about.

    Parameters
    ----------
    archive : Archive
    ledger : Ledger
    progress : callable
        Called with the number of derived series that were looked at.
    """

    def __init__(
        self,
        archive: Archive,
        ledger: Ledger,
        progress: Callable[[int], None] = lambda _checked: None,
    ) -> None:
        self._archive, self._ledger, self._progress = archive, ledger, progress

    def compare(self) -> Comparison:
        """Look at every derived series that should be there, and at those beside them."""
        comparison = Comparison()
        studies: dict[str, list[dict[str, Any]]] = {}
        for item in self._ledger.standing():
            source = self._source(item["orthanc_series_id"])
            seen = self._judge(item, source)
            if seen is not None:
                comparison.disagreements.append(seen)
            study = item["orthanc_study_id"] if source is None else source.orthanc_study_id
            if study is not None:
                studies.setdefault(study, []).append(item)
            comparison.checked += 1
            self._progress(comparison.checked)
        for study, items in studies.items():
            comparison.disagreements += self._beside(study, items)
        comparison.disagreements += self._returned()
        return comparison

    def mend(self, comparison: Comparison) -> None:
        """Do what each disagreement names as its remedy; workers do the rest."""
        for seen in comparison.disagreements:
            if seen.remedy:
                self._mend(seen)
                comparison.mended += 1

    def _returned(self) -> Iterator[Disagreement]:
        """Find series that the ledger takes for gone: with a backup, say, they have come back."""
        for item in self._ledger.sources(gone=True):
            source = None if item["n_instances"] else self._source(item["orthanc_series_id"])
            if source is not None and source.is_stable:
                yield Disagreement(
                    "missing",
                    None,
                    source.orthanc_series_id,
                    (),
                    source.series_instance_uid,
                    "the ledger takes this source for gone, and it is in the archive",
                    "announce the source as it is",
                )

    def _judge(self, item: dict[str, Any], source: SourceSeries | None) -> Disagreement | None:
        """Compare one derived series with what the ledger says of it."""
        images = self._images(item["derived_orthanc_series_id"])
        if source is None:
            return self._without_source(item, images)
        if not source.is_stable:
            return None  # the relay announces it once it has arrived
        if source.source_digest not in item["source_digests"]:
            reason = "its source holds another content by now"
            return _seen("stale", item, [], reason, "announce the source as it is")
        expected = item["derived_instances"]
        if images is None or (expected is not None and images < expected):
            reason = f"the archive holds {images or 0} of its {expected or 'unknown'} images"
            return _seen("missing", item, [], reason, "make it again")
        return None

    def _without_source(self, item: dict[str, Any], images: int | None) -> Disagreement | None:
        source_id, derived_id = item["orthanc_series_id"], item["derived_orthanc_series_id"]
        if images is None:
            gone = [source_id, *([derived_id] if derived_id else [])]
            reason = "neither it nor its source is in the archive"
            return _seen("missing", item, gone, reason, "note that both are gone")
        if item["source_missing"]:
            return None  # a worker has seen it, and kept it as it was set
        reason = "its source is not in the archive"
        return _seen("orphaned", item, [source_id], reason, "a worker removes or keeps it, as set")

    def _beside(self, study: str, items: Sequence[dict[str, Any]]) -> Iterator[Disagreement]:
        """Find what Halfscan wrote into a study that the ledger does not know."""
        known = {item["orthanc_series_id"] for item in items}
        known |= {item["derived_orthanc_series_id"] for item in items}
        for series in self._archive.series_of_study(study):
            if series.orthanc_series_id in known or not self._is_ours(series):
                continue
            uid = series.series_instance_uid
            rows = self._ledger.rows(derived_series_instance_uid=uid)["items"]
            if any(row["orthanc_study_id"] in {None, study} for row in rows):
                continue  # a worker is about to store it
            origin = self._archive.origin(series.orthanc_series_id)
            twin = next((i for i in items if self._is_twin(origin, i)), None)
            where = (series.orthanc_series_id,)
            if twin is None:
                reason = "written by Halfscan; this ledger knows no source of it"
                yield Disagreement("unknown", None, None, where, uid, reason)
            else:
                reason = f"a copy of {twin['derived_series_instance_uid']}"
                yield Disagreement(
                    "doubled",
                    twin["id"],
                    twin["orthanc_series_id"],
                    where,
                    uid,
                    reason,
                    "remove the copy",
                )

    def _mend(self, seen: Disagreement) -> None:
        if seen.kind == "doubled":
            self._archive.remove_derived(seen.orthanc_series_ids[0])
        elif seen.orthanc_series_ids:
            self._ledger.depart(list(seen.orthanc_series_ids))
        elif seen.kind == "stale" or seen.reconstruction is None:
            source = self._source(seen.source or "")
            if source is not None:
                self._ledger.announce(source.announcement())
        else:
            try:
                self._ledger.retry(seen.reconstruction or 0)
            except LedgerRefused as error:
                if error.status != CONFLICT:  # a worker has it already
                    raise

    def _source(self, series_id: str) -> SourceSeries | None:
        try:
            return self._archive.source(series_id)
        except SeriesNotFound:
            return None

    def _images(self, series_id: str | None) -> int | None:
        if series_id is None:
            return None
        try:
            return len(self._archive.instance_ids(series_id))
        except SeriesNotFound:
            return None

    def _is_ours(self, series: ArchivedSeries) -> bool:
        try:
            return bool(series.instance_ids) and is_halfscan_output(
                self._archive.header(series.instance_ids[0])
            )
        except (SeriesNotFound, UnreadableSeries):
            return False

    def _is_twin(self, origin: Origin, item: dict[str, Any]) -> bool:
        derived = item["derived_orthanc_series_id"]
        return derived is not None and origin.lies_in(self._archive.origin(derived))


def _seen(
    kind: Kind, item: dict[str, Any], gone: Sequence[str], reason: str, remedy: str
) -> Disagreement:
    return Disagreement(
        kind,
        item["id"],
        item["orthanc_series_id"],
        tuple(gone),
        item["derived_series_instance_uid"],
        reason,
        remedy,
    )
