"""What a compressed image says of its own size, read before anything decodes it.

A decoder makes room for what its bytes announce, whatever Rows and Columns say: a damaged or
malicious frame of a few bytes may ask for gigabytes, or for minutes of work.
"""

import struct

__all__ = ["announced_size"]

JPEG_START = b"\xff\xd8"
JPEG_2000_START = b"\xff\x4f\xff\x51"  # SOC, SIZ: ISO/IEC 15444-1, A.4.1 and A.5.1
# Start of frame: SOF0 to SOF15 but for DHT, JPG and DAC (ISO/IEC 10918-1, table B.1), and SOF55
# of JPEG-LS (ISO/IEC 14495-1, table C.1).
FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
SCAN_START = 0xDA
WRAPPER = 4096  # bytes in which a JP2 file must come to its codestream


def announced_size(frame: bytes) -> tuple[int, int, int] | None:
    """Read the size that a JPEG, JPEG-LS or JPEG 2000 codestream announces.

    Parameters
    ----------
    frame : bytes
        One frame, as the fragments hold it.

    Returns
    -------
    tuple of int or None
        Rows, columns and tiles (1 but for JPEG 2000); None where the bytes are no such codestream.
    """
    if frame.startswith(JPEG_START):
        return _jpeg_size(frame)
    start = frame.find(JPEG_2000_START, 0, WRAPPER)
    return None if start < 0 else _jpeg_2000_size(frame, start)


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    place, found = 2, None
    while place + 4 <= len(frame):
        start, marker, length = struct.unpack_from(">BBH", frame, place)
        if start != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte, B.1.1.2
            place += 1
            continue
        if marker == SCAN_START:
            return found
        if marker in FRAME_STARTS:
            if found is not None or length < 8 or place + 9 > len(frame):
                return None
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            found = (rows, columns, 1)
        place += 2 + length
    return None


def _jpeg_2000_size(frame: bytes, start: int) -> tuple[int, int, int] | None:
    if start + 40 > len(frame):
        return None
    numbers = struct.unpack_from(">8I", frame, start + 8)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = numbers
    if not (tile_width and tile_height and left < right and top < bottom):
        return None
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    return bottom - top, right - left, across * down
