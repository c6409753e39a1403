"""Judgements of a report against the items of reporting guidelines: from what the study holds.

What no reader study can know, such as how patients were found, is for the authors to write.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from halfscan_api.statistics.agreeing import KappaRow
from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.methods import Tables
from halfscan_api.studies.protocol import EndpointRole


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


Judge = Callable[[Facts, Tables], Verdict]
Items = tuple[tuple[str, str, Judge], ...]  # number, what it asks for, judgement
METHODS = "Methods: statistical analysis"


def for_authors(missing: str) -> Judge:
    verdict = Verdict(Status.MISSING, (), f"For the authors: {missing}.")
    return lambda _facts, _tables: verdict


def always(where: tuple[str, ...], missing: str = "") -> Judge:
    verdict = Verdict(Status.PARTLY if missing else Status.REPORTED, where, missing)
    return lambda _facts, _tables: verdict


def graded(where: tuple[str, ...], *gaps: str) -> Verdict:
    """Reported where nothing is missing, else in part."""
    missing = " ".join(gap for gap in gaps if gap)
    return Verdict(Status.PARTLY if missing else Status.REPORTED, where, missing)


statistical_methods = always((METHODS, "Methods of the results"))
protocol_access = always(
    ("Amendments and deviations",),
    "The server holds every version; where the public finds it is for the authors.",
)


def hypotheses(facts: Facts, tables: Tables) -> Verdict:
    del tables
    endpoints = facts.frame.protocol.endpoints
    if not endpoints:
        return Verdict(Status.MISSING, (), "The protocol declares no endpoint.")
    primary = any(one.role is EndpointRole.PRIMARY for one in endpoints)
    return graded(
        ("Methods: design", "Endpoints"),
        "" if primary else "No endpoint is declared as primary.",
    )


def planned(facts: Facts, tables: Tables) -> Verdict:
    del tables
    late = [one.number for one in facts.versions[1:]]
    return graded(
        ("Amendments and deviations",),
        "The protocol was laid down before the first reading; whether patients were examined "
        "before or after is for the authors.",
        f"It was amended later (versions {', '.join(map(str, late))})." if late else "",
    )


def dates(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if facts.first_enrolled is None:
        return Verdict(Status.MISSING, (), "No case has been enrolled.")
    return Verdict(
        Status.PARTLY,
        ("Methods: participants",),
        "Dates of enrolment are there; setting, place and dates of the examinations are not.",
    )


def _header_gap(facts: Facts) -> str:
    """Say of how many series no headers were noted; nothing where none is missing."""
    noted, given = facts.with_parameters, facts.n_series
    return "" if given and noted == given else f"Headers were noted of {noted} of {given} series."


def _unread(tables: Tables) -> Verdict | None:
    """Judge a study of which no finding has been read with both arms."""
    if any(row.n for row in tables["detection"].rows):
        return None
    return Verdict(Status.MISSING, (), "No finding has been read in both protocols yet.")


def index_test(facts: Facts, tables: Tables) -> Verdict:
    models = any(row.model_name is not None for row in tables["lineage"].rows)
    return graded(
        ("Methods: image reconstruction", "Technical parameters"),
        _header_gap(facts),
        "" if models else "No series has a recorded reconstruction.",
    )


def no_reference(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if facts.frame.protocol.truth is not None:
        return Verdict(
            Status.PARTLY,
            ("Many readers, many cases",),
            "The protocol takes the findings of one reader for true; how that reader came to them, "
            "and why, is for the authors.",
        )
    return Verdict(
        Status.NOT_APPLICABLE,
        (),
        "The study has no reference standard: protocols and readers are compared with each other.",
    )


def categories(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not (facts.frame.protocol.criteria or facts.frame.protocol.findings):
        return Verdict(Status.NOT_APPLICABLE, (), "Nothing is scored in categories.")
    return Verdict(Status.REPORTED, ("Methods: readings and measurements", "Image quality"))


def blinded(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return graded(
        ("Methods: blinding",),
        "Whether clinical information reached the readers is not recorded.",
        f"Sessions began before the wash-out was over: {len(facts.overrides)}."
        if facts.overrides
        else "",
    )


def missing_data(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return graded(
        ("Methods: readings and measurements", "Every table: n used"),
        f"{facts.left} readings are still to come." if facts.interim else "",
    )


def variability(facts: Facts, tables: Tables) -> Verdict:
    if len(facts.readers) < 2:
        return Verdict(Status.MISSING, (), "There are fewer than two readers.")
    robust = bool(tables["robustness"].rows)
    return Verdict(
        Status.PARTLY,
        ("Agreement", "Robustness") if robust else ("Agreement",),
        "Readers and protocols are compared"
        + (", each patient is left out in turn" if robust else "")
        + "; patients are not divided into groups.",
    )


def sample_size(facts: Facts, tables: Tables) -> Verdict:
    protocol = facts.frame.protocol
    if protocol.planned_cases is None:
        rows = tables["sample-size"].rows
        return Verdict(
            Status.PARTLY if rows else Status.MISSING,
            ("Sample size",) if rows else (),
            "The protocol states no number of cases planned beforehand; the table plans the next "
            "study.",
        )
    why = "" if protocol.sample_size_rationale else "The protocol does not say why that many."
    return graded(("Sample size",), why)


def flow(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.enrolled:
        return Verdict(Status.MISSING, (), "No case has been enrolled.")
    return Verdict(
        Status.PARTLY,
        ("Participants",),
        "From enrolment on, with every exclusion; who was screened and not enrolled is not known.",
    )


def cross_tables(facts: Facts, tables: Tables) -> Verdict:
    if facts.frame.protocol.truth is None:
        why = "; not against a reference standard, which the study does not have."
    else:
        why = "; against the reference standard there are areas under the curve, no cross tables."
    return _unread(tables) or Verdict(
        Status.PARTLY,
        ("Detection",),
        f"Protocol against protocol, for every finding and reader{why}",
    )


def precision(facts: Facts, tables: Tables) -> Verdict:
    where: tuple[str, ...] = ("Detection", "Agreement", "Equivalence")
    why = "sensitivity and specificity need a reference standard."
    if facts.frame.protocol.truth is not None:
        where = (*where, "Many readers, many cases")
        why = "against the reference standard by areas under the curve."
    return _unread(tables) or Verdict(
        Status.PARTLY, where, f"Differences and agreement with their intervals; {why}"
    )


def limitations(facts: Facts, tables: Tables) -> Verdict:
    del tables
    return Verdict(
        Status.PARTLY,
        ("Amendments and deviations", "What is reported, and what is not"),
        "The report names what is missing and gives the uncertainty; sources of bias and how far "
        "the results carry are for the authors."
        + (f" Deviations: {len(facts.overrides)} waived wash-outs." if facts.overrides else ""),
    )


def raters(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.readers:
        return Verdict(Status.MISSING, (), "There is no reader.")
    unknown = [one.name for one in facts.readers if one.experience_years is None]
    return graded(
        ("Readers",),
        f"Experience is not stated of {', '.join(unknown)}." if unknown else "",
        "From which group of readers they were taken is for the authors.",
    )


def numbers(facts: Facts, tables: Tables) -> Verdict:
    del tables
    if not facts.allocated:
        return Verdict(Status.MISSING, (), "No reading has been allocated.")
    return graded(
        ("Participants", "Readers"),
        "" if facts.repeats else "No reading was repeated: there is no intra-reader agreement.",
    )


def characteristics(facts: Facts, tables: Tables) -> Verdict:
    known = any(one.experience_years is not None for one in facts.readers)
    del tables
    return Verdict(
        Status.PARTLY if known else Status.MISSING,
        ("Readers",) if known else (),
        "Age, sex and symptoms of the patients are not part of the study's record."
        + ("" if known else " Nor is the experience of the readers."),
    )


def estimates(facts: Facts, tables: Tables) -> Verdict:
    del facts
    kappas = [row.kappa for row in tables["agreement"].rows if isinstance(row, KappaRow)]
    if not any(kappa.n for kappa in kappas):
        return Verdict(Status.MISSING, (), "No two complete readings can be compared yet.")
    without = sum(kappa.n > 0 and kappa.interval is None for kappa in kappas)
    return graded(
        ("Agreement", "Image quality", "SNR"),
        f"{without} of {len(kappas)} kappas have no interval, each with its reason."
        if without
        else "",
    )


def relevance(facts: Facts, tables: Tables) -> Verdict:
    del facts
    tested = any(row.endpoint is not None for row in tables["equivalence"].rows)
    return Verdict(
        Status.PARTLY if tested else Status.MISSING,
        ("Equivalence",) if tested else (),
        "What the figures mean for practice is for the authors.",
    )


def replicates(facts: Facts, tables: Tables) -> Verdict:
    verdict = sample_size(facts, tables)
    return Verdict(verdict.status, (*verdict.where, "Methods: design"), verdict.missing)


def failure_analysis(facts: Facts, tables: Tables) -> Verdict:
    """Judge whether errors are shown."""
    if not facts.frame.protocol.findings:
        return Verdict(Status.NOT_APPLICABLE, (), "The protocol asks for no findings.")
    return _unread(tables) or graded(
        ("Failure analysis",),
        "Every place that was seen with one protocol alone is named; what the images show there is "
        "for the authors.",
    )


def acquisition(facts: Facts, tables: Tables) -> Verdict:
    """Judge what the headers of the series tell."""
    del tables
    return graded(("Technical parameters", "Scan time"), _header_gap(facts))
