"""Retrieval (WADO-RS, PS3.18 section 10.4) of the images of an open reading.

Only the reading's own reader gets anything, and only while the reading is open. Everything else
(another's code, nobody's, a completed reading, a UID of the archive) is the same 404.
"""

import io
from collections.abc import Iterator
from typing import Any

from apiflask import APIBlueprint
from flask import Response
from pydicom import dcmwrite

from halfscan_api.auth import Role, requires
from halfscan_api.blinded.accept import (
    DICOM,
    DICOM_JSON,
    JPEG,
    JSON,
    OCTETS,
    PNG,
    UNCOMPRESSED,
    choose,
)
from halfscan_api.blinded.answers import (
    dicom_json,
    documented,
    many_parts,
    one_part,
    query,
    viewing,
)
from halfscan_api.blinded.header import pixel_data
from halfscan_api.blinded.rendering import THUMBNAIL_PIXELS, read_view, render
from halfscan_api.blinded.service import Image, ImagesNotFound, Viewing

blueprint = APIBlueprint("blinded", __name__, tag="blinded images")

_RELATED = "multipart/related"
_METADATA: Any = documented("Headers, one an image", DICOM_JSON, binary=False)
_FILES: Any = documented("DICOM files", _RELATED)
_FILE: Any = documented("A DICOM file", _RELATED, DICOM)
_FRAMES: Any = documented("Pixel values, 16 bits, little-endian", _RELATED, OCTETS)
_PICTURE: Any = documented("A picture", JPEG, PNG)
_PICTURES: Any = documented("Pictures", _RELATED)

_STUDY = "/studies/<study>"
_SERIES = f"{_STUDY}/series/<series>"
_INSTANCE = f"{_SERIES}/instances/<instance>"


@blueprint.get(_STUDY)
@requires(Role.READER)
@blueprint.doc(responses=_FILES)
def get_study(code: str, study: str) -> Response:
    """Give all images of the reading as DICOM files."""
    return _files(viewing(code, study))


@blueprint.get(_SERIES)
@requires(Role.READER)
@blueprint.doc(responses=_FILES)
def get_series(code: str, study: str, series: str) -> Response:
    """Give the images of a series as DICOM files."""
    return _files(viewing(code, study), series)


@blueprint.get(_INSTANCE)
@requires(Role.READER)
@blueprint.doc(responses=_FILE)
def get_instance(code: str, study: str, series: str, instance: str) -> Response:
    """Give an image as a DICOM file."""
    return _files(viewing(code, study), series, instance)


@blueprint.get(f"{_STUDY}/metadata")
@requires(Role.READER)
@blueprint.doc(responses=_METADATA)
def get_study_metadata(code: str, study: str) -> Response:
    """Give the headers of all images of the reading."""
    return _metadata(viewing(code, study))


@blueprint.get(f"{_SERIES}/metadata")
@requires(Role.READER)
@blueprint.doc(responses=_METADATA)
def get_series_metadata(code: str, study: str, series: str) -> Response:
    """Give the headers of the images of a series."""
    return _metadata(viewing(code, study), series)


@blueprint.get(f"{_INSTANCE}/metadata")
@requires(Role.READER)
@blueprint.doc(responses=_METADATA)
def get_instance_metadata(code: str, study: str, series: str, instance: str) -> Response:
    """Give the header of an image."""
    return _metadata(viewing(code, study), series, instance)


@blueprint.get(f"{_INSTANCE}/frames/<frames>")
@requires(Role.READER)
@blueprint.doc(responses=_FRAMES)
def get_frames(code: str, study: str, series: str, instance: str, frames: str) -> Response:
    """Give the pixel values of an image; each image has one frame."""
    [image] = viewing(code, study).images(series, instance)
    _check_frames(frames)
    kind = choose([OCTETS], multipart=[OCTETS])
    content = pixel_data(image.source, image.index, signed=image.grey.signed)
    described = f"{OCTETS}; transfer-syntax={UNCOMPRESSED}"
    if kind == OCTETS:
        return one_part(content, described)
    return many_parts([(described, content)], OCTETS)


@blueprint.get(f"{_STUDY}/rendered")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURES)
def get_rendered_study(code: str, study: str) -> Response:
    """Give all images of the reading as pictures."""
    return _pictures(viewing(code, study), None)


@blueprint.get(f"{_SERIES}/rendered")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURES)
def get_rendered_series(code: str, study: str, series: str) -> Response:
    """Give the images of a series as pictures."""
    return _pictures(viewing(code, study), series)


@blueprint.get(f"{_INSTANCE}/rendered")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_rendered_instance(code: str, study: str, series: str, instance: str) -> Response:
    """Give an image as a picture; window, viewport and quality as PS3.18 says."""
    return _picture(viewing(code, study), series, instance)


@blueprint.get(f"{_INSTANCE}/frames/<frames>/rendered")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_rendered_frames(code: str, study: str, series: str, instance: str, frames: str) -> Response:
    """Give an image as a picture; each image has one frame."""
    view = viewing(code, study)
    _check_frames(frames)
    return _picture(view, series, instance)


@blueprint.get(f"{_STUDY}/thumbnail")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_study_thumbnail(code: str, study: str) -> Response:
    """Give the middle image of the first series as a small picture."""
    view = viewing(code, study)
    if not view.all_series:
        raise ImagesNotFound
    return _picture(view, view.all_series[0].series_instance_uid, small=True)


@blueprint.get(f"{_SERIES}/thumbnail")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_series_thumbnail(code: str, study: str, series: str) -> Response:
    """Give the middle image of a series as a small picture."""
    return _picture(viewing(code, study), series, small=True)


@blueprint.get(f"{_INSTANCE}/thumbnail")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_instance_thumbnail(code: str, study: str, series: str, instance: str) -> Response:
    """Give an image as a small picture."""
    return _picture(viewing(code, study), series, instance, small=True)


@blueprint.get(f"{_INSTANCE}/frames/<frames>/thumbnail")
@requires(Role.READER)
@blueprint.doc(responses=_PICTURE)
def get_frame_thumbnail(code: str, study: str, series: str, instance: str, frames: str) -> Response:
    """Give an image as a small picture; each image has one frame."""
    view = viewing(code, study)
    _check_frames(frames)
    return _picture(view, series, instance, small=True)


def _check_frames(frames: str) -> None:
    if frames != "1":
        raise ImagesNotFound


def _metadata(view: Viewing, series: str | None = None, instance: str | None = None) -> Response:
    images = view.images(series, instance)
    choose([DICOM_JSON, JSON])
    return dicom_json([view.header(image) for image in images])


def _files(view: Viewing, series: str | None = None, instance: str | None = None) -> Response:
    images = view.images(series, instance)
    kind = choose([DICOM] if instance is not None else [], multipart=[DICOM])
    if kind == DICOM:
        return one_part(_file(view, images[0]), DICOM)
    return many_parts(((DICOM, _file(view, image)) for image in images), DICOM)


def _file(view: Viewing, image: Image) -> bytes:
    content = io.BytesIO()
    dcmwrite(content, view.file(image), enforce_file_format=True)
    return content.getvalue()


def _picture(
    view: Viewing, series: str, instance: str | None = None, *, small: bool = False
) -> Response:
    images = view.images(series, instance)
    kind = choose([JPEG, PNG])
    size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS) if small else None
    shown = read_view(query(), size=size)
    return one_part(render(images[len(images) // 2], shown, kind), kind)


def _pictures(view: Viewing, series: str | None) -> Response:
    images = view.images(series)
    kind = JPEG if JPEG in choose([], multipart=[JPEG, PNG]) else PNG
    shown = read_view(query())

    def parts() -> Iterator[tuple[str, bytes]]:
        for image in images:
            yield kind, render(image, shown, kind)

    return many_parts(parts(), kind)
