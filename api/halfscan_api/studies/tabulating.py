"""A study as CSV files with a data dictionary, for a statistician's own programs.

One row a reading, an answer, an event. Every file has the columns that `FILES` names and explains;
the dictionary is written from the same list. Names are those of the protocol.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.audit import JsonObject
from halfscan_api.readings.sheet import Sheet, load_sheets
from halfscan_api.readings.tables import ReadingSession
from halfscan_api.states import leaves
from halfscan_api.studies.allocation import session_state
from halfscan_api.studies.cases import case_state, list_cases
from halfscan_api.studies.exporting import export_study
from halfscan_api.studies.readers import list_readers, reader_state
from halfscan_api.studies.tables import Study

# A fixed date (the earliest that zip knows), so that the same study gives the same file.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_TIME = "UTC, ISO 8601"

_READING = {
    "reading": "code of the reading",
    "reader": "name of the reader",
    "case": "pseudonym of the case",
    "arm": "arm of the images",
    "session_number": "0 is training; 1 up to the number of arms are readings; then repeats",
    "session_kind": "training, reading or repeat",
    "repeat_round": "0 is the reading itself, 1 the first time that case and arm come again",
    "counted": "1: statistics use it (complete, case not excluded, no training)",
}
FILES: dict[str, dict[str, str]] = {
    "cases.csv": {
        "case": "pseudonym",
        "kind": "study or training",
        "enrolled_at": _TIME,
        "excluded_at": f"{_TIME}; empty while it is in the study",
        "exclusion_reason": "why it was excluded",
    },
    "series.csv": {
        "case": "pseudonym",
        "arm": "arm",
        "sequence": "sequence",
        "series_instance_uid": "DICOM SeriesInstanceUID in the archive",
        "study_instance_uid": "DICOM StudyInstanceUID in the archive",
        "scan_time_s": "scan time in seconds",
        "parameters": "what the headers say, as JSON",
        "lineage": "the reconstruction that made the series, as JSON; empty for an acquired one",
        "added_at": _TIME,
    },
    "noise_series.csv": {
        "case": "pseudonym",
        "arm": "arm",
        "sequence": "sequence",
        "role": "repeat (a second acquisition) or noise_map (SD of the noise in every pixel)",
        "series_instance_uid": "DICOM SeriesInstanceUID in the archive",
        "study_instance_uid": "DICOM StudyInstanceUID in the archive",
        "lineage": "the reconstruction that made the series, as JSON; empty for an acquired one",
        "added_at": _TIME,
    },
    "readers.csv": {
        "reader": "name",
        "experience_years": "years of experience",
        "created_at": _TIME,
    },
    "sessions.csv": {
        "session": "code of the session",
        "reader": "name of the reader",
        "number": "0 is training; 1 up to the number of arms are readings; then repeats",
        "kind": "training, reading or repeat",
        "override_at": "when it was let begin before its time; empty otherwise",
        "override_reason": "why",
    },
    "readings.csv": {
        **_READING,
        "position": "place in the session, from 1",
        "state": "pending, open, complete or withdrawn (the case was excluded before)",
        "protocol_version": "version of the protocol that its questions are from",
        "opened_at": _TIME,
        "completed_at": _TIME,
        "active_s": "reading time in seconds, without pauses",
        "missing_reason": "why it was completed although answers are missing",
    },
    "scores.csv": {
        **_READING,
        "sequence": "sequence",
        "criterion": "criterion",
        "value": "point of the scale of the criterion",
        "saved_at": _TIME,
    },
    "findings.csv": {
        **_READING,
        "finding": "finding",
        "level": "level",
        "value": "grade; 0 is absent",
        "saved_at": _TIME,
    },
    "measurements.csv": {
        **_READING,
        "sequence": "sequence",
        "region": "region of interest",
        "transferred": "1: measured with the reading's geometry on the images of another arm",
        "mean": "mean of the pixel values",
        "sd": "their standard deviation",
        "snr": "mean over the SD of the noise region; empty where that is not there or 0",
        "noise": "SNR by a repeat (difference) or a noise map, as JSON: method -> SNR, signal, "
        "noise, pixels, series; it counts while the case has this series",
        "area_mm2": "area in mm2",
        "n_pixels": "pixels in the region",
        "source": "viewer, geometry or report",
        "geometry": "what was measured, as JSON: kind, points, frame of reference",
        "sop_instance_uid": "DICOM SOPInstanceUID in the archive that the region lies on",
        "frame_number": "frame of that instance, from 1",
        "saved_at": _TIME,
    },
    "audit.csv": {
        "sequence_number": "from 1, without a gap",
        "at": _TIME,
        "actor": "name of the token",
        "role": "role of the token",
        "reader": "reader whom the token belongs to",
        "action": "what was done",
        "subject": "what it was done to",
        "old": "JSON merge patch (RFC 7396) back to the state before",
        "new": "JSON merge patch on to the state after",
        "reason": "why",
        "revision": "of the study after the event",
        "hash": "SHA-256 over the event and the hash before it",
    },
}
# A spreadsheet takes a text that begins so for a formula, and computes it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_ESCAPED = (
    "In every file: a text that begins with = + - @ ' tab or carriage return has a ' before it, so "
    "that no spreadsheet computes it. Take one ' away from a text that begins with one. Numbers "
    "are as they are."
)
_NOTE = "The whole study, for a machine: import it again to get the same study."


def study_as_zip(session: Session, study: Study) -> bytes:
    """Write a study as a zip file; the session must see one state of the database."""
    document = export_study(session, study)
    rows = _rows(session, study, document)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, columns in FILES.items():
            _add(archive, name, _table(columns, rows[name]))
        _add(archive, "dictionary.csv", _table(("file", "column", "meaning"), _dictionary()))
        _add(archive, "protocol.json", _json(_newest_protocol(document)))
        _add(archive, "study.json", _json(document))
    return buffer.getvalue()


def _rows(
    session: Session, study: Study, document: JsonObject
) -> dict[str, Iterable[Mapping[str, Any]]]:
    cases = {case.pseudonym: case_state(case) for case in list_cases(session, study)}
    readers = list_readers(session, study)
    sheets = sorted(
        load_sheets(session, study.id),
        key=lambda sheet: (sheet.reader, sheet.session.number, sheet.reading.position),
    )
    return {
        "cases.csv": ({"case": name, **state} for name, state in cases.items()),
        "series.csv": _series(cases),
        "noise_series.csv": _noise_series(cases),
        "readers.csv": ({"reader": one.name, **reader_state(one)} for one in readers),
        "sessions.csv": (
            {"session": row.code, **session_state(row, reader.name)}
            for reader in readers
            for row in session.scalars(
                select(ReadingSession)
                .where(ReadingSession.reader_id == reader.id)
                .order_by(ReadingSession.number)
            )
        ),
        "readings.csv": ({**sheet.state(), **_reading(sheet)} for sheet in sheets),
        "scores.csv": _answers(sheets, "scores", ("sequence", "criterion")),
        "findings.csv": _answers(sheets, "findings", ("finding", "level")),
        "measurements.csv": _answers(sheets, "measurements", ("arm", "sequence", "region")),
        "audit.csv": document["events"],
    }


def _series(cases: Mapping[str, JsonObject]) -> Iterator[Mapping[str, Any]]:
    for name, case in cases.items():
        for arm, series in sorted(case["series"].items()):
            for sequence, state in sorted(series.items()):
                yield {"case": name, "arm": arm, "sequence": sequence, **state}


def _noise_series(cases: Mapping[str, JsonObject]) -> Iterator[Mapping[str, Any]]:
    for name, case in cases.items():
        for (arm, sequence, role), state in sorted(leaves(case.get("noise_series", {}), 3)):
            yield {"case": name, "arm": arm, "sequence": sequence, "role": role, **state}


def _reading(sheet: Sheet) -> dict[str, Any]:
    return {
        "reading": sheet.reading.code,
        "reader": sheet.reader,
        "case": sheet.case,
        "arm": sheet.reading.arm,
        "session_number": sheet.session.number,
        "session_kind": sheet.session.kind,
        "repeat_round": sheet.reading.repeat_round,
        "counted": sheet.reading.counted,
    }


def _answers(
    sheets: Iterable[Sheet], section: str, names: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    for sheet in sheets:
        own = _reading(sheet)
        for path, state in sorted(leaves(sheet.state()[section], len(names))):
            yield {**own, **dict(zip(names, path, strict=True)), **state}


def _dictionary() -> Iterator[Mapping[str, str]]:
    for name, columns in FILES.items():
        for column, meaning in columns.items():
            yield {"file": name, "column": column, "meaning": meaning}
    yield {"file": "", "column": "", "meaning": _escaped(_ESCAPED)}
    yield {"file": "study.json", "column": "", "meaning": _NOTE}
    yield {"file": "protocol.json", "column": "", "meaning": "The newest version of the protocol."}


def _newest_protocol(document: JsonObject) -> JsonObject:
    number = document["states"]["study"]["protocol_version"]
    protocol: JsonObject = document["states"][f"protocol/{number}"]["document"]
    return protocol


def _table(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180
    names = list(columns)
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    return value if isinstance(value, int | float) else _escaped(str(value))


def _escaped(text: str) -> str:
    """Keep a text from being taken for a formula; the dictionary says how to undo it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(document: JsonObject) -> str:
    return json.dumps(document, sort_keys=True, indent=1) + "\n"


def _add(archive: zipfile.ZipFile, name: str, content: str) -> None:
    entry = zipfile.ZipInfo(name, _ZIP_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content.encode())
