"""Series that tell the noise of others: repeats and noise maps; no reader is shown any."""

from sqlalchemy.orm import Session

from halfscan_api.audit import JsonObject, Trail
from halfscan_api.errors import HalfscanError
from halfscan_api.studies.cases import (
    MODEL_COLUMNS,
    NewSeries,
    case_state,
    check_free,
    check_place,
    find_reconstruction,
    lineage_of,
    record_case,
)
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.tables import CaseSeries, NoiseRole, NoiseSeries, Study, StudyCase


class NoiseSeriesNotFound(HalfscanError):
    """The case has no series of this role in this arm and sequence, or there is no such role."""

    http_status = 404


class NoiseSeriesConflict(HalfscanError):
    """The series cannot tell the noise of the one that the case has."""

    http_status = 409


def role_of(name: str) -> NoiseRole:
    """Read the name of a role.

    Raises
    ------
    NoiseSeriesNotFound
    """
    if name not in set(NoiseRole):
        raise NoiseSeriesNotFound(f"the role must be one of {', '.join(NoiseRole)}, got {name}")
    return NoiseRole(name)


def put_noise_series(
    trail: Trail,
    study: Study,
    case: StudyCase,
    protocol: Protocol,
    place: tuple[str, str, NoiseRole],
    new: NewSeries,
) -> NoiseSeries:
    """Say which series tells the noise of a case in an arm and a sequence; the study is locked.

    It may be corrected at any time: readers see nothing of it, and what was measured on another
    series than the present one counts no longer.

    Parameters
    ----------
    trail : Trail
    study : Study
    case : StudyCase
    protocol : Protocol
    place : str, str, NoiseRole
        Arm, sequence and role.
    new : NewSeries
        Scan time and parameters are not kept.

    Raises
    ------
    UnknownArmOrSequence, SeriesTaken, NoiseSeriesConflict
    """
    arm, sequence, role = place
    check_place(protocol, arm, sequence)
    series = next((one for one in case.series if (one.arm, one.sequence) == (arm, sequence)), None)
    if series is None:
        raise NoiseSeriesConflict(f"the case {case.pseudonym} has no series {arm}/{sequence} yet")
    before, row = case_state(case), _find(case, place)
    if row is None or row.series_instance_uid != new.series_instance_uid:
        check_free(trail.session, study, new.series_instance_uid)
    lineage = _lineage(trail.session, new)
    if role is NoiseRole.REPEAT:
        _check_made_alike(series, lineage, new.series_instance_uid)
    if row is None:
        row = NoiseSeries(
            study_id=study.id, arm=arm, sequence=sequence, role=role.value, added_at=trail.now
        )
        case.noise_series.append(row)
    row.series_instance_uid = new.series_instance_uid
    row.study_instance_uid = new.study_instance_uid
    row.orthanc_series_id = new.orthanc_series_id
    row.lineage = lineage
    record_case(trail, study, case, "case.noise_series", before)
    return row


def withdraw_noise_series(
    trail: Trail, study: Study, case: StudyCase, place: tuple[str, str, NoiseRole], *, reason: str
) -> None:
    """Take a series back that tells the noise; what was measured on it counts no longer.

    Raises
    ------
    NoiseSeriesNotFound
    """
    row, before = _find(case, place), case_state(case)
    if row is None:
        raise NoiseSeriesNotFound(f"the case {case.pseudonym} has no series {'/'.join(place)}")
    case.noise_series.remove(row)
    trail.session.delete(row)
    record_case(trail, study, case, "case.noise_series", before, reason=reason)


def _find(case: StudyCase, place: tuple[str, str, NoiseRole]) -> NoiseSeries | None:
    rows = (one for one in case.noise_series if (one.arm, one.sequence, one.role) == place)
    return next(rows, None)


def _lineage(session: Session, new: NewSeries) -> JsonObject | None:
    made = find_reconstruction(session, new.series_instance_uid, new.orthanc_series_id)
    return None if made is None else lineage_of(made)


def _check_made_alike(series: CaseSeries, lineage: JsonObject | None, uid: str) -> None:
    """A repeat differs from its series by noise alone: one network, one strength, or none."""
    own, other = (
        None if made is None else tuple(made.get(name) for name in MODEL_COLUMNS)
        for made in (series.lineage, lineage)
    )
    if own != other:
        raise NoiseSeriesConflict(
            f"a repeat must be made as the series that it repeats, by {_said(own)}, got the "
            f"series {uid}, made by {_said(other)}"
        )


def _said(made: tuple[object, ...] | None) -> str:
    if made is None:
        return "no network that the ledger knows"
    name, version, _, strength = made
    return f"{name} {version}, strength {strength}"
