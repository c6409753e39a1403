"""Figures over HTTP: what they show, in every state of a study, on both databases."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sqlalchemy import select

from api_study import STUDIES, start_study
from api_support import Api, json_of
from figure_support import NASTY, ask, fill, nasty_protocol, texts_of
from halfscan_api.errors import InvalidRequest
from halfscan_api.measurements.tables import Measurement
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics import agreement, detection, equivalence
from halfscan_api.statistics.agreeing import KappaRow
from halfscan_api.statistics.counts import ValueCounts
from halfscan_api.statistics.equivalence import InterchangeRow, ProportionRow
from halfscan_api.statistics.figures import canvas, catalogue, forest, likert
from halfscan_api.statistics.figures.canvas import Picture
from halfscan_api.statistics.figures.catalogue import FIGURES, FigureName, FigureQuery
from halfscan_api.statistics.frame import Frame, load_frame
from halfscan_api.statistics.options import AgreementQuery, DetectionQuery, EquivalenceQuery
from halfscan_api.statistics.results import number
from halfscan_api.statistics.values import snr_values
from halfscan_api.studies.service import get_study
from statistics_fixtures import bump, tang_study

pytest_plugins = ["api_fixtures"]

ALL: list[tuple[FigureName, dict[str, str]]] = [
    ("likert", {}),
    ("kappa", {}),
    ("kappa", {"section": "scores"}),
    ("bland-altman", {}),
    ("snr", {}),
    ("mcnemar", {}),
]
PNG = b"\x89PNG\r\n\x1a\n"


def query(options: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in options.items())


@contextmanager
def drawn(api: Api, study: int, name: FigureName, **options: str) -> Iterator[tuple[Picture, Any]]:
    """A figure before it is written, and the session that it came from."""
    with api.database.snapshot() as session, canvas.drawing():
        frame = load_frame(session, get_study(session, study))
        picture = catalogue.draw(session, frame, name, FigureQuery.model_validate(options))
        yield picture, session


def frame_of(session: Any, study: int) -> Frame:
    return load_frame(session, get_study(session, study))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


# --- every figure, in every state ---------------------------------------------------------------


@pytest.mark.parametrize("state", ["empty", "no readings", "half", "complete", "gaps"])
def test_every_figure_answers_in_every_state(api: Api, state: str) -> None:
    unread = [("r2", f"P{case:04}", "accelerated") for case in range(1, 5)]
    study = {
        "empty": lambda: start_study(api, cases=0, readers=(), allocate=False).study_id,
        "no readings": lambda: start_study(api, cases=2).study_id,
        "half": lambda: fill(api, cases=6, unread=unread),
        "complete": lambda: fill(api, cases=6),
        "gaps": lambda: fill(api, cases=6, missing=0.3),
    }[state]()
    for name, options in ALL:
        svg = ask(api, study, f"figures/{name}?{query(options)}")
        png = ask(api, study, f"figures/{name}?format=png&{query(options)}")
        assert svg.status_code == png.status_code == 200, svg.text
        assert svg.mimetype == "image/svg+xml"
        assert png.data.startswith(PNG)
        said = " ".join(texts_of(svg.data))
        nothing = any(word in said for word in (" yet", "fewer than two", "no reader"))
        assert nothing == (state in {"empty", "no readings"}), (name, said)


def test_the_reference_study_whole(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api)
    for name, options in ALL:
        for sequence in ("sag_t1", "tra_t2"):
            path = f"figures/{name}?sequence={sequence}&{query(options)}"
            assert ask(sqlite_api, study, path).status_code == 200


def test_no_criteria_no_findings_no_regions(sqlite_api: Api) -> None:
    some = {
        "scores only": fill(sqlite_api, name="a", cases=3, findings=[], regions=[]),
        "findings only": fill(sqlite_api, name="b", cases=3, criteria=[], regions=[]),
        "regions only": fill(sqlite_api, name="c", cases=3, criteria=[], findings=[]),
    }
    shown = {
        what: [name for name, options in ALL if not _is_empty(sqlite_api, study, name, options)]
        for what, study in some.items()
    }
    assert shown == {
        "scores only": ["likert", "kappa"],
        "findings only": ["kappa", "mcnemar"],
        "regions only": ["bland-altman", "snr"],
    }


def _is_empty(api: Api, study: int, name: FigureName, options: dict[str, str]) -> bool:
    with drawn(api, study, name, **options) as (picture, _):
        return picture.empty


def test_one_reader_four_arms_many_grades(sqlite_api: Api) -> None:
    arms = [
        {
            "name": f"arm{number}",
            "label": f"Arm {number}",
            "role": "test" if number else "reference",
        }
        for number in range(4)
    ]
    grades = [{"value": value, "label": f"grade {value}"} for value in range(5)]
    findings = [{"name": "stenosis", "label": "Stenosis", "levels": ["L4"], "grades": grades}]
    for readers in (("only",), tuple(f"reader{place}" for place in range(5))):
        study = fill(
            sqlite_api, name=readers[0], cases=4, readers=readers, arms=arms, findings=findings
        )
        for name, options in ALL:
            assert ask(sqlite_api, study, f"figures/{name}?{query(options)}").status_code == 200
    assert ask(sqlite_api, study, "figures/mcnemar?arm=arm3").status_code == 200


# --- what they show -----------------------------------------------------------------------------


def test_the_bars_are_the_scores(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=9, missing=0.2)
    with drawn(sqlite_api, study, "likert", sequence="sag_t1") as (picture, session):
        frame = frame_of(session, study)
        found = ValueCounts(session, frame, AnswerKind.SCORE)
        for axes, reader in zip(picture.figure.axes, frame.readers, strict=True):
            bars = iter(one for one in axes.containers if isinstance(one, BarContainer))
            for criterion in frame.protocol.criteria_of("sag_t1"):
                for arm in frame.protocol.arm_names:
                    values = found.values(criterion.name, "sag_t1", reader.id, arm)
                    widths = [patch.get_width() for patch in next(bars)]
                    shares = [np.mean(values == one.value) for one in criterion.scale]
                    assert widths == pytest.approx(shares)
                    assert f"{len(values)}/9" in texts(picture.figure)
            assert next(bars, None) is None


def test_the_forest_writes_every_kappa_or_why_there_is_none(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=4, findings=_rare_and_common())
    with drawn(sqlite_api, study, "kappa") as (picture, session):
        frame = frame_of(session, study)
        options = AgreementQuery(section="findings")
        rows = agreement.compute(session, frame, options).rows
        kappas = [row.kappa for row in rows if isinstance(row, KappaRow)]
        said = texts(picture.figure)
    assert kappas
    assert any(kappa.value is None for kappa in kappas)
    assert any(kappa.interval is not None for kappa in kappas)
    for kappa in kappas:
        assert f"{kappa.n}/{kappa.n_given}" in said
        if kappa.interval is not None and kappa.value is not None:
            limits = f"({number(kappa.interval.low)}, {number(kappa.interval.high)})"
            assert f"{number(kappa.value)} {limits}" in said
        if kappa.cluster_interval is not None:
            interval = kappa.cluster_interval
            assert f"({number(interval.low)}, {number(interval.high)})" in said
    assert sum(text.startswith("undefined: ") for text in said) == sum(
        kappa.value is None for kappa in kappas
    )
    assert sum(text.startswith("no interval: ") for text in said) == sum(
        kappa.value is not None and kappa.interval is None for kappa in kappas
    )


def _rare_and_common() -> list[dict[str, Any]]:
    """Findings from frequent to never: the threshold of the simulation rises with the rank."""
    return [
        {"name": f"finding{rank}", "label": f"Finding {rank}", "levels": ["L4/L5", "L5/S1"]}
        for rank in range(20)
    ]


def test_negative_kappas_lie_within_the_axes(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3, criteria=[], regions=[], findings=_rare_and_common()[:6])
    with drawn(sqlite_api, study, "kappa") as (picture, _):
        axes = picture.figure.axes[0]
        left, right = axes.get_xlim()
        for line in axes.lines:
            points = np.asarray(line.get_xdata(), float)
            assert ((points >= left) & (points <= right)).all()


def test_limits_of_agreement_are_those_of_the_values(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=8)
    with drawn(sqlite_api, study, "bland-altman") as (picture, session):
        frame = frame_of(session, study)
        snr = snr_values(session, frame)
        one, other = frame.readers
        for axes, arm in zip(picture.figure.axes, frame.protocol.arm_names, strict=False):
            first, second = (snr.of("sag_t1", "psoas", who.id, arm) for who in (one, other))
            difference = first - second
            bias, sd = difference.mean(), difference.std(ddof=1)
            said = " ".join(text.get_text() for text in axes.texts)
            assert f"bias {number(bias, 1)}" in said
            low, high = number(bias - 1.96 * sd, 1), number(bias + 1.96 * sd, 1)
            assert f"limits {low} to {high}" in said
            points = np.asarray(axes.collections[0].get_offsets(), float)
            assert points[:, 1] == pytest.approx(difference)
            assert points[:, 0] == pytest.approx((first + second) / 2)
            half = 1.96 * sd
            lines = sorted(float(np.asarray(line.get_ydata())[0]) for line in axes.lines)
            assert lines == pytest.approx(sorted([0, bias, bias - half, bias + half]))


def _set_snr(api: Api, study: int, spread: dict[str, float], lowest: float = 20.0) -> None:
    """Give psoas an SNR whose difference between readers grows with it, by arm."""
    with api.database.write() as session:
        rows = session.scalars(
            select(Measurement).where(
                Measurement.study_id == study,
                Measurement.region == "psoas",
            )
        ).all()
        readers = sorted({row.reader_id for row in rows})
        cases = sorted({row.case_id for row in rows})
        for row in rows:
            place = cases.index(row.case_id)
            share = spread.get(row.arm, 0.0) * (1 if place % 2 else -1)
            row.snr = lowest + 10 * place
            if row.reader_id == readers[0]:
                row.snr += 0.5 * (1 if place % 4 > 1 else -1) + share * row.snr
        bump(session, study)


@pytest.mark.parametrize("growing", ["standard", "accelerated"])
def test_the_ratio_stands_in_both_arms_where_the_spread_grows_in_one(
    sqlite_api: Api, growing: str
) -> None:
    study = fill(sqlite_api, cases=16, readers=("r1", "r2", "r3"))
    _set_snr(sqlite_api, study, {growing: 0.2})
    ends = []
    for options in ({}, {"reader": "r2", "other_reader": "r1"}, {"other_reader": "r3"}):
        with drawn(sqlite_api, study, "bland-altman", **options) as (picture, session):
            frame = frame_of(session, study)
            snr = snr_values(session, frame)
            names = [options.get("reader", "r1"), options.get("other_reader", "r2")]
            who = [next(one for one in frame.readers if one.name == name) for name in names]
            for axes, arm in zip(picture.figure.axes, frame.protocol.arm_names, strict=False):
                first, second = (snr.of("sag_t1", "psoas", one.id, arm) for one in who)
                points = np.asarray(axes.collections[0].get_offsets(), float)
                assert points[:, 1] == pytest.approx(first / second)
                logs = np.log(first / second)
                middle, half = logs.mean(), 1.96 * logs.std(ddof=1)
                lines = sorted(float(np.asarray(line.get_ydata())[0]) for line in axes.lines)
                expected = np.exp([0, middle, middle - half, middle + half])
                assert lines == pytest.approx(sorted(expected))
                said = " ".join(text.get_text() for text in axes.texts)
                assert f"ratio {number(float(np.exp(middle)))}" in said
                assert axes.get_yscale() == "log"
                ends.append((*axes.get_xlim(), *axes.get_ylim()))
                (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
                assert ((points > (left, low)) & (points < (right, high))).all()
            assert "one-sided level 0.05, over the number of pairs of readers" in picture.caption
    assert len(ends) == 6
    assert ends == [pytest.approx(ends[0])] * 6


def test_without_a_growing_spread_both_arms_show_differences_on_the_same_axes(
    sqlite_api: Api,
) -> None:
    study = fill(sqlite_api, cases=16)
    _set_snr(sqlite_api, study, {})
    with drawn(sqlite_api, study, "bland-altman") as (picture, _):
        one, other = picture.figure.axes[:2]
        assert one.get_yscale() == other.get_yscale() == "linear"
        assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())
        assert "has no ratio" not in picture.caption


def test_a_value_without_a_logarithm_keeps_the_difference_and_that_is_said(
    sqlite_api: Api,
) -> None:
    study = fill(sqlite_api, cases=16)
    _set_snr(sqlite_api, study, {"standard": 0.2}, lowest=0.0)
    with drawn(sqlite_api, study, "bland-altman") as (picture, _):
        assert [axes.get_yscale() for axes in picture.figure.axes[:2]] == ["linear", "linear"]
        assert "a value at or below 0 has no ratio" in picture.caption
        assert picture.caption.endswith("shown: Psoas.")


def test_readers_of_a_bland_altman_plot_can_be_chosen(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3, readers=("r1", "r2", "r3"))
    for options, expected in (
        ({}, "r1 against r2"),
        ({"reader": "r3"}, "r3 against r1"),
        ({"other_reader": "r1"}, "r2 against r1"),
        ({"reader": "r2", "other_reader": "r3"}, "r2 against r3"),
    ):
        with drawn(sqlite_api, study, "bland-altman", **options) as (picture, _):
            assert expected in picture.title


def test_a_line_for_each_pair_of_snr(sqlite_api: Api) -> None:
    unread = [("r1", "P0001", "accelerated")]
    study = fill(sqlite_api, cases=5, unread=unread)
    with drawn(sqlite_api, study, "snr") as (picture, session):
        frame = frame_of(session, study)
        snr = snr_values(session, frame)
        for axes, reader in zip(picture.figure.axes, frame.readers, strict=True):
            before, after = (
                snr.of("sag_t1", "psoas", reader.id, arm) for arm in frame.protocol.arm_names
            )
            pairs = [(a, b) for a, b in zip(before, after, strict=True) if not np.isnan(a + b)]
            lines = axes.collections[0].get_segments()  # type: ignore[attr-defined]
            assert np.array([line[:, 1] for line in lines]) == pytest.approx(np.array(pairs))
            assert len(lines) == (4 if reader.name == "r1" else 5)


def test_areas_of_the_mosaic_are_the_counts(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=12)
    with drawn(sqlite_api, study, "mcnemar") as (picture, session):
        rows = detection.compute(session, frame_of(session, study), DetectionQuery()).rows
        panels = {
            (axes.get_title(loc="left"), axes.texts[0].get_text()): axes
            for axes in picture.figure.axes
            if axes.texts
        }
        shown = [row for row in rows if row.reader is not None]
        assert len(shown) == 2
        for row in shown:
            axes = panels[row.label, f"reader {row.reader}"]
            cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
            areas = sorted(cell.get_width() * cell.get_height() for cell in cells)
            counts = (row.both, row.reference_only, row.test_only, row.neither)
            assert areas == pytest.approx(sorted(count / row.n for count in counts if count))
            assert f"both {row.both}, neither {row.neither}; n {row.n}" in axes.get_xlabel()
            discordant = sum(
                cell.get_width() * cell.get_height() for cell in cells if _hatched(cell)
            )
            assert discordant == pytest.approx((row.reference_only + row.test_only) / row.n)


def _hatched(cell: Rectangle) -> bool:
    return bool(cell.get_hatch())


@pytest.mark.parametrize("cases", [0, 2])
def test_the_flow_begins_with_the_first_case(api: Api, cases: int) -> None:
    readers = ("r1",) if cases else ()
    study = start_study(api, cases=cases, readers=readers, allocate=cases > 0).study_id
    for kind in ("svg", "png"):
        assert ask(api, study, f"figures/participants?format={kind}").status_code == 200
        assert ask(api, study, f"figures/equivalence?format={kind}").status_code == 200
    said = " ".join(texts_of(ask(api, study, "figures/participants").data))
    assert (f"Enrolled (n = {cases})" in said) == (cases > 0)
    assert ("No case has been enrolled yet" in said) == (cases == 0)


def test_the_flow_tells_exclusions_with_their_reasons_and_who_has_read(api: Api) -> None:
    play = start_study(api, cases=4, readers=("r1", "r2"), washout_days=0)
    play.read_session("r1", 0)
    reasons = {"P01": "moved", "P02": f"{NASTY} {'long ' * 60}", "P03": "moved"}
    for case, reason in reasons.items():
        play.run("POST", f"/cases/{case}/exclude", {"reason": reason})
    said = texts_of(ask(api, play.study_id, "figures/participants").data)
    assert {"Enrolled (n = 4)", "Excluded (n = 3)", "Included (n = 1)", "moved: n = 2"} <= {*said}
    assert sum(line.startswith("read by r") for line in said) == 4
    assert said.count("read by r1: n = 1") == 1
    assert "Read by every reader in every arm (n = 0)" in said
    with drawn(api, play.study_id, "participants") as (picture, _):
        picture.figure.canvas.draw()
        renderer = picture.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [patch.get_window_extent(renderer) for patch in picture.figure.axes[0].patches]
        for text in picture.figure.axes[0].texts:
            if text.get_text():
                own = text.get_window_extent(renderer)
                assert any(box.x0 < own.x0 and own.x1 < box.x1 for box in boxes), text
        for one, other in combinations(boxes, 2):
            assert not one.overlaps(other)


def test_differences_stand_against_their_margins(sqlite_api: Api) -> None:
    study = tang_study(sqlite_api, cases=12)
    with drawn(sqlite_api, study, "equivalence") as (picture, session):
        frame = frame_of(session, study)
        table = equivalence.compute(session, frame, EquivalenceQuery(resamples=0))
        found = [row for row in table.rows if not isinstance(row, InterchangeRow)]
        names = list(dict.fromkeys(row.endpoint for row in found))
        assert len(picture.figure.axes) == len(names) > 1
        for axes, name in zip(picture.figure.axes, names, strict=True):
            own = [row for row in found if row.endpoint == name]
            points = [line for line in axes.lines if line.get_marker() == "o"]
            assert [float(np.asarray(line.get_xdata())[0]) for line in points] == [
                row.test.difference if isinstance(row, ProportionRow) else row.test.mean_difference
                for row in own
            ]
            margin = next(one.margin for one in frame.protocol.endpoints if one.name == name)
            dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
            assert [float(np.asarray(line.get_xdata())[0]) for line in dashed] == [-(margin or 0)]
            # What stands beside a row does not reach into the next column.
            picture.figure.canvas.draw()
            beside = [text for text in axes.texts if text.get_text()]
            extents = [text.get_window_extent() for text in beside]
            for one, other in combinations(extents, 2):
                assert not one.overlaps(other)


def test_too_much_for_a_figure_is_said(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fill(sqlite_api, cases=3)
    monkeypatch.setattr(likert, "MOST_BARS", 3)
    monkeypatch.setattr(forest, "MOST_ROWS", 2)
    said = texts_of(ask(sqlite_api, study, "figures/likert").data)
    assert "This figure would have 8 bars, at most 3 are drawn" in " ".join(said)
    said = texts_of(ask(sqlite_api, study, "figures/kappa").data)
    assert "This figure would have 4 rows, at most 2 are drawn" in " ".join(said)


# --- files --------------------------------------------------------------------------------------


def test_the_same_data_give_the_same_bytes(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=5)
    with sqlite_api.database.snapshot() as session:
        frame = frame_of(session, study)
        for name, options in ALL:
            for kind in ("svg", "png"):
                asked = FigureQuery.model_validate({**options, "format": kind})
                first, second = (catalogue.file_of(session, frame, name, asked) for _ in range(2))
                assert first == second, name
    alone = subprocess.run(
        [sys.executable, "-c", _ALONE, str(sqlite_api.database.engine.url), str(study)],
        capture_output=True,
        check=True,
    )
    assert alone.stdout == ask(sqlite_api, study, "figures/snr").data


_ALONE = """
import sys
from sqlalchemy import make_url
from halfscan_api.database import Database
from halfscan_api.statistics.figures import catalogue
from halfscan_api.statistics.frame import load_frame
from halfscan_api.studies.service import get_study
database = Database(make_url(sys.argv[1]))
with database.snapshot() as session:
    frame = load_frame(session, get_study(session, int(sys.argv[2])))
    sys.stdout.buffer.write(
        catalogue.file_of(session, frame, "snr", catalogue.FigureQuery(sequence=None))
    )
database.dispose()
"""


def test_threads_draw_the_same_figures(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=5)

    def work(number: int) -> tuple[str, bytes]:
        name, options = ALL[number % len(ALL)]
        with sqlite_api.database.snapshot() as session:
            frame = frame_of(session, study)
            asked = FigureQuery.model_validate(options)
            return f"{name} {options}", catalogue.file_of(session, frame, name, asked)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(2 * len(ALL))))
    assert len(set(found)) == len(ALL)


def test_an_svg_is_as_wide_as_a_page_and_loads_nothing(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3)
    for name, options in ALL:
        answer = ask(sqlite_api, study, f"figures/{name}?{query(options)}")
        root = ET.fromstring(answer.data)  # noqa: S314
        width_mm = float(root.attrib["width"].removesuffix("pt")) / 72 * 25.4
        assert width_mm == pytest.approx(174, abs=0.1)
        assert not [one for one in root.iter() if one.tag.endswith(("script", "image"))]
        links = [
            value
            for one in root.iter()
            for key, value in one.attrib.items()
            if key.endswith("href")
        ]
        assert all(link.startswith("#") for link in links)
        assert b"<dc:date>" not in answer.data
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_labels_are_text_and_nothing_else(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=4, **nasty_protocol())
    for name, options in ALL:
        content = ask(sqlite_api, study, f"figures/{name}?{query(options)}").data
        assert b"<script" not in content
        assert "<script>alert(1)" in " ".join(texts_of(content))
        assert ask(sqlite_api, study, f"figures/{name}?format=png").data.startswith(PNG)


@pytest.mark.parametrize(
    "text", ["$\\frac{1}{$", "\x00\x07\ud800\ufffe", "\u202e\U0001f9e0", "a" * 300, NASTY]
)
def test_any_text_can_be_drawn(text: str) -> None:
    with canvas.drawing():
        for kind in ("svg", "png"):
            assert canvas.render(canvas.saying(text, text), kind)
        said = " ".join(texts_of(canvas.render(canvas.saying(text, text), "svg")))
    assert said.count("\N{HORIZONTAL ELLIPSIS}") == (1 if len(text) > 110 else 0)


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("\u8170\u690e\u690e", 4, ["\u8170\u690e", "\u690e"]),
        ("", 5, []),
    ],
)
def test_lines_are_broken_at_their_width(text: str, columns: int, lines: list[str]) -> None:
    assert canvas.wrapped(text, columns) == lines
    assert all(canvas.columns_of(line) <= columns for line in canvas.wrapped(text, columns))


def test_points_of_a_scale_get_darker(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=6)
    with drawn(sqlite_api, study, "likert") as (picture, _):
        bars = picture.figure.axes[0].containers[0]
        assert isinstance(bars, BarContainer)
        shades = [sum(patch.get_facecolor()[:3]) for patch in bars]
        assert shades == sorted(shades, reverse=True)
        assert len({to_hex(patch.get_facecolor()) for patch in bars}) == 4


# --- who may see them, and when -----------------------------------------------------------------


def test_figures_are_listed(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3)
    listed = json_of(ask(sqlite_api, study, "figures"))
    assert [item["name"] for item in listed["items"]] == list(FIGURES)
    for item in listed["items"]:
        assert sqlite_api.send("GET", item["href"], role="coordinator").status_code == 200


def test_readers_and_services_see_none(sqlite_api: Api) -> None:
    play = start_study(sqlite_api, cases=1)
    for name in FIGURES:
        assert ask(sqlite_api, play.study_id, f"figures/{name}", role="service").status_code == 403
        path = f"/studies/{play.study_id}/statistics/figures/{name}"
        assert play.ask("r1", "GET", path).status_code == 403


def test_looking_while_readings_are_left_is_recorded(api: Api) -> None:
    play = start_study(api, cases=1)
    for _ in range(2):
        assert ask(api, play.study_id, "figures/likert").status_code == 200
        assert ask(api, play.study_id, "figures/kappa?format=png").status_code == 200
    looks = [event["subject"] for event in play.events(action="looked")]
    assert looks == ["statistics/figures/likert", "statistics/figures/kappa"]
    assert play.verify()["holds"]


def test_the_revision_is_the_etag(api: Api) -> None:
    study = fill(api, cases=3)
    first = ask(api, study, "figures/likert")
    assert first.headers["ETag"] == '"1"'
    known = ask(api, study, "figures/likert", etag='"1"')
    assert (known.status_code, known.data) == (304, b"")
    with api.database.write() as session:
        bump(session, study)
    assert ask(api, study, "figures/likert", etag='"1"').status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("figures/pie", 404, "there is no figure pie: there are participants, likert, kappa"),
        ("figures/likert?sequence=cor", 422, "must be one of sag_t1, tra_t2, got 'cor'"),
        ("figures/bland-altman?region=liver", 422, "must be one of psoas, background"),
        ("figures/bland-altman?reader=nobody", 422, "must be one of r1, r2, got 'nobody'"),
        ("figures/bland-altman?reader=r1&other_reader=r1", 422, "must be another than reader"),
        ("figures/mcnemar?arm=standard", 422, "must be one of accelerated, got 'standard'"),
        ("figures/likert?format=gif", 422, "format"),
        ("figures/likert?colour=red", 422, "colour"),
    ],
)
def test_what_a_study_does_not_have_is_refused(
    sqlite_api: Api, path: str, status: int, names: str
) -> None:
    study = fill(sqlite_api, cases=2)
    answer = ask(sqlite_api, study, path)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert names in answer.text


def test_there_is_no_such_study(sqlite_api: Api) -> None:
    assert ask(sqlite_api, 77, "figures/likert").status_code == 404
    assert ask(sqlite_api, 77, "figures").status_code == 404


def test_checks_name_every_field(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=2)
    with sqlite_api.database.snapshot() as session:
        frame = frame_of(session, study)
    with pytest.raises(InvalidRequest, match=r"sequence: .*; arm: "):
        catalogue.check(frame, FigureQuery(sequence="cor", arm="standard"))


def test_the_api_loads_no_matplotlib() -> None:
    code = (
        "import sys, halfscan_api.app, halfscan_api.statistics.report.build;"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_document_describes_figures(sqlite_api: Api) -> None:
    document = json_of(sqlite_api.client.get("/openapi.json"))
    answers = document["paths"][f"{STUDIES}/{{study_id}}/statistics/figures/{{name}}"]["get"]
    assert set(answers["responses"]["200"]["content"]) == {"image/svg+xml", "image/png"}
