"""Multiplicity as the protocol declares it: raw and adjusted p-values side by side.

A protocol that states the size of a family (the reference study: two tests, one a reader, for each
aspect of image quality) gets one family for each item and place. Without a size, all tests of
the table with the same role are one family: primary endpoints are corrected among themselves alone,
secondary ones likewise, and what no endpoint declares is exploratory. What is shown of a table
never changes a family: it is formed of the whole table.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from halfscan_api.studies.protocol import (
    EndpointKind,
    EndpointRole,
    Hypothesis,
    Multiplicity,
    Protocol,
)
from halfscan_stats import adjust_pvalues


@dataclass(frozen=True, slots=True)
class RawTest:
    """A p-value before the correction.

    Attributes
    ----------
    aspect : hashable
        What it is about: item and place.
    p_value : float or None
    together : bool
        Of all readers together: no further test of the family of the single readers.
    part : str
        Of single levels: no further test of the family of all levels.
    role : EndpointRole
        What the protocol declares of it.
    """

    aspect: Hashable
    p_value: float | None
    together: bool = False
    part: str = ""
    role: EndpointRole = EndpointRole.EXPLORATORY


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A p-value after the correction for several tests.

    Attributes
    ----------
    method : str
    n_tests : int
        Tests of the family.
    p_value : float or None
        To be compared with alpha itself.
    alpha : float
    significant : bool or None
    role : str
        Of the endpoints that the family is made of: ``primary``, ``secondary``, ``exploratory``.
    """

    method: str
    n_tests: int
    p_value: float | None
    alpha: float
    significant: bool | None
    role: str = EndpointRole.EXPLORATORY.value


def role_of_difference(
    protocol: Protocol, kind: EndpointKind, items: Sequence[str], place: str | None = None
) -> EndpointRole:
    """Give the role of a test of difference: the weightiest of the endpoints that it belongs to.

    Parameters
    ----------
    protocol : Protocol
    kind : EndpointKind
    items : sequence of str
        Names under which an endpoint may declare it.
    place : str, optional
        Sequence.

    Returns
    -------
    EndpointRole
        Exploratory where no endpoint declares this difference.
    """
    declared = {
        one.role
        for one in protocol.endpoints
        if one.kind is kind
        and one.hypothesis is Hypothesis.DIFFERENCE
        and (one.item is None or one.item in items)
        and one.sequence in {None, place}
    }
    return next((role for role in EndpointRole if role in declared), EndpointRole.EXPLORATORY)


def families_text(stated: Multiplicity) -> str:
    """Say what a family of tests is, for the footnote of a table."""
    if stated.method == "none":
        return "no correction for several tests"
    size = (
        f"a family is an item in one place, of {stated.family_size} tests"
        if stated.family_size is not None
        else "the tests of this whole table with the same role are one family"
    )
    return (
        f"{size}; declared primary endpoints are corrected among themselves alone, secondary ones "
        "likewise, all other tests are exploratory"
    )


def adjust(protocol: Protocol, tests: Sequence[RawTest], *, alpha: float) -> list[Adjusted]:
    """Adjust the p-values of a table.

    Parameters
    ----------
    protocol : Protocol
    tests : sequence of RawTest
    alpha : float

    Returns
    -------
    list of Adjusted
        In the order of the tests.
    """
    stated = protocol.multiplicity
    families: dict[Hashable, list[int]] = defaultdict(list)
    for position, test in enumerate(tests):
        aspect = test.aspect if stated.family_size is not None else None
        families[aspect, test.role, test.together, test.part].append(position)
    found: dict[int, Adjusted] = {}
    for positions in families.values():
        p_values = [tests[position].p_value for position in positions]
        there = sum(p is not None for p in p_values)
        # More readers than the protocol knew of make the family larger, never smaller.
        n_tests = None if stated.family_size is None else max(stated.family_size, there)
        answer = adjust_pvalues(p_values, stated.method, alpha=alpha, n_tests=n_tests)
        for position, p_value, rejected in zip(
            positions, answer.values, answer.rejected, strict=True
        ):
            role = tests[position].role.value
            found[position] = Adjusted(
                answer.method, answer.n_tests, p_value, alpha, rejected, role
            )
    return [found[position] for position in range(len(tests))]
