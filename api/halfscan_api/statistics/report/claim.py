"""CLAIM 2024: studies of artificial intelligence in medical imaging, 44 items, in our own words.

References
----------
Tejani AS, et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update.
Radiol Artif Intell 2024;6:e240300. doi:10.1148/ryai.240300
"""

from halfscan_api.statistics.report.facts import Facts
from halfscan_api.statistics.report.methods import Tables
from halfscan_api.statistics.report.verdicts import (
    Items,
    Judge,
    Status,
    Verdict,
    acquisition,
    always,
    cross_tables,
    dates,
    estimates,
    failure_analysis,
    flow,
    for_authors,
    hypotheses,
    limitations,
    missing_data,
    no_reference,
    planned,
    precision,
    protocol_access,
    raters,
    sample_size,
    statistical_methods,
)

CLAIM = "CLAIM 2024"


def _model(about: str) -> Judge:
    """Judge what the card of the model tells, and the report names."""

    def judge(facts: Facts, tables: Tables) -> Verdict:
        del facts
        if not any(row.model_name is not None for row in tables["lineage"].rows):
            return Verdict(Status.MISSING, (), "No series has a recorded reconstruction.")
        return Verdict(
            Status.PARTLY,
            ("Methods: image reconstruction",),
            f"Name, version and SHA-256 of the weights are here; {about} is in the model's card.",
        )

    return judge


def _robustness(facts: Facts, tables: Tables) -> Verdict:
    del facts
    rows = tables["robustness"].rows
    return Verdict(
        Status.PARTLY if rows else Status.MISSING,
        ("Robustness",) if rows else (),
        "Each patient is left out in turn; sites, scanners and groups of patients are not compared."
        if rows
        else "No endpoint declares a margin: nothing was shown that could be tried.",
    )


def _external(facts: Facts, tables: Tables) -> Verdict:
    del facts, tables
    return Verdict(
        Status.PARTLY,
        ("Methods: participants",),
        "The study's cases are none that the model was trained on, if its card is right; whether "
        "they come from another site than its users' is for the authors.",
    )


def _software(facts: Facts, tables: Tables) -> Verdict:
    del facts, tables
    return Verdict(
        Status.PARTLY,
        ("Methods: software",),
        "Software of the statistics is here with versions; that of the reconstruction is not part "
        "of the recorded lineage.",
    )


_TRAINING = for_authors("the model's card tells of its training; the study does not train")

CLAIM_ITEMS: Items = (
    ("1", "Title or abstract name the kind of artificial intelligence", for_authors("the title")),
    ("2", "Structured summary", for_authors("the abstract")),
    ("3", "Background, intended use and role of the method", for_authors("the introduction")),
    ("4", "Aims and hypotheses", hypotheses),
    ("5", "Prospective or retrospective", planned),
    ("6", "Goal of the study", hypotheses),
    ("7", "Where the data come from", dates),
    ("8", "Who was included and excluded", for_authors("criteria before enrolment")),
    ("9", "How data were prepared", _model("how images are prepared")),
    ("10", "Which part of the data was taken", flow),
    ("11", "How data were de-identified", always(("Methods: blinding", "Methods: participants"))),
    ("12", "How missing data were handled", missing_data),
    ("13", "Image acquisition", acquisition),
    ("14", "How the reference standard was made", no_reference),
    ("15", "Why this reference standard", no_reference),
    ("16", "Who annotated for the reference standard", no_reference),
    ("17", "How the test set was annotated", raters),
    ("18", "Variability between and within readers", estimates),
    ("19", "How data were split", always(("Methods: design",), "Every case is tested on.")),
    ("20", "Level at which the parts are apart", always(("Methods: participants",))),
    ("21", "Intended sample size", sample_size),
    ("22", "The model in detail", _model("its structure")),
    ("23", "Software libraries and packages", _software),
    ("24", "How the model's parameters began", _TRAINING),
    ("25", "Training", _TRAINING),
    ("26", "How the final model was chosen", _TRAINING),
    ("27", "Ensembles", _TRAINING),
    ("28", "Measures of performance", statistical_methods),
    ("29", "Significance and uncertainty", statistical_methods),
    ("30", "Robustness or sensitivity analysis", _robustness),
    ("31", "How the model's results are explained", for_authors("whether they are explained")),
    ("32", "Test on data of the same source", _external),
    ("33", "Test on data of another source", _external),
    ("34", "Registration", for_authors("number and name of the registry")),
    ("35", "Patients included and excluded", flow),
    ("36", "Who the patients were", for_authors("age, sex, symptoms, by group")),
    ("37", "Performance with its uncertainty", precision),
    ("38", "Diagnostic performance with its precision", cross_tables),
    ("39", "Failure analysis", failure_analysis),
    ("40", "Limitations", limitations),
    ("41", "What follows for practice", for_authors("the discussion")),
    ("42", "Where the protocol can be seen", protocol_access),
    (
        "43",
        "Availability of software, model and data",
        for_authors("what can be had, where and under which licence"),
    ),
    ("44", "Funding and the role of the funders", for_authors("sources of support")),
)
