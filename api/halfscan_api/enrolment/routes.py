"""Routes under ``/api/v1/studies/{id}/enrolment``: cases from the archive."""

import structlog
from apiflask import APIBlueprint

from halfscan_api.archive import archive
from halfscan_api.auth import Role, caller, requires
from halfscan_api.enrolment import service
from halfscan_api.enrolment.schemas import (
    Enrolment,
    EnrolmentOut,
    EnrolmentSetting,
    EnrolmentSettingOut,
)
from halfscan_api.enrolment.tables import StudyEnrolment
from halfscan_api.state import state
from halfscan_api.studies.callers import lock_for_caller
from halfscan_api.studies.service import get_study

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("enrolment", __name__, tag="enrolment")

_NO_STUDY = "There is no such study"


@blueprint.post("")
@requires(Role.COORDINATOR)
@blueprint.input(Enrolment)
@blueprint.output(EnrolmentOut)
@blueprint.doc(responses={404: _NO_STUDY, 503: "The archive does not answer"})
def enrol(study_id: int, json_data: Enrolment) -> EnrolmentOut:
    """Look through the archive, pair standard with derived series, and enrol the pairs.

    A repeated call changes nothing that is enrolled; what could not be paired is said, with the
    reason.
    """
    with state().database.read() as session:
        get_study(session, study_id)
    done = service.enrol(
        state().database,
        archive(),
        study_id,
        json_data,
        actor=caller().actor(),
        now=state().clock(),
    )
    pairs = sum(len(case.pairs) for case in done.cases)
    log.info("cases_enrolled", study=study_id, cases=len(done.cases), pairs=pairs)
    return done


@blueprint.get("")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(EnrolmentSettingOut)
@blueprint.doc(responses={404: _NO_STUDY})
def get_setting(study_id: int) -> EnrolmentSettingOut:
    """Show whether a reconstruction that finishes joins its case by itself."""
    with state().database.read() as session:
        row = session.get(StudyEnrolment, get_study(session, study_id).id)
        if row is None:
            return EnrolmentSettingOut(automatic=False, changed_at=None)
        return EnrolmentSettingOut.model_validate(row)


@blueprint.put("")
@requires(Role.COORDINATOR)
@blueprint.input(EnrolmentSetting)
@blueprint.output(EnrolmentSettingOut)
@blueprint.doc(responses={404: _NO_STUDY})
def put_setting(study_id: int, json_data: EnrolmentSetting) -> EnrolmentSettingOut:
    """Say whether a reconstruction that finishes joins its case by itself.

    What finished while it was off, or while the archive was away, comes with the next POST.
    """
    with state().database.write() as session:
        study, trail = lock_for_caller(session, study_id)
        row = service.set_automatic(trail, study, automatic=json_data.automatic)
        return EnrolmentSettingOut.model_validate(row)
