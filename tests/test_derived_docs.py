"""The page about derived objects says what the code does."""

import re
from pathlib import Path

import pytest
from pydicom.uid import UID

from halfscan_plugin.carry import DROPPED, MAPPED, WRITTEN
from halfscan_plugin.encode import LOSSLESS, LOSSY_METHODS
from halfscan_plugin.multiframe import LEFT_TO_THE_SOURCE
from halfscan_plugin.private import ALLOWED, CSA_FIELDS, NESTED_PUBLIC
from halfscan_plugin.references import PROCESSING_EQUIPMENT, SMOOTHING, SOURCE_IMAGE

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "derived.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Give the text under a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def tables(text: str) -> list[list[tuple[str, ...]]]:
    """Give the tables of a text: their rows below the head, cells stripped."""
    found = re.findall(r"^\|.*\n\|[ |-]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [
        [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in body.splitlines()]
        for body in found
    ]


def keywords(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_what_it_says_of_itself() -> None:
    (rows,) = tables(section("What a derived object says of itself"))
    named = {keyword for row in rows for keyword in keywords(row[0])}
    assert named == set(WRITTEN)
    text = section("What a derived object says of itself")
    assert set(MAPPED) <= set(keywords(text))
    for value, meaning in (SMOOTHING, SOURCE_IMAGE, PROCESSING_EQUIPMENT):
        assert f'({value}, DCM, "{meaning}")' in text


def test_what_it_leaves_out() -> None:
    text = section("What it leaves out")
    (rows,) = tables(text)
    named = [keyword for row in rows for keyword in keywords(row[0])]
    assert sorted(named) == sorted(DROPPED)
    assert all(row[1] for row in rows), "each with its reason"
    listed = text.split("Of the top level of enhanced objects also:")[1].split("The standard")[0]
    assert tuple(keywords(listed)) == LEFT_TO_THE_SOURCE


def test_private_attributes() -> None:
    text = section("Private attributes")
    (rows,) = tables(text)
    assert rows == [
        (row.tag, row.creator, row.vr, row.name, row.why, row.holds) for row in ALLOWED.values()
    ]
    fields, nested = text.split("Of the items of private sequences")
    assert tuple(keywords(fields.split("held:")[1])) == CSA_FIELDS
    assert tuple(keywords(nested)) == NESTED_PUBLIC


def test_transfer_syntaxes() -> None:
    lossless, lossy = tables(section("Transfer syntax"))
    assert lossless == [(UID(a).name, UID(b).name) for a, b in LOSSLESS.items()]
    assert lossy == [(UID(a).name, method) for a, method in LOSSY_METHODS.items()]


@pytest.mark.parametrize("program", ["dciodvfy", "dcm2niix", "highdicom", "Orthanc"])
def test_every_validator_has_its_answer(program: str) -> None:
    (rows,) = tables(section("What validators say"))
    assert [row for row in rows if program in row[0]]
