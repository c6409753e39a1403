"""Routes under ``/api/v1/studies`` for those who run a study: protocol, cases, readers, allocation.

Readers get nothing here.
"""

from collections.abc import Sequence

import structlog
from apiflask import APIBlueprint
from flask import Response, url_for
from sqlalchemy.orm import Session

from halfscan_api import archive
from halfscan_api.audit import Trail
from halfscan_api.auth import Role, caller, requires
from halfscan_api.enrolment.asked import ask
from halfscan_api.idempotency import (
    Answer,
    ChangeHeaders,
    WriteHeaders,
    check_version,
    etag,
    write_once,
)
from halfscan_api.readings.present import session_detail
from halfscan_api.readings.schemas import SessionDetailList
from halfscan_api.readings.service import standings_of
from halfscan_api.state import state
from halfscan_api.studies import cases, present, readers, service
from halfscan_api.studies.allocation import extend_allocation
from halfscan_api.studies.callers import callers_trail, change_case, lock_for_caller
from halfscan_api.studies.protocol import Protocol, template
from halfscan_api.studies.schemas import (
    AllocationList,
    AllocationOut,
    CaseList,
    CaseOut,
    Exclusion,
    NewCase,
    NewProtocol,
    NewReader,
    NewStudy,
    NewToken,
    ProtocolHistory,
    ProtocolOut,
    ReaderList,
    ReaderOut,
    ReaderRevocation,
    ReaderWithToken,
    Readmission,
    SeriesIn,
    StudyDetail,
    StudyList,
    StudyOut,
)
from halfscan_api.studies.tables import Study, StudyCase
from halfscan_api.studies.trail import note_look

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("studies", __name__, tag="studies")

_NO_STUDY = "There is no such study"
_NO_CASE = "There is no such study or case"
_ARCHIVE_AWAY = "The archive cannot be reached, or does not answer as it should"
_NO_READER = "There is no such study or reader"
_LOCKED = "Readings exist, and do not allow it"


@blueprint.post("")
@requires(Role.COORDINATOR)
@blueprint.input(NewStudy)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(StudyOut, status_code=201, description="Location is its address")
@blueprint.doc(responses={409: "The name is taken"})
def create(json_data: NewStudy, headers_data: WriteHeaders) -> Response:
    """Make a study from a protocol, or from a template of a published one."""

    def work(session: Session) -> Answer:
        now = state().clock()
        study = service.create_study(
            session,
            name=json_data.name,
            protocol=_protocol(json_data),
            actor=caller().actor(),
            now=now,
        )
        log.info("study_created", id=study.id)
        location = url_for(".get_one", study_id=study.id)
        return Answer(StudyOut.model_validate(study), 201, {"Location": location})

    return write_once(work, headers=headers_data)


@blueprint.get("")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(StudyList)
def find() -> StudyList:
    """List the studies, oldest first."""
    with state().database.read() as session:
        rows = service.list_studies(session)
        return StudyList(items=[StudyOut.model_validate(row) for row in rows])


@blueprint.get("/<int:study_id>")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(StudyDetail)
@blueprint.doc(responses={404: _NO_STUDY})
def get_one(study_id: int) -> StudyDetail:
    """Show a study, and where it stands."""
    with state().database.snapshot() as session:
        return present.study_detail(session, service.get_study(session, study_id))


@blueprint.get("/<int:study_id>/protocol")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ProtocolOut, description="ETag is its version")
@blueprint.doc(responses={404: _NO_STUDY})
def get_protocol(study_id: int) -> tuple[ProtocolOut, int, dict[str, str]]:
    """Show the newest version of the protocol."""
    with state().database.read() as session:
        study = service.get_study(session, study_id)
        version = service.get_version(session, study)
        return present.protocol_out(version), 200, {"ETag": etag(version.number)}


@blueprint.put("/<int:study_id>/protocol")
@requires(Role.COORDINATOR)
@blueprint.input(NewProtocol)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(ProtocolOut, description="The new version; ETag is its number")
@blueprint.doc(
    responses={
        404: _NO_STUDY,
        409: _LOCKED,
        412: "If-Match names another version than the newest",
        428: "If-Match is missing",
    }
)
def put_protocol(study_id: int, json_data: NewProtocol, headers_data: ChangeHeaders) -> Response:
    """Make a new version of the protocol.

    Once readings exist it needs a reason, and may add and reword, but take nothing away. A reading
    keeps the version that it was opened by.
    """

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        check_version(headers_data, study.protocol_version)
        version = service.amend_protocol(trail, study, json_data.protocol, reason=json_data.reason)
        return Answer(present.protocol_out(version), headers={"ETag": etag(version.number)})

    return write_once(work, headers=headers_data)


@blueprint.get("/<int:study_id>/protocol/versions")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ProtocolHistory)
@blueprint.doc(responses={404: _NO_STUDY})
def list_versions(study_id: int) -> ProtocolHistory:
    """List the versions of the protocol with their reasons, oldest first."""
    with state().database.read() as session:
        rows = service.list_versions(session, service.get_study(session, study_id))
        return ProtocolHistory(items=[present.protocol_out(row) for row in rows])


@blueprint.post("/<int:study_id>/cases")
@requires(Role.COORDINATOR, Role.SERVICE)
@blueprint.input(NewCase)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut, status_code=201, description="Location is its address")
@blueprint.doc(
    responses={
        404: _NO_STUDY,
        409: "The pseudonym is taken, a series stands for another, or the archive lacks it",
        503: _ARCHIVE_AWAY,
    }
)
def add_case(study_id: int, json_data: NewCase, headers_data: WriteHeaders) -> Response:
    """Enrol a case, with the series that are known already.

    Where the API has an archive, it must hold them; scan time and parameters that are not sent come
    from the headers.
    """
    asked = _asked(study_id, [(one.arm, one) for one in json_data.series])

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        protocol = service.protocol_of(session, study)
        case = cases.add_case(trail, study, json_data.pseudonym, json_data.kind)
        for one, new in zip(json_data.series, asked, strict=True):
            cases.put_series(trail, study, case, protocol, (one.arm, one.sequence), new)
        location = url_for(".get_case", study_id=study_id, pseudonym=case.pseudonym)
        return Answer(present.case_out(case, protocol), 201, {"Location": location})

    return write_once(work, headers=headers_data)


@blueprint.get("/<int:study_id>/cases")
@requires(Role.COORDINATOR, Role.STATISTICIAN, Role.SERVICE)
@blueprint.output(CaseList)
@blueprint.doc(responses={404: _NO_STUDY})
def list_cases(study_id: int) -> CaseList:
    """List the cases with their series, in the order of enrolment."""
    with state().database.snapshot() as session:
        study = service.get_study(session, study_id)
        protocol = service.protocol_of(session, study)
        rows = cases.list_cases(session, study)
        return CaseList(items=[present.case_out(row, protocol) for row in rows])


@blueprint.get("/<int:study_id>/cases/<pseudonym>")
@requires(Role.COORDINATOR, Role.STATISTICIAN, Role.SERVICE)
@blueprint.output(CaseOut)
@blueprint.doc(responses={404: _NO_CASE})
def get_case(study_id: int, pseudonym: str) -> CaseOut:
    """Show a case with its series."""
    with state().database.snapshot() as session:
        study = service.get_study(session, study_id)
        case = cases.get_case(session, study, pseudonym)
        return present.case_out(case, service.protocol_of(session, study))


@blueprint.put("/<int:study_id>/cases/<pseudonym>/series/<arm>/<sequence>")
@requires(Role.COORDINATOR, Role.SERVICE)
@blueprint.input(SeriesIn)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut)
@blueprint.doc(
    responses={
        404: "There is no such study, case, arm or sequence",
        409: "The series stands for another, the archive lacks it, or a reading with the old one "
        "was opened",
        503: _ARCHIVE_AWAY,
    }
)
def put_series(
    study_id: int,
    pseudonym: str,
    arm: str,
    sequence: str,
    json_data: SeriesIn,
    headers_data: WriteHeaders,
) -> Response:
    """Say which series a case has in an arm and a sequence.

    A series that the network made is tied to its reconstruction by its SeriesInstanceUID. Where the
    API has an archive, it must hold the series; scan time and parameters that are not sent come
    from the headers.
    """
    [new] = _asked(study_id, [(arm, json_data)])

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        protocol = service.protocol_of(session, study)
        case = cases.get_case(session, study, pseudonym)
        cases.put_series(trail, study, case, protocol, (arm, sequence), new)
        return Answer(present.case_out(case, protocol))

    return write_once(work, headers=headers_data)


@blueprint.post("/<int:study_id>/cases/<pseudonym>/exclude")
@requires(Role.COORDINATOR)
@blueprint.input(Exclusion)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut)
@blueprint.doc(responses={404: _NO_CASE, 409: "It is excluded already"})
def exclude(
    study_id: int, pseudonym: str, json_data: Exclusion, headers_data: WriteHeaders
) -> Response:
    """Take a case out of the study.

    Its completed readings stay and no longer count; the others are withdrawn.
    """

    def change(trail: Trail, study: Study, case: StudyCase) -> None:
        at = json_data.at or trail.now
        cases.exclude(trail, study, case, reason=json_data.reason, at=at)

    return change_case(study_id, pseudonym, change, headers_data)


@blueprint.post("/<int:study_id>/cases/<pseudonym>/readmit")
@requires(Role.COORDINATOR)
@blueprint.input(Readmission)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(CaseOut)
@blueprint.doc(responses={404: _NO_CASE, 409: "It is not excluded"})
def readmit(
    study_id: int, pseudonym: str, json_data: Readmission, headers_data: WriteHeaders
) -> Response:
    """Take an excluded case back."""

    def change(trail: Trail, study: Study, case: StudyCase) -> None:
        cases.readmit(trail, study, case, reason=json_data.reason)

    return change_case(study_id, pseudonym, change, headers_data)


@blueprint.post("/<int:study_id>/readers")
@requires(Role.COORDINATOR)
@blueprint.input(NewReader)
@blueprint.output(ReaderWithToken, status_code=201, description="With the token, this once")
@blueprint.doc(responses={404: _NO_STUDY, 409: "The name is taken"})
def add_reader(study_id: int, json_data: NewReader) -> tuple[ReaderWithToken, int]:
    """Add a reader, and make the token.

    It is shown here and never again, so this takes no Idempotency-Key: if the answer is lost, make
    another token.
    """
    with state().database.write() as session:
        study, trail = lock_for_caller(session, study_id)
        reader, secret = readers.add_reader(
            trail,
            study,
            name=json_data.name,
            experience_years=json_data.experience_years,
            days=json_data.days,
        )
        shown = ReaderOut.model_validate(reader).model_dump()
    return ReaderWithToken(**shown, token=secret), 201


@blueprint.get("/<int:study_id>/readers")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(ReaderList)
@blueprint.doc(responses={404: _NO_STUDY})
def list_readers(study_id: int) -> ReaderList:
    """List the readers."""
    with state().database.read() as session:
        rows = readers.list_readers(session, service.get_study(session, study_id))
        return ReaderList(items=[ReaderOut.model_validate(row) for row in rows])


@blueprint.post("/<int:study_id>/readers/<name>/token")
@requires(Role.COORDINATOR)
@blueprint.input(NewToken)
@blueprint.output(ReaderWithToken, status_code=201, description="With the token, this once")
@blueprint.doc(responses={404: _NO_READER})
def replace_token(study_id: int, name: str, json_data: NewToken) -> tuple[ReaderWithToken, int]:
    """Give a reader another token: the old one was lost, has expired, or came from elsewhere."""
    with state().database.write() as session:
        study, trail = lock_for_caller(session, study_id)
        reader = readers.get_reader(session, study, name)
        secret = readers.replace_token(
            trail, study, reader, reason=json_data.reason, days=json_data.days
        )
        shown = ReaderOut.model_validate(reader).model_dump()
    return ReaderWithToken(**shown, token=secret), 201


@blueprint.post("/<int:study_id>/readers/<name>/token/revoke")
@requires(Role.COORDINATOR)
@blueprint.input(ReaderRevocation)
@blueprint.output(ReaderOut)
@blueprint.doc(responses={404: _NO_READER, 409: "The reader has no token that counts"})
def revoke_token(study_id: int, name: str, json_data: ReaderRevocation) -> ReaderOut:
    """Revoke the token of a reader, from now on, and make no other one."""
    with state().database.write() as session:
        study, trail = lock_for_caller(session, study_id)
        reader = readers.get_reader(session, study, name)
        readers.revoke_readers_token(trail, reader, reason=json_data.reason)
        return ReaderOut.model_validate(reader)


@blueprint.post("/<int:study_id>/allocation")
@requires(Role.COORDINATOR)
@blueprint.input(WriteHeaders, location="headers")
@blueprint.output(AllocationOut)
@blueprint.doc(responses={404: _NO_STUDY})
def allocate(study_id: int, headers_data: WriteHeaders) -> Response:
    """Give each reader every case that is complete and that the reader does not have yet.

    The first time this allocates the study; later it appends what came since, cases and readers.
    """

    def work(session: Session) -> Answer:
        study, trail = lock_for_caller(session, study_id)
        allocated = extend_allocation(trail, study)
        return Answer(present.allocation_out(session, allocated))

    return write_once(work, headers=headers_data)


@blueprint.get("/<int:study_id>/allocation")
@requires(Role.COORDINATOR)
@blueprint.output(AllocationList)
@blueprint.doc(responses={404: _NO_STUDY})
def get_allocation(study_id: int) -> AllocationList:
    """Show who reads which case in which arm, and the code: this unblinds, and is recorded."""
    with state().database.snapshot() as session:
        shown = present.allocation_list(session, service.get_study(session, study_id))
    with state().database.write() as session:
        study = service.get_study(session, study_id)
        note_look(callers_trail(session, study), study, "allocation")
    return shown


@blueprint.get("/<int:study_id>/sessions")
@requires(Role.COORDINATOR, Role.STATISTICIAN)
@blueprint.output(SessionDetailList)
@blueprint.doc(responses={404: _NO_STUDY})
def list_sessions(study_id: int) -> SessionDetailList:
    """List the sessions of all readers, and where they stand."""
    with state().database.snapshot() as session:
        study = service.get_study(session, study_id)
        now = state().clock()
        return SessionDetailList(
            items=[
                session_detail(standing, reader.name)
                for reader in readers.list_readers(session, study)
                for standing in standings_of(session, reader, now)
            ]
        )


def _protocol(new: NewStudy) -> Protocol:
    protocol = template(new.template) if new.template is not None else new.protocol
    if protocol is None:
        raise TypeError("a study must come with a protocol or a template")
    changes = {"title": new.title, "seed": new.seed}
    given = {name: value for name, value in changes.items() if value is not None}
    return protocol.model_copy(update=given)


def _asked(study_id: int, sent: Sequence[tuple[str, SeriesIn]]) -> list[cases.NewSeries]:
    """Ask the archive of series by arm, before the transaction begins: it may take its time."""
    if not sent or not archive.configured():
        return [_series(one) for _, one in sent]
    with state().database.read() as session:
        reference = service.protocol_of(session, service.get_study(session, study_id)).reference_arm
    there = archive.archive()
    return [ask(there, _series(one), reference=arm == reference) for arm, one in sent]


def _series(new: SeriesIn) -> cases.NewSeries:
    return cases.NewSeries(
        series_instance_uid=new.series_instance_uid,
        study_instance_uid=new.study_instance_uid,
        orthanc_series_id=new.orthanc_series_id,
        scan_time_s=new.scan_time_s,
        parameters=new.parameters,
    )
