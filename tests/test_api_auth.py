"""Tokens and roles: each route has a rule, and each role is tried on each route."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from api_rules import PROTECTED, RULES, concrete, documented
from api_support import START, URL, Api, Clock, json_of
from halfscan_api.auth import (
    ApiToken,
    Role,
    TokenError,
    check_rules,
    create_token,
    list_tokens,
    requires,
    revoke_token,
    rule_of,
)

pytest_plugins = ["api_fixtures"]


def test_every_route_has_a_rule(sqlite_api: Api) -> None:
    rules = {
        (method, rule.rule): rule_of(sqlite_api.app.view_functions[rule.endpoint])
        for rule in sqlite_api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert rules == RULES


def test_every_role_on_every_route(sqlite_api: Api) -> None:
    for method, rule in PROTECTED:
        for role in Role:
            answer = sqlite_api.send(method, concrete(rule), role=role.value)
            if role.value in RULES[method, rule]:
                assert answer.status_code not in {401, 403}, (method, rule, role)
                continue
            assert answer.status_code == 403, (method, rule, role)
            detail = json_of(answer)["detail"]
            assert detail.endswith(f"the token has {role.value}")
            assert all(allowed in detail for allowed in RULES[method, rule])


def test_every_protected_route_needs_a_token(sqlite_api: Api) -> None:
    for method, rule in PROTECTED:
        answer = sqlite_api.client.open(concrete(rule), method=method)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="halfscan"'


def test_every_public_route_needs_none(sqlite_api: Api) -> None:
    for method, rule in RULES.keys() - PROTECTED:
        answer = sqlite_api.client.open(concrete(rule), method=method)
        assert answer.status_code in {200, 302}
        answer.close()


def test_openapi_names_the_roles(sqlite_api: Api) -> None:
    paths = json_of(sqlite_api.client.get("/openapi.json"))["paths"]
    for method, rule in PROTECTED:
        operation = paths[documented(rule)][method.lower()]
        assert operation["security"] == [{"BearerToken": sorted(RULES[method, rule])}]
        assert {"401", "403"} <= operation["responses"].keys()


@pytest.mark.parametrize(
    ("header", "says", "challenged"),
    [
        ("", "a token is needed", False),
        ("Bearer", "a token is needed", False),
        ("Bearer ", "a token is needed", False),
        ("Basic dTpw", "a token is needed", False),
        ("Bearer nonsense", "the token is unknown", True),
        ("Bearer hs_ü", "the token is unknown", True),
    ],
)
def test_what_is_no_token(sqlite_api: Api, header: str, says: str, *, challenged: bool) -> None:
    answer = sqlite_api.client.get(URL, headers={"Authorization": header})
    assert answer.status_code == 401
    assert says in json_of(answer)["detail"]
    assert ('error="invalid_token"' in answer.headers["WWW-Authenticate"]) is challenged


def test_the_scheme_is_written_as_one_likes(sqlite_api: Api) -> None:
    header = {"Authorization": f"bearer  {sqlite_api.tokens['service']} "}
    assert sqlite_api.client.get(URL, headers=header).status_code == 200


def test_a_token_ends(api: Api) -> None:
    with api.database.write() as session:
        _, secret = create_token(session, name="short", role=Role.SERVICE, now=START, days=1)
    header = {"Authorization": f"Bearer {secret}"}
    api.clock.advance(86399)
    assert api.client.get(URL, headers=header).status_code == 200
    api.clock.advance(1)
    answer = api.client.get(URL, headers=header)
    assert (answer.status_code, json_of(answer)["detail"]) == (401, "the token has expired")


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_revoked_token_does_not_count(api: Api, by: str) -> None:
    with api.database.write() as session:
        row, secret = create_token(session, name="gone", role=Role.SERVICE, now=START)
        revoke_token(session, str(row.id) if by == "id" else "gone", now=START)
    answer = api.client.get(URL, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, json_of(answer)["detail"]) == (401, "the token was revoked")


def test_a_name_is_free_again_once_revoked(api: Api) -> None:
    with api.database.write() as session:
        first, _ = create_token(session, name="relay", role=Role.SERVICE, now=START)
        with pytest.raises(TokenError, match="a token named 'relay' exists"):
            create_token(session, name="relay", role=Role.SERVICE, now=START)
        revoke_token(session, "relay", now=START)
        second, _ = create_token(session, name="relay", role=Role.SERVICE, now=START)
        assert revoke_token(session, "relay", now=START).id == second.id
        assert first.revoked_at == START
        # Twice by id changes nothing.
        revoke_token(session, str(first.id), now=START + timedelta(days=1))
        assert first.revoked_at == START


@pytest.mark.parametrize("key", ["nobody", "999", "9" * 30, ""])
def test_what_cannot_be_revoked(sqlite_api: Api, key: str) -> None:
    with (
        sqlite_api.database.write() as session,
        pytest.raises(TokenError, match="no token that counts has the id or name"),
    ):
        revoke_token(session, key, now=START)


@pytest.mark.parametrize("name", ["", "1", "-x", "a b", "ä", "x" * 65, "a\n"])
def test_names_that_are_refused(sqlite_api: Api, name: str) -> None:
    with sqlite_api.database.write() as session, pytest.raises(TokenError, match="name must be"):
        create_token(session, name=name, role=Role.READER, now=START)


def test_the_token_itself_is_not_in_the_database(sqlite_api: Api) -> None:
    with sqlite_api.database.read() as session:
        rows = list_tokens(session)
        stored = [str(getattr(row, column.key)) for row in rows for column in ApiToken.__table__.c]
    assert len(rows) == len(Role)
    for secret in sqlite_api.tokens.values():
        assert len(secret) >= 43
        assert not any(secret in text for text in stored)


def test_the_last_use_is_noted_once_a_minute(api: Api) -> None:
    def last_use() -> Any:
        with api.database.read() as session:
            return next(row for row in list_tokens(session) if row.role == "service").last_used_at

    assert last_use() is None
    for seconds, noted in ((0, START), (59, START), (1, START + timedelta(seconds=60))):
        api.clock.advance(seconds)
        api.get()
        assert last_use() == noted


def test_a_route_without_a_rule_stops_the_start() -> None:
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/forgotten", view_func=lambda: "")
    with pytest.raises(RuntimeError, match=r"every route needs .* not so: /forgotten"):
        check_rules(app)


def test_a_rule_without_a_role_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one role"):
        requires()


def test_the_clock_of_the_tests_carries_its_zone() -> None:
    assert Clock()().utcoffset() == timedelta(0)
