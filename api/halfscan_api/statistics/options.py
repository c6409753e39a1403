"""What can be asked of each table: the queries of the endpoints."""

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from halfscan_api.schemas import Input
from halfscan_api.studies.protocol import Key, ReaderName

Format = Literal["json", "csv", "html"]
# Bounds keep quantiles finite: nobody asks for more.
Level = Annotated[FiniteFloat, Field(gt=0.5, le=0.999999, description="Confidence level.")]
Alpha = Annotated[
    FiniteFloat | None, Field(ge=1e-6, lt=0.5, description="Instead of the alpha of the protocol.")
]
Probability = Annotated[FiniteFloat | None, Field(ge=0, le=1)]
DifferenceTest = Annotated[
    Literal["protocol", "by_normality", "paired_t", "wilcoxon"],
    Field(description="What chooses the paired test; the protocol by default."),
]
Weights = Annotated[
    Literal["by_scale", "none", "linear", "quadratic"],
    Field(description="Of kappa; by_scale: linear from three categories on, none for two."),
]


class TableQuery(Input):
    """What every table takes."""

    format: Annotated[
        Format | None, Field(description="json, csv or html; otherwise the header Accept decides.")
    ] = None

    def shown(self) -> dict[str, Any]:
        """Give the options that the answer depends on."""
        return self.model_dump(exclude={"format"}, exclude_none=True)


class LevelQuery(TableQuery):
    """A table of intervals."""

    level: Level = 0.95


class DifferenceQuery(LevelQuery):
    """A table of paired differences."""

    difference_test: DifferenceTest = "protocol"
    alpha: Alpha = None


class ScoreQuery(DifferenceQuery):
    """The table of image quality."""

    sequence: Annotated[Key | None, Field(description="One sequence; all if none.")] = None
    weights: Weights = "by_scale"


class GradingQuery(LevelQuery):
    """The table of visual grading."""

    sequence: Annotated[
        Key | None, Field(description="Characteristics of one sequence; all if none.")
    ] = None
    readers: Annotated[
        Literal["random", "fixed"],
        Field(description="Of the regression: readers like these, or these readers."),
    ] = "random"


class SnrQuery(DifferenceQuery):
    """The table of signal-to-noise ratios."""

    sequence: Annotated[Key | None, Field(description="One sequence; all if none.")] = None


class AgreementQuery(LevelQuery):
    """The table of agreement."""

    section: Literal["all", "scores", "findings", "measurements"] = "all"
    weights: Weights = "by_scale"


class DetectionQuery(LevelQuery):
    """The table of detection."""

    by_level: Annotated[
        bool, Field(description="Each level of a finding too, not only all together.")
    ] = False
    alpha: Alpha = None


class EquivalenceQuery(LevelQuery):
    """The table of non-inferiority and equivalence."""

    alpha: Annotated[
        FiniteFloat | None,
        Field(
            ge=1e-6, lt=0.5, description="One-sided level; the alpha of the protocol by default."
        ),
    ] = None
    resamples: Annotated[
        int, Field(ge=0, le=20_000, description="Of patients, for interchangeability.")
    ] = 2000


class RobustnessQuery(TableQuery):
    """The table of robustness."""

    alpha: Annotated[
        FiniteFloat | None,
        Field(
            ge=1e-6, lt=0.5, description="One-sided level; the alpha of the protocol by default."
        ),
    ] = None


class MrmcQuery(LevelQuery):
    """The analysis of many readers and many cases."""

    truth_reader: Annotated[
        ReaderName | None,
        Field(
            description="Reader whose findings are the reference standard; that of the protocol by "
            "default."
        ),
    ] = None
    truth_arm: Annotated[
        Key | None,
        Field(description="Arm that this reader saw; that of the protocol, or the reference arm."),
    ] = None
    alpha: Annotated[
        FiniteFloat | None,
        Field(
            ge=1e-6,
            lt=0.5,
            description="One-sided level of non-inferiority; the alpha of the protocol by default.",
        ),
    ] = None
    figure: Literal["auc", "sensitivity", "specificity"] = "auc"
    covariance: Literal["jackknife", "delong", "bootstrap", "unbiased"] = "jackknife"


class SampleSizeQuery(TableQuery):
    """The plan of the next study, from this one or from what is assumed."""

    power: Annotated[FiniteFloat, Field(gt=0, le=0.9999, description="Above alpha.")] = 0.8
    alpha: Alpha = None
    kappa0: Annotated[
        FiniteFloat, Field(ge=0, lt=1, description="Kappa that the readers must exceed.")
    ] = 0.4
    delta: Annotated[
        FiniteFloat | None,
        Field(ge=-1e6, le=1e6, description="Mean difference to be found; with sd."),
    ] = None
    sd: Annotated[
        FiniteFloat | None, Field(ge=1e-6, le=1e6, description="SD of the differences; with delta.")
    ] = None
    p10: Annotated[
        Probability, Field(description="Share found with the test arm only; with p01.")
    ] = None
    p01: Annotated[Probability, Field(description="Share found with the reference arm only.")] = (
        None
    )
    margin: Annotated[
        FiniteFloat | None,
        Field(ge=0.001, lt=1, description="Of non-inferiority; with p10 and p01."),
    ] = None
    kappa1: Annotated[
        FiniteFloat | None, Field(ge=0.001, le=1, description="Kappa expected; with prevalence.")
    ] = None
    prevalence: Annotated[FiniteFloat | None, Field(ge=0.001, le=0.999)] = None
    cluster_size: Annotated[
        FiniteFloat | None, Field(ge=1, le=1000, description="Observations of a patient; with icc.")
    ] = None
    icc: Annotated[FiniteFloat, Field(ge=0, le=1, description="Correlation within a patient.")] = (
        0.0
    )
    cluster_size_cv: Annotated[
        FiniteFloat,
        Field(ge=0, le=10, description="SD over mean of the observations of a patient; with icc."),
    ] = 0.0
    auc_difference: Annotated[
        FiniteFloat | None,
        Field(
            ge=0.001,
            lt=1,
            description="Difference of the AUC to be found (MRMC); without it non-inferiority with "
            "the margin of the truth is planned.",
        ),
    ] = None
    readers: Annotated[
        int | None,
        Field(ge=2, le=1000, description="Readers to plan MRMC with; as many as here by default."),
    ] = None
