"""A study as a request changes it: in the name of its caller, at the time of the app's clock."""

from collections.abc import Callable

from flask import Response
from sqlalchemy.orm import Session

from halfscan_api.audit import Trail
from halfscan_api.auth import caller
from halfscan_api.idempotency import Answer, WriteHeaders, write_once
from halfscan_api.state import state
from halfscan_api.studies.cases import get_case
from halfscan_api.studies.present import case_out
from halfscan_api.studies.service import lock_study, protocol_of, trail_of
from halfscan_api.studies.tables import Study, StudyCase


def callers_trail(session: Session, study: Study, *, reader: str | None = None) -> Trail:
    """Begin the entries of the audit trail that the caller of this request makes.

    Parameters
    ----------
    session : Session
    study : Study
    reader : str, optional
        Name of the reader as whom the caller acts.
    """
    return trail_of(session, study, caller().actor(reader=reader), state().clock())


def lock_for_caller(session: Session, study_id: int) -> tuple[Study, Trail]:
    """Lock a study, and begin the entries of its audit trail.

    Raises
    ------
    StudyNotFound
    """
    study = lock_study(session, study_id)
    return study, callers_trail(session, study)


def change_case(
    study_id: int,
    pseudonym: str,
    change: Callable[[Trail, Study, StudyCase], None],
    headers: WriteHeaders,
) -> Response:
    """Change a case of a locked study once, and answer with the case.

    Raises
    ------
    StudyNotFound, CaseNotFound
    """

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        case = get_case(session, study, pseudonym)
        change(trail, study, case)
        return Answer(case_out(case, protocol_of(session, study)))

    return write_once(work, headers=headers)
