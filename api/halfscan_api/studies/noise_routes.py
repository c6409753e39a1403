"""Routes of series that tell the noise of others; readers get nothing here."""

from apiflask import APIBlueprint
from flask import Response
from sqlalchemy.orm import Session

from halfscan_api import archive
from halfscan_api.audit import Trail
from halfscan_api.auth import Role, requires
from halfscan_api.enrolment.asked import ask
from halfscan_api.idempotency import Answer, WriteHeaders, write_once
from halfscan_api.state import state
from halfscan_api.studies import cases, present, service
from halfscan_api.studies.callers import change_case, lock_for_caller
from halfscan_api.studies.noise_series import put_noise_series, role_of, withdraw_noise_series
from halfscan_api.studies.schemas import CaseOut, NoiseSeriesIn, Withdrawal
from halfscan_api.studies.tables import NoiseRole, Study, StudyCase

blueprint = APIBlueprint("noise_series", __name__, tag="noise series")

_PATH = "/<int:study_id>/cases/<pseudonym>/noise-series/<arm>/<sequence>/<role>"
_NOT_FOUND = "There is no such study, case, arm, sequence or role"


@blueprint.put(_PATH)
@requires(Role.COORDINATOR, Role.SERVICE)
@blueprint.input(NoiseSeriesIn)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut)
@blueprint.doc(
    responses={
        404: _NOT_FOUND,
        409: "The series stands for another, the archive lacks it, or it was made otherwise",
        503: "The archive cannot be reached, or does not answer as it should",
    }
)
def put(
    study_id: int,
    pseudonym: str,
    arm: str,
    sequence: str,
    role: str,
    json_data: NoiseSeriesIn,
    headers_data: WriteHeaders,
) -> Response:
    """Say which series tells the noise of a case in an arm and a sequence.

    The role is `repeat`, a second acquisition of the same thing, or `noise_map`, the standard
    deviation of the noise in every pixel, in the units of the images. No reader is shown it. Where
    the API has an archive, it must hold the series.
    """
    place = (arm, sequence, role_of(role))
    new = _asked(study_id, place, json_data)

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        protocol = service.protocol_of(session, study)
        case = cases.get_case(session, study, pseudonym)
        put_noise_series(trail, study, case, protocol, place, new)
        return Answer(present.case_out(case, protocol))

    return write_once(work, headers=headers_data)


@blueprint.post(f"{_PATH}/withdraw")
@requires(Role.COORDINATOR)
@blueprint.input(Withdrawal)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut)
@blueprint.doc(responses={404: _NOT_FOUND})
def withdraw(
    study_id: int,
    pseudonym: str,
    arm: str,
    sequence: str,
    role: str,
    json_data: Withdrawal,
    headers_data: WriteHeaders,
) -> Response:
    """Take a series back that tells the noise; what was measured on it counts no longer."""
    place = (arm, sequence, role_of(role))

    def change(trail: Trail, study: Study, case: StudyCase) -> None:
        withdraw_noise_series(trail, study, case, place, reason=json_data.reason)

    return change_case(study_id, pseudonym, change, headers_data)


def _asked(study_id: int, place: tuple[str, str, NoiseRole], new: NoiseSeriesIn) -> cases.NewSeries:
    """Ask the archive before the transaction begins: it may take its time."""
    given = cases.NewSeries(
        series_instance_uid=new.series_instance_uid,
        study_instance_uid=new.study_instance_uid,
        orthanc_series_id=new.orthanc_series_id,
    )
    if not archive.configured():
        return given
    with state().database.read() as session:
        study = service.get_study(session, study_id)
        reference = service.protocol_of(session, study).reference_arm
    # A noise map may be made in any way; a repeat of a series as scanned is one itself.
    as_scanned = place[0] == reference and place[2] is NoiseRole.REPEAT
    return ask(archive.archive(), given, reference=as_scanned)
