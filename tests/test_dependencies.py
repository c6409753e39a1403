"""What is installed is what is declared, and each lock file holds all that its parts bring."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dicom_maker import mr_series, save
from environment_support import (
    HIDE,
    IMPORT_MODULES,
    NOT_IMPORTED,
    PACKAGES,
    PROJECT,
    ROOT,
    RUN_COMMANDS,
    modules_without,
    pins,
    requirements_of,
    run_python,
    wanted,
)
from halfscan_plugin.cli import COMMANDS

LOCKS = {"runtime": "all", "api": "api", "worker": "worker", "test": "test"}
SOURCES = {
    "halfscan_api": "api",
    "halfscan_archive": "orthanc_plugin",
    "halfscan_models": "models",
    "halfscan_plugin": "orthanc_plugin",
    "halfscan_stats": "stats",
}
# The extra whose installation each package is for; the statistics need none.
EXTRA_OF = {
    "halfscan_api": ["api"],
    "halfscan_archive": ["api", "worker"],
    "halfscan_models": ["worker"],
    "halfscan_plugin": ["worker"],
    "halfscan_stats": [],
}
# A call of each command that goes as far as its imports, and the extra that it needs.
CALLS = {
    "demo": (["--once"], "all"),
    "serve": (["--port", "0"], "api"),
    "worker": ([], "worker"),
    "doctor": (["archive"], "worker"),
    "token": (["list"], "api"),
    "report": (["1", "--out", "report.html"], "api"),
    "inspect": (["."], "worker"),
    "reconstruct": ([".", "out"], "worker"),
    "simulate": (["out"], "worker"),
    "evaluate": (["--quick"], "worker"),
    "published": (["--json"], None),
}


def imports(package: str) -> Iterator[tuple[str, str, bool]]:
    """Give each import of another's module: file, top-level module, whether at import time."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:  # noqa: FBT001 (as above)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield child.module or "", at_once
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, at_once and not function)

    for file in sorted((ROOT / SOURCES[package] / package).rglob("*.py")):
        for name, at_once in walk(ast.parse(file.read_text(encoding="utf-8")), at_once=True):
            module = name.split(".")[0]
            if module not in sys.stdlib_module_names and module not in PACKAGES:
                yield str(file.relative_to(ROOT)), module, at_once


def declared(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements_of(*extras)}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_declared(package: str) -> None:
    """At import time by the installation the package is for, later by any extra."""
    # scikit-image, which nothing here installs, provides a module of another name.
    homes = {"skimage": ["scikit-image"], **metadata.packages_distributions()}
    here = declared(*EXTRA_OF[package])
    anywhere = declared("all", "benchmark", "train")
    training = {name.replace(".", "/") for name in NOT_IMPORTED}
    for file, module, at_once in imports(package):
        if module == "orthanc":
            continue  # Orthanc itself provides it
        names = {canonicalize_name(name) for name in homes.get(module, [module])}
        only_training = any(file.endswith(f"{name}.py") for name in training)
        allowed = here if at_once and not only_training else anywhere
        assert names & allowed, f"{file} imports {module}, which no dependency of ours provides"


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_holds_all_that_its_parts_bring(name: str, python: str) -> None:
    """Nothing is left for a resolver: neither a package, nor an extra's, nor a build tool."""
    locked = pins(ROOT / "requirements" / f"{name}.txt")
    where = {"python_version": python, "python_full_version": f"{python}.0"}
    build = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    needs = [*requirements_of(LOCKS[name]), *build, Requirement("editables")]
    for package, requirements in wanted(needs, where).items():
        versions = [
            version
            for version, marker in locked.get(package, [])
            if marker is None or marker.evaluate({**where, "extra": ""})
        ]
        assert len(versions) == 1, f"{package} has {versions} in {name}.txt, for Python {python}"
        for requirement in requirements:
            assert requirement.specifier.contains(versions[0], prereleases=True), requirement


def test_the_lock_files_pin_the_same_versions() -> None:
    runtime = pins(ROOT / "requirements/runtime.txt")
    for name in LOCKS:
        locked = pins(ROOT / f"requirements/{name}.txt")
        differing = {
            package for package in runtime.keys() & locked if runtime[package] != locked[package]
        }
        assert not differing, name


@pytest.mark.parametrize("file", ["README.md", "docker/Dockerfile", "bin/make-venv"])
def test_a_lock_file_is_installed_without_a_resolver(file: str) -> None:
    content = (ROOT / file).read_text(encoding="utf-8")
    installations = re.findall(r"^.*pip install .*$", content, re.MULTILINE)
    locked = [line for line in installations if re.search(r"-r |--requirement ", line)]
    assert locked
    for line in locked:
        assert "--no-deps" in line, line
        assert "--require-hashes" in line, line
    own = [line for line in installations if re.search(r" \.(?: |$)", line)]
    assert len(own) == len(locked)
    for line in own:
        assert "--no-deps --no-build-isolation" in line, line
    assert len(re.findall(r"\bpip check\b", content)) >= len(own)


def run_commands(
    folder: Path, commands: dict[str, list[str]], *extras: str
) -> dict[str, tuple[int, str, str]]:
    """Run commands where the packages of some extras alone are installed: status and outputs."""
    ended: dict[str, list[Any]] = run_python(
        HIDE + RUN_COMMANDS,
        json.dumps(modules_without(*extras)),
        json.dumps([[command, *arguments] for command, arguments in commands.items()]),
        folder=folder,
        HALFSCAN_WORKER_TOKEN="t",
    )
    return {command: (status, out, err) for command, (status, out, err) in ended.items()}


def test_without_extras_every_command_names_the_one_it_needs(tmp_path: Path) -> None:
    assert CALLS.keys() == COMMANDS.keys()
    save(mr_series(2), tmp_path)
    before = sorted(tmp_path.iterdir())
    ended = run_commands(tmp_path, {name: arguments for name, (arguments, _) in CALLS.items()})
    for command, (_, extra) in CALLS.items():
        status, out, err = ended[command]
        if extra is None:
            assert (status, err) == (0, "")
            assert json.loads(out)["rows"]
            continue
        assert status == 2, err
        assert out == ""
        line = rf"halfscan: {command} needs \w+: pip install 'halfscan\[{extra}\]'\n"
        assert re.fullmatch(line, err), err
    assert sorted(tmp_path.iterdir()) == before, "nothing was done"


def test_with_its_extra_alone_a_command_works(tmp_path: Path) -> None:
    save(mr_series(2), tmp_path / "in")
    worker = {name: ["--help"] for name, (_, extra) in CALLS.items() if extra != "api"}
    ended = run_commands(tmp_path, {**worker, "inspect": ["in", "--json"]}, "worker")
    assert all((status, err) == (0, "") for status, _, err in ended.values()), ended
    assert len(json.loads(ended["inspect"][1])) == 1
    api = {name: ["--help"] for name, (_, extra) in CALLS.items() if extra in {"api", None}}
    create = ["create", "--role", "service", "--name", "t"]
    ended = run_commands(tmp_path, {**api, "token": [*create, "--json"]}, "api")
    assert all((status, err) == (0, "") for status, _, err in ended.values()), ended
    assert json.loads(ended["token"][1])["role"] == "service"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_with_its_extra_alone(package: str, tmp_path: Path) -> None:
    failed = run_python(
        HIDE + IMPORT_MODULES,
        json.dumps(modules_without(*EXTRA_OF[package])),
        package,
        folder=tmp_path,
    )
    assert failed.keys() <= NOT_IMPORTED, failed
