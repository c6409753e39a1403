"""The protocol of a study: checked as a whole, versioned, and locked once readings exist."""

from typing import Any

import pytest
from pydantic import ValidationError

from api_study import SCALE, STUDIES, small_protocol, start_study
from api_support import Api, json_of
from halfscan_api.studies.protocol import Protocol, RegionRole, template, templates

pytest_plugins = ["api_fixtures"]


def test_the_reference_study_is_whole() -> None:
    protocol = template("tang2024")
    assert templates() == ["tang2024"]
    assert protocol.arm_names == ["standard", "accelerated"]
    assert protocol.sequence_names == ["sag_t1", "sag_t2", "sag_t2_fs", "tra_t2"]
    assert len(protocol.criteria) == 11
    assert [one.group for one in protocol.criteria].count("sharpness") == 7
    for criterion in protocol.criteria:
        labels = [choice.label for choice in criterion.scale]
        own = criterion.name in {"artifacts", "noise"}
        assert labels == (
            ["severe", "moderate", "mild", "none"] if own else ["poor", "fair", "good", "excellent"]
        )
        assert [choice.value for choice in criterion.scale] == [1, 2, 3, 4]
    assert len(protocol.findings) == 8
    assert {one.levels for one in protocol.findings} == {
        ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
    }
    signal = [one for one in protocol.regions if one.role is RegionRole.SIGNAL]
    assert {
        group: sum(one.group == group for one in signal) for group in ("sagittal", "transverse")
    } == {
        "sagittal": 13,
        "transverse": 7,
    }
    # Each group has its noise region, so that every SNR is defined.
    assert len(protocol.regions) - len(signal) == 2
    areas = {(one.group, one.name): one.area_mm2.mean for one in signal if one.area_mm2}
    assert areas["sagittal", "vertebra_L3"] == 204.9
    assert areas["transverse", "nerve_root_left"] == 1.1
    assert len(areas) == len(signal)
    assert (protocol.washout_days, protocol.alpha) == (28, 0.05)
    assert (protocol.multiplicity.method, protocol.multiplicity.family_size) == ("bonferroni", 2)
    # The publication declares no primary endpoint.
    assert {one.role for one in protocol.endpoints} == {"exploratory"}
    assert Protocol.model_validate(protocol.as_document()) == protocol


def change(protocol: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one place changed: criteria.0.scale."""
    *way, last = path.split(".")
    copy = Protocol.model_validate(protocol).as_document()
    place: Any = copy
    for name in way:
        place = place[int(name)] if name.isdigit() else place[name]
    if value is None:
        del place[int(last) if last.isdigit() else last]
    elif last.isdigit():
        place[int(last)] = value
    else:
        place[last] = value
    return copy


ENDPOINT = {
    "name": "e",
    "role": "primary",
    "kind": "detection",
    "hypothesis": "noninferiority",
    "margin": 0.05,
}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("arms.1", None, "at least 2"),
        ("arms.1.name", "standard", "arms must differ, got twice: standard"),
        ("arms.1.role", "reference", "exactly one arm must have the role reference"),
        ("arms.0.name", "Standard arm", "pattern"),
        ("sequences.1.name", "sag_t1", "sequences must differ, got twice: sag_t1"),
        ("criteria.1.name", "noise", "criteria must differ, got twice: noise"),
        ("criteria.1.sequences", ["cor_t1"], "must be one of sag_t1, tra_t2, got 'cor_t1'"),
        ("criteria.1.sequences", ["sag_t1", "sag_t1"], "got twice: sag_t1"),
        ("criteria.1.sequences", [], "at least 1"),
        ("criteria.0.scale", SCALE[:1], "at least 2"),
        ("criteria.0.scale", SCALE[::-1], "noise: the values must rise, got [4, 3, 2, 1]"),
        ("findings.0.levels", ["L4/L5", "L4/L5"], "levels of disc_bulge must differ"),
        ("findings.0.grades", SCALE, "must begin with 0, which means absent, got 1"),
        ("regions.0.group", "coronal", "must be one of sagittal, transverse, got 'coronal'"),
        ("regions.0.role", "noise", "noise regions of a group must differ, got twice: sagittal"),
        ("regions.1.name", "psoas", "got twice: sagittal/psoas"),
        (
            "regions.0.area_mm2",
            {"mean": 1, "minimum": 2, "maximum": 3},
            "minimum <= mean <= maximum, got 2, 1, 3",
        ),
        ("washout_days", -1, "greater than or equal to 0"),
        ("alpha", 0.5, "less than 0.5"),
        ("repeat_cases", 3, "repeat_cases needs repeat_sessions"),
        ("required", ["scores", "scores"], "required must differ"),
        ("seed", 2**53, "less than or equal"),
        ("title", "", "at least 1"),
        ("unknown", 1, "unknown"),
        ("endpoints", [{**ENDPOINT, "margin": None}], "noninferiority needs a margin"),
        ("endpoints", [{**ENDPOINT, "margin": 1}], "the margin of a proportion must be < 1"),
        ("endpoints", [{**ENDPOINT, "hypothesis": "difference"}], "difference has no margin"),
        ("endpoints", [{**ENDPOINT, "item": "fracture"}], "must be one of disc_bulge"),
        ("endpoints", [{**ENDPOINT, "sequence": "sag_t1"}], "findings belong to no sequence"),
        ("endpoints", [ENDPOINT, ENDPOINT], "endpoints must differ, got twice: e"),
        (
            "endpoints",
            [{**ENDPOINT, "kind": "agreement"}],
            "agreement is estimated and nothing else is",
        ),
        (
            "endpoints",
            [{**ENDPOINT, "kind": "snr", "item": "background"}],
            "must be one of psoas, got 'background'",
        ),
        (
            "endpoints",
            [{**ENDPOINT, "kind": "image_quality", "sequence": "cor"}],
            "must be one of sag_t1, tra_t2, got 'cor'",
        ),
    ],
)
def test_a_protocol_that_does_not_fit_together(path: str, value: object, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Protocol.model_validate(change(small_protocol(), path, value))
    assert says in str(caught.value)


def test_a_study_must_ask_something() -> None:
    empty = {**small_protocol(), "criteria": [], "findings": [], "regions": []}
    with pytest.raises(ValidationError, match="a study must ask something"):
        Protocol.model_validate(empty)


def create(api: Api, **body: Any) -> Any:
    return api.send("POST", STUDIES, {"name": "s1", **body}, role="coordinator")


def test_a_study_from_the_template(api: Api) -> None:
    answer = create(api, template="tang2024", title="Ours", seed=11)
    assert answer.status_code == 201, answer.text
    study = json_of(answer)
    assert answer.headers["Location"] == f"{STUDIES}/{study['id']}"
    assert (study["title"], study["protocol_version"]) == ("Ours", 1)
    shown = api.send("GET", f"{STUDIES}/{study['id']}/protocol", role="statistician")
    assert shown.headers["ETag"] == '"1"'
    protocol = json_of(shown)["protocol"]
    assert (protocol["title"], protocol["seed"], len(protocol["criteria"])) == ("Ours", 11, 11)
    assert json_of(api.send("GET", STUDIES, role="coordinator"))["items"] == [study]


def test_without_a_seed_one_is_drawn_and_stored(api: Api) -> None:
    seeds = set()
    for name in ("a", "b"):
        body = {"name": name, "protocol": small_protocol(seed=None)}
        study = json_of(api.send("POST", STUDIES, body, role="coordinator"))
        shown = json_of(api.send("GET", f"{STUDIES}/{study['id']}/protocol", role="coordinator"))
        seeds.add(shown["protocol"]["seed"])
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "give a protocol or a template (tang2024), and one"),
        ({"template": "tang2024", "protocol": small_protocol()}, "and one"),
        ({"template": "tang2025"}, "template"),
        ({"name": "-system", "template": "tang2024"}, "name"),
        ({"name": "a" * 32, "template": "tang2024"}, "name"),
        ({"protocol": small_protocol(arms=[])}, "protocol.arms"),
        ({"protocol": {**small_protocol(), "washout_days": "soon"}}, "protocol.washout_days"),
    ],
)
def test_a_study_that_is_refused(sqlite_api: Api, body: dict[str, Any], says: str) -> None:
    answer = create(sqlite_api, **body)
    assert answer.status_code == 422
    assert says in json_of(answer)["detail"]


def test_a_name_stands_for_one_study(api: Api) -> None:
    assert create(api, template="tang2024").status_code == 201
    again = create(api, template="tang2024")
    assert (again.status_code, json_of(again)["title"]) == (409, "Study exists")


# --- versions -----------------------------------------------------------------------------------


def put(api: Api, url: str, protocol: dict[str, Any], *, match: str | None, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {api.tokens['coordinator']}"}
    if match is not None:
        headers["If-Match"] = match
    body = {"protocol": protocol, **more}
    return api.client.put(f"{url}/protocol", json=body, headers=headers)


def test_before_readings_exist_anything_may_change(api: Api) -> None:
    play = start_study(api, allocate=False, cases=0, readers=())
    answer = put(api, play.url, {**small_protocol(), "alpha": 0.01, "findings": []}, match='"1"')
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    history = play.run("GET", "/protocol/versions")["items"]
    assert [one["version"] for one in history] == [1, 2]
    assert [one["protocol"]["alpha"] for one in history] == [0.05, 0.01]
    assert play.run("GET", "")["protocol_version"] == 2
    assert play.verify()["holds"]


def test_a_version_starts_from_the_newest(api: Api) -> None:
    play = start_study(api, allocate=False, cases=0, readers=())
    assert put(api, play.url, small_protocol(), match=None).status_code == 428
    assert put(api, play.url, small_protocol(), match='"7"').status_code == 412
    assert put(api, play.url, small_protocol(), match='"1"').status_code == 200
    assert put(api, play.url, small_protocol(), match='"1"').status_code == 412


def test_series_keep_their_place(api: Api) -> None:
    play = start_study(api, allocate=False, cases=1, readers=())
    sequences = [{"name": "sag_t1", "label": "T1", "group": "sagittal"}]
    regions = small_protocol()["regions"]
    answer = put(api, play.url, small_protocol(sequences=sequences, regions=regions), match='"1"')
    assert answer.status_code == 409
    assert "accelerated/tra_t2, standard/tra_t2" in json_of(answer)["detail"]


def test_an_amendment_needs_a_reason_and_may_only_add(api: Api) -> None:
    play = start_study(api)
    more = [*small_protocol()["criteria"], {"name": "artifacts", "label": "A", "scale": SCALE}]
    grown = small_protocol(criteria=more, washout_days=14)
    refused = put(api, play.url, grown, match='"1"')
    assert (refused.status_code, json_of(refused)["title"]) == (409, "Protocol locked")
    assert "needs a reason" in json_of(refused)["detail"]
    answer = put(api, play.url, grown, match='"1"', reason="the board asked for artifacts")
    assert answer.status_code == 200
    assert json_of(answer)["reason"] == "the board asked for artifacts"
    [event] = play.events(action="protocol.version", subject="protocol/2")
    assert event["reason"] == "the board asked for artifacts"
    assert play.verify()["holds"]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("criteria.1", None, "criterion and its scale: sag_t1/overall_quality=1"),
        ("criteria.0.scale.3", None, "sag_t1/noise=4"),
        ("criteria.0.sequences", ["sag_t1"], "tra_t2/noise=1"),
        ("findings.0.levels", ["L4/L5"], "disc_bulge/L5/S1=0"),
        ("regions.0", None, "region: sagittal/psoas"),
        ("arms.0.name", "usual", "change the arms"),
        ("sequences.1.group", "sagittal", "tra_t2 (transverse)"),
        ("seed", 8, "change seed (7 before)"),
        ("repeat_sessions", 2, "change repeat_sessions (0 before)"),
    ],
)
def test_what_an_amendment_must_not_take_away(
    sqlite_api: Api, path: str, value: object, says: str
) -> None:
    play = start_study(sqlite_api, cases=1, readers=("r1",))
    amended = change(small_protocol(), path, value)
    answer = put(sqlite_api, play.url, amended, match='"1"', reason="because")
    assert answer.status_code == 409, answer.text
    assert says in json_of(answer)["detail"]


def test_a_reading_keeps_the_version_that_it_was_opened_by(api: Api) -> None:
    play = start_study(api, cases=2, readers=("r1",))
    session = play.session("r1")
    first = play.must_next("r1", session)
    more = [*small_protocol()["criteria"], {"name": "artifacts", "label": "A", "scale": SCALE}]
    amended = put(api, play.url, small_protocol(criteria=more), match='"1"', reason="as agreed")
    assert amended.status_code == 200
    assert len(first.show()["questions"]["criteria"]) == 3
    new = [{"sequence": "sag_t1", "criterion": "artifacts", "value": 1}]
    refused = first.send("PUT", "/scores", {"scores": new})
    assert refused.status_code == 422
    from_old = play.read_session("r1", 0)
    assert from_old[0] == first.code
    states = play.run("GET", "/export")["states"]
    versions = [states[f"reading/{code}"]["protocol_version"] for code in from_old]
    assert versions == [1, 2]
    assert len(states[f"reading/{from_old[1]}"]["scores"]["sag_t1"]) == 3
    assert play.verify()["holds"]


def test_every_fault_between_parts_is_named_at_once(sqlite_api: Api) -> None:
    protocol = small_protocol()
    protocol["arms"][1]["role"] = "reference"
    protocol["regions"][0]["group"] = "coronal"
    ask = {"role": "primary", "kind": "snr", "hypothesis": "difference"}
    protocol["endpoints"] = [{"name": "e1", "item": "spleen", **ask}]
    body = {"name": "faulty", "protocol": protocol}
    answer = sqlite_api.send("POST", STUDIES, body, role="coordinator")
    assert answer.status_code == 422
    for part in ("role reference", "group of the region psoas", "item of the endpoint e1"):
        assert part in answer.text


def test_an_unknown_name_inside_is_told_with_the_names_of_its_place(sqlite_api: Api) -> None:
    protocol = small_protocol(foo=1)
    protocol["arms"][0]["colour"] = "red"
    body = {"name": "faulty", "protocol": protocol}
    answer = sqlite_api.send("POST", STUDIES, body, role="coordinator")
    told = {one["field"]: one["detail"] for one in json_of(answer)["errors"]}
    assert told["protocol.foo"].startswith("unknown name; known are title, description, arms")
    assert told["protocol.arms.0.colour"] == "unknown name; known are name, label, role"


def test_a_role_that_is_none_is_told_in_words(sqlite_api: Api) -> None:
    answer = sqlite_api.send("POST", "/api/v1/tokens", {"name": "t", "role": "x"}, role="admin")
    [error] = json_of(answer)["errors"]
    assert "'service'" in error["detail"]
    assert "<Role" not in error["detail"]
