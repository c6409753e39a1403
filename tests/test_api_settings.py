"""Settings: what is unknown or out of range stops the start, and says which name and value."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from halfscan_api.settings import Settings, SettingsError

pytest_plugins = ["api_fixtures"]
pytestmark = pytest.mark.usefixtures("api_environment")


def test_defaults() -> None:
    settings = Settings.load()
    assert settings.database_url == "sqlite:///halfscan.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8780)
    assert (settings.lease_s, settings.max_attempts, settings.backoff_s) == (60, 3, 10)
    assert (settings.log_level, settings.log_format) == ("info", "json")


def test_environment_then_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFSCAN_API_PORT", "9000")
    monkeypatch.setenv("HALFSCAN_API_LEASE_S", "5")
    monkeypatch.setenv("HALFSCAN_WORKER_ANYTHING", "the worker's own business")
    settings = Settings.load(port=9001, host=None)
    assert (settings.port, settings.lease_s, settings.host) == (9001, 5, "127.0.0.1")


def test_settings_do_not_change() -> None:
    settings = Settings.load()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc] # that it must not is what is tested


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("HALFSCAN_API_PROT", "HALFSCAN_API_PORT"),
        ("HALFSCAN_API_DATABSE_URL", "HALFSCAN_API_DATABASE_URL"),
        ("HALFSCAN_DATABASE_URL", "HALFSCAN_API_DATABASE_URL"),
        ("HALFSCAN_PORT_FILE", "HALFSCAN_API_PORT_FILE"),
        ("halfscan_api_lease", "HALFSCAN_API_LEASE_S"),
        ("HALFSCAN_WORKERS_PORT", "HALFSCAN_API_PORT"),
    ],
)
def test_an_unknown_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, nearest: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert str(error.value) == f"unknown setting {variable}: the nearest known one is {nearest}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HALFSCAN_API_PORT", "65536"),
        ("HALFSCAN_API_PORT", "-1"),
        ("HALFSCAN_API_PORT", ""),
        ("HALFSCAN_API_PORT", "http"),
        ("HALFSCAN_API_HOST", ""),
        ("HALFSCAN_API_THREADS", "0"),
        ("HALFSCAN_API_LEASE_S", "0"),
        ("HALFSCAN_API_LEASE_S", "3601"),
        ("HALFSCAN_API_MAX_ATTEMPTS", "0"),
        ("HALFSCAN_API_BACKOFF_S", "-1"),
        ("HALFSCAN_API_BACKOFF_S", "nan"),
        ("HALFSCAN_API_BACKOFF_CAP_S", "inf"),
        ("HALFSCAN_API_MAX_BODY_BYTES", "10"),
        ("HALFSCAN_API_LOG_LEVEL", "loud"),
        ("HALFSCAN_API_LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        Settings.load()
    message = str(error.value)
    assert message.startswith(f"{variable}: ")
    assert message.endswith(f"got {value!r}")
    assert "\n" not in message


def test_every_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFSCAN_API_PORT", "x")
    monkeypatch.setenv("HALFSCAN_API_THREADS", "y")
    with pytest.raises(SettingsError, match=r"HALFSCAN_API_PORT.*HALFSCAN_API_THREADS"):
        Settings.load()


def test_the_longest_wait_is_not_below_the_first() -> None:
    with pytest.raises(SettingsError, match=r"backoff_cap_s must be >= backoff_s, got 5 < 10"):
        Settings.load(backoff_cap_s=5)


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="NO_SUCH"):
        Settings.load(no_such=1)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("sqlite:////var/lib/halfscan/a b.db", "sqlite:////var/lib/halfscan/a b.db"),
        ("postgresql://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql+psycopg://u:p%40@h:5/db", "postgresql+psycopg://u:p%40@h:5/db"),
    ],
)
def test_databases_that_are_known(given: str, taken: str) -> None:
    assert Settings.load(database_url=given).database_url == taken


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "must look like"),
        ("halfscan.db", "must look like"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://user:geheim@host/db", "got 'mysql'"),
        ("postgresql+asyncpg://user:geheim@host/db", "got 'postgresql+asyncpg'"),
        ("postgresql+psycopg:geheim", "must look like"),
    ],
)
def test_databases_that_are_not(given: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load(database_url=given)
    message = str(error.value)
    assert message.startswith("HALFSCAN_API_DATABASE_URL: ")
    assert says in message
    assert "geheim" not in message


def test_the_password_is_not_shown() -> None:
    settings = Settings.load(database_url="postgresql+psycopg://u:geheim@h/db")
    assert "geheim" not in repr(settings)
    assert "geheim" not in str(settings.url)
    assert settings.url.password == "geheim"


def test_a_value_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("postgresql+psycopg://u:geheim@h/db\n", encoding="utf-8")
    monkeypatch.setenv("HALFSCAN_API_DATABASE_URL_FILE", str(path))
    assert Settings.load().url.password == "geheim"


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HALFSCAN_API_PORT_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"HALFSCAN_API_PORT_FILE must name .*absent.*No such"):
        Settings.load()
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("HALFSCAN_API_PORT_FILE", str(binary))
    with pytest.raises(SettingsError, match="it is not UTF-8 text"):
        Settings.load()


def test_a_value_and_a_file_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "port"
    path.write_text("1")
    monkeypatch.setenv("HALFSCAN_API_PORT_FILE", str(path))
    monkeypatch.setenv("HALFSCAN_API_PORT", "2")
    with pytest.raises(SettingsError, match="only one of HALFSCAN_API_PORT and"):
        Settings.load()
