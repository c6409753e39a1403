"""The networks that come with the package: models are data, listed in `weights/models.json`.

The list gives for each model its name, version, weights file, the SHA-256 of that file and its
card. The file is checked each time it is loaded: what is written into an archive names a model
by this hash, so it must be the truth.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from halfscan_models.errors import ModelFileError, ModelNotFoundError

WEIGHTS = Path(__file__).parent / "weights"
_LIST = "models.json"


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
    """

    name: str
    version: str
    sha256: str
    file: str
    card: str
    summary: str


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
    names = [entry_field.name for entry_field in fields(ModelSpec)]
    if not isinstance(entry, dict) or sorted(entry) != sorted(names):
        raise ModelFileError(f"{path}: each model needs exactly {', '.join(names)}; got {entry!r}")
    for name, value in entry.items():
        if not isinstance(value, str) or not value:
            raise ModelFileError(f"{path}: {name} must be a non-empty text, got {value!r}")
    for name in ("file", "card"):
        # A name with a folder in it could reach outside the weights folder.
        if Path(entry[name]).name != entry[name]:
            raise ModelFileError(f"{path}: {name} must be a bare file name, got {entry[name]!r}")
    digest = entry["sha256"]
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ModelFileError(f"{path}: sha256 must be 64 lower-case hex digits, got {digest!r}")
    return ModelSpec(**entry)
