"""How many subjects a study of agreement needs, and the power that it has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.errors import StatsError
from halfscan_stats.measurements import finite, numbers
from halfscan_stats.planning import (
    SampleSize,
    check,
    check_levels,
    in_clusters,
    tail_of,
    unreachable,
    whole,
)

__all__ = ["power_kappa", "sample_size_kappa"]

Floats = npt.NDArray[np.float64]


def power_kappa(
    n: int,
    kappa0: float,
    kappa1: float,
    *,
    marginals: tuple[float, float] | None = None,
    prevalence: float | Sequence[float] | None = None,
    raters: int = 2,
    alpha: float = 0.05,
    two_sided: bool = True,
) -> SampleSize:
    """Power of a test of H0: kappa = `kappa0` when the truth is `kappa1`.

    Parameters
    ----------
    n : int
        Subjects.
    kappa0, kappa1 : float
        Kappa under H0 and under the alternative; 0 is chance agreement. With `prevalence` at
        least 0, with `marginals` what can occur with them.
    marginals : tuple of two floats, optional
        Share of positive findings of either rater: two raters, a binary finding, the asymptotic
        variance of Fleiss, Cohen and Everitt under both hypotheses [1]_.
    prevalence : float or sequence of float, optional
        Prevalence of a binary finding, or of every category (they sum to 1), the same for all
        raters: the chi-square test of goodness of fit with 1 degree of freedom [2]_, [3]_.
    raters : int
        Raters; more than 2 need `prevalence`.
    alpha, two_sided
        Level, and whether the test is two-sided.

    Returns
    -------
    SampleSize

    Raises
    ------
    StatsError
        If an argument lies outside its range, the kappas cannot occur with the marginals, or not
        exactly one of `marginals` and `prevalence` is given.

    References
    ----------
    .. [1] Cantor AB (1996). Psychol Methods 1:150-153.
    .. [2] Donner A, Eliasziw M (1992). Stat Med 11:1511-1519.
    .. [3] Altaye M, Donner A, Klar N (2001). Biometrics 57:584-588.
    """
    plan = _kappa_plan(kappa0, kappa1, marginals, prevalence, raters)
    check_levels(alpha)
    n = whole(n, 1)
    power = plan.power(n, tail_of(alpha, two_sided=two_sided))
    return SampleSize(plan.method, n, power, alpha)


def sample_size_kappa(  # noqa: PLR0913  (all but the kappas are keywords)
    kappa0: float,
    kappa1: float,
    *,
    marginals: tuple[float, float] | None = None,
    prevalence: float | Sequence[float] | None = None,
    raters: int = 2,
    power: float = 0.8,
    alpha: float = 0.05,
    two_sided: bool = True,
    cluster_size: float | None = None,
    icc: float = 0.0,
    cluster_size_cv: float = 0.0,
) -> SampleSize:
    """Subjects that a test of H0: kappa = `kappa0` needs when the truth is `kappa1`.

    Parameters
    ----------
    kappa0, kappa1, marginals, prevalence, raters, alpha, two_sided
        See `power_kappa`.
    power : float
        Power to reach.
    cluster_size, icc, cluster_size_cv
        See `sample_size_paired_t`.

    Returns
    -------
    SampleSize
        With kappa1 = kappa0 there is no n (`not_reachable`).

    Raises
    ------
    StatsError
        See `power_kappa`.

    Notes
    -----
    `kappa0` is that of the null hypothesis, `kappa1` the one that is true. The example in the
    manual of ``N.cohen.kappa`` (R, irr: marginals 0.5 and 0.5, 0.7 and 0.85) has them the other
    way round, since that function takes the true one first: its 96 subjects (119 two-sided) are
    those of ``kappa0=0.85, kappa1=0.7``. With ``kappa0=0.7, kappa1=0.85`` there are more, since
    the variance under the null hypothesis is larger.
    """
    plan = _kappa_plan(kappa0, kappa1, marginals, prevalence, raters)
    check_levels(alpha, power)
    if math.isclose(kappa0, kappa1, abs_tol=1e-12):
        return unreachable(plan.method, alpha, power)
    tail = tail_of(alpha, two_sided=two_sided)
    unrounded = plan.size(tail, power)
    n = max(2, math.ceil(unrounded - 1e-9))
    found = SampleSize(
        plan.method, n, plan.power(n, tail), alpha, n_unrounded=unrounded, target_power=power
    )
    return in_clusters(found, cluster_size, icc, cluster_size_cv)


@dataclass(frozen=True, slots=True)
class _Cantor:
    """Normal approximation with the variance of kappa under both hypotheses."""

    shift: float
    sd0: float
    sd1: float
    method: str = "kappa of two raters, asymptotic variance (Cantor 1996)"

    def power(self, n: float, tail: float) -> float:
        quantile = float(special.ndtri(1 - tail))
        distance = self.shift * math.sqrt(n) - quantile * self.sd0
        return float(special.ndtr(distance / self.sd1)) if self.sd1 > 0 else float(distance > 0)

    def size(self, tail: float, power: float) -> float:
        quantiles = special.ndtri(1 - tail) * self.sd0 + special.ndtri(power) * self.sd1
        return float((quantiles / self.shift) ** 2) if quantiles > 0 else 2.0


@dataclass(frozen=True, slots=True)
class _GoodnessOfFit:
    """Chi-square with 1 degree of freedom; n subjects have noncentrality n * per_subject."""

    per_subject: float
    method: str = "kappa, goodness of fit (Donner & Eliasziw 1992)"

    def power(self, n: float, tail: float) -> float:
        critical = special.chdtri(1, 2 * tail)
        return float(1 - special.chndtr(critical, 1, n * self.per_subject))

    def size(self, tail: float, power: float) -> float:
        """Solve for the noncentrality, to a power within 1e-5 as the R package kappaSize does."""
        critical = float(special.chdtri(1, 2 * tail))
        low, middle, high = critical, 2 * critical, 3 * critical
        while special.chndtr(critical, 1, low) < 1 - power:
            low, middle = low / 4, low
        while special.chndtr(critical, 1, high) > 1 - power:
            high += critical
        while True:
            if special.chndtr(critical, 1, middle) < 1 - power:
                high = middle
            else:
                low = middle
            middle = (low + high) / 2
            if abs(special.chndtr(critical, 1, middle) - (1 - power)) <= 1e-5:
                return middle / self.per_subject


def _kappa_plan(
    kappa0: float,
    kappa1: float,
    marginals: tuple[float, float] | None,
    prevalence: float | Sequence[float] | None,
    raters: int,
) -> _Cantor | _GoodnessOfFit:
    """Choose the model by what is known of the findings."""
    kappa0, kappa1 = finite(kappa0, "kappa0"), finite(kappa1, "kappa1")
    if (marginals is None) == (prevalence is None):
        raise StatsError("give either marginals (two raters) or prevalence")
    if marginals is not None:
        check(raters == 2, "marginals are for 2 raters", raters)
        sds = [math.sqrt(_kappa_variance(kappa, *marginals)) for kappa in (kappa0, kappa1)]
        return _Cantor(abs(kappa1 - kappa0), sds[0], sds[1])
    for kappa in (kappa0, kappa1):
        check(0 <= kappa < 1, "kappa must be at least 0 and below 1", kappa)
    check(raters >= 2 and int(raters) == raters, "raters must be at least 2", raters)
    shares = np.atleast_1d(numbers(np.asarray(prevalence), "prevalence"))
    if shares.size == 1:
        shares = np.array([shares[0], 1 - shares[0]])
    check(bool(np.all((shares > 0) & (shares < 1))), "shares must lie within (0, 1)", shares)
    check(math.isclose(shares.sum(), 1, abs_tol=1e-9), "shares must sum to 1", shares.sum())
    before, after = (_pattern_shares(kappa, shares, int(raters)) for kappa in (kappa0, kappa1))
    return _GoodnessOfFit(float(np.sum((after - before) ** 2 / before)))


def _kappa_variance(kappa: float, first: float, second: float) -> float:
    """Variance of kappa times n, for two raters with these shares of positive findings [1].

    [1] Fleiss JL, Cohen J, Everitt BS (1969). Psychol Bull 72:323-327.
    """
    for share in (first, second):
        check(0 < share < 1, "marginals must be above 0 and below 1", share)
    check(-1 <= kappa <= 1, "kappa must lie in [-1, 1]", kappa)
    chance = first * second + (1 - first) * (1 - second)
    agreement = chance + kappa * (1 - chance)
    both = (agreement + first + second - 1) / 2
    cells = np.array([[both, first - both], [second - both, agreement - both]])
    if cells.min() < -1e-12:
        raise StatsError(f"kappa {kappa} cannot occur with the marginals {first} and {second}")
    rows, columns = np.array([first, 1 - first]), np.array([second, 1 - second])
    diagonal = np.sum(np.diag(cells) * (1 - (rows + columns) * (1 - kappa)) ** 2)
    off = cells * (columns[:, None] + rows[None, :]) ** 2
    apart = (1 - kappa) ** 2 * (off[0, 1] + off[1, 0])
    variance = diagonal + apart - (kappa - chance * (1 - kappa)) ** 2
    return float(max(variance, 0.0) / (1 - chance) ** 2)


def _pattern_shares(kappa: float, shares: Floats, raters: int) -> Floats:
    """Probability that all raters choose a category, for each, and that they disagree.

    Two categories: with probability kappa all raters copy one another (the common correlation
    model). More categories: the Dirichlet-multinomial model. For two raters both are the same.
    """
    if shares.size == 2:
        unanimous = (1 - kappa) * shares**raters + kappa * shares
    else:
        steps = np.arange(raters)
        factors = (1 - kappa) * shares[:, None] + kappa * steps
        unanimous = np.prod(factors / (1 - kappa + kappa * steps), axis=1)
    return np.append(unanimous, 1 - unanimous.sum())
