"""Rules: which series is reconstructed, with what, and which one is skipped, and why.

The first rule whose conditions all match decides. What no rule can bring back is skipped before
(`exclusions`); of that, a rule lifts the vendor's own deep learning alone, with the condition
``deep_learning = true``. At the end stand the defaults: a picture of anatomy, in every object an
acceleration factor of at least 2 and fewer than 2 averages, and a vendor's deep learning that can
be ruled out. The factor alone does not decide: the reference study's STANDARD
fat-suppressed T2 was acquired with factor 2 and two averages, its ACCELERATED one with factor 2
and one (Tang et al. 2024, Table 1, doi:10.1186/s41747-024-00470-0).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydicom import Dataset

from halfscan_plugin.acquisition import Acquisition, read_series
from halfscan_plugin.conditions import Condition, Subject, parse_condition
from halfscan_plugin.descriptions import Description
from halfscan_plugin.errors import UnreadableSeries
from halfscan_plugin.exclusions import find_exclusion, set_aside
from halfscan_plugin.geometry import Stack, sort_slices, split
from halfscan_plugin.technique import TECHNIQUES

__all__ = ["DEFAULT_RULES", "Decision", "Rule", "Rules", "Trial", "decide", "judge"]

FEWEST_SLICES = 2
DEEP_LEARNING = "deep_learning"
BY_RULE = "by_rule"
FACTORS = {
    "in_plane_factor": "in plane",
    "slice_factor": "along slices",
    "compressed_sensing_factor": "compressed sensing",
    "multiband_factor": "multiband",
    "averages": "averages",
}
# Facts that a default's reason shows the evidence of.
SHOWN = {"technique", "deep_learning_possible"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, and what happens to a series that matches all of them.

    Parameters
    ----------
    name : str
        Unique in the list.
    action : {"reconstruct", "skip"}
        What to do.
    conditions : tuple of Condition
        All of them must match; none matches everything.
    reason_code : str
        Static word for machines; ``by_rule`` for those of a rules file.
    reason : str
        Why, for people; may be empty for a rule that reconstructs.
    model : str, optional
        Name of the model; the worker's own where None.
    strength : float, optional
        Share of the network's result, 0 to 1; the worker's own where None.
    series_description : Description, optional
        What to call the derived series; the default where None.
    """

    name: str
    action: Literal["reconstruct", "skip"]
    conditions: tuple[Condition, ...] = ()
    reason_code: str = BY_RULE
    reason: str = ""
    model: str | None = None
    strength: float | None = None
    series_description: Description | None = None

    @property
    def lifts_deep_learning(self) -> bool:
        """Whether a condition asks for what the vendor's deep learning has touched."""
        return any(c.name == DEEP_LEARNING and c.test.matches([True]) for c in self.conditions)

    def failure(self, subject: Subject) -> str | None:
        """Say which condition fails first, and why; None where all of them match."""
        # A site's own rule that skips protects such a series too, whatever a later rule lifts.
        skips = self.action == "skip" and self.reason_code == BY_RULE
        if subject.acquisition.deep_learning and not (skips or self.lifts_deep_learning):
            return "the vendor's deep learning was applied: only deep_learning = true lifts that"
        failures = (condition.failure(subject) for condition in self.conditions)
        return next((failure for failure in failures if failure is not None), None)


def _default(
    name: str, code: str, reason: str, *, action: Literal["reconstruct", "skip"] = "skip",
    **conditions: object,
) -> Rule:  # fmt: skip
    parsed = tuple(parse_condition(*condition) for condition in conditions.items())
    return Rule(f"default: {name}", action, parsed, code, reason)


DEFAULTS = (
    *(
        _default(
            technique,
            technique,
            f"a {technique} series, which the model card excludes",
            technique=technique,
        )
        for technique in TECHNIQUES
    ),
    _default(
        "acceleration unknown",
        "acceleration_unknown",
        "no header that is understood tells the factor",
        accelerated="unknown",
    ),
    _default("not accelerated", "not_accelerated", "every factor is below 2", accelerated=False),
    _default(
        "averages unknown",
        "averages_unknown",
        "accelerated, but no header tells the averages",
        averages="unknown",
    ),
    _default("averaged", "averaged", "accelerated, but with 2 averages or more", averages=">= 2"),
    _default(
        "deep learning unknown",
        "deep_learning_unknown",
        "accelerated, but the vendor's deep learning cannot be ruled out",
        accelerated=True,
        averages="< 2",
        deep_learning_possible=True,
    ),
    _default(
        "accelerated",
        "accelerated",
        "accelerated, with fewer than 2 averages",
        action="reconstruct",
        accelerated=True,
        averages="< 2",
    ),
    # What is left: some objects are accelerated and not averaged, others are not so.
    _default("mixed", "mixed_acquisition", "the objects of the series were acquired differently"),
)
NO_RULE = Rule("none", "skip", (), "no_rule", "no rule of the rules file matches")


@dataclass(frozen=True, slots=True)
class Rules:
    """An ordered list of rules; the first one that matches decides.

    Parameters
    ----------
    rules : tuple of Rule
        Those of the settings file.
    defaults : bool
        Whether the defaults stand at the end; without them, what no rule matches is skipped.
    """

    rules: tuple[Rule, ...] = ()
    defaults: bool = True

    @property
    def all(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are tried; the last one always matches."""
        return (*self.rules, *DEFAULTS) if self.defaults else (*self.rules, NO_RULE)


DEFAULT_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Trial:
    """A rule that was tried, and the first of its conditions that failed (None: it matched)."""

    rule: str
    failure: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a series, and why.

    Parameters
    ----------
    action : {"reconstruct", "skip"}
        What to do.
    reason_code : str
        Static word for machines, such as ``not_accelerated``.
    reason : str
        The same for people, with the values.
    possible : bool
        Whether the series could be reconstructed if someone insisted.
    rule : str
        Name of the rule that decided, such as ``default: accelerated``; ``always: derived`` for
        what is skipped before any rule.
    model : str, optional
        The model that the rule asks for; the worker's own where None.
    strength : float, optional
        Share of the network's result that the rule asks for, 0 to 1; the worker's own where None.
    series_description : str, optional
        What the rule calls the derived series, filled in; the default where None.
    trials : tuple of Trial
        The rules that were tried, in their order, the one that matched last.
    stacks : tuple of Stack
        The volumes of a series that is to be reconstructed, where all its headers were there.
    warnings : tuple of str
        What someone should look at, such as a gap between slices.
    """

    action: Literal["reconstruct", "skip"]
    reason_code: str
    reason: str
    possible: bool = True
    rule: str = ""
    model: str | None = None
    strength: float | None = None
    series_description: str | None = None
    trials: tuple[Trial, ...] = ()
    stacks: tuple[Stack, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(
    headers: Sequence[Dataset], rules: Rules = DEFAULT_RULES, *, complete: bool = True
) -> tuple[Acquisition, Decision]:
    """Read how a series was acquired, and decide on it.

    The worker and ``halfscan inspect`` both ask here, so that they cannot disagree.

    Parameters
    ----------
    headers : sequence of Dataset
        The headers of its objects, in any order, at least one; pixels are not needed.
    rules : Rules
        What decides.
    complete : bool
        False where `headers` holds only a sample of the series, so that nothing can be said
        about its slices.

    Returns
    -------
    Acquisition
        How it was acquired, read from all its objects.
    Decision
        What happens to it, and why.
    """
    images, beside = set_aside(headers)
    ordered = sort_slices(images)
    acquisition = read_series(ordered)
    decision = decide(ordered, acquisition, rules, complete=complete)
    return acquisition, replace(decision, warnings=(*beside, *decision.warnings))


def decide(
    headers: Sequence[Dataset],
    acquisition: Acquisition,
    rules: Rules = DEFAULT_RULES,
    *,
    complete: bool = True,
) -> Decision:
    """Decide on a series whose acquisition is known; as `judge`, which reads it.

    Returns
    -------
    Decision
        What excludes the series comes first, then the rules, and last what the geometry does not
        allow. So a series that would not be reconstructed anyway says why, rather than that it
        could not be.
    """
    excluded = find_exclusion(headers)
    if excluded is not None:
        name = f"always: {excluded.code}"
        return Decision("skip", excluded.code, excluded.reason, excluded.possible, name)
    decision = _apply(rules, Subject(headers[0], acquisition))
    if decision.action == "skip" or not complete:
        return decision
    return _with_geometry(decision, headers)


def _apply(rules: Rules, subject: Subject) -> Decision:
    """Try the rules in their order."""
    trials: list[Trial] = []
    for rule in rules.all:
        failure = rule.failure(subject)
        trials.append(Trial(rule.name, failure))
        if failure is None:
            return _decision(rule, subject, trials)
    # Only the vendor's deep learning fails the last one.
    reason = "the vendor's deep learning was applied already"
    name = "always: vendor_deep_learning"
    return Decision("skip", "vendor_deep_learning", reason, rule=name, trials=tuple(trials))


def _decision(rule: Rule, subject: Subject, trials: Sequence[Trial]) -> Decision:
    known = ", ".join(
        f"{says} {_listed(values)}"
        for name, says in FACTORS.items()
        if (values := subject.acquisition.values(name))
    )
    reason = rule.reason
    if rule.reason_code == BY_RULE:
        reason = f"rule {rule.name!r}: {rule.reason}" if reason else f"rule {rule.name!r} matches"
    else:
        asked = {condition.name for condition in rule.conditions} & SHOWN
        shown = (item for item in subject.acquisition.evidence if item.fact in asked)
        reason += "".join(f": {e.tag} {e.name} is {e.value or 'absent'}" for e in [*shown][:1])
    described = rule.series_description
    return Decision(
        rule.action,
        rule.reason_code,
        f"{reason} ({known})" if known else reason,
        rule=rule.name,
        model=rule.model,
        strength=rule.strength,
        series_description=None if described is None else described.fill(subject),
        trials=tuple(trials),
    )


def _listed(values: Sequence[float]) -> str:
    *others, last = (f"{value:g}" for value in values)
    return f"{', '.join(others)} and {last}" if others else last


def _with_geometry(decision: Decision, headers: Sequence[Dataset]) -> Decision:
    """Check that the headers form volumes, and note what is odd about them."""
    try:
        stacks = split(headers)
    except UnreadableSeries as error:
        return _refused(decision, error.code, str(error))
    slices = max(len(stack.slices) for stack in stacks)
    if slices < FEWEST_SLICES:
        return _refused(
            decision,
            "single_slice",
            f"{slices} slice, at least {FEWEST_SLICES} are needed",
            possible=True,
        )
    warnings = tuple(dict.fromkeys(text for stack in stacks for text in stack.warnings))
    return replace(decision, stacks=stacks, warnings=warnings)


def _refused(decision: Decision, code: str, reason: str, *, possible: bool = False) -> Decision:
    """Skip what a rule would have reconstructed; the rule's name stays."""
    return Decision("skip", code, reason, possible, rule=decision.rule, trials=decision.trials)
