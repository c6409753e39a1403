"""The description of one training run: a small TOML file, read into frozen settings."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from halfscan_models.errors import TrainingError
from halfscan_models.training.synthetic import PairSettings


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Size of the network: feature maps of a unit, and up-projections."""

    channels: int = 16
    stages: int = 4


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One training run.

    Attributes
    ----------
    name, version : str
        What the exported model is called.
    output : Path
        Folder for log, checkpoints and the exported model; created, and resumed from.
    seed : int
        Start of all randomness.
    minutes, steps : float, int or None
        Length of the run on the clock or in steps; exactly one is given. The learning rate is
        annealed over the part of it that is used.
    batch_scenes : int
        Images per step; each gives `pairs.crops` crops.
    learning_rate, warmup, weight_decay, gradient_limit : float
        Peak of the one-cycle schedule, the share of the run spent climbing to it, decoupled weight
        decay, and the largest norm of the gradient.
    average : float
        Decay of the running average of the weights; the average is what is validated and exported.
    charbonnier : float
        Rounding of the loss near zero [units of the noise].
    threads, workers : int
        Threads of the arithmetic, and processes that make pairs.
    log_every : int
        Steps between log lines.
    checkpoint_minutes : float
        Time between checkpoints, each validated and exported.
    validation_images : int
        Synthetic images of the fixed validation set.
    """

    name: str
    version: str
    output: Path
    seed: int = 1
    minutes: float | None = None
    steps: int | None = None
    batch_scenes: int = 2
    learning_rate: float = 1.5e-3
    warmup: float = 0.03
    weight_decay: float = 1e-5
    gradient_limit: float = 1.0
    average: float = 0.999
    charbonnier: float = 0.05
    threads: int = 2
    workers: int = 1
    log_every: int = 100
    checkpoint_minutes: float = 5.0
    validation_images: int = 40
    network: NetworkSettings = field(default_factory=NetworkSettings)
    pairs: PairSettings = field(default_factory=PairSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if (self.minutes is None) == (self.steps is None):
            raise TrainingError(
                f"exactly one of minutes and steps must be given, got {self.minutes!r} and "
                f"{self.steps!r}"
            )
        length = self.minutes if self.minutes is not None else self.steps
        if length is not None and length <= 0:
            raise TrainingError(f"minutes or steps must be > 0, got {length!r}")
        if self.pairs.crop > self.pairs.matrix or self.pairs.crop % 2:
            raise TrainingError(
                f"pairs.crop must be even and at most pairs.matrix ({self.pairs.matrix}), "
                f"got {self.pairs.crop!r}"
            )

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a run is continued."""
        free = {"output", "minutes", "steps", "threads", "workers", "log_every"}
        return {key: value for key, value in asdict(self).items() if key not in free}


def read_run(path: Path) -> RunSettings:
    """Read a run file.

    Parameters
    ----------
    path : Path
        TOML with the fields of `RunSettings`; tables `network` and `pairs`. `output` is relative
        to the working directory.

    Returns
    -------
    RunSettings
        The run.

    Raises
    ------
    TrainingError
        The file is missing or no TOML, a name is unknown, or a value is of another type or out of
        range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"cannot read run file {path}: {error}") from error
    _check_names(values, RunSettings, "")
    values["network"] = _table(values.get("network", {}), NetworkSettings, "network.")
    values["pairs"] = _table(values.get("pairs", {}), PairSettings, "pairs.")
    missing = [name for name in ("name", "version", "output") if name not in values]
    if missing:
        raise TrainingError(f"run file {path} must give {', '.join(missing)}")
    return RunSettings(**{**values, "output": Path(values["output"])})


def _table(values: Any, kind: type, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise TrainingError(f"{prefix[:-1]} must be a table, got {values!r}")
    _check_names(values, kind, prefix)
    return kind(**values)


def _check_names(values: dict[str, Any], kind: type, prefix: str) -> None:
    """Refuse names that do not exist and values of another type than the field's."""
    known = {entry.name: entry.type for entry in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise TrainingError(
                f"unknown setting {prefix}{name}; known are {', '.join(sorted(known))}"
            )
        allowed = _types(known[name])
        if allowed and (isinstance(value, bool) or not isinstance(value, allowed)):
            names = " or ".join(part.__name__ for part in allowed)
            raise TrainingError(f"{prefix}{name} must be {names}, got {value!r}")


def _types(annotation: Any) -> tuple[type, ...]:
    """What a TOML value for a field may be; nothing for a table, which is checked by itself."""
    parts = get_args(annotation) or (annotation,)
    if float in parts:
        return (float, int)
    if Path in parts:
        return (str,)
    return tuple(part for part in parts if part in (int, str))
