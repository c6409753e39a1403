"""The protocol text in Siemens' headers: lines ``name = value`` between two ASCCONV markers.

It lies within binary or half-binary data (the CSA header of VB and VE, the XProtocol of XA), so it
is searched for by its markers and read line by line. Nothing else of that data is interpreted.
"""

from dataclasses import dataclass

from halfscan_plugin.headers import as_number

__all__ = ["Protocol", "read_protocol"]

BEGIN, END = b"### ASCCONV BEGIN", b"### ASCCONV END"
LONGEST = 1 << 20  # bytes; seen: 42,000 (VB17) to 136,000 (XA30)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What was asked of the scanner.

    Parameters
    ----------
    values : dict of str to str
        As written, by name, such as ``sPat.lAccelFactPE``.
    complete : bool
        Whether the end is there: only then an absent name says something.
    """

    values: dict[str, str]
    complete: bool

    def number(self, name: str) -> float | None:
        """Give a value as a finite number, be it ``2``, ``0x2`` or ``2.0``; None if it is none."""
        written = self.values.get(name, "")
        if written.lower().startswith("0x"):
            try:
                return as_number(int(written, 16))
            except ValueError:
                return None
        return as_number(written)


def read_protocol(data: bytes) -> Protocol | None:
    """Read the first protocol text in `data`.

    Parameters
    ----------
    data : bytes
        Anything.

    Returns
    -------
    Protocol or None
        None where there is no such text. A line that is cut off at the end is left out.
    """
    begin = data.find(BEGIN)
    if begin < 0:
        return None
    end = data.find(END, begin, begin + LONGEST)
    text = data[begin : end if end >= 0 else begin + LONGEST]
    values: dict[str, str] = {}
    for line in text.split(b"\n")[1:-1]:
        name, found, value = line.partition(b"=")
        if found and len(line) <= 1000:
            written = value.split(b"#")[0].strip(b' \t\r"').decode("ascii", "replace")
            values.setdefault(name.strip().decode("ascii", "replace"), written)
    return Protocol(values, complete=end >= 0)
