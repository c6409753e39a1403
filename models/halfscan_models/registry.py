"""The networks that come with the package: models are data, listed in `weights/models.json`.

The list gives for each model its name, version, weights file, the SHA-256 of that file, its card
and what its training images looked like. The file is checked each time it is loaded: what is
written into an archive names a model by this hash, so it must be the truth.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from halfscan_models.errors import ModelFileError, ModelNotFoundError

WEIGHTS = Path(__file__).parent / "weights"
_LIST = "models.json"


@dataclass(frozen=True, slots=True)
class TrainedRange:
    """What the images of a model's training looked like: smallest and largest value of each figure.

    Attributes
    ----------
    signal_to_noise : tuple of float
        99th percentile of the pixels over the noise standard deviation.
    peak_to_bright : tuple of float
        Largest pixel over the 99th percentile.
    dark_share : tuple of float
        Share of the pixels below 2.5 noise standard deviations.
    """

    signal_to_noise: tuple[float, float]
    peak_to_bright: tuple[float, float]
    dark_share: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is known of a model without loading it.

    Attributes
    ----------
    name : str
        Short name, unique in the list.
    version : str
        Version of the weights.
    sha256 : str
        SHA-256 of the weights file, 64 lower-case hexadecimal digits.
    file : str
        Weights file in the weights folder (ONNX).
    card : str
        Model card in the weights folder (Markdown).
    summary : str
        One line on what the model does.
    trained : TrainedRange or None
        What its training images looked like; None where the entry does not say it, and then every
        reconstruction warns of that.
    """

    name: str
    version: str
    sha256: str
    file: str
    card: str
    summary: str
    trained: TrainedRange | None = None


def list_models(*, weights: Path = WEIGHTS) -> tuple[ModelSpec, ...]:
    """All models, the default one first.

    Parameters
    ----------
    weights : Path
        Folder with `models.json` and the files that it names.

    Returns
    -------
    tuple of ModelSpec
        At least one.

    Raises
    ------
    ModelFileError
        The list is missing or malformed.
    """
    path = weights / _LIST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(f"the list of models is missing: {path}") from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read the list of models {path}: {error}") from error
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, list) or not models:
        raise ModelFileError(f"{path} must hold a non-empty list 'models'")
    specs = tuple(_spec(entry, path) for entry in models)
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ModelFileError(f"{path} names a model twice: {', '.join(names)}")
    default = content.get("default")
    if default not in names:
        raise ModelFileError(f"{path}: default must be one of {', '.join(names)}, got {default!r}")
    return tuple(sorted(specs, key=lambda spec: spec.name != default))


def find_model(name: str | None = None, *, weights: Path = WEIGHTS) -> ModelSpec:
    """Find a model by its name.

    Parameters
    ----------
    name : str, optional
        Name; the default model where it is None.
    weights : Path
        Folder with the list.

    Returns
    -------
    ModelSpec
        The model.

    Raises
    ------
    ModelNotFoundError
        No model has this name; the message lists those that exist.
    ModelFileError
        The list is missing or malformed.
    """
    specs = list_models(weights=weights)
    if name is None:
        return specs[0]
    for spec in specs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in specs)
    raise ModelNotFoundError(f"no model is called {name!r}; known are: {known}")


def read_weights(spec: ModelSpec, *, weights: Path = WEIGHTS) -> bytes:
    """Read the weights of a model and check that they are the published ones.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    weights : Path
        Folder with its file.

    Returns
    -------
    bytes
        Content of the ONNX file.

    Raises
    ------
    ModelFileError
        The file is missing, unreadable, or its SHA-256 is not `spec.sha256`.
    """
    path = weights / spec.file
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"weights of model {spec.name!r} are missing: {path}") from error
    except OSError as error:
        raise ModelFileError(f"cannot read weights {path}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != spec.sha256:
        raise ModelFileError(
            f"weights {path} are not those of model {spec.name!r} {spec.version}: "
            f"expected sha256 {spec.sha256}, found {found}"
        )
    return content


def _spec(entry: Any, path: Path) -> ModelSpec:
    names = [field.name for field in fields(ModelSpec) if field.name != "trained"]
    if not isinstance(entry, dict) or sorted({*entry} - {"trained"}) != sorted(names):
        raise ModelFileError(
            f"{path}: each model needs exactly {', '.join(names)}, and may have trained; "
            f"got {entry!r}"
        )
    texts = {name: entry[name] for name in names}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise ModelFileError(f"{path}: {name} must be a non-empty text, got {value!r}")
    for name in ("file", "card"):
        # A name with a folder in it could reach outside the weights folder.
        if Path(texts[name]).name != texts[name]:
            raise ModelFileError(f"{path}: {name} must be a bare file name, got {texts[name]!r}")
    digest = texts["sha256"]
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ModelFileError(f"{path}: sha256 must be 64 lower-case hex digits, got {digest!r}")
    return ModelSpec(**texts, trained=_trained(entry.get("trained"), path))


def _trained(entry: Any, path: Path) -> TrainedRange | None:
    if entry is None:
        return None
    names = [field.name for field in fields(TrainedRange)]
    if not isinstance(entry, dict) or sorted(entry) != sorted(names):
        raise ModelFileError(f"{path}: trained needs exactly {', '.join(names)}; got {entry!r}")
    return TrainedRange(**{name: _range(name, entry[name], path) for name in names})


def _range(name: str, value: Any, path: Path) -> tuple[float, float]:
    numbers = isinstance(value, list) and all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end)
        for end in value
    )
    if not numbers or len(value) != 2 or not 0 <= value[0] <= value[1]:
        raise ModelFileError(
            f"{path}: trained.{name} must be two numbers, 0 <= smallest <= largest, got {value!r}"
        )
    return float(value[0]), float(value[1])
