"""STARD-AI: reporting of diagnostic accuracy studies of artificial intelligence, 40 items.

References
----------
Sounderajah V, et al. The STARD-AI reporting guideline for diagnostic accuracy studies using
artificial intelligence. Nat Med 2025;31:3283-3289. doi:10.1038/s41591-025-03953-8
"""

from halfscan_api.statistics.report.verdicts import (
    Items,
    acquisition,
    always,
    blinded,
    categories,
    characteristics,
    cross_tables,
    dates,
    failure_analysis,
    flow,
    for_authors,
    hypotheses,
    index_test,
    limitations,
    missing_data,
    no_reference,
    planned,
    precision,
    protocol_access,
    raters,
    relevance,
    sample_size,
    statistical_methods,
    variability,
)

STARD_AI = "STARD-AI 2025"

STARD_AI_ITEMS: Items = (
    ("1", "Named as AI-centred diagnostic accuracy, with a measure", for_authors("the title")),
    ("2", "Structured summary", for_authors("the abstract")),
    ("3", "Background, intended use, novelty, workflow", for_authors("the introduction")),
    ("4", "Objectives and hypotheses", hypotheses),
    ("5", "Planned before the data were there, or after", planned),
    ("6", "Approval of an ethics committee", for_authors("approval, or why none was needed")),
    (
        "7",
        "Criteria of patients and of data, in the order in which they are applied",
        for_authors("criteria before enrolment"),
    ),
    ("8", "On what basis patients were found", for_authors("symptoms, earlier tests, registry")),
    ("9", "Setting, place and dates of finding them", dates),
    ("10", "Consecutive, random or convenience sample", for_authors("how patients were sampled")),
    ("11", "Source of the data, routine or made for the study", for_authors("the source")),
    ("12", "Who annotated, with which experience, and how", raters),
    ("13", "Devices that captured the data, software of the index test", index_test),
    ("14", "Acquisition and preprocessing", acquisition),
    ("15a", "The index test, so that others can repeat it", index_test),
    ("15b", "How the index test was developed", for_authors("training and earlier evaluation")),
    ("15c", "Categories and cut-offs of the index test", categories),
    ("15d", "Who is meant to use it, with which expertise", raters),
    ("16a", "The reference standard, so that others can repeat it", no_reference),
    ("16b", "Why this reference standard", no_reference),
    ("16c", "Categories and cut-offs of the reference standard", no_reference),
    ("17a", "Whether readers had clinical information or the reference standard", blinded),
    ("17b", "Whether those who judged the reference standard had other information", no_reference),
    (
        "18",
        "Methods to estimate or compare accuracy",
        statistical_methods,
    ),
    (
        "19",
        "How indeterminate results were handled",
        always(
            ("Methods: readings and measurements",),
            "An answer is on the scale or missing: there is no answer that means undecided.",
        ),
    ),
    ("20", "How missing data were handled", missing_data),
    ("21", "Analyses of variability, planned or exploratory", variability),
    ("22", "Sample size that was intended, and why", sample_size),
    ("23", "Analysis of errors, of bias and fairness", failure_analysis),
    ("24", "Flow of participants", flow),
    ("25", "Characteristics of patients and of the technique", characteristics),
    ("26a", "Severity in those with the disease", for_authors("severity of the findings")),
    ("26b", "Other diagnoses in those without", for_authors("diagnoses of the others")),
    (
        "27",
        "Time and treatment between index test and reference standard",
        for_authors("time between the two scans"),
    ),
    (
        "28",
        "Whether the data are those of the patients it is meant for",
        for_authors("how often the findings are in the patients that the network is meant for"),
    ),
    (
        "29",
        "External evaluation: how the data differ from those of the training",
        for_authors("site and scanners against those of the training"),
    ),
    ("30", "Cross table of index test and reference standard", cross_tables),
    ("31", "Estimates of accuracy with their precision", precision),
    ("32", "Adverse events", for_authors("events during the examinations")),
    ("33", "Limitations: bias, uncertainty, how far the results carry", limitations),
    ("34", "What follows for practice", relevance),
    ("35", "Ethical considerations and fairness", for_authors("the discussion")),
    ("36", "Registration", for_authors("number and name of the registry")),
    ("37", "Where the protocol can be seen", protocol_access),
    ("38", "Funding and the role of the funders", for_authors("sources of support, their role")),
    ("39", "Commercial interests", for_authors("interests of the authors")),
    (
        "40a",
        "Availability of data and code",
        always(
            ("Methods: software",), "Software is named; where data can be had is for the authors."
        ),
    ),
    (
        "40b",
        "Whether outputs are kept, can be audited and evaluated",
        always(("Methods: image reconstruction", "Amendments and deviations")),
    ),
)
