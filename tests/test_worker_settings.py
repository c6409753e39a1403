"""The worker's settings: every wrong one is named, with its rule and its value."""

import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from halfscan_plugin.errors import BadInput
from halfscan_plugin.settings import PREFIX, ArchiveSettings, WorkerSettings

TOKEN = {"HALFSCAN_WORKER_TOKEN": "s3cret"}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(BadInput) as caught:
        WorkerSettings.load(environ)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_a_token_is_enough() -> None:
    settings = WorkerSettings.load(TOKEN)
    assert settings.token == "s3cret"
    assert str(settings.api_url) == "http://127.0.0.1:8780/"
    assert str(settings.orthanc_url) == "http://127.0.0.1:8042/"
    assert (settings.strength, settings.device, settings.lease_s) == (1.0, "cpu", 60)
    assert settings.model is None
    assert settings.rules is None
    assert settings.transfer_syntax == "uncompressed"
    assert settings.outside == "warn"


def test_the_name_tells_host_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings.load(TOKEN).name == f"{socket.gethostname()}-{os.getpid()}"[-64:]
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    name = WorkerSettings.load(TOKEN).name
    assert len(name) == 64
    assert name.endswith(f"h-{os.getpid()}")


def test_every_setting_may_be_given(tmp_path: Path) -> None:
    values = {
        "API_URL": "https://api.example/halfscan",
        "TOKEN": "t",
        "ORTHANC_URL": "http://archive:8042",
        "ORTHANC_USERNAME": "worker",
        "ORTHANC_PASSWORD": "p w",
        "NAME": "gpu-1",
        "MODEL": "dbpn-s",
        "WEIGHTS": str(tmp_path),
        "RULES": str(tmp_path / "rules.toml"),
        "STRENGTH": "0.5",
        "TRANSFER_SYNTAX": "source",
        "OUTSIDE": "skip",
        "ORPHANS": "keep",
        "DEVICE": "cuda",
        "THREADS": "2",
        "LEASE_S": "30",
        "POLL_S": "0.5",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
    }
    assert set(values) == {name.upper() for name in WorkerSettings.model_fields}
    settings = WorkerSettings.load({PREFIX + name: value for name, value in values.items()})
    assert settings.orthanc_password == "p w"
    assert (settings.threads, settings.lease_s, settings.poll_s) == (2, 30, 0.5)
    assert settings.weights == tmp_path
    assert settings.rules == tmp_path / "rules.toml"
    assert settings.transfer_syntax == "source"
    assert settings.outside == "skip"


def test_settings_do_not_change() -> None:
    settings = WorkerSettings.load(TOKEN)
    with pytest.raises(ValidationError, match="frozen"):
        settings.token = "other"  # type: ignore[misc]  # that is what is tested


def test_arguments_win_where_they_are_given() -> None:
    environ = TOKEN | {"HALFSCAN_WORKER_NAME": "a", "HALFSCAN_WORKER_STRENGTH": "0.25"}
    settings = WorkerSettings.load(environ, name="b", strength=None)
    assert (settings.name, settings.strength) == ("b", 0.25)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HALFSCAN_WORKER_TOKN", "did you mean HALFSCAN_WORKER_TOKEN?"),
        ("HALFSCAN_TOKEN", "did you mean HALFSCAN_WORKER_TOKEN?"),
        ("HALFSCAN_WORKER_ORTANC_URL", "did you mean HALFSCAN_WORKER_ORTHANC_URL?"),
        ("HALFSCAN_WORKER_", "HALFSCAN_WORKER_"),
        ("HALFSCAN_ZZ_ZZZ_ZZZZZZZZZZZ", "known: HALFSCAN_WORKER_ORTHANC_URL, "),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name: str, hint: str) -> None:
    message = refusal(TOKEN | {name: "1"})
    assert message.startswith(f"{name} is not a setting; ")
    assert hint in message


def test_the_apis_own_settings_and_strangers_are_none_of_ours() -> None:
    environ = {
        "HALFSCAN_API_PORT": "8780",
        "HALFSCAN_API_NONSENSE": "1",
        "HALFSCANNER": "1",
        "PATH": "/bin",
    }
    assert WorkerSettings.load(TOKEN | environ) == WorkerSettings.load(TOKEN)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("API_URL", "localhost:8780", "URL"),
        ("API_URL", "ftp://host", "'http' or 'https'"),
        ("API_URL", "http://", "empty host"),
        ("API_URL", "http://host:99999", "invalid port"),
        ("API_URL", "http://host/?a=1", "must not have a query"),
        ("ORTHANC_URL", "http://host/#there", "must not have a query or a fragment"),
        ("STRENGTH", "2", "less than or equal to 1"),
        ("STRENGTH", "-0.1", "greater than or equal to 0"),
        ("STRENGTH", "nan", "to 1"),
        ("STRENGTH", "much", "valid number"),
        ("DEVICE", "tpu", "'cpu' or 'cuda'"),
        ("THREADS", "0", "greater than or equal to 1"),
        ("THREADS", "1.5", "valid integer"),
        ("LEASE_S", "1", "greater than or equal to 5"),
        ("LEASE_S", "60.5", "valid integer"),
        ("LEASE_S", "999999", "less than or equal to 3600"),
        ("POLL_S", "0", "greater than 0"),
        ("POLL_S", "inf", "less than or equal to 300"),
        ("OUTSIDE", "store", "'warn' or 'skip'"),
        ("ORPHANS", "forget", "'remove' or 'keep'"),
        ("TRANSFER_SYNTAX", "jpeg", "'uncompressed' or 'source'"),
        ("RULES", "[[rule]]\nname = 1", "the path of a rules file, not what stands in it"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "'console' or 'json'"),
        ("NAME", "n" * 65, "at most 64"),
    ],
)
def test_a_value_that_breaks_its_rule_is_named(name: str, value: str, rule: str) -> None:
    message = refusal(TOKEN | {PREFIX + name: value})
    assert message.startswith(f"{PREFIX}{name}: ")
    assert rule in message
    assert f"got {value!r}" in message


def test_all_wrong_values_are_named_at_once() -> None:
    message = refusal(TOKEN | {"HALFSCAN_WORKER_STRENGTH": "2", "HALFSCAN_WORKER_DEVICE": "tpu"})
    assert "STRENGTH" in message
    assert "DEVICE" in message


def test_a_missing_token_is_named_with_both_ways() -> None:
    message = refusal({})
    assert message == (
        "HALFSCAN_WORKER_TOKEN is missing; it may also be given as HALFSCAN_WORKER_TOKEN_FILE"
    )
    assert refusal({"HALFSCAN_WORKER_TOKEN": ""}) == message


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut", "nul\0"])
def test_a_bad_token_is_refused_and_not_shown(token: str) -> None:
    message = refusal({"HALFSCAN_WORKER_TOKEN": token})
    assert "HALFSCAN_WORKER_TOKEN must be one word" in message
    assert token not in message


def test_looking_at_the_archive_needs_no_token(tmp_path: Path) -> None:
    environ = {
        "HALFSCAN_WORKER_TOKEN_FILE": str(tmp_path / "closed to me"),
        "HALFSCAN_WORKER_ORTHANC_USERNAME": "reader",
        "HALFSCAN_WORKER_RULES": "rules.toml",
        "HALFSCAN_WORKER_STRENGTH": "0.5",
    }
    settings = ArchiveSettings.load(environ, orthanc_url="http://archive:8042")
    assert (settings.orthanc_username, settings.rules) == ("reader", Path("rules.toml"))
    assert str(settings.orthanc_url) == "http://archive:8042/"
    with pytest.raises(BadInput, match="HALFSCAN_WORKER_ORTANC_URL is not a setting"):
        ArchiveSettings.load({"HALFSCAN_WORKER_ORTANC_URL": "1"})


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a token"
    file.write_text("from-file\n")
    settings = WorkerSettings.load({"HALFSCAN_WORKER_TOKEN_FILE": str(file)})
    assert settings.token == "from-file"


def test_any_setting_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "strength"
    file.write_text("0.5")
    assert WorkerSettings.load(TOKEN | {"HALFSCAN_WORKER_STRENGTH_FILE": str(file)}).strength == 0.5


@pytest.mark.parametrize("order", [1, -1])
def test_both_ways_at_once_are_refused(tmp_path: Path, order: int) -> None:
    file = tmp_path / "token"
    file.write_text("b")
    pairs = [("HALFSCAN_WORKER_TOKEN", "a"), ("HALFSCAN_WORKER_TOKEN_FILE", str(file))]
    message = refusal(dict(pairs[::order]))
    assert message == "HALFSCAN_WORKER_TOKEN is given twice, as a value and as a file"


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("b")
    environ = {"HALFSCAN_WORKER_TOKEN": "", "HALFSCAN_WORKER_TOKEN_FILE": str(file)}
    assert WorkerSettings.load(environ | {"HALFSCAN_WORKER_MODEL": ""}).token == "b"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    message = refusal({"HALFSCAN_WORKER_TOKEN_FILE": path})
    assert message.startswith(f"HALFSCAN_WORKER_TOKEN_FILE: the file {path!r} cannot be read")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal({"HALFSCAN_WORKER_TOKEN_FILE": str(binary)})
    assert "cannot be read" in refusal({"HALFSCAN_WORKER_TOKEN_FILE": str(tmp_path)})


def test_an_empty_file_is_no_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("\n")
    assert "HALFSCAN_WORKER_TOKEN" in refusal({"HALFSCAN_WORKER_TOKEN_FILE": str(file)})
