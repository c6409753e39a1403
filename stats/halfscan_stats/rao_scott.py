"""Score test and interval of a difference of paired proportions, the pairs nested in patients.

A patient gives several pairs: levels of the spine, and several readers. Rao and Scott divide the
counts by the design effect and go on as if the pairs were independent; here the score test of Nam
and Tango goes on. A sandwich standard error (Wald) collapses where few patients disagree, and is
zero where none does; the score's variance is that under the hypothesis, and does neither.

What the data cannot say, how alike the pairs of a patient are while hardly any of them disagrees,
is assumed (`design_effect`); what few patients say counts little (`degrees_of_freedom`).
``benchmarks/patients_score.py`` shows what that costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from halfscan_stats.inference import cluster_sums, t_quantile
from halfscan_stats.proportions import score_limits, score_statistic
from halfscan_stats.ratings import Codes, Numbers
from halfscan_stats.result import Decision, Interval, Reason

__all__ = [
    "ASSUMED_CORRELATION",
    "METHOD",
    "UNDECIDED",
    "PatientsScore",
    "degrees_of_freedom",
    "design_effect",
    "patients_score",
]

ASSUMED_CORRELATION = 0.1
METHOD = (
    "score test (Nam 1997, Tango 1998) on counts over the design effect of patients "
    "(Rao & Scott 1992), Student's t"
)
# Of fewer than two patients.
UNDECIDED = Decision(METHOD, reason=Reason.TOO_FEW)
_NOTHING = 1e-12  # of a variance that is a sum of squares of whole numbers: rounding


def design_effect(
    differences: Numbers, codes: Codes, n_clusters: int, *, margin: float = 0.0
) -> float:
    """Variance of a mean difference with its clusters, over that of independent pairs.

    With s and n of each of K clusters, their sum of differences and their pairs, it is
    K / (K - 1) sum (s - n mean)^2 over sum (|d| - mean^2) [1]_, at least the value of independent
    pairs: that levels be less alike than by chance is not believed.

    Both sums get w pairs that disagree and have the assumed design effect 1 + (m - 1) rho, m the
    mean size of the cluster of a pair and rho `ASSUMED_CORRELATION`. w is half of how many fewer
    pairs disagree than the ``margin * n`` at the least that the hypothesis expects, 0 where there
    are as many. It is the smallest weight with which p rises with every further miss: a miss takes
    one pair of that shortfall E away, 1 / E of the statistic and at most 1 / (2 E) of the root of
    the design effect. Without a pair that disagrees and without margin all of it is assumed.

    Parameters
    ----------
    differences : ndarray of float
        (pair,), between -1 and 1.
    codes : ndarray of int
        (pair,), cluster of each, 0 to n_clusters - 1.
    n_clusters : int
        K, at least 2.
    margin : float
        Distance of the hypothesis from 0.

    Returns
    -------
    float
        Above 0; of whole differences (-1, 0, 1) at least 1.

    References
    ----------
    .. [1] Rao JNK, Scott AJ (1992). Biometrics 48:577-585.
    """
    n, mean = differences.size, float(differences.mean())
    sizes = np.bincount(codes, minlength=n_clusters)
    assumed = 1 + (float(sizes @ sizes) / n - 1) * ASSUMED_CORRELATION
    disagreeing = float(np.abs(differences).sum())
    weight = max(0.0, n * margin - disagreeing) / 2
    independent = disagreeing - n * mean**2 + weight
    if independent <= _NOTHING * n:
        return assumed
    sums = cluster_sums(differences - mean, codes, n_clusters)
    nested = n_clusters / (n_clusters - 1) * float(sums @ sums) + weight * assumed
    least = float(np.square(differences - mean).sum()) + weight
    effect = max(nested, least) / independent
    # Fractions that are all the same say as little of their spread as no difference at all.
    return effect if effect > _NOTHING else assumed


def degrees_of_freedom(differences: Numbers, codes: Codes, n_clusters: int) -> float:
    """How well the design effect is known: by the clusters that raise it above 1.

    With s the sum of differences of a cluster and q that of their squares, s^2 - q is what the
    likeness of its pairs adds to the variance. Where few clusters add all of it, it is known as
    badly as from so many: one more than (sum s^2)^2 over the sum of the positive (s^2 - q)^2, as
    Satterthwaite counts [1]_, at most clusters - 1. That counts the clusters too high by leaving
    the others out of the lower sum, which the simulations ask for: the variance of pairs that
    disagree alone in their cluster is that of the score test, and known.

    Parameters
    ----------
    differences, codes, n_clusters
        See `design_effect`.

    Returns
    -------
    float
        At least 1.

    References
    ----------
    .. [1] Satterthwaite FE (1946). Biometrics Bull 2:110-114.
    """
    squares = np.square(cluster_sums(differences, codes, n_clusters))
    added = np.maximum(squares - cluster_sums(np.square(differences), codes, n_clusters), 0.0)
    carried, uncertain = float(squares.sum()), float(added @ added)
    if uncertain <= _NOTHING:
        return float(n_clusters - 1)
    return min(float(n_clusters - 1), 1 + carried**2 / uncertain)


@dataclass(frozen=True, slots=True)
class PatientsScore:
    """A difference of paired proportions, ready to be tested against any other one.

    Parameters
    ----------
    b, c : float
        Counts of either sign.
    n : int
        Pairs.
    design_effect : float
        What they are divided by.
    df : float
        Degrees of freedom.
    """

    b: float
    c: float
    n: int
    design_effect: float
    df: float

    def statistic(self, difference: float) -> float:
        """Student's t of the hypothesis that the difference is this one, above -1 and below 1."""
        return float(score_statistic(*self._effective(), difference))

    def p_above(self, difference: float) -> float:
        """One-sided p of the hypothesis that the difference is at most this one."""
        return float(special.stdtr(self.df, -self.statistic(difference)))

    def p_below(self, difference: float) -> float:
        """One-sided p of the hypothesis that the difference is at least this one."""
        return float(special.stdtr(self.df, self.statistic(difference)))

    def p_two_sided(self) -> float:
        """P-value of the hypothesis that there is no difference."""
        return 2 * float(special.stdtr(self.df, -abs(self.statistic(0.0))))

    def interval(self, level: float) -> Interval:
        """Differences that the test does not reject, two-sided with this confidence."""
        quantile = t_quantile((1 + level) / 2, self.df)
        return Interval(*score_limits(*self._effective(), quantile), level)

    def _effective(self) -> tuple[float, float, float]:
        return self.b / self.design_effect, self.c / self.design_effect, self.n / self.design_effect


def patients_score(
    differences: Numbers, codes: Codes, n_clusters: int, *, margin: float = 0.0
) -> PatientsScore | None:
    """Score test of the mean of paired differences that are nested in clusters.

    Parameters
    ----------
    differences : ndarray of float
        (pair,), between -1 and 1: of whole ones (-1, 0, 1) it is Tango's statistic on the
        effective sample [1]_, [2]_, adjusted for clusters as Yang, Sun and Hardin do [3]_.
    codes : ndarray of int
        (pair,), cluster of each, 0 to n_clusters - 1.
    n_clusters : int
        Clusters (patients).
    margin : float
        Of the hypothesis that is tested: see `design_effect`.

    Returns
    -------
    PatientsScore or None
        None with fewer than two clusters: one patient says nothing of others.

    References
    ----------
    .. [1] Tango T (1998). Stat Med 17:891-908.
    .. [2] Rao JNK, Scott AJ (1992). Biometrics 48:577-585.
    .. [3] Yang Z, Sun X, Hardin JW (2012). Comput Stat Data Anal 56:1301-1320.
    """
    if n_clusters < 2:
        return None
    return PatientsScore(
        b=float(differences[differences > 0].sum()),
        c=-float(differences[differences < 0].sum()),
        n=differences.size,
        design_effect=design_effect(differences, codes, n_clusters, margin=margin),
        df=degrees_of_freedom(differences, codes, n_clusters),
    )
