"""Which representation a viewer gets (PS3.18 section 8.7): what it accepts, among what there is."""

import re
from collections.abc import Sequence

from flask import request
from werkzeug.http import parse_options_header

from halfscan_api.errors import HalfscanError

DICOM_JSON = "application/dicom+json"
JSON = "application/json"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
JPEG, PNG = "image/jpeg", "image/png"
# Explicit VR Little Endian: the one transfer syntax, whatever the archive holds.
UNCOMPRESSED = "1.2.840.10008.1.2.1"


class NotAcceptable(HalfscanError):
    """The viewer accepts nothing of what there is."""

    http_status = 406


def choose(offered: Sequence[str], *, multipart: Sequence[str] = ()) -> str:
    """Choose the media type of the answer to the current request.

    Parameters
    ----------
    offered : sequence of str
        Media types of an answer of one part.
    multipart : sequence of str
        Media types of the parts of an answer as multipart/related; these are given as
        ``multipart/related; type="..."``. The first one is what "anything" gets.

    Raises
    ------
    NotAcceptable
    """
    there = [*(f'multipart/related; type="{kind}"' for kind in multipart), *offered]
    # A query parameter stands in for the header, for links in a page (PS3.18 8.3.3.1).
    header = request.args.get("accept") or request.headers.get("Accept") or "*/*"
    for wanted in _ranges(header):
        for kind in there:
            if _fits(wanted, kind):
                return kind
    raise NotAcceptable(f"Accept must allow {' or '.join(there)}")


def _ranges(header: str) -> list[tuple[str, dict[str, str]]]:
    # Many viewers leave out the quotes that a media type in a parameter needs.
    quoted = re.sub(r"type=([^\";,\s]+)", r'type="\1"', header)
    parsed = [parse_options_header(part) for part in _split(quoted)]
    ranges = [(kind.lower(), options) for kind, options in parsed if _quality(options) > 0]
    ranges.sort(key=lambda one: -_quality(one[1]))
    return ranges


def _split(header: str) -> list[str]:
    """Split at commas, but not inside quotes."""
    parts, quoted = [""], False
    for character in header:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _quality(options: dict[str, str]) -> float:
    try:
        return float(options.get("q", "1"))
    except ValueError:
        return 1.0


def _fits(wanted: tuple[str, dict[str, str]], kind: str) -> bool:
    name, options = wanted
    offered, parameters = parse_options_header(kind)
    if options.get("transfer-syntax", "*") not in {"*", UNCOMPRESSED}:
        return False
    if name == "*/*":
        return True
    if name.endswith("/*"):
        return offered.startswith(name[:-1])
    if name != offered:
        return False
    inner = options.get("type", "*/*").lower()
    return offered != "multipart/related" or inner in {"*/*", "*", parameters["type"]}
