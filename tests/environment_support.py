"""What is installed, what a lock file pins, and Python with less installed than there is."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = (
    "halfscan_api",
    "halfscan_archive",
    "halfscan_models",
    "halfscan_plugin",
    "halfscan_stats",
)
# What cannot be imported where there is no PyTorch, that is everywhere but for training; and
# Alembic's script, which runs inside Alembic alone.
NOT_IMPORTED = {
    "halfscan_models.network",
    "halfscan_models.training.export",
    "halfscan_models.training.level",
    "halfscan_models.training.optimizer",
    "halfscan_models.training.train",
    "halfscan_api.migrations.env",
}
# Import every module of the packages given, all others in spite of those that cannot be.
IMPORT_MODULES = """
import importlib, json, pkgutil, sys
failed = {}
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            failed[module.name] = repr(error)
print(json.dumps(failed))
"""
# Run commands, and tell for each how it ended and what it wrote.
RUN_COMMANDS = """
import contextlib, io, json, sys, traceback
from halfscan_plugin.cli import main
ended = {}
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    status = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
    ended[arguments[0]] = [status, out.getvalue(), err.getvalue()]
print(json.dumps(ended))
"""
# Hide top-level modules, as if they were not installed.
HIDE = """
import json, sys
from importlib.machinery import PathFinder
hidden = set(json.loads(sys.argv.pop(1)))
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
"""


def requirements_of(*extras: str) -> list[Requirement]:
    """Give what pyproject.toml asks for, with some extras; extras of extras are followed."""
    project = PROJECT["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == "halfscan":
            found += requirements_of(*requirement.extras)
        else:
            found.append(requirement)
    return found


def pins(lock: Path) -> dict[str, list[tuple[str, Marker | None]]]:
    """Read a lock file: versions, each with where it counts, by name."""
    found: dict[str, list[tuple[str, Marker | None]]] = {}
    for line in re.findall(r"^\w.*?(?= \\$)", lock.read_text(encoding="utf-8"), re.MULTILINE):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append((specifier.version, requirement.marker))
    return found


def wanted(
    requirements: Iterable[Requirement], environment: dict[str, str] | None = None
) -> dict[str, list[Requirement]]:
    """Give all that some requirements bring with them, by name, from what is installed here.

    A package that is not installed here is named, but what it brings is not known.
    """
    found: dict[str, list[Requirement]] = {}
    waiting = [(requirement, "") for requirement in requirements]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None:
            where = {**(environment or {}), "extra": extra}
            if not requirement.marker.evaluate(where):
                continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(requirement)
        for asked in ("", *requirement.extras):
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            try:
                brought = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            waiting += [(Requirement(line), asked) for line in brought]
    return found


def modules_without(*extras: str) -> list[str]:
    """Give the top-level modules that an installation with these extras alone does not have."""
    there = set(wanted(requirements_of(*extras))) | {"halfscan"}
    return sorted(
        module
        for module, names in metadata.packages_distributions().items()
        if there.isdisjoint(map(canonicalize_name, names)) and module not in PACKAGES
    )


def run_python(
    script: str,
    *arguments: str,
    python: str | Path = sys.executable,
    folder: Path,
    **variables: str,
) -> Any:
    """Run a script in a fresh interpreter and give the JSON of its last line."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HALFSCAN_")}
    done = subprocess.run(
        [python, "-c", script, *arguments],
        cwd=folder,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
