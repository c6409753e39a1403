"""Agreement of two readings of the same cases: what several tables say of it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from halfscan_api.statistics.counts import Counts, Scale
from halfscan_api.statistics.results import NOTHING, used, with_interval
from halfscan_stats import (
    Agreement,
    Icc,
    Reason,
    clustered_kappa,
    cohen_kappa,
    gwet_ac,
    icc,
)

WEIGHTS = ("by_scale", "none", "linear", "quadratic")


@dataclass(frozen=True, slots=True)
class Compared:
    """Which two readings are compared.

    Attributes
    ----------
    comparison : str
        ``inter_reader`` (two readers, the same arm), ``inter_protocol`` (one reader, the reference
        and another arm) or ``intra_reader`` (one reader, one arm, again).
    scope : str
        ``within`` one arm, ``pooled`` over all arms, or ``between`` two arms.
    readers, arms : tuple of str
        One or two of each; `arms` names all that are pooled.
    repeat_round : int
        0, or which repeat it is.
    """

    comparison: str
    scope: str
    readers: tuple[str, ...]
    arms: tuple[str, ...]
    repeat_round: int = 0


@dataclass(frozen=True, slots=True)
class KappaRow:
    """Agreement on a scale.

    Attributes
    ----------
    kind : str
        ``kappa``.
    section : str
        ``scores`` or ``findings``.
    item, label : str
        Criterion, group of criteria or finding.
    level : str
        ``criterion``, ``group`` or ``finding``.
    place : str or None
        Sequence; None where levels are added up.
    compared : Compared
    kappa : Agreement
        Weighted as `kappa.weights` says; the cluster-robust interval stands beside the naive one
        where a patient gives several observations.
    gwet : Agreement
        Gwet's AC1 (AC2 where weighted), which prevalence moves less.
    table : tuple of tuple of int
        The counts themselves, first reading down, second across.
    """

    section: str
    item: str
    label: str
    level: str
    place: str | None
    compared: Compared
    kappa: Agreement
    gwet: Agreement
    table: tuple[tuple[int, ...], ...]
    kind: str = "kappa"


@dataclass(frozen=True, slots=True)
class IccRow:
    """Agreement of measurements.

    Attributes
    ----------
    kind : str
        ``icc``.
    section : str
        ``measurements``.
    item, label : str
        Region.
    level : str
        ``region``.
    place : str
        Sequence.
    compared : Compared
    icc : Icc
        ICC(A,1); the cluster-robust interval stands beside where the arms are pooled.
    """

    item: str
    label: str
    place: str
    compared: Compared
    icc: Icc
    section: str = "measurements"
    level: str = "region"
    kind: str = "icc"


def weights_for(asked: str, scale: Sequence[Hashable]) -> str:
    """Choose the weights of kappa: linear for an ordinal scale, none for a binary one."""
    if asked != "by_scale":
        return asked
    return "none" if len(scale) < 3 else "linear"


def kappa_of(table: Counts, scale: Scale, weights: str, n_given: int, level: float) -> Agreement:
    """Compute kappa where each patient gives one observation."""
    answer = cohen_kappa(table=table, categories=scale, weights=weights, level=level)
    return replace(answer, n_given=max(n_given, answer.n))


def clustered_kappa_of(
    tables: Counts, scale: Scale, weights: str, n_given: int, level: float
) -> Agreement:
    """Compute kappa with both intervals; tables are (patient, category, category)."""
    answer = kappa_of(tables.sum(axis=0), scale, weights, n_given, level)
    if not len(tables):
        return replace(answer, n_clusters=0, cluster_reason=answer.reason)
    robust = clustered_kappa(tables=tables, categories=scale, weights=weights, level=level)
    return replace(
        answer,
        n_clusters=robust.n_clusters,
        cluster_se=robust.se if robust.interval is not None else None,
        cluster_interval=robust.interval,
        cluster_reason=robust.reason,
        design_effect=robust.design_effect,
    )


def gwet_of(table: Counts, scale: Scale, weights: str, n_given: int, level: float) -> Agreement:
    """Compute Gwet's coefficient on the same table."""
    if not table.sum():
        method = "Gwet's AC1" if weights == "none" else "Gwet's AC2"
        return Agreement(method, 0, n_given, weights=weights, reason=Reason.TOO_FEW)
    answer = gwet_ac(table=table, categories=scale, weights=weights, level=level)
    return replace(answer, n_given=max(n_given, answer.n))


def counts_of_table(table: Counts) -> tuple[tuple[int, ...], ...]:
    """Give a table as numbers of Python."""
    return tuple(tuple(int(cell) for cell in row) for row in table)


def pooled_icc(arms: Sequence[npt.NDArray[np.float64]], level: float) -> Icc:
    """Compute the ICC over all arms, one block (case, reader) for each: a case is a cluster."""
    patients = np.tile(np.arange(len(arms[0])), len(arms))
    return icc(np.concatenate(arms), level=level, cluster=patients)


def agreement_text(answer: Agreement | Icc) -> str:
    """Write an agreement: both intervals, word and raw agreement, n; one line each."""
    lines = [with_interval(answer.value, answer.interval, answer.reason)]
    if answer.n_clusters is not None:
        robust = with_interval(None, answer.cluster_interval, answer.cluster_reason)
        lines.append(f"patients: {robust.removeprefix(NOTHING).strip()}")
    if isinstance(answer, Agreement):
        words = [answer.word] if answer.word is not None else []
        if answer.raw_agreement is not None:
            words.append(f"raw {answer.raw_agreement:.2f}")
        lines += [", ".join(words)] if words else []
    lines.append(f"n {used(answer.n, answer.n_given)}")
    return "\n".join(lines)
