"""Blinded images as pictures (PS3.18 section 8.3.5): made here, so that nothing else decides."""

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from halfscan_api.blinded.accept import JPEG
from halfscan_api.blinded.service import Image
from halfscan_api.errors import InvalidRequest

THUMBNAIL_PIXELS = 128
LARGEST_PIXELS = 4096
QUALITY = 90


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is made.

    Attributes
    ----------
    window : tuple of float, optional
        Centre and width; those of the header by default.
    size : tuple of int, optional
        Largest width and height [pixels]; those of the image by default.
    quality : int
        Of a JPEG, 1 to 100.
    """

    window: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    quality: int = QUALITY


def read_view(arguments: dict[str, str], *, size: tuple[int, int] | None = None) -> View:
    """Read the query of a picture: window, viewport, quality.

    Raises
    ------
    InvalidRequest
    """
    asked = _numbers(arguments, "window", at_least=2, ignored=1)
    if asked is not None and asked[1] < 1:
        raise _invalid("window", "the width must be >= 1", arguments["window"])
    viewport = _numbers(arguments, "viewport", at_least=2, ignored=4)
    if viewport is not None:
        if not all(1 <= one <= LARGEST_PIXELS for one in viewport):
            rule = f"width and height must lie between 1 and {LARGEST_PIXELS}"
            raise _invalid("viewport", rule, arguments["viewport"])
        size = (int(viewport[0]), int(viewport[1]))
    quality = arguments.get("quality", str(QUALITY))
    if not quality.isascii() or not quality.isdecimal() or not 1 <= int(quality[:4]) <= 100:
        raise _invalid("quality", "must be a whole number from 1 to 100", quality)
    return View((asked[0], asked[1]) if asked else None, size, int(quality))


def render(image: Image, view: View, media_type: str) -> bytes:
    """Make a picture of an image.

    Parameters
    ----------
    image : Image
    view : View
    media_type : {"image/jpeg", "image/png"}
    """
    window = view.window or (image.grey.centre, image.grey.width)
    grey = _grey(image.source.shown(image.frame), window)
    if image.frame.photometric == "MONOCHROME1":
        grey = 255 - grey
    picture = Picture.fromarray(grey)
    if view.size is not None:
        scale = min(view.size[0] / picture.width, view.size[1] / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Picture.Resampling.BILINEAR)
    content = io.BytesIO()
    if media_type == JPEG:
        picture.save(content, "JPEG", quality=view.quality)
    else:
        picture.save(content, "PNG")
    return content.getvalue()


def _grey(values: npt.NDArray[np.float64], shown: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Map values to 0 to 255: the function LINEAR (PS3.3 C.11.2.1.2.1)."""
    centre, width = shown
    if width <= 1:
        return np.where(values <= centre - 0.5, 0, 255).astype(np.uint8)
    share = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def _numbers(
    arguments: dict[str, str], name: str, *, at_least: int, ignored: int
) -> list[float] | None:
    text = arguments.get(name)
    if text is None:
        return None
    parts = text.split(",")
    rule = f"must begin with {at_least} numbers, separated by commas"
    if not at_least <= len(parts) <= at_least + ignored:
        raise _invalid(name, rule, text)
    try:
        numbers = [float(part) for part in parts[:at_least]]
    except ValueError:
        raise _invalid(name, rule, text) from None
    if not all(math.isfinite(number) and abs(number) < 1e12 for number in numbers):
        raise _invalid(name, rule, text)
    return numbers


def _invalid(field: str, rule: str, got: str) -> InvalidRequest:
    return InvalidRequest([{"in": "query", "field": field, "detail": f"{rule}, got {got[:40]!r}"}])
