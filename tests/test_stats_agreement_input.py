"""What the statistics accept as ratings, numbers, counts and clusters."""

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from halfscan_stats import StatsError, bland_altman, cohen_kappa, fleiss_kappa, icc
from halfscan_stats.ratings import (
    check_level,
    cluster_codes,
    coded,
    coded_pairs,
    counts_of,
    generator,
    numbers,
    paired_numbers,
    square_table,
    subject_by_reader,
)

NAN = float("nan")


class Grade(enum.IntEnum):
    NONE = 1
    MILD = 2
    SEVERE = 4


@pytest.mark.parametrize(
    ("ratings", "categories", "codes"),
    [
        ([1, 2, 4], (1, 2, 4), [0, 1, 2]),
        ([4, 1], (4, 2, 1), [0, 2]),  # the order declared, not the order of the values
        ([1.0, NAN, 2.0], (1, 2), [0, -1, 1]),
        ([1, None, 2], (1, 2), [0, -1, 1]),
        (["b", None, "a"], ("a", "b"), [1, -1, 0]),
        (np.array(["b", "a"]), np.array(["a", "b"]), [1, 0]),
        ([True, False, None], (False, True), [1, 0, -1]),
        (np.array([True, False]), (0, 1), [1, 0]),
        ([Grade.MILD, Grade.SEVERE], tuple(Grade), [1, 2]),
        ([0.5, 1.5], (0.5, 1.0, 1.5), [0, 2]),
        ([10**9, 5], (5, 10**9), [1, 0]),
        (np.array([2, 250], dtype=np.uint8), (250, 2), [1, 0]),
        (np.ma.masked_equal([1, 2, 9], 9), (1, 2), [0, 1, -1]),
        (pd.Series([1, 2, None]), (1, 2), [0, 1, -1]),
        (pd.array([1, 2, None], dtype="Int64"), (1, 2), [0, 1, -1]),
        (pd.Series(["a", None, "b"]), ("a", "b"), [0, -1, 1]),
        ([], (1, 2), []),
        ([None, None], (1, 2), [-1, -1]),
    ],
)
def test_ratings_become_positions_on_the_scale(
    ratings: Any, categories: Any, codes: list[int]
) -> None:
    found = coded(ratings, categories)
    assert found.codes.tolist() == codes
    assert found.scale == tuple(categories)


@pytest.mark.parametrize(
    ("ratings", "seen"),
    [
        ([3, 1, 3], (1, 3)),
        ([2.5, NAN, 1], (1, 2.5)),
        (["b", None, "a"], ("a", "b")),
        ([None], ()),
        ([], ()),
        ([5, None, 2], (2, 5)),
    ],
)
def test_without_a_scale_the_values_seen_stand_in(ratings: Any, seen: tuple[Any, ...]) -> None:
    found = coded(ratings)
    assert found.categories == seen
    assert found.scale is None


def test_numbers_from_anything() -> None:
    for values in (
        [1, None, 2.5],
        (1, NAN, 2.5),
        np.array([1, None, 2.5], dtype=object),
        np.ma.masked_invalid([1, NAN, 2.5]),
        pd.Series([1, None, 2.5]),
        pd.array([1, None, 2.5], dtype="Float64"),
    ):
        np.testing.assert_array_equal(numbers(values), [1, NAN, 2.5])
    given = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(numbers(given), given)  # nothing is copied without need
    frame = pd.DataFrame({"first": [1.0, 2.0], "second": [3.0, None]})
    assert paired_numbers(frame).n == 1
    assert paired_numbers([1, None], [2, 3]).kept.tolist() == [True, False]


def test_pairs_and_tables() -> None:
    found, kept = coded_pairs(["a", "b", None], ["b", "b", "a"], ("a", "b"))
    assert found.codes.tolist() == [[0, 1], [1, 1]]
    assert kept.tolist() == [True, True, False]
    mixed = subject_by_reader([1, 2], ["1", "2"])
    assert mixed.tolist() == [[1, "1"], [2, "2"]]
    counts, scale = square_table([[1.0, 2.0], [3.0, 4.0]], ("a", "b"))
    assert counts.dtype == np.int64
    assert scale == ("a", "b")
    assert counts_of([True, False]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("cluster", "kept", "codes"),
    [
        (["p2", "p1", "p2"], 3, [0, 1, 0]),
        (np.array(["p2", "p1", "p2"]), 3, [1, 0, 1]),
        ([7, 7, 9], np.array([True, False, True]), [0, 1]),
        ([1, "a", 1], 3, [0, 1, 0]),
        (np.array([2.0, 1.0]), 2, [1, 0]),
        ([], 0, []),
    ],
)
def test_clusters_are_numbered(cluster: Any, kept: Any, codes: list[int]) -> None:
    found, count = cluster_codes(cluster, kept)
    assert found.tolist() == codes
    assert count == len(set(codes))


def test_every_way_to_hand_in_the_same_ratings() -> None:
    a, b = [1, 2, 2, 3, None], [1, 2, 3, 3, 1]
    ways: list[Any] = [
        cohen_kappa(a, b),
        cohen_kappa(list(zip(a, b, strict=True))),
        cohen_kappa(np.array(a, dtype=float), np.array(b)),
        cohen_kappa(pd.Series(a), pd.Series(b)),
        cohen_kappa(pd.DataFrame({"a": a, "b": b})),
    ]
    assert len({(way.value, way.se, way.n, way.n_given) for way in ways}) == 1
    values = icc([[1, 2], [2, 3.5], [4, 4]]).value
    assert icc(pd.DataFrame([[1, 2], [2, 3.5], [4, 4]])).value == values
    assert icc([1, 2, 4], [2, 3.5, 4]).value == values
    assert bland_altman([[1, 2], [3, 5]]).value == bland_altman([1, 3], [2, 5]).value == -1.5
    assert fleiss_kappa([["a", "b", None], ["a", "a", "a"]]).n_readers == 3


NOT_AN_ARRAY: Any = {1: 2}
NOT_A_SCALE: Any = 5
NOT_A_LEVEL: Any = "0.95"
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: numbers(["3"]), "must be numbers, got '3'"),
    (lambda: numbers([1, "3"]), "must be numbers, got '3'"),
    (lambda: numbers(np.array(["3"])), "must be numbers, got str"),
    (lambda: numbers([1, [2]]), "regular array"),
    (lambda: numbers("12"), "must be an array, got '12'"),
    (lambda: numbers(NOT_AN_ARRAY), "must be an array"),
    (lambda: numbers([1, np.inf]), "got infinity"),
    (lambda: numbers([1, object()]), "must be numbers, got <object"),
    (lambda: numbers(np.array(["2024-01-01"], dtype="datetime64[D]")), "got datetime64"),
    (lambda: counts_of([1, None]), "whole numbers, at least 0, got nan"),
    (lambda: coded([0], (1, 2)), "got 0"),
    (lambda: coded([1], (1, NAN)), "not missing"),
    (lambda: coded([1], (1, np.inf)), "must be finite"),
    (lambda: coded([1], NOT_A_SCALE), "must list the scale, got 5"),
    (lambda: coded([1], range(2000)), "at most 1000 categories, got 2000"),
    (lambda: coded([1, "a", None]), "all numbers or all text"),
    (lambda: coded([1], None, needs_scale="AC1"), "AC1 depends on the scale"),
    (lambda: cluster_codes([1, 2], 3), r"\(3\), got shape \(2,\)"),
    (lambda: cluster_codes([[1], [2]], 2), r"got shape \(2, 1\)"),
    (lambda: cluster_codes([1.0, NAN], 2), "missing one"),
    (lambda: check_level(NOT_A_LEVEL), "got '0.95'"),
    (lambda: check_level(True), "got True"),
    (lambda: check_level(NAN), "got nan"),
    (lambda: generator(None), "rng must be"),
    (lambda: generator(-1), "got -1"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_names_the_rule_and_the_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        call()


@pytest.mark.parametrize("function", [icc, bland_altman])
def test_numbers_too_large_for_a_square_are_refused(function: Any) -> None:
    with pytest.raises(StatsError, match=r"must not exceed 1e\+100, got 1e\+308"):
        function([1e308, 1.0, 2.0], [-1e308, 2.0, 3.0])
    assert function([1e99, 2e99, 4e99], [1e99, 3e99, 3e99]).value is not None
    assert function([], []).reason == "too_few"
