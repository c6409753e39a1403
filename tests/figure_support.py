"""Helpers of the tests of figures and report: studies in every state, and what an SVG says."""

import xml.etree.ElementTree as ET
from typing import Any

from werkzeug.test import TestResponse

from api_study import STUDIES, small_protocol
from api_support import Api
from halfscan_api.studies.protocol import Protocol
from statistics_fixtures import Simulation, fill_study

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<script>alert(1)</script> & "quoted" $x_2^{$ --> ]]> \u8170\u690e'


def ask(
    api: Api, study: int, path: str, *, role: str = "statistician", etag: str | None = None
) -> TestResponse:
    headers = {"Authorization": f"Bearer {api.tokens[role]}"}
    if etag is not None:
        headers["If-None-Match"] = etag
    return api.client.get(f"{STUDIES}/{study}/statistics/{path}", headers=headers)


def texts_of(content: bytes) -> list[str]:
    """Every text of an SVG, which must be well-formed."""
    root = ET.fromstring(content)  # noqa: S314 - what is tested
    return ["".join(one.itertext()).strip() for one in root.iter(f"{SVG}text")]


def fill(api: Api, **options: Any) -> int:
    """A small study with simulated answers; its id. Options of the protocol and of the study."""
    names = ("name", "cases", "readers", "unread")
    own = {name: options.pop(name) for name in names if name in options}
    missing = options.pop("missing", 0.0)
    protocol = Protocol.model_validate(small_protocol(**options))
    with api.database.write() as session:
        return fill_study(session, Simulation(protocol, missing=missing), **own).id


def nasty_protocol() -> dict[str, Any]:
    """Parts of a protocol whose every label would break out of XML, HTML or a formula."""
    small = small_protocol()

    def named(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**one, "label": f"{NASTY} {number}"} for number, one in enumerate(items)]

    scale = [{"value": value, "label": f"{NASTY} {value}"} for value in (1, 2, 3)]
    return {
        "title": NASTY,
        "description": NASTY * 3,
        "arms": named(small["arms"]),
        "sequences": named(small["sequences"]),
        "criteria": [{**one, "scale": scale} for one in named(small["criteria"])],
        "findings": named(small["findings"]),
        "regions": named(small["regions"]),
    }
