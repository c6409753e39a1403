"""The start of a file in Orthanc: its header arrives, its pixels need not."""

from collections.abc import Iterator
from io import BytesIO, RawIOBase

import httpx

__all__ = ["FileStart"]


class FileStart(RawIOBase):
    """A file that arrives over the network, fetched only as far as it is read.

    Parameters
    ----------
    chunks : iterator of bytes
        What arrives.

    Attributes
    ----------
    error : httpx.HTTPError or None
        Why no more came; a parser may hide it behind an error of its own.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._arrived = BytesIO()
        self._length = 0
        self.error: httpx.HTTPError | None = None

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from another place."""
        return True

    def tell(self) -> int:
        """Give the place of the next byte."""
        return self._arrived.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place; the end of the file is known only once all of it has arrived."""
        if whence == 2:
            self._fetch(None)
        return self._arrived.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, or all; fewer only at the end of the file."""
        all_of_it = size is None or size < 0
        self._fetch(None if all_of_it else self.tell() + (size or 0))
        return self._arrived.read(size)

    def _fetch(self, until: int | None) -> None:
        """Let bytes arrive up to a place, or all of them."""
        place = self._arrived.seek(0, 1)
        self._arrived.seek(self._length)
        try:
            while until is None or self._length < until:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._length += self._arrived.write(chunk)
        except httpx.HTTPError as error:
            self.error = error
            raise
        finally:
            self._arrived.seek(place)
