"""What all blinded routes share: who may look, and how an answer leaves."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from apiflask import APIFlask
from flask import Response, current_app, request
from pydicom import Dataset

from halfscan_api import multipart
from halfscan_api.archive import archive
from halfscan_api.auth import caller
from halfscan_api.blinded.accept import DICOM_JSON
from halfscan_api.blinded.matching import Search
from halfscan_api.blinded.service import Viewing, open_images
from halfscan_api.blinded.source import SourceCache
from halfscan_api.state import state

ROOT = "/api/v1/blinded/<code>/dicom-web"
_CACHE = "halfscan_source_cache"
# Neither a proxy nor the browser's disk keeps images of patients.
_PRIVATE = {"Cache-Control": "private, no-store"}


def documented(description: str, *kinds: str, binary: bool = True) -> dict[str, Any]:
    """Describe an answer of one of these media types, and the errors of every blinded route."""
    schema: dict[str, Any] = {"type": "string", "format": "binary"} if binary else _JSON_SCHEMA
    return {
        "200": {
            "description": description,
            "content": {kind: {"schema": schema} for kind in kinds},
        },
        "404": "No image of an open reading of the caller is at this address",
        "406": "Accept allows nothing of what there is",
        "503": "The archive does not answer",
    }


_JSON_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {"type": "object", "description": "DICOM JSON (PS3.18 F.2)."},
}


def attach_cache(app: APIFlask) -> None:
    """Give an app its memory of series."""
    app.extensions[_CACHE] = SourceCache()


def source_cache() -> SourceCache:
    """Give the memory of series of the current app."""
    cache = current_app.extensions[_CACHE]
    if not isinstance(cache, SourceCache):
        raise TypeError(f"the app must carry a SourceCache, got {type(cache).__name__}")
    return cache


def viewing(code: str, study_uid: str | None = None) -> Viewing:
    """Get the images of an open reading of the caller.

    Raises
    ------
    ImagesNotFound, ArchiveNotConfigured
    """
    with state().database.read() as session:
        labels, series, others = open_images(session, caller().token_id, code)
    found = Viewing(labels, series, others, archive(), source_cache())
    found.check_study(study_uid)
    return found


def dicom_json(headers: Sequence[Dataset], search: Search | None = None) -> Response:
    """Answer with headers as DICOM JSON; 204 for a search that finds nothing."""
    if not headers and search is not None:
        return Response(status=204, headers=_PRIVATE)
    body = json.dumps([header.to_json_dict() for header in headers], sort_keys=True)
    answer = Response(body, content_type=DICOM_JSON, headers=_PRIVATE)
    if search is not None and search.ignored:
        # PS3.18 section 8.3.4: what a server does not match it says.
        names = ", ".join(name for name in search.ignored if name.isalnum())
        answer.headers["Warning"] = f'299 halfscan "ignored: {names}"'
    return answer


def one_part(body: bytes, content_type: str) -> Response:
    """Answer with one body."""
    return Response(body, content_type=content_type, headers=_PRIVATE)


def many_parts(parts: Iterable[tuple[str, bytes]], kind: str) -> Response:
    """Answer with parts, sent one after the other as the archive gives them.

    The first one is made before the answer begins: what is wrong then still becomes an error.
    """
    rest: Iterator[tuple[str, bytes]] = iter(parts)
    first = next(rest)
    boundary = multipart.new_boundary()
    body = multipart.write(chain([first], rest), boundary)
    content_type = multipart.content_type(boundary, kind)
    return Response(body, content_type=content_type, headers=_PRIVATE, direct_passthrough=False)


def query() -> dict[str, str]:
    """Query of the current request; of a parameter that comes twice the values with a comma."""
    return {name: ",".join(values) for name, values in request.args.lists()}
