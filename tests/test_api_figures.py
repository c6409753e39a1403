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
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from api_study import STUDIES, start_study
from api_support import Api, json_of
from figure_support import NASTY, ask, fill, nasty_protocol, texts_of
from halfscan_api.errors import InvalidRequest
from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics import agreement, detection, equivalence
from halfscan_api.statistics.agreeing import KappaRow
from halfscan_api.statistics.counts import ValueCounts
from halfscan_api.statistics.figures import canvas, catalogue, forest, likert, limits
from halfscan_api.statistics.figures.canvas import Picture
from halfscan_api.statistics.figures.catalogue import FIGURES, FigureName, FigureQuery
from halfscan_api.statistics.figures.sheet import scale_of
from halfscan_api.statistics.frame import Frame, load_frame
from halfscan_api.statistics.interchange import InterchangeRow
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


def bars_of(axes: Axes) -> list[tuple[float, tuple[float, ...]]]:
    """Width and colour of each part of each bar."""
    drawn = next(one for one in axes.collections if isinstance(one, PolyCollection))
    widths = [float(np.ptp(np.asarray(path.vertices)[:, 0])) for path in drawn.get_paths()]
    colours = [tuple(map(float, colour)) for colour in np.asarray(drawn.get_facecolor())]
    return list(zip(widths, colours, strict=True))


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
            bars = iter(bars_of(axes))
            for criterion in frame.protocol.criteria_of("sag_t1"):
                for arm in frame.protocol.arm_names:
                    values = found.values(criterion.name, "sag_t1", reader.id, arm)
                    widths = [next(bars)[0] for _ in criterion.scale]
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
        bars = [one for one in axes.collections if isinstance(one, LineCollection)]
        ends = [segment[:, 0] for some in bars for segment in some.get_segments()]
        points = [np.asarray(line.get_xdata(), float) for line in axes.lines]
        assert ends
        found = np.concatenate([*ends, *points])
        assert ((found >= left) & (found <= right)).all()


def test_limits_of_agreement_are_those_of_the_values(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=8)
    with drawn(sqlite_api, study, "bland-altman") as (picture, session):
        frame = frame_of(session, study)
        snr = snr_values(session, frame)
        one, other = frame.readers
        axes = picture.figure.axes[0]
        said = " ".join(texts(picture.figure))
        points = next(one for one in axes.collections if isinstance(one, PathCollection))
        by_panel = np.split(np.asarray(points.get_offsets(), float), 2)
        for places, arm in zip(by_panel, frame.protocol.arm_names, strict=True):
            first, second = (snr.of("sag_t1", "psoas", who.id, arm) for who in (one, other))
            difference = first - second
            bias, sd = difference.mean(), difference.std(ddof=1)
            low, high = bias - 1.96 * sd, bias + 1.96 * sd
            assert f"bias {number(bias, 1)}, limits {number(low, 1)} to {number(high, 1)}" in said
            # The sheet is in millimetres: one scale a panel and axis, the same for all in it.
            slope, start = np.polyfit(difference, places[:, 1], 1)
            assert places[:, 1] == pytest.approx(start + slope * difference)
            across = np.polyfit((first + second) / 2, places[:, 0], 1)
            assert places[:, 0] == pytest.approx(np.polyval(across, (first + second) / 2))
            assert slope > 0 < across[0]
            levels = levels_of(axes, left=places[:, 0].min(), right=places[:, 0].max())
            expected = sorted(start + slope * value for value in (0, bias, low, high))
            assert levels == pytest.approx(expected)


def levels_of(axes: Axes, *, left: float, right: float) -> list[float]:
    """Heights of the lines that run across a panel, its lower edge left out."""
    lines = [
        segment
        for some in axes.collections
        if isinstance(some, LineCollection)
        for segment in some.get_segments()
        if len(segment) == 2 and segment[0][0] < left and segment[1][0] > right
    ]
    return sorted(float(line[0][1]) for line in lines)


@pytest.mark.parametrize(
    ("values", "most", "labels"),
    [
        ([0, 1], 4, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ([-60, 75], 4, ["\u221250", "0", "50"]),
        ([0.001, 0.0022], 4, ["0.0010", "0.0015", "0.0020"]),
        ([7, 7], 4, None),
        ([0, 0], 4, None),
        ([1e6, 4e6], 4, ["1000000", "2000000", "3000000", "4000000"]),
    ],
)
def test_ticks_are_round_and_within_their_ends(
    values: list[float], most: int, labels: list[str] | None
) -> None:
    scale = scale_of(values, 10, 40, 0.0)
    ticks = scale.ticks(most)
    assert ticks
    assert len(ticks) <= most + 1
    assert len({label for _, label in ticks}) == len(ticks)
    for value, label in ticks:
        assert 10 <= float(scale(value)) <= 50
        assert float(label.replace("\N{MINUS SIGN}", "-")) == pytest.approx(value)
    assert labels in (None, [label for _, label in ticks])
    assert scale([scale.low, scale.high]) == pytest.approx([10, 50])


def test_readers_of_a_bland_altman_plot_can_be_chosen(sqlite_api: Api) -> None:
    study = fill(sqlite_api, cases=3, readers=("r1", "r2", "r3"))
    for options, expected in (
        ({}, "r1 minus r2"),
        ({"reader": "r3"}, "r3 minus r1"),
        ({"other_reader": "r1"}, "r2 minus r1"),
        ({"reader": "r2", "other_reader": "r3"}, "r2 minus r3"),
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
        assert found
        names = list(dict.fromkeys(row.endpoint for row in found))
        assert len(picture.figure.axes) == len(names) > 1
        for axes, name in zip(picture.figure.axes, names, strict=True):
            own = [row for row in found if row.endpoint == name]
            points = [line for line in axes.lines if line.get_marker() == "o"]
            assert [float(np.asarray(line.get_xdata())[0]) for line in points] == [
                row.estimate for row in own
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


def test_ratios_in_all_arms_of_a_region_where_the_spread_grows_in_one() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(40, 400, 40)
    grows = [truth, truth * rng.lognormal(0, 0.2, 40)]
    even = [truth, truth + rng.normal(0, 5, 40)]
    both = list(limits._of_region("Psoas", {"standard": even, "accelerated": grows}))
    assert [panel.answer.scale for panel in both] == ["ratio", "ratio"]
    assert both[1].apart == pytest.approx(grows[0] / grows[1])
    assert (both[0].nothing, both[0].arm) == (1.0, "standard")
    neither = list(limits._of_region("Psoas", {"standard": even, "accelerated": even}))
    assert [panel.answer.scale for panel in neither] == ["difference", "difference"]
    # A value of 0 has no ratio: differences in all arms.
    zero = [np.append(grows[0], 0.0), np.append(grows[1], 1.0)]
    kept = list(limits._of_region("Psoas", {"standard": zero, "accelerated": grows}))
    assert [panel.answer.scale for panel in kept] == ["difference", "difference"]
    # Both panels of a region have the same axes.
    across, up = limits._ends(both, "Psoas")
    assert min(across) <= min(panel.means.min() for panel in both)
    assert max(up) >= max(panel.apart.max() for panel in both)


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
        colours = [colour for _, colour in bars_of(picture.figure.axes[0])[:4]]
        shades = [sum(colour[:3]) for colour in colours]
        assert shades == sorted(shades, reverse=True)
        assert len(set(colours)) == 4


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
