"""The worker's settings: environment variables with the prefix ``HALFSCAN_WORKER_``."""

import difflib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, field_validator

from halfscan_plugin.errors import BadInput

__all__ = ["ArchiveSettings", "WorkerSettings"]

PREFIX = "HALFSCAN_WORKER_"
SECRETS = {"token", "orthanc_password"}
OTHER_PREFIXES = ("HALFSCAN_API_",)  # the API reads and checks its own


def _own_name() -> str:
    process = f"-{os.getpid()}"
    return socket.gethostname()[: 64 - len(process)] + process


class ArchiveSettings(BaseModel):
    """Where Orthanc is, and the rules: what looking at a series in the archive needs.

    Every variable may be given as ``<NAME>_FILE`` instead: a path to a file with the value, for
    secrets. A variable that is no setting of a worker stops the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    orthanc_url: HttpUrl = HttpUrl("http://127.0.0.1:8042")
    orthanc_username: str | None = None
    orthanc_password: str | None = None
    rules: Path | None = None
    weights: Path | None = None
    model: str | None = None
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0

    @field_validator("rules", mode="before")
    @classmethod
    def _is_path(cls, path: Any) -> Any:
        if isinstance(path, str) and not path.isprintable():
            raise ValueError("it must be the path of a rules file, not what stands in it")
        return path

    @field_validator("orthanc_url", "api_url", check_fields=False)
    @classmethod
    def _no_path_lost(cls, url: HttpUrl) -> HttpUrl:
        if url.query or url.fragment:
            raise ValueError("an address must not have a query or a fragment")
        return url

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Self:
        """Read the environment; arguments that are not None win.

        Raises
        ------
        BadInput
            If a name is unknown or a value breaks its rule; the message names the variable.
        """
        values: dict[str, Any] = _from_environment(environ, list(cls.model_fields))
        values |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [_explain(str(problem["loc"][0]), problem) for problem in error.errors()]
            # Not chained: the original shows the values, secrets among them.
            raise BadInput("; ".join(lines)) from None


class WorkerSettings(ArchiveSettings):
    """What a worker needs to know; frozen, checked as a whole at the start."""

    api_url: HttpUrl = HttpUrl("http://127.0.0.1:8780")
    # One word: a line break would end up in an error message, and the token with it.
    token: str = Field(pattern=r"^[\x21-\x7e]+$")
    name: str = Field(default_factory=_own_name, min_length=1, max_length=64)
    transfer_syntax: Literal["uncompressed", "source"] = "uncompressed"
    outside: Literal["warn", "skip"] = "warn"
    orphans: Literal["remove", "keep"] = "remove"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    lease_s: Annotated[int, Field(ge=5, le=3600)] = 60
    poll_s: Annotated[float, Field(gt=0, le=300)] = 2.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"


def _from_environment(environ: Mapping[str, str], wanted: list[str]) -> dict[str, str]:
    """Read the variables that are wanted; the worker's others are checked by name alone."""
    known = list(WorkerSettings.model_fields)
    values: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith("HALFSCAN_") or variable.startswith(OTHER_PREFIXES):
            continue
        name = variable.removeprefix(PREFIX).lower()
        field = name.removesuffix("_file")
        if not variable.startswith(PREFIX) or field not in known:
            raise BadInput(_unknown(variable, known))
        if text == "" or field not in wanted:
            continue
        if field in values:
            raise BadInput(f"{PREFIX}{field.upper()} is given twice, as a value and as a file")
        values[field] = _read(variable, text) if name != field else text
    return values


def _explain(name: str, problem: Mapping[str, Any]) -> str:
    """Name the variable, the rule and, unless it is a secret, the value."""
    variable = PREFIX + name.upper()
    if problem["type"] == "missing":
        return f"{variable} is missing; it may also be given as {variable}_FILE"
    if name in SECRETS:
        return f"{variable} must be one word of printable ASCII"
    return f"{variable}: {problem['msg']}, got {problem['input']!r}"


def _unknown(variable: str, known: list[str]) -> str:
    names = [PREFIX + name.upper() for name in known]
    near = difflib.get_close_matches(variable, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
    return f"{variable} is not a setting{hint}"


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{variable}: the file {path!r} cannot be read: {error}") from error
