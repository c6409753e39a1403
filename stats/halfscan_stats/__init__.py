"""The statistics of a reader study: arrays and tables in, results out.

No database, no HTTP. Every function answers with a frozen result of `halfscan_stats.result`, which
carries n, method and interval and, where the answer is undefined, None and a reason. Input that
breaks a rule raises `StatsError`.
"""

from halfscan_stats.agreement import clustered_kappa, cohen_kappa
from halfscan_stats.bootstrap import Bootstrap, cluster_bootstrap
from halfscan_stats.clustered import ClusteredMcNemar, clustered_mcnemar
from halfscan_stats.equivalence import (
    NonInferiority,
    PairedDifference,
    Tost,
    noninferiority_paired_proportions,
    tango_interval,
    tost_paired,
)
from halfscan_stats.errors import StatsError
from halfscan_stats.interchangeability import Interchangeability, interchangeability
from halfscan_stats.intraclass import ICC_FORMS, Icc, icc, icc_forms
from halfscan_stats.krippendorff import krippendorff_alpha
from halfscan_stats.limits_of_agreement import BlandAltman, bland_altman
from halfscan_stats.mcnemar import McNemar, mcnemar
from halfscan_stats.mixed import Coefficient, GeeModel, MixedModel, gee_logit, linear_mixed_model
from halfscan_stats.multiplicity import AdjustedPValues, adjust_pvalues
from halfscan_stats.multirater import Pabak, fleiss_kappa, gwet_ac, pabak
from halfscan_stats.multireader import (
    Contrast,
    MrmcTest,
    ObuchowskiRockette,
    VarianceComponents,
    obuchowski_rockette,
)
from halfscan_stats.paired import (
    PairedChoice,
    PairedT,
    Shapiro,
    Summary,
    choose_paired_test,
    paired_t,
    shapiro_wilk,
    summarize,
)
from halfscan_stats.result import (
    Agreement,
    ClusteredAgreement,
    Estimate,
    Interval,
    Reason,
    Result,
    TestResult,
    landis_koch,
)
from halfscan_stats.samplesize import (
    SampleSize,
    power_kappa,
    power_mcnemar,
    power_noninferiority,
    power_paired_t,
    sample_size_kappa,
    sample_size_mcnemar,
    sample_size_noninferiority,
    sample_size_paired_t,
)
from halfscan_stats.signal_to_noise import (
    RAYLEIGH_SD,
    SignalToNoise,
    SnrMethod,
    snr_background,
    snr_difference,
    snr_noise_map,
)
from halfscan_stats.spread import SpreadTrend, spread_trend
from halfscan_stats.wilcoxon import Wilcoxon, wilcoxon_signed_rank

__all__ = [
    "ICC_FORMS",
    "RAYLEIGH_SD",
    "AdjustedPValues",
    "Agreement",
    "BlandAltman",
    "Bootstrap",
    "ClusteredAgreement",
    "ClusteredMcNemar",
    "Coefficient",
    "Contrast",
    "Estimate",
    "GeeModel",
    "Icc",
    "Interchangeability",
    "Interval",
    "McNemar",
    "MixedModel",
    "MrmcTest",
    "NonInferiority",
    "ObuchowskiRockette",
    "Pabak",
    "PairedChoice",
    "PairedDifference",
    "PairedT",
    "Reason",
    "Result",
    "SampleSize",
    "Shapiro",
    "SignalToNoise",
    "SnrMethod",
    "SpreadTrend",
    "StatsError",
    "Summary",
    "TestResult",
    "Tost",
    "VarianceComponents",
    "Wilcoxon",
    "adjust_pvalues",
    "bland_altman",
    "choose_paired_test",
    "cluster_bootstrap",
    "clustered_kappa",
    "clustered_mcnemar",
    "cohen_kappa",
    "fleiss_kappa",
    "gee_logit",
    "gwet_ac",
    "icc",
    "icc_forms",
    "interchangeability",
    "krippendorff_alpha",
    "landis_koch",
    "linear_mixed_model",
    "mcnemar",
    "noninferiority_paired_proportions",
    "obuchowski_rockette",
    "pabak",
    "paired_t",
    "power_kappa",
    "power_mcnemar",
    "power_noninferiority",
    "power_paired_t",
    "sample_size_kappa",
    "sample_size_mcnemar",
    "sample_size_noninferiority",
    "sample_size_paired_t",
    "shapiro_wilk",
    "snr_background",
    "snr_difference",
    "snr_noise_map",
    "spread_trend",
    "summarize",
    "tango_interval",
    "tost_paired",
    "wilcoxon_signed_rank",
]
