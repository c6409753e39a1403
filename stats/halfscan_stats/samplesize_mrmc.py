"""How many cases a study of many readers needs, from the variance components of another one."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.measurements import finite
from halfscan_stats.multireader import VarianceComponents
from halfscan_stats.planning import (
    CERTAIN,
    SampleSize,
    check,
    check_levels,
    first_reaching,
    in_clusters,
    unreachable,
    whole,
)

__all__ = ["power_mrmc", "sample_size_mrmc"]


def power_mrmc(
    n: int,
    difference: float,
    components: VarianceComponents,
    *,
    n_readers: int,
    pilot_cases: int,
    margin: float | None = None,
    alpha: float = 0.05,
) -> SampleSize:
    """Power of Obuchowski and Rockette's test of two treatments, readers and cases random [1]_.

    Parameters
    ----------
    n : int
        Cases that all readers read with both treatments; positive ones in the same share as in
        the pilot study.
    difference : float
        True difference of the figure of merit; for non-inferiority the new treatment minus the
        reference, 0 where they are as good.
    components : VarianceComponents
        Of the pilot study, which `obuchowski_rockette` gives: `treatment_reader`, `error` and
        the covariances.
    n_readers : int
        Readers of the study that is planned, at least 2.
    pilot_cases : int
        Cases of the pilot study: what comes from the cases shrinks as their number grows.
    margin : float, optional
        Of non-inferiority: plans `noninferiority_mrmc`, one-sided. Without it the two-sided test
        of a difference.
    alpha : float
        Level, one-sided with a margin.

    Returns
    -------
    SampleSize
        A component of treatment and reader below 0 counts as 0, and so does cov2 - cov3.

    Raises
    ------
    StatsError
        If an argument lies outside its range, a component is missing, or what the cases add to
        the variance is not above 0.

    References
    ----------
    .. [1] Hillis SL, Obuchowski NA, Berbaum KS (2011). Acad Radiol 18:129-142.
    """
    plan = _plan(difference, components, n_readers, pilot_cases, margin, alpha)
    n = whole(n, 2)
    return SampleSize(plan.method, n, plan.power(n), alpha, n_readers=plan.readers)


def sample_size_mrmc(  # noqa: PLR0913  (all but the first two are keywords)
    difference: float,
    components: VarianceComponents,
    *,
    n_readers: int,
    pilot_cases: int,
    margin: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    cluster_size: float | None = None,
    icc: float = 0.0,
    cluster_size_cv: float = 0.0,
) -> SampleSize:
    """Cases that Obuchowski and Rockette's test needs with a number of readers.

    Parameters
    ----------
    difference, components, n_readers, pilot_cases, margin, alpha
        See `power_mrmc`.
    power : float
        Power to reach.
    cluster_size, icc, cluster_size_cv
        See `sample_size_paired_t`: where a patient gives several cases.

    Returns
    -------
    SampleSize
        Where readers differ so much about the treatments that no number of cases would do, and
        where there is nothing to find, `not_reachable`: take more readers.

    Raises
    ------
    StatsError
        See `power_mrmc`.
    """
    check_levels(alpha, power)
    plan = _plan(difference, components, n_readers, pilot_cases, margin, alpha)
    if plan.shift <= 0 or plan.power(math.inf) < power:
        return unreachable(plan.method, alpha, power)
    n = first_reaching(plan.power, power, 2)
    if n is None:
        return unreachable(plan.method, alpha, power, ever=True)
    found = SampleSize(
        plan.method, n, plan.power(n), alpha, target_power=power, n_readers=plan.readers
    )
    return in_clusters(found, cluster_size, icc, cluster_size_cv)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A test whose noncentrality and degrees of freedom follow from the number of cases.

    Parameters
    ----------
    shift : float
        How far the truth lies from the hypothesis.
    interaction, own, shared : float
        Variance of treatment and reader; what one case adds to the error of a reader alone; and
        to that of all readers together.
    readers : int
        Readers.
    one_sided : bool
        Non-inferiority.
    alpha : float
        Level.
    """

    shift: float
    interaction: float
    own: float
    shared: float
    readers: int
    one_sided: bool
    alpha: float

    @property
    def method(self) -> str:
        what = "non-inferiority" if self.one_sided else "difference"
        return f"Obuchowski-Rockette, {what} (Hillis, Obuchowski & Berbaum 2011)"

    def power(self, cases: float) -> float:
        """Power of a number of cases; infinitely many leave what the readers differ by."""
        apart = self.interaction + self.own / cases
        total = apart + self.readers * self.shared / cases
        if total <= 0:
            return 1.0
        df = math.inf if apart <= 0 else (total / apart) ** 2 * (self.readers - 1)
        effect = self.shift * math.sqrt(self.readers / (2 * total))
        return _beyond(effect, df, self.alpha, one_sided=self.one_sided)


def _beyond(effect: float, df: float, alpha: float, *, one_sided: bool) -> float:
    """Power of Student's t whose mean is `effect` standard errors; a test of F two-sided."""
    from scipy import stats  # noqa: PLC0415  (slow import)

    tail = alpha if one_sided else alpha / 2
    critical = -float(special.stdtrit(df, tail) if math.isfinite(df) else special.ndtri(tail))
    if effect - critical > CERTAIN:
        return 1.0  # where the noncentral distribution is hard to compute
    if not math.isfinite(df):
        wrong = 0.0 if one_sided else float(special.ndtr(-critical - effect))
        return float(special.ndtr(effect - critical)) + wrong
    if one_sided:
        return float(np.clip(stats.nct.sf(critical, df, effect), 0.0, 1.0))
    return float(np.clip(stats.ncf.sf(critical**2, 1, df, effect**2), 0.0, 1.0))


def _plan(
    difference: float,
    components: VarianceComponents,
    n_readers: int,
    pilot_cases: int,
    margin: float | None,
    alpha: float,
) -> _Plan:
    """Check what a plan rests on."""
    check_levels(alpha)
    check(-1 < finite(difference, "difference") < 1, "difference must lie in (-1, 1)", difference)
    if margin is not None:
        check(0 < finite(margin, "margin") < 1, "margin must be above 0 and below 1", margin)
    readers = whole(n_readers, 2, "n_readers")
    check(finite(pilot_cases, "pilot_cases") >= 2, "pilot_cases must be at least 2", pilot_cases)
    interaction, error = components.treatment_reader, components.error
    known = (components.cov1, components.cov2, components.cov3)
    if interaction is None or error is None or None in known:
        raise StatsError(
            "components must have treatment_reader, error, cov1, cov2 and cov3: two "
            "treatments and two readers, got one that is None"
        )
    cov1, cov2, cov3 = (float(one or 0.0) for one in known)
    shared = max(cov2 - cov3, 0.0)
    own = error - cov1 - shared
    if error - cov1 + (n_readers - 1) * shared <= 0:
        raise StatsError(f"components leave no variance of cases to plan with, got {components!r}")
    return _Plan(
        shift=abs(difference) if margin is None else difference + margin,
        interaction=max(interaction, 0.0),
        own=own * pilot_cases,
        shared=shared * pilot_cases,
        readers=readers,
        one_sided=margin is not None,
        alpha=alpha,
    )
