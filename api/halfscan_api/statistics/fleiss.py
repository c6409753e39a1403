"""Agreement of more than two readers at once: Fleiss' kappa within each arm."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from halfscan_api.readings.tables import AnswerKind
from halfscan_api.statistics.agreeing import Compared, weights_for
from halfscan_api.statistics.counts import Scale
from halfscan_api.statistics.frame import Frame, scale_of
from halfscan_api.statistics.options import AgreementQuery
from halfscan_api.statistics.profiles import Profiles
from halfscan_stats import Agreement, fleiss_kappa


@dataclass(frozen=True, slots=True)
class FleissRow:
    """Agreement of all readers on a scale, within one arm.

    Attributes
    ----------
    kind : str
        ``fleiss``.
    section, item, label, level, place, compared
        See `agreeing.KappaRow`.
    kappa : Agreement
        Fleiss' kappa; the cluster-robust interval stands beside for findings.
    """

    section: str
    item: str
    label: str
    level: str
    place: str | None
    compared: Compared
    kappa: Agreement
    kind: str = "fleiss"


@dataclass(frozen=True, slots=True)
class _Question:
    """An item in one place of the table, and how many places are added up in it."""

    section: str
    item: str
    label: str
    place: str | None
    n_places: int
    scale: Scale


def fleiss_rows(session: Session, frame: Frame, options: AgreementQuery) -> Iterator[FleissRow]:
    """Give Fleiss' kappa of every item that the options ask for."""
    names = tuple(reader.name for reader in frame.readers)
    profiles = {
        "scores": Profiles(session, frame, AnswerKind.SCORE),
        "findings": Profiles(session, frame, AnswerKind.FINDING),
    }
    for question in _questions(frame, options.section):
        weights = weights_for(options.weights, question.scale)
        for arm in frame.protocol.arm_names:
            counts, patients = profiles[question.section].readers_by_value(
                question.item, question.place or "", question.scale, arm
            )
            clustered = question.section == "findings"
            answer = fleiss_kappa(
                counts=counts,
                categories=question.scale,
                weights=weights,
                level=options.level,
                cluster=patients if clustered else None,
            )
            n_given = max(frame.n_cases * question.n_places, answer.n_given)
            yield FleissRow(
                section=question.section,
                item=question.item,
                label=question.label,
                level="finding" if clustered else "criterion",
                place=question.place,
                compared=Compared("inter_reader", "within", names, (arm,)),
                kappa=replace(answer, n_given=n_given, n_readers=len(names)),
            )


def _questions(frame: Frame, section: str) -> Iterator[_Question]:
    if section in {"all", "scores"}:
        for sequence in frame.protocol.sequence_names:
            for one in frame.protocol.criteria_of(sequence):
                scale = tuple(choice.value for choice in one.scale)
                yield _Question("scores", one.name, one.label, sequence, 1, scale)
    if section in {"all", "findings"}:
        for finding in frame.protocol.findings:
            yield _Question(
                "findings",
                finding.name,
                finding.label,
                None,
                len(finding.levels),
                scale_of(finding),
            )
