"""Fixtures of the API's tests: the real app on a real SQLite file and on a real PostgreSQL.

A test module asks for them with ``pytest_plugins = ["api_fixtures"]``.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from api_support import Api, empty_postgresql, make_api
from halfscan_api import migrate
from halfscan_api.database import Database


@pytest.fixture
def api_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside."""
    for name in list(os.environ):
        if name.upper().startswith("HALFSCAN_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def api_postgresql() -> Iterator[str]:
    """Address of a database at the newest schema, on a real PostgreSQL that the tests start."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # Not below pytest's own folder, which the user postgres may not enter.
    folder = Path(tempfile.mkdtemp(prefix="halfscan-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = [
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            "--",
        ]
    bin_folder = programs[-1].parent
    data = folder / "data"
    initdb = [str(bin_folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N"]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
    options = ("listen_addresses=", "fsync=off", "timezone=America/New_York")
    flags = [part for option in options for part in ("-c", option)]
    command = [str(bin_folder / "postgres"), "-D", str(data), "-k", str(folder), *flags]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_user, *command], stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        _wait_for_postgresql(folder)
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}"
        _bring_up_to_date(url)
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


def _wait_for_postgresql(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def api_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "template.db"
    _bring_up_to_date(f"sqlite:///{path}")
    return path


def _bring_up_to_date(url: str) -> None:
    database = Database(make_url(url))
    migrate.upgrade(database)
    database.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def api_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database at the newest schema, of both kinds."""
    if request.param == "sqlite":
        # The space and the percent sign are in the path on purpose.
        path = tmp_path / "a folder 100%" / "halfscan.db"
        path.parent.mkdir()
        shutil.copy(request.getfixturevalue("api_sqlite_template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("api_postgresql")
    empty_postgresql(url)
    return url


@pytest.fixture
def api(api_database_url: str, api_environment: None) -> Iterator[Api]:
    """The app on both databases."""
    made = make_api(api_database_url)
    yield made
    made.database.dispose()


@pytest.fixture
def sqlite_api(api_sqlite_template: Path, tmp_path: Path, api_environment: None) -> Iterator[Api]:
    """The app on SQLite, where the database makes no difference."""
    path = tmp_path / "halfscan.db"
    shutil.copy(api_sqlite_template, path)
    made = make_api(f"sqlite:///{path}")
    yield made
    made.database.dispose()
