"""Storage (STOW-RS, PS3.18 section 10.5): reports with measurements, and nothing else.

A report is not kept: what it measures becomes answers of the reading, under the same rules and in
the same audit trail as what is sent in any other way.
"""

import json
from typing import Any

import structlog
from apiflask import APIBlueprint
from flask import Response, request
from sqlalchemy.orm import Session

from halfscan_api import multipart
from halfscan_api.audit import Trail
from halfscan_api.auth import Role, caller, requires
from halfscan_api.blinded.accept import DICOM, DICOM_JSON, JSON, choose
from halfscan_api.blinded.answers import viewing
from halfscan_api.blinded.filing import Filed, file_reports
from halfscan_api.blinded.service import ImagesNotFound
from halfscan_api.errors import MalformedBody, UnsupportedBody
from halfscan_api.idempotency import ChangeHeaders, etag
from halfscan_api.measurements.service import RegionMeasured
from halfscan_api.readings import service as readings
from halfscan_api.readings.answers import Answers
from halfscan_api.readings.closing import ReadingClosed
from halfscan_api.state import state
from halfscan_api.studies.callers import callers_trail
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.readers import reader_of
from halfscan_api.studies.service import get_study

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("blinded_store", __name__, tag="blinded reports")

_STORED: Any = {"content": {DICOM_JSON: {"schema": {"type": "object"}}}}
_ANSWERS: Any = {
    "200": {"description": "Every report is filed", **_STORED},
    "202": {"description": "Some reports are filed; the others say why not", **_STORED},
    "400": "The body is no multipart/related as it should be",
    "404": "No open reading of the caller has this address",
    "406": "Accept allows nothing of what there is",
    "409": "No report is filed; each says why not (DICOM JSON), or the reading is not open",
    "415": 'The body is no multipart/related; type="application/dicom"',
    "503": "The archive does not answer",
}


@blueprint.post("/studies")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def store(code: str) -> Response:
    """File the measurements of structured reports (TID 1500)."""
    return _store(code, None)


@blueprint.post("/studies/<study>")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def store_in_study(code: str, study: str) -> Response:
    """File the measurements of structured reports (TID 1500) about the study of the reading."""
    return _store(code, study)


def _store(code: str, study: str | None) -> Response:
    view = viewing(code, study)
    choose([DICOM_JSON, JSON])
    contents = _instances()
    protocol = _protocol(code)
    filed = file_reports(view, protocol, contents)
    if filed.measured:
        _save(code, filed.measured)
    log.info(
        "reports_filed",
        stored=len(filed.stored),
        failed=len(filed.failed),
        regions=len(filed.measured),
    )
    return _answer(filed)


def _instances() -> list[bytes]:
    """Give the DICOM files of the request.

    Raises
    ------
    UnsupportedBody, MalformedBody
    """
    if request.mimetype != "multipart/related":
        got = request.mimetype or "none"
        raise UnsupportedBody(f"Content-Type must be multipart/related, got {got}")
    try:
        parts = multipart.parse(request.get_data(), request.headers["Content-Type"])
    except ValueError as error:
        raise MalformedBody(str(error)) from None
    other = [part.content_type for part in parts if part.content_type != DICOM]
    if other or not parts:
        raise UnsupportedBody(f"every part must be {DICOM}, got {', '.join(other) or 'none'}")
    return [part.body for part in parts]


def _protocol(code: str) -> Protocol:
    with state().database.read() as session:
        reader = reader_of(session, caller())
        reading = readings.find_reading(session, reader, code)
        return readings.desk_of(session, reader, reading).protocol


def _save(code: str, measured: list[RegionMeasured]) -> None:
    with state().database.write() as session:
        reader = reader_of(session, caller())
        trail = _trail(session)
        try:
            # A report names no version: it is about regions, and changes what it names alone.
            reading = readings.find_reading(session, reader, code, lock=True)
            headers = ChangeHeaders(if_match=etag(reading.version))
            readings.save(trail, reader, code, Answers(measured=measured), headers)
        except (readings.ReadingComplete, readings.ReadingWithdrawn, ReadingClosed):
            raise ImagesNotFound from None


def _trail(session: Session) -> Trail:
    reader = reader_of(session, caller())
    study = get_study(session, reader.study_id)
    return callers_trail(session, study, reader=reader.name)


def _answer(filed: Filed) -> Response:
    body = json.dumps(filed.answer().to_json_dict(), sort_keys=True)
    return Response(body, status=filed.status, content_type=DICOM_JSON)
