"""Many readers, many cases over HTTP: the truth of the protocol, incomplete readings, margins."""

import csv
import io
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api_study import STUDIES, small_protocol, start_study
from api_support import Api, json_of
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.mrmc import ratings_of, reference_standard
from halfscan_api.statistics.profiles import Profiles
from halfscan_api.statistics.report.checklist import judged
from halfscan_api.statistics.report.facts import load_facts
from halfscan_api.statistics.service import SUBJECTS, compute_table
from halfscan_api.studies.protocol import Multiplicity, Protocol, Truth, template
from halfscan_api.studies.service import get_study
from halfscan_stats import mrmc_ustatistics, noninferiority_mrmc, obuchowski_rockette
from statistics_fixtures import Simulation, fill_study

pytest_plugins = ["api_fixtures"]

READERS = ("r1", "r2", "r3", "expert")


def study_with(
    api: Api, truth: Truth | None, *, readers: tuple[str, ...] = READERS, **options: Any
) -> int:
    """The reference study with a truth and simulated answers; its id."""
    multiplicity = options.pop("multiplicity", Multiplicity(method="none"))
    protocol = template("tang2024").model_copy(
        update={"truth": truth, "multiplicity": multiplicity}
    )
    simulation = Simulation(protocol)
    with api.database.write() as session:
        return fill_study(session, simulation, readers=readers, **options).id


def ask(api: Api, study: int, name: str = "mrmc", **query: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {api.tokens['statistician']}"}
    path = f"{STUDIES}/{study}/statistics/{name}"
    answer = api.client.get(path, headers=headers, query_string=query)
    assert answer.status_code == 200, answer.text
    return json_of(answer)


def page(api: Api, study: int, name: str = "mrmc", **query: Any) -> str:
    headers = {"Authorization": f"Bearer {api.tokens['statistician']}", "Accept": "text/html"}
    path = f"{STUDIES}/{study}/statistics/{name}"
    return api.client.get(path, headers=headers, query_string=query).text


def read_by_name(api: Api, study: int) -> dict[str, tuple[Any, Any]]:
    """Ratings and truth of every finding, straight from the profiles."""
    with api.database.snapshot() as session:
        frame = load_frame(session, get_study(session, study))
        standard = reference_standard(frame)
        assert not isinstance(standard, str)
        profiles = Profiles(session, frame, AnswerKind.FINDING)
        return {
            one.name: ratings_of(profiles, frame, one, standard, frame.test_arms[0])
            for one in frame.protocol.findings
        }


def test_the_protocol_names_the_truth_and_the_query_overrides(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="expert", arm="accelerated"), cases=12)
    for row in ask(sqlite_api, study)["rows"]:
        assert (row["truth_reader"], row["truth_arm"]) == ("expert", "accelerated")
        assert row["readers"] == ["r1", "r2", "r3"]
    # The arm of the protocol's truth is that of its reader.
    for row in ask(sqlite_api, study, truth_reader="r1")["rows"]:
        assert (row["truth_reader"], row["truth_arm"]) == ("r1", "standard")
        assert row["readers"] == ["r2", "r3", "expert"]
    for row in ask(sqlite_api, study, truth_arm="standard")["rows"]:
        assert (row["truth_reader"], row["truth_arm"]) == ("expert", "standard")


def test_the_table_is_what_the_package_says_of_the_ratings(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="expert", margin=0.1), cases=24)
    ratings = read_by_name(sqlite_api, study)
    answered = 0
    for row in ask(sqlite_api, study)["rows"]:
        scores, truth = ratings[row["item"]]
        assert (row["decided_by"], row["arms"]) == (
            "obuchowski_rockette",
            ["accelerated", "standard"],
        )
        known = obuchowski_rockette(scores, truth)
        assert row["answer"]["value"] == pytest.approx(known.value)
        beside = mrmc_ustatistics(scores, truth)
        assert row["ustatistics"]["design"] == "fully crossed"
        assert row["ustatistics"]["value"] == pytest.approx(beside.value)
        assert row["reason"] == known.reason
        tested = noninferiority_mrmc(known, 0.1)
        assert row["noninferiority"]["p_value"] == pytest.approx(tested.p_value)
        assert row["noninferiority"]["noninferior"] == tested.noninferior
        answered += tested.noninferior is not None
    assert answered


def test_incomplete_readings_are_answered_by_ustatistics(sqlite_api: Api) -> None:
    """Split plot: r1 reads the first half, r2 and r3 the second; no reading is thrown away."""
    half = [f"P{number:04}" for number in range(1, 25)]
    unread = [
        (reader, case, arm)
        for arm in ("standard", "accelerated")
        for reader, cases in (("r1", half[12:]), ("r2", half[:12]), ("r3", half[:12]))
        for case in cases
    ]
    truth = Truth(reader="expert", margin=0.1)
    study = study_with(sqlite_api, truth, cases=24, unread=unread)
    ratings = read_by_name(sqlite_api, study)
    answered = 0
    for row in ask(sqlite_api, study)["rows"]:
        scores, true = ratings[row["item"]]
        assert np.isnan(scores).any()
        assert row["decided_by"] == "ustatistics"
        assert row["ustatistics"]["design"] == "paired split plot"
        assert (row["ustatistics"]["n"], row["answer"]["n"]) == (24, 0)
        known = mrmc_ustatistics(scores, true, paired=True)
        assert row["ustatistics"]["value"] == pytest.approx(known.value)
        assert row["reason"] == known.reason
        if known.interval is not None:
            answered += 1
            assert row["ustatistics"]["interval"]["low"] == pytest.approx(known.interval.low)
            assert row["noninferiority"]["p_value"] == pytest.approx(
                noninferiority_mrmc(known, 0.1).p_value
            )
    assert answered
    text = page(sqlite_api, study)
    assert "U-statistics" in text
    assert "Not every reader has read every case" in text
    assert "24 of 24" in text


def test_a_reading_without_its_pair_waits_for_it(sqlite_api: Api) -> None:
    """A study under way: r1 has read half of the cases in one arm alone."""
    unread = [("r1", f"P{number:04}", "accelerated") for number in range(1, 13)]
    study = study_with(sqlite_api, Truth(reader="expert"), cases=24, unread=unread)
    for row in ask(sqlite_api, study)["rows"]:
        assert row["decided_by"] == "ustatistics"
        assert row["ustatistics"]["design"] == "paired split plot"
        assert row["ustatistics"]["n_ratings"] == 2 * (24 + 24 + 12)
        assert row["answer"]["n"] == 12


def test_shares_are_answered_on_complete_cases(sqlite_api: Api) -> None:
    unread = [("r1", "P0001", "accelerated")]
    study = study_with(sqlite_api, Truth(reader="expert"), cases=12, unread=unread)
    for figure in ("sensitivity", "specificity"):
        for row in ask(sqlite_api, study, figure=figure)["rows"]:
            assert (row["decided_by"], row["ustatistics"]) == ("obuchowski_rockette", None)
            assert row["answer"]["n"] == 11
    assert {row["decided_by"] for row in ask(sqlite_api, study)["rows"]} == {"ustatistics"}


def test_without_a_truth_there_is_one_sentence_and_no_table(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, None, cases=6)
    text = page(sqlite_api, study)
    assert "The study has no reference standard, so nothing can be judged" in text
    assert "<table" not in text
    found = ask(sqlite_api, study)
    assert {row["reason"] for row in found["rows"]} == {"no_reference_standard"}
    assert list(found["reasons"]) == ["no_reference_standard"]


@pytest.mark.parametrize("truth", [None, Truth(reader="expert")])
def test_the_checklists_know_whether_there_is_a_truth(sqlite_api: Api, truth: Truth | None) -> None:
    study = study_with(sqlite_api, truth, cases=6)
    with sqlite_api.database.snapshot() as session:
        row = get_study(session, study)
        tables = {name: compute_table(session, row, name) for name in SUBJECTS}
        items = judged(load_facts(session, row, load_frame(session, row)), tables)
    judgements = {(one.guideline, one.number): one.verdict for one in items}
    cross, precise = judgements["STARD 2015", "23"], judgements["STARD 2015", "24"]
    denied = "which the study does not have"
    assert (denied in cross.missing) == (truth is None)
    assert ("Many readers, many cases" in precise.where) == (truth is not None)
    assert ("need a reference standard" in precise.missing) == (truth is None)


def test_a_truth_whose_reader_is_not_there_says_so(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="consensus", margin=0.05), cases=6)
    found = ask(sqlite_api, study)
    assert {row["reason"] for row in found["rows"]} == {"no_truth_reader"}
    assert {row["noninferiority"] for row in found["rows"]} == {None}
    (note,) = found["notes"]
    assert note.startswith("The protocol names consensus as its reference standard (truth)")
    assert "no reader of that name (its readers: r1, r2, r3, expert)" in note
    assert "<table" not in page(sqlite_api, study)
    # Another one can be asked for.
    asked = ask(sqlite_api, study, truth_reader="expert")["rows"]
    assert {row["truth_reader"] for row in asked} == {"expert"}
    # And sizes are not planned from what cannot be judged.
    assert not [
        row for row in ask(sqlite_api, study, "sample-size")["rows"] if row["test"] == "mrmc"
    ]


def test_a_truth_alone_judges_nobody(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="expert"), readers=("expert",), cases=6)
    found = ask(sqlite_api, study)
    assert {row["reason"] for row in found["rows"]} == {"too_few"}
    assert "there is nobody to judge" in page(sqlite_api, study)
    assert "<table" not in page(sqlite_api, study)


def test_margins_are_corrected_as_the_protocol_says(sqlite_api: Api) -> None:
    study = study_with(
        sqlite_api,
        Truth(reader="expert", margin=0.1),
        cases=20,
        multiplicity=Multiplicity(method="holm"),
    )
    found = ask(sqlite_api, study, alpha=0.025)["rows"]
    tested = [row for row in found if row["noninferiority"]["p_value"] is not None]
    assert len(tested) > 1
    for row in tested:
        assert row["adjusted"]["method"].startswith("Holm")
        assert row["adjusted"]["p_value"] >= row["noninferiority"]["p_value"]
        assert row["noninferiority"]["alpha"] == row["adjusted"]["alpha"] == 0.025
        assert row["noninferiority"]["interval"]["level"] == pytest.approx(0.95)
    text = page(sqlite_api, study)
    for words in ("Non-inferior", "p (one-sided)", "Margin", "Chen, Petrick"):
        assert words in text
    # No margin is tested of sensitivity: it is one of the area.
    assert ask(sqlite_api, study, figure="sensitivity")["rows"][0]["noninferiority"] is None


def test_csv_has_one_line_a_finding(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="expert", margin=0.1), cases=10)
    headers = {"Authorization": f"Bearer {sqlite_api.tokens['statistician']}", "Accept": "text/csv"}
    answer = sqlite_api.client.get(f"{STUDIES}/{study}/statistics/mrmc", headers=headers)
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == 8
    assert {"noninferiority.p_value", "ustatistics.interval.low", "decided_by"} <= set(lines[0])


def test_sizes_are_planned_from_the_components_of_the_study(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, Truth(reader="expert", margin=0.1), cases=24)
    planned = [
        row for row in ask(sqlite_api, study, "sample-size")["rows"] if row["test"] == "mrmc"
    ]
    assert len(planned) == 8
    sized = [row for row in planned if row["plan"] is not None and row["plan"]["n"] is not None]
    assert sized
    for row in sized:
        assert row["assumptions"]["margin"] == 0.1
        assert (row["plan"]["n_readers"], row["assumptions"]["pilot_cases"]) == (3, 24)
        assert row["plan"]["power"] >= 0.8
    more = ask(sqlite_api, study, "sample-size", auc_difference=0.1, readers=8)["rows"]
    asked = {row["item"]: row for row in more if row["test"] == "mrmc"}
    for row in asked.values():
        assert "margin" not in row["assumptions"]
        assert row["assumptions"]["n_readers"] == 8
    assert "MRMC" in page(sqlite_api, study, "sample-size")


def test_clusters_of_unequal_size_need_more(sqlite_api: Api) -> None:
    study = study_with(sqlite_api, None, cases=4)
    plain = {"p10": 0.1, "p01": 0.1, "margin": 0.1, "cluster_size": 5, "icc": 0.2}
    sizes = []
    for cv in (0, 0.8):
        found = ask(sqlite_api, study, "sample-size", **plain, cluster_size_cv=cv)["rows"]
        (row,) = [
            one for one in found if one["source"] == "asked" and one["test"] == "noninferiority"
        ]
        sizes.append(row["plan"]["n"])
    assert sizes[1] > sizes[0]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"auc_difference": 0.1}, "is of no use without a truth in the protocol, got 0.1"),
        ({"readers": 4}, "is of no use without a truth in the protocol, got 4"),
        ({"cluster_size_cv": 0.5}, "is of no use without cluster_size, got 0.5"),
    ],
)
def test_a_figure_that_would_be_left_out_is_refused(
    sqlite_api: Api, query: dict[str, float], says: str
) -> None:
    study = study_with(sqlite_api, None, cases=2)
    headers = {"Authorization": f"Bearer {sqlite_api.tokens['statistician']}"}
    path = f"{STUDIES}/{study}/statistics/sample-size"
    answer = sqlite_api.client.get(path, headers=headers, query_string=query)
    assert answer.status_code == 422
    assert says in answer.text


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        ({"reader": "an expert"}, "pattern"),
        ({"arm": "standard"}, "Field required"),
        ({"reader": "expert", "arm": "fast"}, "must be one of standard, accelerated, got 'fast'"),
        ({"reader": "expert", "margin": 0}, "greater than 0"),
        ({"reader": "expert", "margin": 1}, "less than 1"),
        ({"reader": "expert", "name": "x"}, "not permitted"),
    ],
)
def test_a_truth_that_cannot_be(truth: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Protocol.model_validate(small_protocol(truth=truth))
    assert says in str(caught.value)


def test_a_truth_needs_findings() -> None:
    with pytest.raises(ValidationError, match="a truth needs findings"):
        Protocol.model_validate(small_protocol(truth={"reader": "expert"}, findings=[]))


def test_protocols_from_before_are_read_as_they_were() -> None:
    old = Protocol.model_validate(small_protocol())
    assert old.truth is None
    assert "truth" not in old.as_document()
    new = Protocol.model_validate(small_protocol(truth={"reader": "expert", "margin": 0.05}))
    assert new.as_document()["truth"] == {"reader": "expert", "margin": 0.05}
    assert Protocol.model_validate(new.as_document()) == new


def test_a_truth_can_be_added_once_readings_exist(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=2, readers=("r1", "expert"))
    play.must_next("r1", play.session("r1"))
    before = ask(sqlite_api, play.study_id)
    assert {row["reason"] for row in before["rows"]} == {"no_reference_standard"}
    body = {
        "protocol": small_protocol(truth={"reader": "expert", "margin": 0.05}),
        "reason": "the consensus has been appointed",
    }
    headers = {"Authorization": f"Bearer {sqlite_api.tokens['coordinator']}", "If-Match": "*"}
    answer = sqlite_api.client.put(f"{play.url}/protocol", json=body, headers=headers)
    assert answer.status_code in {200, 201}, answer.text
    after = ask(sqlite_api, play.study_id)
    assert after["protocol_version"] == 2
    assert {row["truth_reader"] for row in after["rows"]} == {"expert"}
    history = json_of(sqlite_api.send("GET", f"{play.url}/protocol/versions", role="coordinator"))[
        "items"
    ]
    assert ["truth" in one["protocol"] and bool(one["protocol"]["truth"]) for one in history] == [
        False,
        True,
    ]
