"""Every table by its name, computed at one revision of a study; no HTTP here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from halfscan_api.statistics import (
    agreement,
    conduct,
    detection,
    equivalence,
    failures,
    grading,
    image_quality,
    lineage,
    mrmc,
    options,
    parameters,
    participants,
    robustness,
    sample_size,
    scan_time,
    snr,
)
from halfscan_api.statistics.frame import load_frame
from halfscan_api.statistics.results import Table
from halfscan_api.studies.tables import Study

Compute = Callable[..., Table[Any]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A table that can be asked for.

    Attributes
    ----------
    compute : callable
        Session, frame and options to a table.
    query : type
        Of its options.
    what : str
        For a list.
    """

    compute: Compute
    query: type[options.TableQuery]
    what: str


SUBJECTS: Final[dict[str, Subject]] = {
    "protocol": Subject(
        parameters.compute, options.TableQuery, "Table 1: technical parameters of the protocols"
    ),
    "scan-time": Subject(scan_time.compute, options.DifferenceQuery, "Scan time and its saving"),
    "image-quality": Subject(
        image_quality.compute, options.ScoreQuery, "Table 2: scores by reader and protocol"
    ),
    "visual-grading": Subject(
        grading.compute, options.GradingQuery, "Visual grading characteristics and regression"
    ),
    "snr": Subject(snr.compute, options.SnrQuery, "Table 3: signal-to-noise ratio"),
    "agreement": Subject(
        agreement.compute, options.AgreementQuery, "Table 4: inter-reader, inter-protocol, repeats"
    ),
    "detection": Subject(
        detection.compute, options.DetectionQuery, "Table 5: findings, McNemar's test"
    ),
    "equivalence": Subject(
        equivalence.compute,
        options.EquivalenceQuery,
        "Non-inferiority, equivalence, interchangeability",
    ),
    "mrmc": Subject(mrmc.compute, options.MrmcQuery, "Many readers, many cases"),
    "sample-size": Subject(
        sample_size.compute, options.SampleSizeQuery, "Sample sizes of the next study"
    ),
    "participants": Subject(
        participants.compute, options.TableQuery, "Flow of participants, exclusions"
    ),
    "conduct": Subject(
        conduct.compute, options.TableQuery, "Reading times, missing answers, amendments"
    ),
    "robustness": Subject(
        robustness.compute,
        options.RobustnessQuery,
        "What was shown, without each patient",
    ),
    "failures": Subject(
        failures.compute, options.TableQuery, "Findings seen with one protocol alone, and where"
    ),
    "lineage": Subject(lineage.compute, options.TableQuery, "Where every series comes from"),
}


def compute_table(
    session: Session, study: Study, name: str, query: options.TableQuery | None = None
) -> Table[Any]:
    """Compute a table of a study.

    Parameters
    ----------
    session : Session
        One that sees one state of the database (`Database.snapshot`).
    study : Study
        Loaded by this session.
    name : str
        One of `SUBJECTS`.
    query : TableQuery, optional
        Its options; the defaults without it.

    Returns
    -------
    Table
    """
    subject = SUBJECTS[name]
    return subject.compute(session, load_frame(session, study), query or subject.query())
