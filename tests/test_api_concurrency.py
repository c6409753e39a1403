"""Many at once, on SQLite and PostgreSQL: every job exactly once, every series one row."""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

import pytest

from api_support import START, Api, done, drain, json_of, series, wait_for_others
from halfscan_api.database import utc_now
from halfscan_api.reconstructions import service
from halfscan_api.reconstructions.schemas import NewReconstruction
from halfscan_api.reconstructions.tables import AttemptResult, Status

pytest_plugins = ["api_fixtures"]

PROCESSES = 3
JOBS = 120


def test_processes_claim_every_job_exactly_once(api: Api, api_database_url: str) -> None:
    with api.database.write() as session:
        for number in range(JOBS):
            new = NewReconstruction.model_validate(series(number))
            service.create(session, new, max_attempts=3, now=utc_now())
    # Processes that begin without this one's connections, and import the API once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["api_support"])
    with ProcessPoolExecutor(
        PROCESSES,
        mp_context=context,
        initializer=wait_for_others,
        initargs=(context.Barrier(PROCESSES),),
    ) as pool:
        shares = list(
            pool.map(drain, [api_database_url] * PROCESSES, [f"w{n}" for n in range(PROCESSES)])
        )
    claimed = [row_id for share in shares for row_id in share]
    assert sorted(claimed) == list(range(1, JOBS + 1))
    # Otherwise this would have tested one worker after another.
    assert all(shares)
    assert json_of(api.get("/summary"))["done"] == JOBS
    with api.database.read() as session:
        rows = [service.get(session, row_id) for row_id in (1, JOBS // 2, JOBS)]
    assert all([entry.result for entry in row.attempts] == [AttemptResult.DONE] for row in rows)
    assert all(row.updated_at <= utc_now() for row in rows)


def test_one_of_many_takes_over_what_a_vanished_worker_left(api: Api) -> None:
    row = api.add()
    api.must_claim("gone")
    api.clock.advance(60)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(api.claim, [f"w{number}" for number in range(8)]))
    [taken] = [claim for claim in claims if claim is not None]
    assert (taken["id"], taken["attempt"]) == (row["id"], 2)
    results = [entry["result"] for entry in api.show(row["id"])["attempts"]]
    assert results == ["lost", None]


def test_many_that_bury_the_same_rows_do_so_once(api: Api) -> None:
    ids = [api.add(number)["id"] for number in range(1, 6)]
    with api.database.write() as session:
        for row_id in ids:
            row = service.get(session, row_id)
            row.max_attempts = 1
    for _ in ids:
        api.must_claim()
    later = START + timedelta(hours=1)

    def bury(worker: str) -> list[int]:
        with api.database.write() as session:
            row, buried = service.claim(session, worker=worker, lease_s=60, now=later)
            assert row is None
            return list(buried)

    with ThreadPoolExecutor(6) as pool:
        buried = [row_id for share in pool.map(bury, "abcdef") for row_id in share]
    assert sorted(buried) == ids
    assert json_of(api.get("/summary"))[Status.DEAD.value] == len(ids)


def test_the_same_series_announced_many_times_is_one_row(api: Api) -> None:
    numbers = [number for number in range(10) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: api.post("", series(number)), numbers))
    assert Counter(answer.status_code for answer in answers) == {201: 10, 200: 50}
    assert len({json_of(answer)["id"] for answer in answers}) == 10
    assert json_of(api.get())["total"] == 10


@pytest.mark.parametrize("times", [6])
def test_an_outcome_sent_many_times_at_once_counts_once(api: Api, times: int) -> None:
    row = api.add()
    report = done(api.must_claim())
    with ThreadPoolExecutor(times) as pool:
        answers = list(pool.map(lambda _: api.post(f"/{row['id']}/outcome", report), range(times)))
    assert [answer.status_code for answer in answers] == [200] * times
    assert len({answer.text for answer in answers}) == 1
