"""Bodies of the media type multipart/related, read and written (RFC 2387, RFC 2046)."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from werkzeug.http import parse_options_header

CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes
    ----------
    headers : mapping
        Names in small letters.
    body : bytes
    """

    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Media type without parameters, in small letters; empty where none is given."""
        return parse_options_header(self.headers.get("content-type"))[0].lower()


def parse(body: bytes, content_type: str) -> list[Part]:
    """Take a body apart.

    Parameters
    ----------
    body : bytes
    content_type : str
        Header of the message, with the boundary.

    Raises
    ------
    ValueError
        It is no multipart/related, or its boundaries do not fit.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/related" or not 0 < len(boundary) <= 200:
        raise ValueError("Content-Type must be multipart/related with a boundary")
    delimiter = CRLF + b"--" + boundary.encode()
    # What stands before the first boundary and behind the last one is nobody's.
    pieces = (CRLF + body).split(delimiter)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise ValueError("the body must hold parts between boundaries, and end with the last one")
    return [_part(piece) for piece in pieces[1:-1]]


def new_boundary() -> str:
    """Make a boundary that stands in no body."""
    return secrets.token_hex(16)


def content_type(boundary: str, kind: str) -> str:
    """Write the header Content-Type for parts of one kind."""
    return f'multipart/related; type="{kind}"; boundary={boundary}'


def write(parts: Iterable[tuple[str, bytes]], boundary: str) -> Iterator[bytes]:
    """Write parts, each with its content type, a piece at a time."""
    for kind, body in parts:
        head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        yield head.encode() + body + CRLF
    yield f"--{boundary}--\r\n".encode()


def _part(piece: bytes) -> Part:
    head, separator, body = piece.partition(CRLF + CRLF)
    if not separator:
        raise ValueError("a part must have its headers, an empty line and a body")
    headers = {}
    for line in head.split(CRLF):
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Part(headers, body)
