"""The section ``Halfscan`` of Orthanc's configuration; standard library only."""

import urllib.parse
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ApiUnavailable", "RelaySettings", "SettingsError"]

FIRST_USER_PROPERTY = 1024  # Orthanc keeps the lower global properties for itself
LONGEST_INTERVAL_S = 3600


class SettingsError(Exception):
    """A setting of the section ``Halfscan`` in Orthanc's configuration breaks a rule."""


class ApiUnavailable(Exception):
    """The API could not be reached, or refused: the series will be announced again."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The section ``Halfscan`` of Orthanc's configuration file.

    Parameters
    ----------
    api_url : str
        Address of the API, such as ``http://127.0.0.1:8780``.
    token_file : str or None
        File that holds the bearer token of role ``service``; read again when the API refuses it.
    token : str or None
        The token itself, where a file is impractical.
    start_from : {"now", "beginning"}
        What a first start does with series that are in the archive already.
    poll_interval_s : float
        How often the change log is read when no callback wakes the relay [s].
    cursor_property : int
        Number of the global property that holds the cursor, 1024 or above.
    """

    api_url: str
    token_file: str | None = None
    token: str | None = None
    start_from: str = "now"
    poll_interval_s: float = 5.0
    cursor_property: int = 7290

    @classmethod
    def from_section(cls, section: object) -> "RelaySettings":
        """Check the section of the configuration file.

        Raises
        ------
        SettingsError
            If a name is unknown, a value is missing or breaks a rule; the message says which.
        """
        if not isinstance(section, dict):
            raise SettingsError(
                'Orthanc\'s configuration needs a section "Halfscan" with ApiUrl and TokenFile'
            )
        names = {
            "ApiUrl": "api_url",
            "TokenFile": "token_file",
            "Token": "token",
            "StartFrom": "start_from",
            "PollIntervalS": "poll_interval_s",
            "CursorProperty": "cursor_property",
        }
        unknown = sorted(set(section) - set(names))
        if unknown:
            raise SettingsError(
                f"Halfscan.{unknown[0]} is not a setting; known: {', '.join(names)}"
            )
        if "ApiUrl" not in section:
            raise SettingsError("Halfscan.ApiUrl is missing: the address of the API")
        settings = cls(**{names[key]: value for key, value in section.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raise `SettingsError` at the first value that breaks a rule."""
        if not _is_address(self.api_url):
            raise SettingsError(
                "Halfscan.ApiUrl must be http://HOST or https://HOST, with a port where needed, "
                f"got {self.api_url!r}"
            )
        if (self.token is None) == (self.token_file is None):
            raise SettingsError("Halfscan needs exactly one of TokenFile and Token")
        for name, value in (("Token", self.token), ("TokenFile", self.token_file)):
            if value is not None and not (isinstance(value, str) and value):
                raise SettingsError(f"Halfscan.{name} must be a non-empty text")
        if self.token is not None and not _is_token(self.token):
            raise SettingsError("Halfscan.Token must be one word of printable ASCII")
        if self.start_from not in {"now", "beginning"}:
            raise SettingsError(
                f'Halfscan.StartFrom must be "now" or "beginning", got {self.start_from!r}'
            )
        interval = self.poll_interval_s
        if (
            isinstance(interval, bool)
            or not isinstance(interval, int | float)
            or not 0 < interval <= LONGEST_INTERVAL_S
        ):
            raise SettingsError(
                f"Halfscan.PollIntervalS must be above 0 and at most {LONGEST_INTERVAL_S}, "
                f"got {interval!r}"
            )
        number = self.cursor_property
        if isinstance(number, bool) or not isinstance(number, int) or number < FIRST_USER_PROPERTY:
            raise SettingsError(
                f"Halfscan.CursorProperty must be {FIRST_USER_PROPERTY} or above, got {number!r}"
            )

    def read_token(self) -> str:
        """Give the bearer token; a missing or empty file raises `ApiUnavailable`."""
        if self.token is not None:
            return self.token
        assert self.token_file is not None  # noqa: S101  (check() has made sure)
        try:
            token = Path(self.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiUnavailable(f"the token file cannot be read: {error}") from error
        if not token:
            raise ApiUnavailable(f"the token file {self.token_file!r} is empty")
        if not _is_token(token):
            # Said here, because urllib's own message would show the token.
            raise ApiUnavailable(f"the token file {self.token_file!r} holds more than one word")
        return token


def _is_address(url: object) -> bool:
    if not isinstance(url, str):
        return False
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment) and url.isascii() and " " not in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and port != 0


def _is_token(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
