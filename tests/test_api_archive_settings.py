"""Settings of the archive and of viewers, and what the API does without or with wrong ones."""

import logging

import pytest

from api_support import Api
from halfscan_api.app import create_app
from halfscan_api.settings import Settings, SettingsError

pytest_plugins = ["api_fixtures"]
pytestmark = pytest.mark.usefixtures("api_environment")

PREFIX = "HALFSCAN_API_"


def test_none_of_it_is_needed() -> None:
    settings = Settings.load()
    assert settings.orthanc_url is None
    assert settings.origins == frozenset()


def test_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compose file hands on what is not set."""
    for name in ("ORTHANC_URL", "ORTHANC_USERNAME", "ORTHANC_PASSWORD", "CORS_ORIGINS"):
        monkeypatch.setenv(PREFIX + name, "")
    settings = Settings.load()
    assert settings.orthanc_url is settings.orthanc_username is settings.orthanc_password is None
    assert settings.origins == frozenset()


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "CORS_ORIGINS", "https://a.example, http://127.0.0.1:3000,")
    assert Settings.load().origins == {"https://a.example", "http://127.0.0.1:3000"}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("ORTHANC_URL", "orthanc:8042", "must look like http://HOST:PORT"),
        ("ORTHANC_URL", "http://me:secret@orthanc:8042", "without user and password"),
        ("ORTHANC_USERNAME", "halfscan", "belong together"),
        ("CORS_ORIGINS", "*", "not so: '*'"),
        ("CORS_ORIGINS", "https://viewer.example/", "not so: 'https://viewer.example/'"),
        ("CORS_ORIGINS", "viewer.example", "an origin must look like"),
        ("CORS_ORIGINS", "null", "not so: 'null'"),
    ],
)
def test_what_is_wrong_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError, match=rule) as error:
        Settings.load()
    assert "secret" not in str(error.value)


def test_the_password_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PREFIX + "ORTHANC_URL", "http://orthanc:8042")
    monkeypatch.setenv(PREFIX + "ORTHANC_USERNAME", "halfscan")
    monkeypatch.setenv(PREFIX + "ORTHANC_PASSWORD", "very-secret")
    with caplog.at_level(logging.DEBUG):
        settings = Settings.load()
    assert "very-secret" not in repr(settings) + caplog.text
    assert settings.orthanc_password == "very-secret"


def test_an_origin_that_is_named_may_call(sqlite_api: Api) -> None:
    origin = "https://viewer.example"
    url = sqlite_api.database.engine.url.render_as_string()
    api = Api(create_app(Settings(database_url=url, cors_origins=origin)), sqlite_api.clock)
    sent = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    preflight = api.client.options("/api/v1/readings/x/scores", headers=sent)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"]
    assert {"Authorization", "If-Match", "Idempotency-Key", "Content-Type"} <= set(
        allowed.split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    # Errors too, or a viewer could not say what is wrong.
    refused = api.client.get("/api/v1/sessions", headers={"Origin": origin})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == origin
    assert "ETag" in refused.headers["Access-Control-Expose-Headers"]
    other = api.client.get("/api/v1/sessions", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "Origin" in other.vary
    api.database.dispose()


def test_without_the_setting_no_origin_may(sqlite_api: Api) -> None:
    answer = sqlite_api.client.options(
        "/api/v1/sessions",
        headers={"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"},
    )
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
