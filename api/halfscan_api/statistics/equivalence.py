"""What a test of difference cannot say: not worse, as good, interchangeable.

Only what the protocol declares is tested: its endpoints with a margin. Interchangeability of the
readers' findings is estimated for every finding. What decides is the `decision` of each result of
`halfscan_stats`: nothing is computed anew here.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from halfscan_api.statistics.adjusting import Adjusted, RawTest, adjust
from halfscan_api.statistics.comparisons import Comparison, comparisons
from halfscan_api.statistics.equivalence_layout import grids_of, notes_of
from halfscan_api.statistics.equivalence_rows import MeanRow, ProportionRow, Row
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.interchange import InterchangeDraft, interchange_drafts
from halfscan_api.statistics.options import EquivalenceQuery
from halfscan_api.statistics.results import Table
from halfscan_api.studies.protocol import EndpointKind
from halfscan_stats import NonInferiority, Tost


@dataclass(frozen=True, slots=True)
class _Draft:
    """A test before the p-values of its family are known."""

    comparison: Comparison
    test: NonInferiority | Tost

    @property
    def p_value(self) -> float | None:
        return self.comparison.p_value(self.test)

    def raw(self) -> RawTest:
        of = self.comparison
        return RawTest(
            (of.endpoint.name, of.item, of.place),
            self.p_value,
            together=of.reader is None and of.endpoint.kind is EndpointKind.DETECTION,
            role=of.endpoint.role,
        )

    def row(self, frame: Frame, adjusted: Adjusted, alpha: float) -> ProportionRow | MeanRow:
        of = self.comparison
        common: dict[str, Any] = {
            "endpoint": of.endpoint.name,
            "role": of.endpoint.role.value,
            "hypothesis": of.endpoint.hypothesis.value,
            "item": of.item,
            "label": of.label,
            "reader": of.reader,
            "reference_arm": frame.reference,
            "test_arm": of.test_arm,
            "margin": of.endpoint.margin or 0.0,
            "p_value": self.p_value,
            "shown": None if self.p_value is None else self.p_value <= alpha,
            "adjusted": adjusted,
        }
        if isinstance(self.test, NonInferiority):
            return ProportionRow(**common, test=self.test)
        return MeanRow(**common, test=self.test, place=of.place)


def compute(session: Session, frame: Frame, options: EquivalenceQuery) -> Table[Row]:
    """Compute the table.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    options : EquivalenceQuery

    Returns
    -------
    Table of ProportionRow, MeanRow and InterchangeRow
    """
    alpha = options.alpha or frame.protocol.alpha
    drafts = [
        _Draft(comparison, comparison.result(alpha)) for comparison in comparisons(session, frame)
    ]
    indices = list(interchange_drafts(session, frame, options, alpha))
    tested = [draft for draft in indices if draft.endpoint is not None]
    raw = [*(draft.raw() for draft in drafts), *(draft.raw() for draft in tested)]
    adjusted = adjust(frame.protocol, raw, alpha=alpha)
    every: list[_Draft | InterchangeDraft] = [*drafts, *tested]
    rows: list[Row] = [
        draft.row(frame, one, alpha) for draft, one in zip(every, adjusted, strict=True)
    ]
    rows += [draft.row(frame, None, alpha) for draft in indices if draft.endpoint is None]
    return Table.of(
        frame,
        options,
        name="equivalence",
        title="Non-inferiority, equivalence and interchangeability",
        rows=tuple(rows),
        grids=tuple(grids_of(frame, rows)),
        notes=tuple(notes_of(frame, rows, options, alpha)),
    )
