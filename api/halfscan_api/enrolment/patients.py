"""The archive's series, patient by patient, and what of them can be paired.

A study under two PatientIDs is two patients, each with series of the same UIDs: series are told
apart by Orthanc's identifiers, never by their UIDs alone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.archive import Archive, ArchivedSeries, ImagesMissing, SeriesIdentity
from halfscan_api.blinded.source import UnusableImages
from halfscan_api.enrolment.headers import Kind, SeriesFacts, is_same_person, read_facts
from halfscan_api.enrolment.pairing import Candidate, LeftOut, Paired, pair
from halfscan_api.reconstructions.tables import Reconstruction, Status
from halfscan_api.studies.protocol import Protocol

_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class Reconstructions:
    """Reconstructions, as far as enrolment needs them.

    A series is known by its identity with Orthanc's identifier; and by that without it, which
    counts for a series whose UIDs no other patient has.

    Attributes
    ----------
    status : dict of SeriesIdentity to str
        Of the sources.
    acquisition : dict of SeriesIdentity to dict
        What was read of sources and derived series.
    studies : list of str
        StudyInstanceUIDs of what is done.
    """

    status: dict[SeriesIdentity, str]
    acquisition: dict[SeriesIdentity, dict[str, object]]
    studies: list[str]


def reconstructions(session: Session) -> Reconstructions:
    """Read what the ledger knows of the series of the archive."""
    rows = session.execute(
        select(
            Reconstruction.study_instance_uid,
            Reconstruction.series_instance_uid,
            Reconstruction.orthanc_series_id,
            Reconstruction.derived_series_instance_uid,
            Reconstruction.derived_orthanc_series_id,
            Reconstruction.status,
            Reconstruction.acquisition,
        ).order_by(Reconstruction.id)
    )
    made = Reconstructions({}, {}, [])
    for study_uid, uid, orthanc_id, derived_uid, derived_id, status, acquisition in rows:
        names = {SeriesIdentity(uid, study_uid, known) for known in (orthanc_id, None)}
        if status != Status.SKIPPED:
            made.status.update(dict.fromkeys(names, status))
        if derived_uid is not None:
            names |= {SeriesIdentity(derived_uid, study_uid, known) for known in (derived_id, None)}
        for name in names if acquisition else ():
            made.acquisition.setdefault(name, acquisition)
        if status == Status.DONE and study_uid not in made.studies:
            made.studies.append(study_uid)
    return made


@dataclass(frozen=True)
class PatientSearch:
    """Looks for the series that belong to one patient and day, and pairs them.

    Attributes
    ----------
    archive : Archive
    made : Reconstructions
    sequences : mapping of Kind to str
        From `pairing.sequences_of`.
    protocol : Protocol
    """

    archive: Archive
    made: Reconstructions
    sequences: Mapping[Kind, str]
    protocol: Protocol
    # Orthanc's identifiers of what was looked at.
    _seen: set[str] = field(default_factory=set, repr=False)

    def pairs(self, study_instance_uids: Iterable[str]) -> Iterator[Paired]:
        """Pair the series of each patient and day that these studies belong to.

        Raises
        ------
        ArchiveUnavailable
        """
        for study_uid in study_instance_uids:
            held = self.archive.all_series([study_uid])
            of_patient: dict[str, list[ArchivedSeries]] = {}
            for series in held:
                of_patient.setdefault(series.orthanc_patient_id, []).append(series)
            patients = [self._patient(own, held) for own in of_patient.values()]
            _contest(patients)
            yield from patients

    def _patient(self, own: Sequence[ArchivedSeries], held: Sequence[ArchivedSeries]) -> Paired:
        """Pair the series of a patient's study with each other, and with those of the same day."""
        left_out: list[LeftOut] = []
        candidates = self._candidates(own, held, left_out)
        days = {(one.facts.patient, one.facts.day) for one in candidates}
        if len(days) == 1 and all(next(iter(days))):
            facts = candidates[0].facts
            more = self._of_day(own[0].orthanc_patient_id, facts, left_out)
            candidates += more
        paired = pair(_with_sources(candidates), self.sequences, self.protocol)
        paired.left_out += left_out
        return paired

    def _of_day(
        self, orthanc_patient_id: str, facts: SeriesFacts, left_out: list[LeftOut]
    ) -> list[Candidate]:
        """Find what else a patient's studies of the same day hold."""
        try:
            series = self.archive.series_of_day(orthanc_patient_id, facts.day)
        except ImagesMissing:  # the patient was removed meanwhile
            return []
        studies = sorted({one.study_instance_uid for one in series})
        candidates = self._candidates(series, self.archive.all_series(studies), left_out)
        for one in candidates:
            if not is_same_person(facts, one.facts):
                reason = "its PatientID is that of another person too: enrol it by hand"
                left_out.append(LeftOut(one.uid, one.series.study_instance_uid, reason))
        return [one for one in candidates if is_same_person(facts, one.facts)]

    def _candidates(
        self,
        series: Iterable[ArchivedSeries],
        held: Iterable[ArchivedSeries],
        left_out: list[LeftOut],
    ) -> list[Candidate]:
        """Read what series are; `held` are those of the same studies, whoever the patient is."""
        patients = Counter((one.study_instance_uid, one.series_instance_uid) for one in held)
        candidates = []
        for one in (one for one in series if one.orthanc_id not in self._seen):
            self._seen.add(one.orthanc_id)
            study_uid, uid = one.study_instance_uid, one.series_instance_uid
            try:
                facts = read_facts(list(self.archive.headers(one).values()))
            except (UnusableImages, ImagesMissing):
                reason = "it holds no grey images with a place in the patient"
                left_out.append(LeftOut(uid, study_uid, reason))
                continue
            has_twin = patients[study_uid, uid] > 1
            names = [SeriesIdentity(uid, study_uid, one.orthanc_id)]
            if not has_twin:
                names.append(SeriesIdentity(uid, study_uid))
            known = _first_known(self.made.acquisition, names) or {}
            parameters = dict(facts.parameters)
            if known.get("in_plane_factor") is not None:
                # The worker reads it where each vendor writes it.
                parameters["acceleration_factor"] = known["in_plane_factor"]
            status = _first_known(self.made.status, names)
            facts = replace(facts, parameters=parameters)
            candidates.append(Candidate(one, facts, status, has_twin=has_twin))
        return candidates


def _contest(patients: Sequence[Paired]) -> None:
    """Mark what could be enrolled for two patients: which is right, a person must say."""
    in_pairs = [
        {one.series.orthanc_id: one for each in paired.pairs for one in each.both}
        for paired in patients
    ]
    times = Counter(
        (one.uid, one.series.study_instance_uid) for own in in_pairs for one in own.values()
    )
    for paired, own in zip(patients, in_pairs, strict=True):
        paired.contested = {
            name for name, one in own.items() if times[one.uid, one.series.study_instance_uid] > 1
        }


def _with_sources(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Mark the sources that derived series name, for what no ledger here knows of."""
    sources = {uid for one in candidates if one.facts.by_halfscan for uid in one.facts.sources}
    return [
        replace(one, source_of=Status.DONE.value)
        if any(frame.sop_instance_uid in sources for frame in one.facts.frames)
        else one
        for one in candidates
    ]


def _first_known(
    table: Mapping[SeriesIdentity, _Known], names: Iterable[SeriesIdentity]
) -> _Known | None:
    return next((table[name] for name in names if name in table), None)
