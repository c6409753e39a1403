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

    channels: int = 32
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
    steps, minutes : int, float or None
        Length of the run in steps, on the clock, or both: what comes first ends it. The learning
        rate is annealed over the part that is used, so either end finds it at zero. Only a run
        whose steps end it can be repeated to the last bit.
    crops : int
        Crops in a step.
    learning_rate, warmup, weight_decay, gradient_limit : float
        Peak of the one-cycle schedule, the share of the run spent climbing to it, decoupled weight
        decay, and the largest norm of the gradient.
    average : float
        Decay of the running average of the weights; the average is what is validated and exported.
    error_floor : float
        Mean squared error of a crop [squared units of the noise] below which less counts less. The
        loss is the logarithm of that error, averaged over crops: every crop counts alike, plain
        tissue where little error is left as much as heavy texture, as in a mean of PSNRs.
    device : str
        "auto" (a GPU where there is one), "cpu" or "cuda".
    bfloat16 : bool
        Whether the arithmetic of the units is done in bfloat16; weights and sums stay in float32.
    processes, threads : int
        Processes that train together on a CPU, each with `crops` crops a step, and threads of each.
    workers : int
        Processes that make pairs; with 0 the training process makes them itself, and with more
        than one that trains it must.
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
    steps: int | None = None
    minutes: float | None = None
    crops: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.03
    weight_decay: float = 1e-5
    gradient_limit: float = 1.0
    average: float = 0.999
    error_floor: float = 0.003
    device: str = "auto"
    bfloat16: bool = True
    processes: int = 1
    threads: int = 1
    workers: int = 1
    log_every: int = 100
    checkpoint_minutes: float = 5.0
    validation_images: int = 40
    network: NetworkSettings = field(default_factory=NetworkSettings)
    pairs: PairSettings = field(default_factory=PairSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        given = [length for length in (self.steps, self.minutes) if length is not None]
        pairs = self.pairs
        rules = (
            (bool(given), "steps or minutes must be given"),
            (
                all(length > 0 for length in given),
                f"steps and minutes must be > 0, got {self.steps!r} and {self.minutes!r}",
            ),
            (
                pairs.crop <= pairs.matrix and pairs.crop % 4 == 0,
                f"pairs.crop must be a multiple of 4 up to pairs.matrix, got {pairs.crop!r}",
            ),
            (
                pairs.matrix % 8 == 0,
                f"pairs.matrix must be a multiple of 8, got {pairs.matrix!r}",
            ),
            (
                self.workers <= 0 or pairs.pools % self.workers == 0,
                # Otherwise every worker would make every pool.
                f"pairs.pools must be a multiple of workers ({self.workers}), got {pairs.pools!r}",
            ),
            (
                self.processes == 1 or (self.workers == 0 and self.device == "cpu"),
                f"more than one process ({self.processes!r}) needs device cpu and no workers",
            ),
            (
                pairs.pools % max(self.processes, 1) == 0 and self.processes >= 1,
                (
                    f"pairs.pools must be a multiple of processes ({self.processes!r}), "
                    f"got {pairs.pools!r}"
                ),
            ),
            (
                self.device in ("auto", "cpu", "cuda"),
                f"device must be auto, cpu or cuda, got {self.device!r}",
            ),
        )
        for holds, message in rules:
            if not holds:
                raise TrainingError(message)

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a run is continued."""
        free = {
            "output",
            "minutes",
            "steps",
            "device",
            "threads",
            "workers",
            "log_every",
            "checkpoint_minutes",
        }
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
        if allowed and (
            isinstance(value, bool) != (bool in allowed) or not isinstance(value, allowed)
        ):
            names = " or ".join(part.__name__ for part in allowed)
            raise TrainingError(f"{prefix}{name} must be {names}, got {value!r}")


def _types(annotation: Any) -> tuple[type, ...]:
    """What a TOML value for a field may be; nothing for a table, which is checked by itself."""
    parts = get_args(annotation) or (annotation,)
    if float in parts:
        return (float, int)
    if Path in parts:
        return (str,)
    return tuple(part for part in parts if part in (int, str, bool))
