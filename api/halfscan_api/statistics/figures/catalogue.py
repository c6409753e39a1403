"""The figures by name, and what can be asked of each; loads matplotlib when the first is drawn."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from halfscan_api.errors import InvalidRequest
from halfscan_api.schemas import Input
from halfscan_api.statistics.frame import Frame, ReaderOfStudy
from halfscan_api.statistics.results import Table
from halfscan_api.studies.protocol import Key, ReaderName

if TYPE_CHECKING:
    from halfscan_api.statistics.figures.canvas import Picture

FigureName = Literal[
    "participants", "likert", "kappa", "bland-altman", "snr", "mcnemar", "equivalence"
]
FIGURES: Final[dict[FigureName, str]] = {
    "participants": "Flow of participants, as STARD 2015 draws it",
    "likert": "Scores of a sequence by criterion, reader and arm, as stacked bars",
    "kappa": "Forest plot of kappas, naive and cluster-robust intervals",
    "bland-altman": "Differences between two readers' SNR, limits with their intervals",
    "snr": "SNR by region, reference and test arm of each case",
    "mcnemar": "Findings of both arms, of one, of neither, as mosaics",
    "equivalence": "Differences with their intervals against the declared margins",
}


class FigureQuery(Input):
    """What a figure shows; what it does not know is refused."""

    format: Annotated[Literal["svg", "png"], Field(description="svg, or png at 300 dpi.")] = "svg"
    sequence: Annotated[
        Key | None,
        Field(description="likert, bland-altman, snr, kappa of scores; the first by default."),
    ] = None
    section: Annotated[
        Literal["findings", "scores"], Field(description="kappa: of the findings or the scores.")
    ] = "findings"
    region: Annotated[Key | None, Field(description="bland-altman: one region; all if none.")] = (
        None
    )
    reader: Annotated[
        ReaderName | None, Field(description="bland-altman: first minus this; the first two.")
    ] = None
    other_reader: Annotated[ReaderName | None, Field(description="bland-altman: the second.")] = (
        None
    )
    arm: Annotated[
        Key | None, Field(description="mcnemar, equivalence: the test arm; the first by default.")
    ] = None


def draw_of_tables(
    frame: Frame, name: FigureName, query: FigureQuery, tables: Mapping[str, Table[Any]]
) -> "Picture | None":
    """Draw a figure from tables that were computed; None where it needs more than a table."""
    from halfscan_api.statistics.figures import (  # noqa: PLC0415 - loads matplotlib
        forest,
        margins,
        mosaic,
    )

    arm = query.arm or frame.test_arms[0]
    if name == "kappa":
        return forest.of_table(frame, tables["agreement"], query.section, _sequence(frame, query))
    if name == "mcnemar":
        return mosaic.of_table(frame, tables["detection"], arm)
    if name == "equivalence":
        return margins.of_table(frame, tables["equivalence"], arm)
    return None


def draw(session: Session, frame: Frame, name: FigureName, query: FigureQuery) -> "Picture":
    """Draw a figure; `canvas.drawing` must be entered.

    Parameters
    ----------
    session : Session
        One that sees one state of the database.
    frame : Frame
    name : str
        One of `FigureName`.
    query : FigureQuery

    Returns
    -------
    Picture
    """
    return _DRAW[name](session, frame, query)


def check(frame: Frame, query: FigureQuery) -> None:
    """Refuse names that the study does not have.

    Raises
    ------
    InvalidRequest
    """
    protocol = frame.protocol
    readers = [reader.name for reader in frame.readers]
    regions = dict.fromkeys(region.name for region in protocol.regions)
    known: dict[str, tuple[str | None, Iterable[str]]] = {
        "sequence": (query.sequence, protocol.sequence_names),
        "region": (query.region, regions),
        "reader": (query.reader, readers),
        "other_reader": (query.other_reader, readers),
        "arm": (query.arm, frame.test_arms),
    }
    errors = [
        {
            "in": "query",
            "field": field,
            "detail": f"must be one of {', '.join(names) or '(none)'}, got {name!r}",
        }
        for field, (name, names) in known.items()
        if name is not None and name not in names
    ]
    if query.reader is not None and query.reader == query.other_reader:
        detail = f"must be another than reader, got {query.reader!r} twice"
        errors.append({"in": "query", "field": "other_reader", "detail": detail})
    if errors:
        raise InvalidRequest(errors)


def file_of(session: Session, frame: Frame, name: FigureName, query: FigureQuery) -> bytes:
    """Draw a figure and write it in the format of the query."""
    from halfscan_api.statistics.figures import canvas  # noqa: PLC0415 - loads matplotlib

    with canvas.drawing():
        return canvas.render(draw(session, frame, name, query), query.format)


def _sequence(frame: Frame, query: FigureQuery) -> str:
    return query.sequence or frame.protocol.sequence_names[0]


def _readers(frame: Frame, query: FigureQuery) -> tuple[ReaderOfStudy, ReaderOfStudy] | None:
    """Give the two readers that are asked for; where one is not, the first that is left."""
    by_name = {reader.name: reader for reader in frame.readers}
    left = [one for one in frame.readers if one.name not in {query.reader, query.other_reader}]
    chosen = [
        by_name[name] if name is not None else (left.pop(0) if left else None)
        for name in (query.reader, query.other_reader)
    ]
    if chosen[0] is None or chosen[1] is None:
        return None
    return chosen[0], chosen[1]


def _likert(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import likert  # noqa: PLC0415 - loads matplotlib

    return likert.draw(session, frame, _sequence(frame, query))


def _kappa(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import forest  # noqa: PLC0415 - loads matplotlib

    return forest.draw(session, frame, query.section, _sequence(frame, query))


def _bland_altman(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import limits  # noqa: PLC0415 - loads matplotlib

    readers = _readers(frame, query)
    return limits.draw(session, frame, _sequence(frame, query), readers, query.region)


def _snr(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import regions  # noqa: PLC0415 - loads matplotlib

    return regions.draw(session, frame, _sequence(frame, query))


def _mcnemar(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import mosaic  # noqa: PLC0415 - loads matplotlib

    return mosaic.draw(session, frame, query.arm or frame.test_arms[0])


def _participants(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import flow  # noqa: PLC0415 - loads matplotlib

    del query
    return flow.draw(session, frame)


def _equivalence(session: Session, frame: Frame, query: FigureQuery) -> "Picture":
    from halfscan_api.statistics.figures import margins  # noqa: PLC0415 - loads matplotlib

    return margins.draw(session, frame, query.arm or frame.test_arms[0])


_DRAW: dict[FigureName, Callable[[Session, Frame, FigureQuery], "Picture"]] = {
    "participants": _participants,
    "likert": _likert,
    "kappa": _kappa,
    "bland-altman": _bland_altman,
    "snr": _snr,
    "mcnemar": _mcnemar,
    "equivalence": _equivalence,
}
