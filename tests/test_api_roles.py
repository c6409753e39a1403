"""Every role, and every kind of no role, on every route: generated from the routes themselves."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from api_rules import PROTECTED, RULES, concrete
from api_study import Play, start_study
from api_support import START, Api, json_of, make_api
from halfscan_api.auth import Role, create_token, revoke_token, rule_of

pytest_plugins = ["api_fixtures"]

Route = tuple[str, str]
TOKENS = "/api/v1/tokens"


@pytest.fixture(scope="module")
def play(api_sqlite_template: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A study that every role of the server and a reader of its own can be tried on."""
    path = tmp_path_factory.mktemp("roles") / "halfscan.db"
    path.write_bytes(api_sqlite_template.read_bytes())  # type: ignore[attr-defined]
    api = make_api(f"sqlite:///{path}")
    made = start_study(api, cases=1, readers=("r1",))
    with api.database.write() as session:
        for name, days in (("expired", 1), ("revoked", None)):
            for role in Role:
                row, secret = create_token(
                    session, name=f"{name}-{role.value}", role=role, now=START, days=days
                )
                api.tokens[row.name] = secret
                if name == "revoked":
                    revoke_token(session, str(row.id), now=START)
    # The tokens that do not expire count for ever.
    api.clock.now = START + timedelta(days=2)
    api.tokens["the reader r1"] = made.tokens["r1"]
    yield made
    api.database.dispose()


def routes_of(api: Api) -> dict[Route, frozenset[Role] | None]:
    return {
        (method, rule.rule): rule_of(api.app.view_functions[rule.endpoint])
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_no_route_is_without_a_rule_and_no_rule_without_a_route(play: Play) -> None:
    assert routes_of(play.api) == RULES


def call(play: Play, route: Route, token: str | None) -> int:
    method, rule = route
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with play.api.client.open(concrete(rule), method=method, headers=headers, json={}) as answer:
        return answer.status_code


@pytest.mark.parametrize("role", [*(role.value for role in Role), "the reader r1"])
def test_a_role_gets_through_where_its_rule_says_so(play: Play, role: str) -> None:
    """An empty body at addresses of nothing: what lies behind the rule says 404 or 422."""
    named = "reader" if role == "the reader r1" else role
    for route in PROTECTED:
        if route == ("POST", f"{TOKENS}/<int:token_id>/revoke"):
            continue  # tried below: here it would revoke a token of this test
        status = call(play, route, play.api.tokens[role])
        if named in RULES[route]:
            assert status not in {401, 403, 405}, (route, role, status)
            assert status < 500, (route, role, status)
        else:
            assert status == 403, (route, role, status)


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_token_that_no_longer_counts_is_no_token(play: Play, state: str) -> None:
    for route in PROTECTED:
        for role in Role:
            assert call(play, route, play.api.tokens[f"{state}-{role.value}"]) == 401, (route, role)


@pytest.mark.parametrize("token", [None, "nonsense", "hs_" + "x" * 43])
def test_without_a_token_nothing_is_reached(play: Play, token: str | None) -> None:
    assert {call(play, route, token) for route in PROTECTED} == {401}


def test_an_admin_may_what_any_but_a_reader_may(play: Play) -> None:
    for route, roles in RULES.items():
        if roles and roles != {"reader"}:
            assert "admin" in roles, route
        elif roles:
            assert "admin" not in roles, route


def test_a_role_is_refused_before_anything_of_the_request_is_read(play: Play) -> None:
    large = {"Authorization": f"Bearer {play.api.tokens['reader']}"}
    answer = play.api.client.post(
        "/api/v1/studies/import", headers=large, data=b"{" * 5000, content_type="text/plain"
    )
    assert answer.status_code == 403


def test_a_reader_without_a_study_reaches_nothing(play: Play) -> None:
    header = {"Authorization": f"Bearer {play.api.tokens['reader']}"}
    answer = play.api.client.get("/api/v1/sessions", headers=header)
    assert (answer.status_code, json_of(answer)["title"]) == (409, "No reader")


# --- tokens over REST ---------------------------------------------------------------------------


def admin(api: Api, method: str, path: str = "", body: object = None) -> dict[str, object]:
    answer = api.send(method, TOKENS + path, body, role="admin")
    assert answer.status_code in {200, 201}, answer.text
    return json_of(answer)


def test_a_token_is_made_shown_once_listed_and_revoked(api: Api) -> None:
    made = admin(api, "POST", body={"name": "stat-2", "role": "statistician", "days": 30})
    api.tokens["stat-2"] = str(made.pop("token"))
    assert api.send("GET", "/api/v1/studies", role="stat-2").status_code == 200
    listed = admin(api, "GET")["items"]
    assert isinstance(listed, list)
    [found] = [one for one in listed if one["name"] == "stat-2"]
    assert {**made, "last_used_at": found["last_used_at"]} == found
    assert "token" not in found
    admin(api, "POST", f"/{made['id']}/revoke", {"reason": "left the house"})
    assert api.send("GET", "/api/v1/studies", role="stat-2").status_code == 401
    # Twice changes nothing, and is no second event.
    again = admin(api, "POST", f"/{made['id']}/revoke", {"reason": "left the house"})
    assert again["revoked_at"] is not None
    events = json_of(api.send("GET", "/api/v1/audit", role="admin"))["items"]
    events = [one for one in events if one["subject"] == f"token/{made['id']}"]
    assert [(one["action"], one["reason"]) for one in events] == [
        ("token.create", None),
        ("token.revoke", "left the house"),
    ]
    assert {one["actor"] for one in events} == {"the-admin"}
    assert api.tokens["stat-2"] not in str(events)
    assert json_of(api.send("GET", "/api/v1/audit/verify", role="admin"))["holds"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"name": "x", "role": "reader"}, 422, "role"),
        ({"name": "x", "role": "owner"}, 422, "role"),
        ({"name": "1", "role": "admin"}, 422, "name"),
        ({"name": "the-admin", "role": "admin"}, 422, "a token named 'the-admin' exists"),
        ({"name": "x", "role": "admin", "days": 0}, 422, "days"),
        ({"role": "admin"}, 422, "name"),
    ],
)
def test_a_token_that_is_refused(
    sqlite_api: Api, body: dict[str, object], status: int, says: str
) -> None:
    answer = sqlite_api.send("POST", TOKENS, body, role="admin")
    assert answer.status_code == status
    assert says in json_of(answer)["detail"]


@pytest.mark.parametrize("token_id", [99, 2**70])
def test_a_token_that_is_not_there(api: Api, token_id: int) -> None:
    path = f"{TOKENS}/{token_id}/revoke"
    answer = api.send("POST", path, {"reason": "lost it"}, role="admin")
    assert answer.status_code == 404
