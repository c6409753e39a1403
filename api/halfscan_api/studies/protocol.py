"""The protocol of a study: one document that says what is compared, asked, measured and tested.

A protocol is checked as a whole when it comes in: every name that one part uses must stand in
another, and what a message refuses it names. `templates/` holds protocols of published studies.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from halfscan_api.schemas import Input

TEMPLATES = files("halfscan_api.studies") / "templates"

Key = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        max_length=64,
        description="A name for programs: a letter, then letters, digits, underscores.",
    ),
]
ReaderName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$",
        description="A letter, then up to 31 letters, digits, dashes, underscores.",
    ),
]
Label = Annotated[str, Field(min_length=1, max_length=200, description="A name for people.")]
LevelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9/_.-]*$", max_length=32)]
Area = Annotated[FiniteFloat, Field(gt=0, le=1e6, description="Area [mm2].")]


class ArmRole(StrEnum):
    """``reference`` is what the ``test`` arm is compared with."""

    REFERENCE = "reference"
    TEST = "test"


class RegionRole(StrEnum):
    """``signal`` is a structure, ``noise`` the background whose SD divides every mean."""

    SIGNAL = "signal"
    NOISE = "noise"


class Section(StrEnum):
    """The three kinds of answers."""

    SCORES = "scores"
    FINDINGS = "findings"
    MEASUREMENTS = "measurements"


class EndpointRole(StrEnum):
    """How much an endpoint weighs, declared before the first reading."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    EXPLORATORY = "exploratory"


class EndpointKind(StrEnum):
    """Which answers an endpoint is about."""

    SCAN_TIME = "scan_time"
    IMAGE_QUALITY = "image_quality"
    SNR = "snr"
    DETECTION = "detection"
    AGREEMENT = "agreement"


class Hypothesis(StrEnum):
    """What is tested; ``estimate`` tests nothing and gives a figure with its interval."""

    DIFFERENCE = "difference"
    NONINFERIORITY = "noninferiority"
    EQUIVALENCE = "equivalence"
    INTERCHANGEABILITY = "interchangeability"
    ESTIMATE = "estimate"


# Hypotheses about a difference of the arms with a margin.
OF_DIFFERENCES = frozenset({Hypothesis.NONINFERIORITY, Hypothesis.EQUIVALENCE})
# All hypotheses with a margin.
MARGINAL = frozenset({*OF_DIFFERENCES, Hypothesis.INTERCHANGEABILITY})


class Arm(Input):
    """One way to make the images."""

    name: Key
    label: Label
    role: ArmRole


class Sequence(Input):
    """One kind of series that every case has in every arm."""

    name: Key
    label: Annotated[Label, Field(description="Shown to readers: it must not tell the arm.")]
    group: Annotated[Key, Field(description="Sequences with the same regions, such as sagittal.")]


class Choice(Input):
    """One point of a scale or one grade of a finding."""

    value: Annotated[int, Field(ge=0, le=100)]
    label: Label


class Criterion(Input):
    """A question that is answered for each sequence on an ordinal scale."""

    name: Key
    label: Label
    group: Annotated[Key | None, Field(description="Criteria that a table shows as one.")] = None
    scale: Annotated[tuple[Choice, ...], Field(min_length=2, max_length=20)]
    sequences: Annotated[
        tuple[Key, ...] | None,
        Field(min_length=1, description="Where it is asked; all by default."),
    ] = None

    @model_validator(mode="after")
    def _values_rise(self) -> Self:
        _check_choices(self.name, self.scale)
        return self


class AreaRange(Input):
    """Area that regions of this kind are expected to have [mm2]."""

    mean: Area
    minimum: Area
    maximum: Area

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.minimum <= self.mean <= self.maximum:
            raise ValueError(
                f"area_mm2 must hold minimum <= mean <= maximum, got {self.minimum:g}, "
                f"{self.mean:g}, {self.maximum:g}"
            )
        return self


class Region(Input):
    """A region of interest, measured on every sequence of its group."""

    name: Key
    label: Label
    group: Key
    role: RegionRole = RegionRole.SIGNAL
    area_mm2: AreaRange | None = None


class Finding(Input):
    """A finding that is looked for at each level."""

    name: Key
    label: Label
    levels: Annotated[tuple[LevelName, ...], Field(min_length=1, max_length=64)]
    grades: Annotated[
        tuple[Choice, ...],
        Field(min_length=2, max_length=20, description="Grade 0 is absent, every other present."),
    ] = (Choice(value=0, label="absent"), Choice(value=1, label="present"))

    @model_validator(mode="after")
    def _zero_is_absent(self) -> Self:
        _check_choices(self.name, self.grades)
        if self.grades[0].value != 0:
            rule = "the grades must begin with 0, which means absent"
            raise ValueError(f"{self.name}: {rule}, got {self.grades[0].value}")
        _check_unique(f"levels of {self.name}", self.levels)
        return self


class Multiplicity(Input):
    """How p-values are adjusted, and among how many tests."""

    method: Literal["none", "bonferroni", "holm", "benjamini_hochberg"]
    family_size: Annotated[
        int | None, Field(ge=1, le=10_000, description="Tests in a family; counted by default.")
    ] = None


class Endpoint(Input):
    """A comparison that is declared before the first reading."""

    name: Key
    role: EndpointRole
    kind: EndpointKind
    item: Annotated[Key | None, Field(description="Criterion, region or finding; all if none.")] = (
        None
    )
    sequence: Annotated[Key | None, Field(description="One sequence; all if none.")] = None
    hypothesis: Hypothesis
    margin: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="In points of the scale, in units of the SNR, as a proportion (detection), "
            "or in seconds; of interchangeability, how much more often two readers may disagree.",
        ),
    ] = None

    @model_validator(mode="after")
    def _margin_fits(self) -> Self:
        needs = self.hypothesis in MARGINAL
        if needs and self.margin is None:
            raise ValueError(f"endpoint {self.name}: {self.hypothesis.value} needs a margin")
        if not needs and self.margin is not None:
            raise ValueError(f"endpoint {self.name}: {self.hypothesis.value} has no margin")
        if (self.kind is EndpointKind.AGREEMENT) != (self.hypothesis is Hypothesis.ESTIMATE):
            raise ValueError(
                f"endpoint {self.name}: agreement is estimated and nothing else is, "
                f"got {self.kind.value} with {self.hypothesis.value}"
            )
        if (
            self.hypothesis is Hypothesis.INTERCHANGEABILITY
            and self.kind is not EndpointKind.DETECTION
        ):
            raise ValueError(
                f"endpoint {self.name}: interchangeability is about detection, "
                f"got {self.kind.value}"
            )
        if self.kind is EndpointKind.DETECTION and self.sequence is not None:
            raise ValueError(f"endpoint {self.name}: findings belong to no sequence")
        if self.kind is EndpointKind.DETECTION and self.margin is not None and self.margin >= 1:
            raise ValueError(
                f"endpoint {self.name}: the margin of a proportion must be < 1, got {self.margin:g}"
            )
        return self


class Truth(Input):
    """The reference standard: one reader whose findings are taken for true.

    Readers join a study after its protocol: that there is one of this name is seen when it is used.
    """

    reader: Annotated[ReaderName, Field(description="A consensus or an expert; judges nobody.")]
    arm: Annotated[
        Key | None, Field(description="Arm that this reader saw; the reference arm by default.")
    ] = None
    margin: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            lt=1,
            description="Of non-inferiority of the area under the curve (MRMC), test arm minus "
            "reference; not tested if none.",
        ),
    ] = None


class Protocol(Input):
    """A reader study, whole.

    Each reader reads every case once in each arm: there are as many reading sessions as arms.
    """

    title: Label
    description: Annotated[str, Field(max_length=5000)] = ""
    arms: Annotated[tuple[Arm, ...], Field(min_length=2, max_length=4)]
    sequences: Annotated[tuple[Sequence, ...], Field(min_length=1, max_length=32)]
    criteria: Annotated[tuple[Criterion, ...], Field(max_length=64)] = ()
    regions: Annotated[tuple[Region, ...], Field(max_length=128)] = ()
    findings: Annotated[tuple[Finding, ...], Field(max_length=64)] = ()
    planned_cases: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="How many were planned beforehand.")
    ] = None
    sample_size_rationale: Annotated[
        str, Field(max_length=2000, description="The calculation behind it, with its assumptions.")
    ] = ""
    required: Annotated[
        tuple[Section, ...],
        Field(description="What a reading needs before it can be completed."),
    ] = tuple(Section)
    washout_days: Annotated[int, Field(ge=0, le=3650)]
    pause_minutes: Annotated[
        int, Field(ge=1, le=1440, description="A longer gap between two calls is no reading time.")
    ] = 30
    repeat_sessions: Annotated[
        int, Field(ge=0, le=8, description="Sessions after the last one, for intra-reader data.")
    ] = 0
    repeat_cases: Annotated[
        int | None, Field(ge=1, description="Cases drawn for the repeat sessions; all if none.")
    ] = None
    alpha: Annotated[FiniteFloat, Field(gt=0, lt=0.5)] = 0.05
    multiplicity: Multiplicity = Multiplicity(method="none")
    difference_test: Annotated[
        Literal["by_normality", "paired_t", "wilcoxon"],
        Field(description="by_normality: Shapiro-Wilk of the differences chooses."),
    ] = "by_normality"
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=500)] = ()
    truth: Truth | None = None
    seed: Annotated[
        int | None,
        Field(ge=0, le=2**53 - 1, description="Of the randomisation; drawn if none is given."),
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        """Name every part that does not fit to another."""
        for what, names in _names(self).items():
            yield from _fault(_check_unique, what, names)
        if [arm.role for arm in self.arms].count(ArmRole.REFERENCE) != 1:
            yield "exactly one arm must have the role reference"
        yield from self._sequence_faults()
        yield from _fault(self._check_required)
        for endpoint in self.endpoints:
            yield from self._endpoint_faults(endpoint)
        yield from _fault(self._check_truth)
        if self.repeat_cases is not None and not self.repeat_sessions:
            yield "repeat_cases needs repeat_sessions, got 0"

    def _sequence_faults(self) -> Iterator[str]:
        known = self.sequence_names
        for criterion in self.criteria:
            where = f"sequences of {criterion.name}"
            for name in criterion.sequences or ():
                yield from _fault(_check_known, where, name, known)
            yield from _fault(_check_unique, where, criterion.sequences or ())
        groups = list(dict.fromkeys(sequence.group for sequence in self.sequences))
        for region in self.regions:
            where = f"group of the region {region.name}"
            yield from _fault(_check_known, where, region.group, groups)

    def _check_required(self) -> None:
        _check_unique("required", [section.value for section in self.required])
        asked = {
            Section.SCORES: self.criteria,
            Section.FINDINGS: self.findings,
            Section.MEASUREMENTS: self.regions,
        }
        if not any(asked.values()):
            raise ValueError("a study must ask something: criteria, regions or findings")

    def _check_truth(self) -> None:
        if self.truth is None:
            return
        if not self.findings:
            raise ValueError("a truth needs findings: there are none to judge")
        if self.truth.arm is not None:
            _check_known("arm of the truth", self.truth.arm, self.arm_names)

    def _endpoint_faults(self, endpoint: Endpoint) -> Iterator[str]:
        items = {
            EndpointKind.SCAN_TIME: [],
            EndpointKind.IMAGE_QUALITY: [one.name for one in self.criteria],
            EndpointKind.SNR: [one.name for one in self.regions if one.role is RegionRole.SIGNAL],
            EndpointKind.DETECTION: [one.name for one in self.findings],
        }
        items[EndpointKind.AGREEMENT] = [name for names in items.values() for name in names]
        if endpoint.item is not None:
            where = f"item of the endpoint {endpoint.name}"
            yield from _fault(_check_known, where, endpoint.item, items[endpoint.kind])
        if endpoint.sequence is not None:
            where = f"sequence of the endpoint {endpoint.name}"
            yield from _fault(_check_known, where, endpoint.sequence, self.sequence_names)

    @property
    def arm_names(self) -> list[str]:
        """Names of the arms, in the order of the document."""
        return [arm.name for arm in self.arms]

    @property
    def reference_arm(self) -> str:
        """Name of the one arm that the others are compared with."""
        return next(arm.name for arm in self.arms if arm.role is ArmRole.REFERENCE)

    @property
    def test_arms(self) -> list[str]:
        """Names of the arms that are compared with the reference."""
        return [arm.name for arm in self.arms if arm.role is ArmRole.TEST]

    @property
    def sequence_names(self) -> list[str]:
        """Names of the sequences, in the order of the document."""
        return [sequence.name for sequence in self.sequences]

    def criteria_of(self, sequence: str) -> list[Criterion]:
        """Criteria that are asked for a sequence."""
        return [one for one in self.criteria if one.sequences is None or sequence in one.sequences]

    def regions_of(self, sequence: str) -> list[Region]:
        """Regions that are measured on a sequence."""
        groups = {one.name: one.group for one in self.sequences}
        return [one for one in self.regions if one.group == groups.get(sequence)]

    def as_document(self) -> dict[str, Any]:
        """Give the protocol as JSON; what is not stated is left out."""
        return self.model_dump(mode="json", exclude_none=True)


def templates() -> list[str]:
    """Names of the protocols that come with the package."""
    return sorted(
        path.name.removesuffix(".json")
        for path in TEMPLATES.iterdir()
        if path.name.endswith(".json")
    )


@cache
def template(name: str) -> Protocol:
    """Protocol of a published study.

    Parameters
    ----------
    name : str
        One of `templates`.

    Raises
    ------
    KeyError
        There is no such template.
    """
    if name not in templates():
        raise KeyError(name)
    return Protocol.model_validate_json((TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))


def _names(protocol: Protocol) -> Mapping[str, list[str]]:
    return {
        "arms": protocol.arm_names,
        "sequences": protocol.sequence_names,
        "criteria": [one.name for one in protocol.criteria],
        "regions of a group": [f"{one.group}/{one.name}" for one in protocol.regions],
        "noise regions of a group": [
            one.group for one in protocol.regions if one.role is RegionRole.NOISE
        ],
        "findings": [one.name for one in protocol.findings],
        "endpoints": [one.name for one in protocol.endpoints],
    }


def _fault(check: Callable[..., None], *about: Any) -> Iterator[str]:
    """Give what a check refuses, so that the others are asked too."""
    try:
        check(*about)
    except ValueError as error:
        yield str(error)


def _check_unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} must differ, got twice: {', '.join(twice)}")


def _check_known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in (known := list(known)):
        raise ValueError(f"{what} must be one of {', '.join(known) or '(none)'}, got {name!r}")


def _check_choices(name: str, choices: Iterable[Choice]) -> None:
    values = [choice.value for choice in choices]
    if values != sorted(set(values)):
        raise ValueError(f"{name}: the values must rise, got {values}")
