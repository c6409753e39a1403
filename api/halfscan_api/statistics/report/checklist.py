"""What of two reporting guidelines this report holds, where, and what is missing.

The numbers are those of STARD 2015 (diagnostic accuracy) and of GRRAS (reliability and agreement);
the items are told in our own words, and a judgement is made from what the study holds. What no
reader study can know, such as how patients were found, is for the authors to write.

References
----------
Bossuyt PM, et al. STARD 2015: an updated list of essential items for reporting diagnostic accuracy
studies. BMJ 2015;351:h5527. doi:10.1136/bmj.h5527

Kottner J, et al. Guidelines for Reporting Reliability and Agreement Studies (GRRAS) were proposed.
J Clin Epidemiol 2011;64:96-106. doi:10.1016/j.jclinepi.2010.03.002
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from halfscan_api.statistics.agreeing import KappaRow
from halfscan_api.statistics.interchange import InterchangeRow
from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.methods import Tables
from halfscan_api.studies.protocol import EndpointRole

STARD = "STARD 2015"
GRRAS = "GRRAS"


class Status(StrEnum):
    """How much of an item the report holds."""

    REPORTED = "reported"
    PARTLY = "in part"
    MISSING = "not reported"
    NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement.

    Attributes
    ----------
    status : Status
    where : tuple of str
        Sections of the report, by their names.
    missing : str
        What the report does not say; empty where it says all.
    """

    status: Status
    where: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a guideline, judged."""

    guideline: str
    number: str
    asks: str
    verdict: Verdict


Judge = Callable[[Facts, Tables], Verdict]


def judged(facts: Facts, tables: Tables) -> list[Item]:
    """Judge every item of both guidelines.

    Parameters
    ----------
    facts : Facts
    tables : mapping
        The computed tables by name.

    Returns
    -------
    list of Item
        STARD 2015 first, each in its own order.
    """
    return [
        Item(guideline, number, asks, judge(facts, tables))
        for guideline, items in ((STARD, _STARD), (GRRAS, _GRRAS))
        for number, asks, judge in items
    ]


# --- judgements ---------------------------------------------------------------------------------


def _for_authors(missing: str) -> Judge:
    verdict = Verdict(Status.MISSING, (), f"For the authors: {missing}.")
    return lambda _facts, _tables: verdict


def _always(where: tuple[str, ...], missing: str = "") -> Judge:
    verdict = Verdict(Status.PARTLY if missing else Status.REPORTED, where, missing)
    return lambda _facts, _tables: verdict


def _graded(where: tuple[str, ...], *gaps: str) -> Verdict:
    """Reported where nothing is missing, else in part."""
    missing = " ".join(gap for gap in gaps if gap)
    return Verdict(Status.PARTLY if missing else Status.REPORTED, where, missing)


def _hypotheses(facts: Facts, tables: Tables) -> Verdict:
    del tables
    endpoints = facts.frame.protocol.endpoints
    if not endpoints:
        return Verdict(Status.MISSING, (), "The protocol declares no endpoint.")
    primary = any(one.role is EndpointRole.PRIMARY for one in endpoints)
    return _graded(
        ("Methods: design", "Endpoints"),
        "" if primary else "No endpoint is declared as primary.",
    )


def _planned(facts: Facts, tables: Tables) -> Verdict:
    del tables
    late = [one.number for one in facts.versions[1:]]
    return _graded(
        ("Amendments and deviations",),
        "The protocol was laid down before the first reading; whether patients were examined "
        "before or after is for the authors.",
        f"It was amended later (versions {', '.join(map(str, late))})." if late else "",
    )


def _dates(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if facts.first_enrolled is None:
        return Verdict(Status.MISSING, (), "No case has been enrolled.")
    return Verdict(
        Status.PARTLY,
        ("Methods: participants",),
        "Dates of enrolment are there; setting, place and dates of the examinations are not.",
    )


def _index_test(facts: Facts, tables: Tables) -> Verdict:
    noted = facts.with_parameters
    models = any(row.model_name is not None for row in tables["lineage"].rows)
    return _graded(
        ("Methods: image reconstruction", "Technical parameters"),
        ""
        if noted == facts.n_series and noted
        else (f"Headers were noted of {noted} of {facts.n_series} series."),
        "" if models else "No series has a recorded reconstruction.",
    )


def _no_reference(facts: Facts, tables: Tables) -> Verdict:
    del facts, tables
    return Verdict(
        Status.NOT_APPLICABLE,
        (),
        "The study has no reference standard: protocols and readers are compared with each other.",
    )


def _categories(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not (facts.frame.protocol.criteria or facts.frame.protocol.findings):
        return Verdict(Status.NOT_APPLICABLE, (), "Nothing is scored in categories.")
    return Verdict(Status.REPORTED, ("Methods: readings and measurements", "Image quality"))


def _blinded(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return _graded(
        ("Methods: blinding",),
        "Whether clinical information reached the readers is not recorded.",
        f"Sessions began before the wash-out was over: {len(facts.overrides)}."
        if facts.overrides
        else "",
    )


def _missing_data(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return _graded(
        ("Methods: readings and measurements", "Every table: n used"),
        f"{facts.left} readings are still to come." if facts.interim else "",
    )


def _variability(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if len(facts.readers) < 2:
        return Verdict(Status.MISSING, (), "There are fewer than two readers.")
    return Verdict(
        Status.PARTLY,
        ("Agreement",),
        "Readers and protocols are compared; patients are not divided into groups.",
    )


def _sample_size(facts: Facts, tables: Tables) -> Verdict:
    del facts
    rows = tables["sample-size"].rows
    return Verdict(
        Status.PARTLY if rows else Status.MISSING,
        ("Sample size",) if rows else (),
        "The protocol states no calculation made beforehand; the table plans the next study.",
    )


def _flow(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.enrolled:
        return Verdict(Status.MISSING, (), "No case has been enrolled.")
    return Verdict(
        Status.PARTLY,
        ("Participants",),
        "From enrolment on, with every exclusion; who was screened and not enrolled is not known.",
    )


def _cross_tables(facts: Facts, tables: Tables) -> Verdict:
    del facts
    if not any(row.n for row in tables["detection"].rows):
        return Verdict(Status.MISSING, (), "No finding has been read in both protocols yet.")
    return Verdict(
        Status.PARTLY,
        ("Detection",),
        "Protocol against protocol, for every finding and reader; not against a reference "
        "standard, which the study does not have.",
    )


def _precision(facts: Facts, tables: Tables) -> Verdict:
    del facts
    if not any(row.n for row in tables["detection"].rows):
        return Verdict(Status.MISSING, (), "No finding has been read in both protocols yet.")
    return Verdict(
        Status.PARTLY,
        ("Detection", "Agreement", "Equivalence"),
        "Differences and agreement with their intervals; sensitivity and specificity need a "
        "reference standard.",
    )


def _limitations(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return Verdict(
        Status.PARTLY,
        ("Amendments and deviations", "What is reported, and what is not"),
        "The report names what is missing and gives the uncertainty; sources of bias and how far "
        "the results carry are for the authors."
        + (f" Deviations: {len(facts.overrides)} waived wash-outs." if facts.overrides else ""),
    )


def _raters(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.readers:
        return Verdict(Status.MISSING, (), "There is no reader.")
    unknown = [one.name for one in facts.readers if one.experience_years is None]
    return _graded(
        ("Readers",),
        f"Experience is not stated of {', '.join(unknown)}." if unknown else "",
        "From which group of readers they were taken is for the authors.",
    )


def _numbers(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.allocated:
        return Verdict(Status.MISSING, (), "No reading has been allocated.")
    return _graded(
        ("Participants", "Readers"),
        "" if facts.repeats else "No reading was repeated: there is no intra-reader agreement.",
    )


def _characteristics(facts: Facts, tables: Tables) -> Verdict:
    known = any(one.experience_years is not None for one in facts.readers)
    del tables
    return Verdict(
        Status.PARTLY if known else Status.MISSING,
        ("Readers",) if known else (),
        "Age, sex and symptoms of the patients are not part of the study's record."
        + ("" if known else " Nor is the experience of the readers."),
    )


def _estimates(facts: Facts, tables: Tables) -> Verdict:
    del facts
    kappas = [row.kappa for row in tables["agreement"].rows if isinstance(row, KappaRow)]
    if not any(kappa.n for kappa in kappas):
        return Verdict(Status.MISSING, (), "No two complete readings can be compared yet.")
    without = sum(kappa.n > 0 and kappa.interval is None for kappa in kappas)
    return _graded(
        ("Agreement", "Image quality", "SNR"),
        f"{without} of {len(kappas)} kappas have no interval, each with its reason."
        if without
        else "",
    )


def _relevance(facts: Facts, tables: Tables) -> Verdict:
    del facts
    tested = any(not isinstance(row, InterchangeRow) for row in tables["equivalence"].rows)
    return Verdict(
        Status.PARTLY if tested else Status.MISSING,
        ("Equivalence",) if tested else (),
        "What the figures mean for practice is for the authors.",
    )


def _replicates(facts: Facts, tables: Tables) -> Verdict:
    verdict = _sample_size(facts, tables)
    return Verdict(verdict.status, (*verdict.where, "Methods: design"), verdict.missing)


_METHODS = "Methods: statistical analysis"
_Items = tuple[tuple[str, str, Judge], ...]

_STARD: _Items = (
    ("1", "Title or abstract name the measure of accuracy", _for_authors("title and abstract")),
    ("2", "Structured summary", _for_authors("the abstract")),
    ("3", "Background, use and role of the new protocol", _for_authors("the introduction")),
    ("4", "Objectives and hypotheses", _hypotheses),
    ("5", "Planned before the data were there, or after", _planned),
    ("6", "Who was eligible", _for_authors("criteria of inclusion and exclusion before enrolment")),
    (
        "7",
        "On what basis eligible patients were found",
        _for_authors("symptoms, earlier tests, registry"),
    ),
    ("8", "Setting, place and dates of finding them", _dates),
    ("9", "Consecutive, random or convenience sample", _for_authors("how patients were sampled")),
    ("10a", "The index test (the new protocol), so that others can repeat it", _index_test),
    ("10b", "The reference standard, so that others can repeat it", _no_reference),
    ("11", "Why this reference standard", _no_reference),
    (
        "12a",
        "Categories and cut-offs of the index test and why, fixed beforehand or not",
        _categories,
    ),
    ("12b", "Categories and cut-offs of the reference standard and why", _no_reference),
    ("13a", "Whether readers had clinical information or the reference standard", _blinded),
    ("13b", "Whether those who judged the reference standard had other information", _no_reference),
    (
        "14",
        "Methods to estimate or compare accuracy",
        _always((_METHODS, "Methods of the results")),
    ),
    (
        "15",
        "How indeterminate results were handled",
        _always(
            ("Methods: readings and measurements",),
            "An answer is on the scale or missing: there is no answer that means undecided.",
        ),
    ),
    ("16", "How missing data were handled", _missing_data),
    ("17", "Analyses of variability, planned or exploratory", _variability),
    ("18", "Sample size that was intended, and why", _sample_size),
    ("19", "Flow of participants", _flow),
    (
        "20",
        "Demographic and clinical characteristics of the patients",
        _for_authors("age, sex, symptoms"),
    ),
    ("21a", "Severity in those with the disease", _for_authors("severity of the findings")),
    ("21b", "Other diagnoses in those without", _for_authors("diagnoses of the others")),
    (
        "22",
        "Time and treatment between index test and reference standard",
        _for_authors("time between the two scans; there is no reference standard"),
    ),
    ("23", "Cross table of index test and reference standard", _cross_tables),
    ("24", "Estimates of accuracy with their precision", _precision),
    ("25", "Adverse events", _for_authors("events during the examinations")),
    ("26", "Limitations: bias, uncertainty, how far the results carry", _limitations),
    ("27", "What follows for practice", _for_authors("the discussion")),
    ("28", "Registration", _for_authors("number and name of the registry")),
    (
        "29",
        "Where the protocol can be seen",
        _always(
            ("Amendments and deviations",),
            "The server holds every version; where the public finds it is for the authors.",
        ),
    ),
    (
        "30",
        "Funding and the role of the funders",
        _for_authors("sources of support and their role"),
    ),
)

_GRRAS: _Items = (
    ("1", "Title or abstract name reliability or agreement", _for_authors("title and abstract")),
    ("2", "The diagnostic or measurement device that is judged", _index_test),
    ("3", "The patients of interest", _for_authors("the population that the sample stands for")),
    ("4", "The readers of interest", _raters),
    ("5", "What was known before, and why this study", _for_authors("the introduction")),
    ("6", "Sample size; readers, patients and repeats that were planned", _replicates),
    ("7", "How patients and readers were sampled", _for_authors("how both were sampled")),
    ("8", "How readings went: time between, clinical information, blinding", _blinded),
    (
        "9",
        "Whether readings were independent",
        _always(("Methods: blinding", "Methods: randomisation and wash-out")),
    ),
    ("10", "Statistical analysis", _always((_METHODS, "Methods of the results"))),
    ("11", "Readers, patients and repeats that there were", _numbers),
    ("12", "Characteristics of readers and patients", _characteristics),
    ("13", "Estimates of reliability and agreement with their uncertainty", _estimates),
    ("14", "What the results mean in practice", _relevance),
    (
        "15",
        "Detailed results",
        _always(("All tables and figures", "The study's export: every answer")),
    ),
)
