"""The header Prefer (RFC 7240): how long a client is ready to wait for an answer."""

import re
from dataclasses import dataclass

from werkzeug.http import parse_list_header

_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?')


@dataclass(frozen=True, slots=True)
class Preference:
    """How a client wants to be answered.

    Attributes
    ----------
    wait_s : float
        Longest wait.
    applied : str
        For the header Preference-Applied; empty where the client stated none.
    """

    wait_s: float
    applied: str


def preference_of(header: str | None, *, default_s: float, longest_s: float) -> Preference:
    """Read the header; what is no preference, or none of ours, is as if it were not there.

    Parameters
    ----------
    header : str or None
    default_s : float
        Wait where the client states nothing.
    longest_s : float
        Nobody waits longer.

    Returns
    -------
    Preference
        With ``respond-async`` alone nothing is waited for; with ``wait=N`` beside, N seconds.
    """
    # The first of several preferences of one name counts (section 2).
    wait: int | None = None
    at_once = False
    for text in parse_list_header(header or ""):
        name = text.partition(";")[0].strip().lower()
        at_once = at_once or name == "respond-async"
        found = _WAIT.fullmatch(name)
        if found is not None and wait is None:
            wait = int(found[1])
    if wait is not None:
        waited = min(wait, longest_s)
        applied = f"wait={waited:g}"
        return Preference(waited, f"respond-async, {applied}" if at_once else applied)
    return Preference(0.0, "respond-async") if at_once else Preference(default_s, "")
