"""The compose file, the documentation and the lock files say what the code does."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfscan_api.settings import Settings
from halfscan_plugin.cli import COMMANDS
from halfscan_plugin.rules import DEFAULT_RULES, Rules
from halfscan_plugin.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[1]
PASSWORDS = {"POSTGRES_PASSWORD": "one", "ORTHANC_PASSWORD": "two"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def compose(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed; `make test` installs it")
    environment = {k: v for k, v in os.environ.items() if k not in PASSWORDS}
    return subprocess.run(
        [program, "--file", "docker-compose.yml", *arguments],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_compose_file_is_valid_and_has_every_part() -> None:
    done = compose("config", **PASSWORDS)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"postgres", "api", "token", "orthanc", "worker", "doctor"}
    assert services["orthanc"]["build"]["target"] == "archive"
    assert "postgresql+psycopg://halfscan:one@postgres" in str(services["api"]["environment"])


def test_the_compose_file_asks_for_the_passwords() -> None:
    if (ROOT / ".env").exists():
        pytest.skip("this checkout has an .env with passwords of its own")
    done = compose("config", "--quiet")
    assert done.returncode != 0
    assert "set it in .env" in done.stderr


def test_every_build_target_and_file_of_the_images_exists() -> None:
    dockerfile = text("docker/Dockerfile")
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    targets = re.findall(r"target: (\w+)", text("docker-compose.yml"))
    assert set(targets) <= stages
    copies = re.findall(r"^COPY ((?:[^\n\\]|\\\n)+)$", dockerfile, re.MULTILINE)
    for copy in copies:
        *sources, _target = copy.replace("\\\n", " ").split()
        for source in sources:
            assert (ROOT / source).exists(), source


def test_the_variables_of_the_compose_file_are_settings() -> None:
    known = {f"HALFSCAN_API_{name.upper()}" for name in Settings.model_fields}
    known |= {f"HALFSCAN_WORKER_{name.upper()}" for name in WorkerSettings.model_fields}
    used = re.findall(r"\bHALFSCAN_[A-Z_]+", text("docker-compose.yml"))
    assert used
    assert {name.removesuffix("_FILE") for name in used} <= known


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "token"])
def test_the_readme_names_every_command(command: str) -> None:
    assert f"halfscan {command}" in text("README.md")


def test_the_manual_names_every_setting() -> None:
    manual = text("docs/operation.md")
    for fields in (Settings.model_fields, WorkerSettings.model_fields):
        for name in fields:
            assert f"`{name.upper()}`" in manual, name


def test_the_manual_names_every_reason_to_skip() -> None:
    manual = text("docs/rules.md")
    for rule in (*DEFAULT_RULES.all, *Rules(defaults=False).all):
        assert rule.action == "reconstruct" or f"`{rule.reason_code}`" in manual, rule.reason_code
    for file in sorted((ROOT / "orthanc_plugin/halfscan_plugin").glob("*.py")):
        source = file.read_text(encoding="utf-8")
        codes = re.findall(r'(?:_skip|_skipped|UnreadableSeries)\(\s*"(\w+)"', source)
        if file.stem in {"exclusions", "volume"}:
            codes += re.findall(r'(?:problem = \(|return |\(\()"(\w+)", (?:f?"|reason)', source)
        codes += re.findall(r'_first\(types, "(\w+)"', source)
        codes += re.findall(r'_refused\(\s*decision,\s*"(\w+)"', source)
        for code in codes:
            assert f"`{code}`" in manual, f"{file.stem}: {code}"


def test_lock_files_pin_with_hashes_and_name_no_address() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert {file.stem for file in files} == {"api", "runtime", "test", "worker"}
    for file in files:
        lines = file.read_text(encoding="utf-8")
        assert "://" not in lines
        assert lines.count("==") > 10
        assert "--hash=sha256:" in lines


def test_neither_lock_file_pulls_pytorch() -> None:
    for name in ("runtime", "test", "api", "worker"):
        assert not re.search(r"^torch\b", text(f"requirements/{name}.txt"), re.MULTILINE)


def test_the_worker_has_no_web_server_and_the_api_no_inference() -> None:
    assert not re.search(r"^(flask|sqlalchemy)\b", text("requirements/worker.txt"), re.MULTILINE)
    assert not re.search(r"^(onnxruntime|torch)\b", text("requirements/api.txt"), re.MULTILINE)


def test_what_is_committed_holds_no_path_of_a_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name.endswith((".onnx", ".png")):
            continue
        content = text(name)
        assert str(ROOT) + "/" not in content, name
        assert not re.search(r"(?:/home/|/root/|/Users/)\w", content), name
