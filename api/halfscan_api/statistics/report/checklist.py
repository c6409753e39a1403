"""What of four reporting guidelines this report holds, where, and what is missing.

The numbers are those of STARD 2015 (diagnostic accuracy), of GRRAS (reliability and agreement)
and, in modules of their own, of CLAIM 2024 (`claim`) and STARD-AI 2025 (`stard_ai`); the items are
told in our own words, and a judgement is made from what the study holds.

References
----------
Bossuyt PM, et al. STARD 2015: an updated list of essential items for reporting diagnostic accuracy
studies. BMJ 2015;351:h5527. doi:10.1136/bmj.h5527

Kottner J, et al. Guidelines for Reporting Reliability and Agreement Studies (GRRAS) were proposed.
J Clin Epidemiol 2011;64:96-106. doi:10.1016/j.jclinepi.2010.03.002
"""

from dataclasses import dataclass

from halfscan_api.statistics.report.claim import CLAIM, CLAIM_ITEMS
from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.methods import Tables
from halfscan_api.statistics.report.stard_ai import STARD_AI, STARD_AI_ITEMS
from halfscan_api.statistics.report.verdicts import (
    Items,
    Verdict,
    always,
    blinded,
    categories,
    characteristics,
    cross_tables,
    dates,
    estimates,
    flow,
    for_authors,
    hypotheses,
    index_test,
    limitations,
    missing_data,
    no_reference,
    numbers,
    planned,
    precision,
    protocol_access,
    raters,
    relevance,
    replicates,
    sample_size,
    statistical_methods,
    variability,
)

STARD = "STARD 2015"
GRRAS = "GRRAS"


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a guideline, judged."""

    guideline: str
    number: str
    asks: str
    verdict: Verdict


def judged(facts: Facts, tables: Tables) -> list[Item]:
    """Judge every item of the guidelines.

    Parameters
    ----------
    facts : Facts
    tables : mapping
        The computed tables by name.

    Returns
    -------
    list of Item
        Guideline by guideline, each in its own order.
    """
    guidelines = (
        (STARD, _STARD),
        (STARD_AI, STARD_AI_ITEMS),
        (GRRAS, _GRRAS),
        (CLAIM, CLAIM_ITEMS),
    )
    return [
        Item(guideline, number, asks, judge(facts, tables))
        for guideline, items in guidelines
        for number, asks, judge in items
    ]


_STARD: Items = (
    ("1", "Title or abstract name the measure of accuracy", for_authors("title and abstract")),
    ("2", "Structured summary", for_authors("the abstract")),
    ("3", "Background, use and role of the new protocol", for_authors("the introduction")),
    ("4", "Objectives and hypotheses", hypotheses),
    ("5", "Planned before the data were there, or after", planned),
    ("6", "Who was eligible", for_authors("criteria of inclusion and exclusion before enrolment")),
    (
        "7",
        "On what basis eligible patients were found",
        for_authors("symptoms, earlier tests, registry"),
    ),
    ("8", "Setting, place and dates of finding them", dates),
    ("9", "Consecutive, random or convenience sample", for_authors("how patients were sampled")),
    ("10a", "The index test (the new protocol), so that others can repeat it", index_test),
    ("10b", "The reference standard, so that others can repeat it", no_reference),
    ("11", "Why this reference standard", no_reference),
    (
        "12a",
        "Categories and cut-offs of the index test and why, fixed beforehand or not",
        categories,
    ),
    ("12b", "Categories and cut-offs of the reference standard and why", no_reference),
    ("13a", "Whether readers had clinical information or the reference standard", blinded),
    ("13b", "Whether those who judged the reference standard had other information", no_reference),
    (
        "14",
        "Methods to estimate or compare accuracy",
        statistical_methods,
    ),
    (
        "15",
        "How indeterminate results were handled",
        always(
            ("Methods: readings and measurements",),
            "An answer is on the scale or missing: there is no answer that means undecided.",
        ),
    ),
    ("16", "How missing data were handled", missing_data),
    ("17", "Analyses of variability, planned or exploratory", variability),
    ("18", "Sample size that was intended, and why", sample_size),
    ("19", "Flow of participants", flow),
    (
        "20",
        "Demographic and clinical characteristics of the patients",
        for_authors("age, sex, symptoms"),
    ),
    ("21a", "Severity in those with the disease", for_authors("severity of the findings")),
    ("21b", "Other diagnoses in those without", for_authors("diagnoses of the others")),
    (
        "22",
        "Time and treatment between index test and reference standard",
        for_authors("time between the two scans"),
    ),
    ("23", "Cross table of index test and reference standard", cross_tables),
    ("24", "Estimates of accuracy with their precision", precision),
    ("25", "Adverse events", for_authors("events during the examinations")),
    ("26", "Limitations: bias, uncertainty, how far the results carry", limitations),
    ("27", "What follows for practice", for_authors("the discussion")),
    ("28", "Registration", for_authors("number and name of the registry")),
    ("29", "Where the protocol can be seen", protocol_access),
    (
        "30",
        "Funding and the role of the funders",
        for_authors("sources of support and their role"),
    ),
)

_GRRAS: Items = (
    ("1", "Title or abstract name reliability or agreement", for_authors("title and abstract")),
    ("2", "The diagnostic or measurement device that is judged", index_test),
    ("3", "The patients of interest", for_authors("the population that the sample stands for")),
    ("4", "The readers of interest", raters),
    ("5", "What was known before, and why this study", for_authors("the introduction")),
    ("6", "Sample size; readers, patients and repeats that were planned", replicates),
    ("7", "How patients and readers were sampled", for_authors("how both were sampled")),
    ("8", "How readings went: time between, clinical information, blinding", blinded),
    (
        "9",
        "Whether readings were independent",
        always(("Methods: blinding", "Methods: randomisation and wash-out")),
    ),
    ("10", "Statistical analysis", statistical_methods),
    ("11", "Readers, patients and repeats that there were", numbers),
    ("12", "Characteristics of readers and patients", characteristics),
    ("13", "Estimates of reliability and agreement with their uncertainty", estimates),
    ("14", "What the results mean in practice", relevance),
    (
        "15",
        "Detailed results",
        always(("All tables and figures", "The study's export: every answer")),
    ),
)
