"""Settings of the API: environment variables ``HALFSCAN_API_*``, checked before anything starts."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import sqlalchemy.exc
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL, make_url

from halfscan_api.audit import SEAL_KEY
from halfscan_api.errors import HalfscanError

PREFIX = "HALFSCAN_API_"
# The worker reads its own variables: one environment may serve both.
OTHER_PREFIXES = ("HALFSCAN_WORKER_",)
FILE_SUFFIX = "_FILE"
SECRETS = ("database_url", "orthanc_url", "orthanc_password", "audit_key")
_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+")


class SettingsError(HalfscanError):
    """A setting that is unknown, unreadable or out of range."""


class Settings(BaseSettings):
    """What an API process needs to know; nothing changes once it runs.

    Each field is read from the environment variable ``HALFSCAN_API_`` + its name, or from the file
    that ``HALFSCAN_API_`` + name + ``_FILE`` names (how secrets reach a container).
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    # Not in the repr: the address may hold a password.
    database_url: str = Field(default="sqlite:///halfscan.db", repr=False)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8780, ge=0, le=65535, description="0 takes a free port.")
    threads: int = Field(default=8, ge=1, le=128)
    lease_s: int = Field(default=60, ge=1, le=3600, description="Lease of a claim [s].")
    max_attempts: int = Field(default=3, ge=1, le=100)
    backoff_s: float = Field(default=10, ge=0, le=86400, description="Wait after a failure [s].")
    backoff_cap_s: float = Field(default=3600, ge=0, le=604800, description="Longest wait [s].")
    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=1_073_741_824)
    orthanc_url: str | None = Field(default=None, description="Address of the archive.")
    orthanc_username: str | None = None
    orthanc_password: str | None = Field(default=None, repr=False)
    audit_key: str | None = Field(
        default=None, min_length=16, repr=False, description="Key of the audit trail's seals."
    )
    cors_origins: str = Field(
        default="", description="Origins of viewers, separated by commas: https://viewer.example."
    )
    metrics_loopback: bool = Field(
        default=True, description="/metrics needs no token on this machine itself."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("database_url")
    @classmethod
    def _database_is_known(cls, value: str) -> str:
        return _normal_url(value).render_as_string(hide_password=False)

    @field_validator("orthanc_url", "orthanc_username", "orthanc_password")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("orthanc_url")
    @classmethod
    def _archive_has_an_address(cls, value: str | None) -> str | None:
        if value is not None and not _ADDRESS.fullmatch(value):
            raise ValueError("must look like http://HOST:PORT, without user and password")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        for origin in _split(value):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"an origin must look like https://HOST:PORT, not so: {origin!r}")
        return value

    @model_validator(mode="after")
    def _archive_is_whole(self) -> Self:
        if (self.orthanc_username is None) != (self.orthanc_password is None):
            raise ValueError("orthanc_username and orthanc_password belong together")
        return self

    @model_validator(mode="after")
    def _cap_is_not_below_base(self) -> Self:
        if self.backoff_cap_s < self.backoff_s:
            message = f"backoff_cap_s must be >= backoff_s, got {self.backoff_cap_s:g}"
            raise ValueError(f"{message} < {self.backoff_s:g}")
        return self

    @property
    def origins(self) -> frozenset[str]:
        """Origins of the viewers that a browser may call the API from."""
        return frozenset(_split(self.cors_origins))

    @property
    def session_info(self) -> dict[str, bytes]:
        """What the sessions of the database carry: the key of the seals, where there is one."""
        return {} if self.audit_key is None else {SEAL_KEY: self.audit_key.encode()}

    @property
    def url(self) -> URL:
        """Address of the database; its ``str`` hides the password."""
        return make_url(self.database_url)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the files that it names."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _NamedFiles(settings_cls)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings.

        Parameters
        ----------
        **overrides
            Fields that win over the environment; None means "not given".

        Raises
        ------
        SettingsError
            In one line, every name and value that is wrong.
        """
        _check_names(os.environ, cls.model_fields)
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(error))) from None


class _NamedFiles(PydanticBaseSettingsSource):
    """Values from the files that ``HALFSCAN_API_<NAME>_FILE`` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        variable = f"{PREFIX}{field_name.upper()}"
        path = os.environ.get(variable + FILE_SUFFIX)
        if path is None:
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"only one of {variable} and {variable}{FILE_SUFFIX} may be given")
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is not UTF-8 text"
            message = f"{variable}{FILE_SUFFIX} must name a readable file, got {path!r}: {cause}"
            raise SettingsError(message) from None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def _split(origins: str) -> list[str]:
    return [origin.strip() for origin in origins.split(",") if origin.strip()]


def _normal_url(value: str) -> URL:
    """Parse a database address; complete its driver; refuse what is not supported.

    No message repeats the address, which may hold a password.
    """
    try:
        url = make_url(value)
    except sqlalchemy.exc.ArgumentError:
        rule = "must look like sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        raise ValueError(rule) from None
    if url.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not url.database or url.database == ":memory:":
            # Each thread would get an empty database of its own.
            raise ValueError("needs a file: sqlite:///FILE (a database in memory is not shared)")
        return url
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    raise ValueError(f"must begin with sqlite: or postgresql+psycopg:, got {url.drivername!r}")


def _check_names(environ: Mapping[str, str], fields: Iterable[str]) -> None:
    """Refuse a variable that nothing reads: a typing error must not run with the default."""
    names = [PREFIX + field.upper() for field in fields]
    known = {*names, *(name + FILE_SUFFIX for name in names)}
    wrong = []
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith("HALFSCAN_") or name.startswith(OTHER_PREFIXES) or name in known:
            continue
        completed = PREFIX + name.removeprefix(PREFIX).removeprefix("HALFSCAN_")
        nearest = difflib.get_close_matches(completed, sorted(known), n=1, cutoff=0)[0]
        wrong.append(f"unknown setting {variable}: the nearest known one is {nearest}")
    if wrong:
        raise SettingsError("; ".join(wrong))


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for entry in error.errors(include_url=False, include_context=False):
        message = entry["msg"].removeprefix("Value error, ")
        if not entry["loc"]:
            lines.append(message)
            continue
        field = str(entry["loc"][0])
        shown = "" if field in SECRETS else f", got {entry['input']!r}"
        lines.append(f"{PREFIX}{field.upper()}: {message}{shown}")
    return lines
