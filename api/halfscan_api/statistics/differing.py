"""Paired differences between the arms: what tables 2, 3 and that of the scan time share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from halfscan_api.statistics.adjusting import (
    Adjusted,
    RawTest,
    adjust,
    families_text,
    role_of_difference,
)
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.options import DifferenceQuery
from halfscan_api.statistics.results import NOTHING, number, p_text, used, with_interval, words_of
from halfscan_api.studies.protocol import EndpointKind, EndpointRole
from halfscan_stats import PairedChoice, Reason, Summary, choose_paired_test, summarize
from halfscan_stats.result import Result

Numbers = npt.NDArray[Any]
A = TypeVar("A", bound=Result)

_BY = {"by_normality": "normality", "paired_t": "t", "wilcoxon": "wilcoxon"}


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One item, read by one reader in two arms.

    Attributes
    ----------
    kind : str
        ``difference``.
    item, label : str
        Criterion, group of criteria, region or sequence.
    level : str
        ``criterion``, ``group``, ``region``, ``sequence`` or ``total``.
    place : str or None
        Sequence; None for the total scan time.
    reader : str or None
        None for what no reader measures.
    reference_arm, test_arm : str
    reference, test : Summary
        Each arm alone, all its values: mean and SD where the t-test answers, median and quartiles
        where Wilcoxon's does, the same for both arms (`shown`).
    difference : PairedChoice
        Test minus reference, of the cases that have both.
    adjusted : Adjusted
        The p-value after the correction that the protocol declares.
    """

    item: str
    label: str
    level: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    reference: Summary
    test: Summary
    difference: PairedChoice
    adjusted: Adjusted
    kind: str = "difference"


@dataclass(frozen=True, slots=True)
class Draft:
    """A row before the p-values of its family are known.

    Attributes
    ----------
    item, label, level : str
    place, reader : str or None
    test_arm : str
    singles : (ndarray, ndarray)
        Values of the reference and of the test arm, each complete in itself.
    pairs : (ndarray, ndarray)
        (case,), reference and test, of the cases that have both.
    set_by_protocol : bool
        Whether the values are settings, as scan times are, and no sample: a difference that is
        always the same is then known, and there is nothing to test.
    """

    item: str
    label: str
    level: str
    place: str | None
    reader: str | None
    test_arm: str
    singles: tuple[Numbers, Numbers]
    pairs: tuple[Numbers, Numbers]
    set_by_protocol: bool = False


def difference_rows(
    frame: Frame, drafts: Sequence[Draft], options: DifferenceQuery, kind: EndpointKind | None
) -> list[DifferenceRow]:
    """Test every draft, and adjust the p-values: give the whole table, whatever is shown of it.

    Without a `kind` no endpoint declares them: all are exploratory.
    """
    alpha = options.alpha or frame.protocol.alpha
    tested = [_tested(frame, draft, options, alpha) for draft in drafts]
    raw = [
        RawTest(
            (draft.item, draft.level, draft.place),
            choice.p_value,
            role=EndpointRole.EXPLORATORY
            if kind is None
            else role_of_difference(frame.protocol, kind, [draft.item], draft.place),
        )
        for draft, (_, _, choice) in zip(drafts, tested, strict=True)
    ]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    return [
        DifferenceRow(
            item=draft.item,
            label=draft.label,
            level=draft.level,
            place=draft.place,
            reader=draft.reader,
            reference_arm=frame.reference,
            test_arm=draft.test_arm,
            reference=reference,
            test=test,
            difference=choice,
            adjusted=one,
        )
        for draft, (reference, test, choice), one in zip(drafts, tested, adjusted, strict=True)
    ]


def _tested(
    frame: Frame, draft: Draft, options: DifferenceQuery, alpha: float
) -> tuple[Summary, Summary, PairedChoice]:
    by = options.difference_test
    chosen = frame.protocol.difference_test if by == "protocol" else by
    choice = choose_paired_test(
        draft.pairs[1], draft.pairs[0], by=_BY[chosen], alpha=alpha, level=options.level
    )
    if draft.set_by_protocol:
        choice = _without_test(choice)
    show = "mean_sd" if choice.chosen == "t" else "median_iqr"
    reference, test = (
        given_of(summarize(values, show=show, alpha=alpha), frame.n_cases)
        for values in draft.singles
    )
    return reference, test, given_of(choice, frame.n_cases)


def _without_test(choice: PairedChoice) -> PairedChoice:
    """Take the p-values of Wilcoxon's test away where every difference is the same, but not 0."""
    constant = Reason.CONSTANT_DIFFERENCE
    if choice.t is None or choice.wilcoxon is None:
        return choice
    if choice.t.reason != constant or not choice.t.mean_difference:
        return choice
    nothing = replace(
        choice.wilcoxon,
        statistic=None,
        p_value=None,
        p_corrected=None,
        p_exact=None,
        z_pratt=None,
        p_pratt=None,
        hodges_lehmann_interval=None,
        hodges_lehmann_excludes_zero=None,
        hodges_lehmann_reason=constant,
        reason=constant,
    )
    return replace(choice, wilcoxon=nothing)


def given_of(answer: A, n_cases: int) -> A:
    """Say how many cases there could be: what is missing is in no table of counts."""
    return replace(answer, n_given=max(n_cases, answer.n))


def complete(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Leave out what is missing."""
    return values[~np.isnan(values)]


def complete_pairs(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[Numbers, Numbers]:
    """Keep the cases that have both."""
    there = ~(np.isnan(first) | np.isnan(second))
    return first[there], second[there]


# --- as text ------------------------------------------------------------------------------------


def summary_text(summary: Summary, digits: int) -> str:
    """Write ``3.61 ± 0.49`` or ``4.00 (3.00-4.00)``, and n."""
    text = summary.text(digits) if summary.n else NOTHING
    return f"{text}\nn {used(summary.n, summary.n_given)}"


def difference_text(choice: PairedChoice, digits: int) -> str:
    """Write the difference that the p-value is of, with the interval that agrees with it."""
    return f"{_value_text(choice, digits)}\nn {used(choice.n, choice.n_given)}"


def _value_text(choice: PairedChoice, digits: int) -> str:
    """Write the mean difference where t answers, Hodges and Lehmann's estimate where Wilcoxon."""
    t, ranks = choice.t, choice.wilcoxon
    if choice.chosen == "t" and t is not None:
        return with_interval(t.mean_difference, t.interval, None, digits)
    if ranks is None:
        return NOTHING
    interval = ranks.hodges_lehmann_interval
    text = with_interval(ranks.hodges_lehmann, interval, None, digits)
    if interval is None or not ranks.hodges_lehmann_excludes_zero:
        return text
    # What is 0 without holding it: shifts come near to it, and the p-value beside it is small.
    zero = number(0.0, digits)
    side = ">" if interval.low == 0 else "<"
    if interval.low == 0:
        text = text.replace(f"({zero},", f"({side}\N{NO-BREAK SPACE}{zero},")
    elif interval.high == 0:
        text = text.replace(f"{zero})", f"{side}\N{NO-BREAK SPACE}{zero})")
    return f"{side}\N{NO-BREAK SPACE}{text}" if ranks.hodges_lehmann == 0 else text


def score_difference_text(choice: PairedChoice, digits: int) -> str:
    """Write how many scores rose, fell and stayed, and the difference that the p-value is of.

    A pseudomedian with the zeros in it would be 0 as soon as most pairs are tied, and the mean
    may lie on the other side than the ranks: either would contradict the p-value beside it.
    """
    ranks = choice.wilcoxon
    if ranks is None or not choice.n:
        return f"{NOTHING}\nn {used(choice.n, choice.n_given)}"
    same = ranks.n - ranks.n_nonzero
    name = "mean" if choice.chosen == "t" else "Hodges-Lehmann"
    return (
        f"{ranks.n_positive} higher, {ranks.n_negative} lower, {same} same\n"
        f"{name} {_value_text(choice, digits)}\n"
        f"n {used(choice.n, choice.n_given)}"
    )


def test_text(choice: PairedChoice) -> str:
    """Write the p-value and which test it is from."""
    names = {"t": "t", "wilcoxon": "Wilcoxon", "wilcoxon_exact": "Wilcoxon, exact"}
    return f"{p_text(choice.p_value, choice.reason)}\n{names[choice.p_method]}"


def adjusted_text(adjusted: Adjusted) -> str:
    """Write the adjusted p-value; an asterisk where it is significant."""
    mark = "*" if adjusted.significant else ""
    return f"{p_text(adjusted.p_value)}{mark}\n{adjusted.n_tests} tests"


def difference_notes(
    frame: Frame, options: DifferenceQuery, *, scores: bool = False
) -> tuple[str, ...]:
    """Say how the columns of a table of differences came about; `scores`: of ordinal ones."""
    by = options.difference_test
    chosen = frame.protocol.difference_test if by == "protocol" else by
    who = "the protocol" if by == "protocol" else "the query"
    alpha = options.alpha or frame.protocol.alpha
    how = {
        "by_normality": "Shapiro-Wilk of the paired differences chooses between the paired t-test "
        "and Wilcoxon's signed rank test; where it has no answer, Wilcoxon",
        "paired_t": f"{who} fixes the paired t-test",
        "wilcoxon": f"{who} fixes Wilcoxon's signed rank test",
    }[chosen]
    stated = frame.protocol.multiplicity
    counts = "how many scores are higher, lower and the same, and " if scores else ""
    what = (
        f"{counts}the mean where the t-test answers, the Hodges-Lehmann estimate of the pairs that "
        f"differ where Wilcoxon's test does, with the {options.level:.0%} interval of that test "
        "(what is written > 0 or < 0 does not hold 0)"
    )
    return (
        (
            "Mean and SD where the t-test answers, median and quartiles where Wilcoxon's test "
            "does; every arm with all its values, the difference with the complete pairs."
        ),
        (
            f"Difference: test minus reference, {what}. {how[0].upper()}{how[1:]}. Wilcoxon's p is "
            "exact below 20 pairs that differ."
        ),
        (
            f"p adjusted by {words_of(stated.method)}: {families_text(stated)}; * significant at "
            f"{alpha:g}."
        ),
    )
