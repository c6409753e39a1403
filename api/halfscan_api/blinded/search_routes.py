"""Searches (QIDO-RS, PS3.18 section 10.6) in the one study of an open reading."""

from typing import Any

from apiflask import APIBlueprint
from flask import Response

from halfscan_api.auth import Role, requires
from halfscan_api.blinded.accept import DICOM_JSON, JSON, choose
from halfscan_api.blinded.answers import dicom_json, documented, query, viewing
from halfscan_api.blinded.matching import read_search
from halfscan_api.blinded.service import ImagesNotFound

blueprint = APIBlueprint("blinded_search", __name__, tag="blinded searches")

_ANSWERS: Any = {
    **documented("What matches", DICOM_JSON, binary=False),
    "204": "Nothing matches",
}


@blueprint.get("/studies")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_studies(code: str) -> Response:
    """Search for studies: there is one, that of the reading."""
    choose([DICOM_JSON, JSON])
    view = viewing(code)
    header = view.study_header()
    search = read_search(query(), header.keys())
    return dicom_json(search.select([header]), search)


@blueprint.get("/series")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_all_series(code: str) -> Response:
    """Search for series of the reading."""
    return _find_series(code, None)


@blueprint.get("/studies/<study>/series")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_series(code: str, study: str) -> Response:
    """Search for series of the study of the reading."""
    return _find_series(code, study)


@blueprint.get("/instances")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_all_instances(code: str) -> Response:
    """Search for images of the reading."""
    return _find_instances(code, None, None)


@blueprint.get("/studies/<study>/instances")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_study_instances(code: str, study: str) -> Response:
    """Search for images of the study of the reading."""
    return _find_instances(code, study, None)


@blueprint.get("/studies/<study>/series/<series>/instances")
@requires(Role.READER)
@blueprint.doc(responses=_ANSWERS)
def find_instances(code: str, study: str, series: str) -> Response:
    """Search for images of a series of the reading."""
    return _find_instances(code, study, series)


def _find_series(code: str, study: str | None) -> Response:
    choose([DICOM_JSON, JSON])
    view = viewing(code, study)
    headers = [view.series_header(one) for one in view.all_series]
    search = read_search(query(), headers[0].keys() if headers else ())
    return dicom_json(search.select(headers), search)


def _find_instances(code: str, study: str | None, series: str | None) -> Response:
    choose([DICOM_JSON, JSON])
    view = viewing(code, study)
    headers = [view.label(one) for one in view.images(series)]
    if not headers:
        raise ImagesNotFound
    search = read_search(query(), headers[0].keys())
    return dicom_json(search.select(headers), search)
