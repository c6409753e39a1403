"""Models are data, and the weights are what was published."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from halfscan_models import (
    ModelFileError,
    ModelNotFoundError,
    ModelsError,
    ModelSpec,
    find_model,
    list_models,
    load_reconstructor,
)
from halfscan_models.registry import WEIGHTS, read_weights


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the weights folder that may be broken."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights of a model"))


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Change fields of the first model in the list."""
    path = folder / "models.json"
    content = json.loads(path.read_text())
    content["models"][0].update(change)
    path.write_text(json.dumps(content))


def test_the_default_model_is_the_first() -> None:
    assert find_model() == list_models()[0]
    assert find_model(find_model().name) == find_model()


@pytest.mark.parametrize("spec", list_models(), ids=lambda spec: spec.name)
def test_a_shipped_model_is_whole(spec: ModelSpec) -> None:
    content = read_weights(spec)
    assert hashlib.sha256(content).hexdigest() == spec.sha256
    assert len(content) < 5_000_000
    card = (WEIGHTS / spec.card).read_text(encoding="utf-8")
    for fact in (spec.name, spec.version, spec.sha256, "Not a medical device"):
        assert fact in card


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'dbpn-xl'; known are: .*dbpn-s"):
        find_model("dbpn-xl")


def test_changed_weights_are_refused_with_both_hashes(copy: Path) -> None:
    spec = find_model(weights=copy)
    path = copy / spec.file
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelFileError) as caught:
        load_reconstructor(weights=copy)
    for part in (str(path), spec.sha256, found):
        assert part in str(caught.value)


def test_missing_weights_are_named(copy: Path) -> None:
    path = copy / find_model(weights=copy).file
    path.unlink()
    with pytest.raises(ModelFileError, match="missing") as caught:
        load_reconstructor(weights=copy)
    assert str(path) in str(caught.value)


def test_weights_that_cannot_be_read_are_named(copy: Path) -> None:
    path = copy / find_model(weights=copy).file
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelFileError, match="cannot read weights"):
        load_reconstructor(weights=copy)


def test_a_file_that_is_no_network_is_refused(copy: Path) -> None:
    content = b"not a network"
    (copy / find_model().file).write_bytes(content)
    rewrite(copy, {"sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(ModelFileError, match="cannot load dbpn-s"):
        load_reconstructor(weights=copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "abc"}, "64 lower-case hex digits"),
        ({"sha256": "A" * 64}, "64 lower-case hex digits"),
        ({"version": 1}, "version must be a non-empty text, got 1"),
        ({"file": "../dbpn-s.onnx"}, "bare file name"),
        ({"colour": "blue"}, "needs exactly name, version"),
    ],
)
def test_a_malformed_entry_is_refused(copy: Path, change: dict[str, Any], message: str) -> None:
    rewrite(copy, change)
    with pytest.raises(ModelFileError, match=message):
        find_model(weights=copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the list"),
        ("[]", "non-empty list"),
        ('{"default": "x", "models": []}', "non-empty list"),
        ('{"default": "x", "models": ["x"]}', "needs exactly"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "models.json").write_text(content)
    with pytest.raises(ModelFileError, match=message):
        list_models(weights=tmp_path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing: .*models\.json"):
        list_models(weights=tmp_path)


def test_a_name_may_stand_once_only(copy: Path) -> None:
    path = copy / "models.json"
    content = json.loads(path.read_text())
    content["models"].append(content["models"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="twice"):
        list_models(weights=copy)


def test_the_default_must_exist(copy: Path) -> None:
    path = copy / "models.json"
    content = json.loads(path.read_text())
    content["default"] = "other"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="default must be one of dbpn-s, got 'other'"):
        list_models(weights=copy)


def test_a_second_model_is_found_and_the_default_stays_first(copy: Path) -> None:
    path = copy / "models.json"
    content = json.loads(path.read_text())
    content["models"].insert(0, {**content["models"][0], "name": "copy"})
    path.write_text(json.dumps(content))
    assert [spec.name for spec in list_models(weights=copy)] == ["dbpn-s", "copy"]
    assert find_model("copy", weights=copy).name == "copy"


@pytest.mark.parametrize("error", [ModelFileError, ModelNotFoundError])
def test_errors_have_one_root(error: type[Exception]) -> None:
    assert issubclass(error, ModelsError)
