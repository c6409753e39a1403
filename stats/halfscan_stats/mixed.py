"""Regression where observations are nested in patients: mixed models and estimating equations.

statsmodels fits; this module guards. A model that cannot be told from its data, or that did not
converge, is answered with None and a reason, not with whatever the last step left behind.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfscan_stats.errors import StatsError
from halfscan_stats.inference import normal_quantile, two_sided_p
from halfscan_stats.ratings import Codes, Numbers, check_level, cluster_codes, numbers
from halfscan_stats.result import Interval, Reason, Result

__all__ = [
    "Coefficient",
    "GeeModel",
    "MixedModel",
    "gee_logit",
    "linear_mixed_model",
    "wald_coefficients",
]

# statsmodels warns of every optimiser that it gives up; the filters of `warnings` belong to the
# process, so that only one fit may change them at a time.
_FITTING = threading.Lock()
CERTAIN = 1e-8  # a fitted probability closer to 0 or 1 than this means that a group is all alike


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A fixed effect.

    Parameters
    ----------
    name : str
        ``intercept`` or the name of the column.
    estimate, se : float
        The coefficient (of the log odds, for `gee_logit`) and its standard error.
    z, p_value : float
        Wald statistic and its two-sided p from the normal distribution.
    interval : Interval
        Wald interval.
    """

    name: str
    estimate: float
    se: float
    z: float
    p_value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class _Model(Result):
    """What both models carry."""

    coefficients: tuple[Coefficient, ...] = ()
    n_groups: int = 0
    reason: Reason | None = None

    def coefficient(self, name: str) -> Coefficient | None:
        """Give the fixed effect of that name, or None where the model has no answer."""
        return next((effect for effect in self.coefficients if effect.name == name), None)


@dataclass(frozen=True, slots=True)
class MixedModel(_Model):
    """A linear mixed model.

    Parameters
    ----------
    method, n, n_given
        See `Result`; n counts complete observations.
    coefficients : tuple of Coefficient
        Fixed effects, the intercept first; empty where undefined.
    n_groups : int
        Groups (patients).
    sd_group : float or None
        Standard deviation of the random intercept.
    sd_slope, slope_correlation : float or None
        Of the random slope, and its correlation with the intercept (None where either has no
        spread); None without `slope`.
    sd_residual : float or None
        Standard deviation within groups.
    icc : float or None
        Share of the variance that lies between groups; None with a random slope.
    reason : Reason or None
        Why there is no answer.
    """

    sd_group: float | None = None
    sd_slope: float | None = None
    slope_correlation: float | None = None
    sd_residual: float | None = None
    icc: float | None = None


@dataclass(frozen=True, slots=True)
class GeeModel(_Model):
    """A logistic model by generalised estimating equations.

    Parameters
    ----------
    method, n, n_given, coefficients, n_groups, reason
        See `MixedModel`; standard errors are robust (sandwich).
    correlation : {"exchangeable", "independence"}
        Working correlation.
    alpha : float or None
        Its estimate, by moments as in R's geepack; None for independence.
    """

    correlation: str = "exchangeable"
    alpha: float | None = None


def linear_mixed_model(
    y: npt.ArrayLike,
    fixed: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    slope: str | None = None,
    level: float = 0.95,
) -> MixedModel:
    """Fit y ~ 1 + fixed + (1 | groups), or (1 + slope | groups), by REML [1]_.

    Parameters
    ----------
    y : array_like
        (observation,), None or NaN where missing (the observation is left out).
    fixed : mapping of str to array_like
        Columns of fixed effects by name, (observation,) each; an intercept is added.
    groups : array_like
        (observation,), the patient that an observation belongs to.
    slope : str, optional
        Column whose effect differs between groups.
    level : float
        Confidence level.

    Returns
    -------
    MixedModel
        None with a reason: `too_few` (groups, or observations in them), `no_variation` (y),
        `singular` (columns that say the same), `zero_variance` (nothing left within groups),
        `no_convergence`.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Laird NM, Ware JH (1982). Biometrics 38:963-974.
    """
    check_level(level)
    data = _data(y, fixed, groups)
    method = "linear mixed model, REML (statsmodels)"
    if slope is not None and slope not in fixed:
        raise StatsError(f"slope must be one of {', '.join(fixed)}, got {slope!r}")
    random = [0] if slope is None else [0, data.names.index(slope)]
    reason = _no_fit(data) or _no_residual(data, random)
    if reason is not None:
        return MixedModel(method, data.n, data.n_given, n_groups=data.n_groups, reason=reason)
    fit = _fit_mixed(data, random)
    if fit is None:
        return MixedModel(
            method, data.n, data.n_given, n_groups=data.n_groups, reason=Reason.NO_CONVERGENCE
        )
    sds = np.sqrt(np.maximum(np.diag(fit.cov_re), 0.0))
    within = math.sqrt(fit.scale)
    return MixedModel(
        method,
        data.n,
        data.n_given,
        coefficients=wald_coefficients(data.names, fit.fe_params, fit.bse_fe, level),
        n_groups=data.n_groups,
        sd_group=float(sds[0]),
        sd_slope=None if slope is None else float(sds[1]),
        slope_correlation=None if slope is None else _correlation(fit.cov_re, sds),
        sd_residual=within,
        icc=float(sds[0] ** 2 / (sds[0] ** 2 + within**2)) if slope is None else None,
    )


def gee_logit(
    y: npt.ArrayLike,
    fixed: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    correlation: str = "exchangeable",
    level: float = 0.95,
) -> GeeModel:
    """Fit the log odds of y by generalised estimating equations [1]_.

    Parameters
    ----------
    y : array_like
        (observation,), 1 (or True) and 0, None or NaN where missing (the observation is left
        out).
    fixed : mapping of str to array_like
        Columns of fixed effects by name, (observation,) each; an intercept is added.
    groups : array_like
        (observation,), the patient that an observation belongs to.
    correlation : {"exchangeable", "independence"}
        Working correlation within a group.
    level : float
        Confidence level.

    Returns
    -------
    GeeModel
        None with a reason: `too_few`, `no_variation` (y), `singular` (columns that say the same,
        or a group that is all 0 or all 1), `no_convergence`.

    Raises
    ------
    StatsError
        If the input breaks a rule.

    References
    ----------
    .. [1] Liang KY, Zeger SL (1986). Biometrika 73:13-22.
    """
    check_level(level)
    if correlation not in {"exchangeable", "independence"}:
        raise StatsError(f"correlation must be exchangeable or independence, got {correlation!r}")
    data = _data(y, fixed, groups)
    if not np.isin(data.y, (0, 1)).all():
        raise StatsError("y must be 1 and 0 in a logistic model")
    method = f"GEE, logit link, {correlation} working correlation, robust SE (statsmodels)"
    reason = _no_fit(data)
    fit = None if reason is not None else _fit_gee(data, correlation)
    if fit is None or _separated(fit):
        reason = reason or (Reason.NO_CONVERGENCE if fit is None else Reason.SINGULAR)
        return GeeModel(
            method,
            data.n,
            data.n_given,
            n_groups=data.n_groups,
            reason=reason,
            correlation=correlation,
        )
    return GeeModel(
        method,
        data.n,
        data.n_given,
        coefficients=wald_coefficients(data.names, fit.params, fit.bse, level),
        n_groups=data.n_groups,
        correlation=correlation,
        alpha=_moment(fit.resid_pearson, data) if correlation == "exchangeable" else None,
    )


@dataclass(frozen=True, slots=True)
class _Data:
    """Complete observations, sorted by group."""

    y: Numbers
    design: Numbers  # (observation, column), the intercept first
    names: list[str]
    groups: Codes
    n_groups: int
    n_given: int

    @property
    def n(self) -> int:
        return int(self.y.size)


def _data(y: npt.ArrayLike, fixed: Mapping[str, npt.ArrayLike], groups: npt.ArrayLike) -> _Data:
    """Check, drop what is incomplete, sort by group."""
    if not isinstance(fixed, Mapping):
        raise StatsError(f"fixed must map names to columns, got a {type(fixed).__name__}")
    columns = [numbers(y, "y"), *(numbers(column, name) for name, column in fixed.items())]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        shapes = [column.shape for column in columns]
        raise StatsError(f"y and every column must be vectors of one length, got {shapes}")
    if "intercept" in fixed:
        raise StatsError("an intercept is added; no column may be called 'intercept'")
    table = np.stack(columns, axis=1)
    kept = np.asarray(~np.isnan(table).any(axis=1))
    codes, count = cluster_codes(groups, kept)
    order = np.argsort(codes, kind="stable")
    table = table[kept][order]
    return _Data(
        y=table[:, 0],
        design=np.column_stack([np.ones(len(table)), table[:, 1:]]),
        names=["intercept", *fixed],
        groups=codes[order],
        n_groups=count,
        n_given=kept.size,
    )


def _no_fit(data: _Data) -> Reason | None:
    """Why no model of these columns can be told from the data."""
    if data.n_groups < 2 or data.n <= data.design.shape[1]:
        return Reason.TOO_FEW
    if np.ptp(data.y) == 0:
        return Reason.NO_VARIATION
    scaled = data.design / np.maximum(np.abs(data.design).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < scaled.shape[1]:
        return Reason.SINGULAR
    return None


def _no_residual(data: _Data, random: list[int]) -> Reason | None:
    """Why the spread within groups cannot be told from that between them."""
    if data.n <= data.n_groups * len(random):
        return Reason.TOO_FEW
    rest = np.column_stack([data.y, data.design])
    ends = np.cumsum(np.bincount(data.groups))[:-1]
    for rows in np.split(np.arange(data.n), ends):  # sorted: a group's rows are neighbours
        basis = np.linalg.qr(data.design[rows][:, random]).Q
        rest[rows] -= basis @ (basis.T @ rest[rows])
    left = rest[:, 0] - rest[:, 1:] @ np.linalg.lstsq(rest[:, 1:], rest[:, 0], rcond=None)[0]
    spread = float(np.sum((data.y - data.y.mean()) ** 2))
    return Reason.ZERO_VARIANCE if float(left @ left) <= 1e-20 * spread else None


def _fit_mixed(data: _Data, random: list[int]) -> Any:
    """Fit, or None. Powell's method finds a variance of zero, where gradients fail."""
    from statsmodels.regression.mixed_linear_model import MixedLM  # noqa: PLC0415  (slow import)

    model = MixedLM(data.y, data.design, groups=data.groups, exog_re=data.design[:, random])
    with _FITTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = model.fit(reml=True, method=["bfgs", "powell"])
        except np.linalg.LinAlgError:
            return None
    known = np.concatenate([fit.fe_params, fit.bse_fe, np.ravel(fit.cov_re), [fit.scale]])
    return fit if fit.converged and np.isfinite(known).all() else None


def _fit_gee(data: _Data, correlation: str) -> Any:
    """Fit, or None."""
    from statsmodels.genmod import cov_struct, families  # noqa: PLC0415  (slow import)
    from statsmodels.genmod.generalized_estimating_equations import GEE  # noqa: PLC0415

    structure = (
        cov_struct.Exchangeable() if correlation == "exchangeable" else cov_struct.Independence()
    )
    model = GEE(
        data.y,
        data.design,
        groups=data.groups,
        family=families.Binomial(),
        cov_struct=structure,
    )
    with _FITTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = model.fit()
        except (np.linalg.LinAlgError, ValueError):
            return None
        variances = np.diag(np.asarray(fit.cov_robust))  # before it takes roots of what is below 0
    finite = np.isfinite(fit.params).all() and np.isfinite(variances).all()
    return fit if fit.converged and finite else None


def _separated(fit: Any) -> bool:
    """Whether the log odds of somebody run away to infinity, or have no spread."""
    fitted = np.asarray(fit.fittedvalues)
    certain = (np.minimum(fitted, 1 - fitted) < CERTAIN).any()
    return bool(certain or (np.diag(np.asarray(fit.cov_robust)) <= 0).any())


def _moment(residuals: npt.ArrayLike, data: _Data) -> float | None:
    """Mean product of two residuals of a group over their mean square."""
    r = np.asarray(residuals, dtype=float)
    sizes = np.bincount(data.groups)
    sums, squares = np.bincount(data.groups, r), np.bincount(data.groups, r * r)
    pairs = float(np.sum(sizes * (sizes - 1))) / 2
    if pairs == 0:
        return None
    return float(np.sum(sums**2 - squares)) / 2 / pairs / float(np.mean(r * r))


def _correlation(covariance: Any, sds: Numbers) -> float | None:
    product = float(sds[0] * sds[1])
    if product <= 1e-12 * max(1.0, float(sds.max()) ** 2):
        return None
    return float(np.clip(np.asarray(covariance)[0, 1] / product, -1.0, 1.0))


def wald_coefficients(
    names: Sequence[str], estimates: npt.ArrayLike, errors: npt.ArrayLike, level: float
) -> tuple[Coefficient, ...]:
    """Give the coefficients with Wald's z, two-sided p and interval."""
    quantile = normal_quantile((1 + level) / 2)
    rows = zip(names, np.asarray(estimates), np.asarray(errors), strict=True)
    return tuple(
        Coefficient(
            name,
            float(value),
            float(se),
            float(value / se),
            two_sided_p(float(value / se)),
            Interval(float(value - quantile * se), float(value + quantile * se), level),
        )
        for name, value, se in rows
    )
