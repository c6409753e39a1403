"""What those who run the API look at: health, metrics, documentation; and what it imports."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from werkzeug.test import TestResponse

import halfscan_api
from api_rules import PROTECTED
from api_study import start_study
from api_support import URL, Api, Clock, json_of, make_api
from halfscan_api import migrate
from halfscan_api.app import create_app
from halfscan_api.errors import HalfscanError
from halfscan_api.reconstructions.tables import Status
from halfscan_api.settings import Settings

pytest_plugins = ["api_fixtures"]


@pytest.fixture(params=["a folder", "no folder", "no server", "no database"])
def broken_api(
    request: pytest.FixtureRequest, tmp_path: Path, api_environment: None
) -> Iterator[Api]:
    """The app with a database that is not there."""
    if request.param == "no database":
        server: str = request.getfixturevalue("api_postgresql")
        url = server.replace("/postgres?", "/missing?")
    else:
        url = {
            "a folder": f"sqlite:///{tmp_path}",
            "no folder": f"sqlite:///{tmp_path}/none/x.db",
            "no server": f"postgresql+psycopg://u:geheim@/db?host={tmp_path}",
        }[request.param]
    clock = Clock()
    made = Api(create_app(Settings(database_url=url), clock=clock), clock)
    made.tokens["service"] = "hs_any"
    yield made
    made.database.dispose()


def test_alive_and_ready(api: Api) -> None:
    assert json_of(api.client.get("/healthz")) == {"status": "alive"}
    ready = json_of(api.client.get("/readyz"))
    assert ready == {"status": "ready", "revision": migrate.head()}


def test_not_ready_before_the_migration(sqlite_api: Api) -> None:
    migrate.downgrade(sqlite_api.database, "base")
    answer = sqlite_api.client.get("/readyz")
    assert answer.status_code == 503
    assert f"must be at revision {migrate.head()}, got none" in json_of(answer)["detail"]
    assert sqlite_api.client.get("/healthz").status_code == 200


def test_without_a_database(broken_api: Api) -> None:
    assert broken_api.client.get("/healthz").status_code == 200
    ready = broken_api.client.get("/readyz")
    assert ready.status_code == 503
    assert json_of(ready)["detail"].startswith("the database does not answer: ")
    assert "geheim" not in ready.text
    answer = broken_api.get()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.mimetype == "application/problem+json"
    assert json_of(answer)["type"] == "urn:halfscan:problem:database-unavailable"
    metrics = broken_api.client.get("/metrics").text
    assert "halfscan_database_up 0.0" in metrics
    assert "halfscan_reconstructions{" not in metrics


def test_requests_are_counted_by_route(sqlite_api: Api) -> None:
    sqlite_api.add()
    for path in ("/1", "/1", "/2"):
        sqlite_api.get(path)
    sqlite_api.client.open("/healthz", method="BREW")
    text = sqlite_api.client.get("/metrics").text
    name, route = "halfscan_api_requests_total", f"{URL}/<int:reconstruction_id>"
    assert f'{name}{{method="GET",route="{route}",status="200"}} 2.0' in text
    assert f'{name}{{method="GET",route="{route}",status="404"}} 1.0' in text
    assert f'{name}{{method="OTHER",route="(none)",status="405"}} 1.0' in text
    durations = "halfscan_api_request_duration_seconds_count"
    assert f'{durations}{{method="GET",route="{route}"}} 3.0' in text
    assert 'halfscan_reconstructions{status="pending"} 1.0' in text


def scraped(api: Api, role: str | None = None, **environ: str) -> TestResponse:
    headers = {} if role is None else {"Authorization": f"Bearer {api.tokens[role]}"}
    return api.client.get("/metrics", headers=headers, environ_overrides=environ)


def test_another_machine_needs_a_token_for_the_metrics(sqlite_api: Api) -> None:
    away = {"REMOTE_ADDR": "192.0.2.7"}
    assert scraped(sqlite_api).status_code == 200
    assert scraped(sqlite_api, REMOTE_ADDR="::1").status_code == 200
    for environ in (away, {"REMOTE_ADDR": ""}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}):
        refused = scraped(sqlite_api, **environ)
        assert (refused.status_code, refused.mimetype) == (401, "application/problem+json")
    for role in ("service", "coordinator", "statistician", "admin"):
        assert scraped(sqlite_api, role, **away).status_code == 200
    # A reader's token opens it nowhere.
    assert scraped(sqlite_api, "reader", **away).status_code == 403
    assert scraped(sqlite_api, "reader").status_code == 403


def test_a_setting_asks_everybody_for_a_token(api_database_url: str, api_environment: None) -> None:
    api = make_api(api_database_url, metrics_loopback=False)
    assert scraped(api).status_code == 401
    assert scraped(api, "service").status_code == 200
    api.database.dispose()


def test_the_metrics_tell_nothing_by_arm(sqlite_api: Api) -> None:
    """A study is read to its end: every label is a method, a route, a status or a limit."""
    play = start_study(sqlite_api, cases=2, washout_days=0)
    for reader in ("r1", "r2"):
        for number in (0, 1):
            play.read_session(reader, number)
    text = scraped(sqlite_api, "service").text
    rules = {rule.rule for rule in sqlite_api.app.url_map.iter_rules()} | {"(none)"}
    known = {
        "method": {"GET", "POST", "PUT"},
        "route": rules,
        "status": {"200", "201", "204", *(status.value for status in Status)},
    }
    labels = set(re.findall(r'(\w+)="([^"]*)"', text))
    assert {name for name, _ in labels} == {*known, "le"}
    for name, value in labels:
        assert name == "le" or value in known[name], (name, value)


def test_the_root_leads_to_the_documentation(sqlite_api: Api) -> None:
    answer = sqlite_api.client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


def test_the_documentation_needs_nothing_from_outside(sqlite_api: Api) -> None:
    page = sqlite_api.client.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert {"docs/assets/css/swagger-ui.css", "docs/assets/js/swagger-ui-bundle.js"} <= set(links)
    assert not re.search(r"https?://", "".join(links))
    # The browser itself is told to load from nowhere else.
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    for link in links:
        if not link.startswith("data:"):
            asset = sqlite_api.client.get(f"/{link}")
            assert (asset.status_code, len(asset.data) > 10_000) == (200, True)
            asset.close()


def test_the_documentation_is_swagger_ui_5_or_newer(sqlite_api: Api) -> None:
    bundle = sqlite_api.client.get("/docs/assets/js/swagger-ui-bundle.js")
    found = re.search(r'PACKAGE_VERSION:"(\d+)\.', bundle.text)
    bundle.close()
    assert found is not None
    assert int(found[1]) >= 5


@pytest.mark.parametrize("name", ["../../plugins.py", "%2e%2e/__init__.py", "nothing.js", ""])
def test_only_assets_are_given(sqlite_api: Api, name: str) -> None:
    assert sqlite_api.client.get(f"/docs/assets/{name}").status_code == 404


@pytest.fixture
def specification(sqlite_api: Api) -> Any:
    return sqlite_api.client.get("/openapi.json").get_json()


def test_the_specification_is_valid_openapi_3_1(specification: Any) -> None:
    assert specification["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(specification)
    assert "servers" not in specification


def test_errors_are_documented_as_they_are_sent(specification: Any) -> None:
    operations = [
        operation for path in specification["paths"].values() for operation in path.values()
    ]
    assert len(operations) == len(PROTECTED) + len({"/healthz", "/readyz", "/metrics"})
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"]
        if "requestBody" in operation or operation["parameters"]:
            assert operation["responses"].keys() & {"404", "422"}


def test_answers_are_as_documented(sqlite_api: Api, specification: Any) -> None:
    def documented(name: str) -> set[str]:
        return set(specification["components"]["schemas"][name]["properties"])

    assert set(sqlite_api.add()) == documented("ReconstructionOut")
    assert set(sqlite_api.must_claim()) == documented("ClaimedReconstruction")
    detail = sqlite_api.show(1)
    assert set(detail) == documented("ReconstructionDetail")
    assert set(detail["attempts"][0]) == documented("ReconstructionDetail.AttemptOut")
    assert set(json_of(sqlite_api.get())) == documented("ReconstructionPage")
    assert set(json_of(sqlite_api.get("/summary"))) == documented("Summary")


def headers_of(answer: TestResponse) -> tuple[str | None, str | None]:
    return answer.headers.get("Cache-Control"), answer.headers.get("X-Content-Type-Options")


def test_answers_are_not_kept_by_a_browser(sqlite_api: Api) -> None:
    assert headers_of(sqlite_api.get()) == ("no-store", "nosniff")


def test_every_exception_has_the_one_root() -> None:
    found = 0
    for module in pkgutil.walk_packages(halfscan_api.__path__, "halfscan_api."):
        if ".migrations" in module.name or module.name.endswith("__main__"):
            continue
        for _, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(thing, Exception) and thing.__module__.startswith("halfscan_api"):
                assert issubclass(thing, HalfscanError)
                assert 400 <= thing.http_status < 600
                found += 1
    assert found > 10


def test_the_api_imports_neither_the_plugin_nor_the_network() -> None:
    forbidden = ("halfscan_plugin", "halfscan_models", "onnxruntime", "torch")
    code = (
        "import sys, halfscan_api.cli, halfscan_api.wsgi;"
        f"print([name for name in sys.modules if name.split('.')[0] in {forbidden!r}])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
