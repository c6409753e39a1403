"""The methods section, in the words of the field, from the protocol and from what was computed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from halfscan_api.statistics.differing import DifferenceRow
from halfscan_api.statistics.frame import Frame
from halfscan_api.statistics.lineage import LineageRow
from halfscan_api.statistics.report.deviations import Seen
from halfscan_api.statistics.report.facts import Facts, minute
from halfscan_api.statistics.results import Table, word_of, words_of
from halfscan_api.studies.protocol import Endpoint, EndpointKind, EndpointRole, Protocol, RegionRole
from halfscan_api.studies.randomisation import RULES

Tables = Mapping[str, Table[Any]]

_TESTS = {
    "by_normality": "Where the Shapiro-Wilk test did not reject normality of the paired "
    "differences, means were compared by the paired t-test, otherwise by Wilcoxon's signed-rank "
    "test",
    "paired_t": "As the protocol fixes it, means were compared by the paired t-test",
    "wilcoxon": "As the protocol fixes it, values were compared by Wilcoxon's signed-rank test",
}
_ADJUSTED = {
    "none": "p-values were not adjusted for the number of tests",
    "bonferroni": "p-values were adjusted by Bonferroni's method",
    "holm": "p-values were adjusted by Holm's step-down method",
    "benjamini_hochberg": "p-values were adjusted by the method of Benjamini and Hochberg, which "
    "bounds the false discovery rate",
}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph with its heading."""

    heading: str
    text: str


def paragraphs(facts: Facts, tables: Tables) -> list[Paragraph]:
    """Write the methods.

    Parameters
    ----------
    facts : Facts
    tables : mapping
        The computed tables by name.

    Returns
    -------
    list of Paragraph
    """
    return [
        Paragraph("Design", _joined(_design(facts))),
        Paragraph("Participants", _joined(_participants(facts, tables["conduct"]))),
        Paragraph("Randomisation and wash-out", _joined(_randomisation(facts))),
        Paragraph("Blinding", _joined(_blinding())),
        Paragraph("Amendments of the protocol", _joined(_amendments(facts))),
        Paragraph("Readings and measurements", _joined(_readings(facts))),
        Paragraph("Image reconstruction", _joined(_reconstruction(facts.frame, tables["lineage"]))),
        Paragraph("Statistical analysis", _joined(_statistics(facts, tables))),
        Paragraph("Software", _joined(_software(facts))),
    ]


def _joined(sentences: Iterator[str]) -> str:
    return " ".join(sentences)


def _design(facts: Facts) -> Iterator[str]:
    protocol = facts.frame.protocol
    tests = _list([facts.frame.arm_label(name) for name in facts.frame.test_arms])
    yield (
        f"Reader study with paired images: every patient was examined with "
        f"{facts.frame.arm_label(facts.frame.reference)} (reference) and with {tests} (test)."
    )
    sequences = _list([one.label for one in protocol.sequences])
    yield f"Each comprised {_count(len(protocol.sequences), 'sequence')}: {sequences}."
    readers = len(facts.readers)
    yield (
        f"Each of {_count(readers, 'reader')} reads every case once in each protocol, in "
        f"{_count(len(protocol.arms), 'session')}."
        if readers
        else "No reader has been added yet."
    )
    if protocol.repeat_sessions:
        some = "all cases" if protocol.repeat_cases is None else f"{protocol.repeat_cases} cases"
        yield (
            f"{_count(protocol.repeat_sessions, 'further session')} repeated "
            f"{some} for intra-reader agreement."
        )
    yield from _endpoints(protocol)


def _endpoints(protocol: Protocol) -> Iterator[str]:
    for role in EndpointRole:
        some = [_endpoint(protocol, one) for one in protocol.endpoints if one.role is role]
        if some:
            yield f"{role.value.capitalize()} endpoints: {'; '.join(some)}."
    if not any(one.role is EndpointRole.PRIMARY for one in protocol.endpoints):
        yield "The protocol declares no primary endpoint."


def _endpoint(protocol: Protocol, one: Endpoint) -> str:
    kind = kind_of(one)
    places = {sequence.name: sequence.label for sequence in protocol.sequences}
    about = [item_of(protocol, one)] if one.item is not None else []
    about += [places[one.sequence]] if one.sequence is not None else []
    of = f" of {', '.join(about)}" if about else ""
    margin = f", margin {one.margin:g}" if one.margin is not None else ""
    return f"{kind}{of} ({word_of(one.hypothesis.value)}{margin})"


def kind_of(one: Endpoint) -> str:
    """Name what an endpoint is about."""
    return "SNR" if one.kind is EndpointKind.SNR else words_of(one.kind.value)


def item_of(protocol: Protocol, one: Endpoint) -> str:
    """Name the item of an endpoint, "all" without one; of agreement it may be of any kind."""
    if one.item is None:
        return "all"
    kinds = {
        EndpointKind.IMAGE_QUALITY: {item.name: item.label for item in protocol.criteria},
        EndpointKind.SNR: {item.name: item.label for item in protocol.regions},
        EndpointKind.DETECTION: {item.name: item.label for item in protocol.findings},
    }
    found = [kinds[one.kind]] if one.kind in kinds else list(kinds.values())
    return next(labels[one.item or ""] for labels in found if one.item in labels)


def _participants(facts: Facts, conduct: Table[Any]) -> Iterator[str]:
    if facts.first_enrolled is None:
        yield "No case has been enrolled yet."
        return
    yield (
        f"{_were(facts.enrolled, 'case')} enrolled under pseudonyms between "
        f"{facts.first_enrolled} and {facts.last_enrolled}."
    )
    readmitted = sum(row.kind == "change" and row.action == "case.readmit" for row in conduct.rows)
    none = "None is excluded now." if readmitted else "None was excluded after enrolment."
    yield (
        f"{_were(facts.excluded, 'case')} excluded after enrolment, with the reasons given "
        "under participants."
        if facts.excluded
        else none
    )
    if readmitted:
        yield (
            f"{_count(readmitted, 'exclusion')} {'was' if readmitted == 1 else 'were'} taken back; "
            "each stands with both reasons under conduct of the readings."
        )
    if facts.training:
        yield f"{_count(facts.training, 'further case')} for training never count."
    yield "How patients were found and examined is not recorded here."


def _randomisation(facts: Facts) -> Iterator[str]:
    protocol = facts.frame.protocol
    yield (
        "For each reader, the cases, the protocol in which a case came first and the order of each "
        f"session were drawn by random numbers (SHA-256 of the seed {facts.seed} and of the names, "
        f"rules version {RULES}), in blocks of {len(protocol.arms)}, so that the protocols of a "
        "session differ by one case at most."
    )
    yield _washout(facts)
    asked = [(one.number, one.washout_days) for one in facts.versions]
    if len({days for _, days in asked}) > 1:
        told = "; ".join(f"version {number}: {_count(days, 'day')}" for number, days in asked)
        yield f"Versions of the protocol asked for another wash-out ({told})."
    if facts.overrides:
        yield (
            f"It was waived for {_count(len(facts.overrides), 'session')}, with the reasons given "
            "under deviations."
        )
    if facts.shortest_gap_days is not None:
        yield (
            "The shortest time between two readings of a case by the same reader was "
            f"{facts.shortest_gap_days:.1f} days."
        )


def _washout(facts: Facts) -> str:
    """Say what wash-out was kept: from the times of the readings, not from the protocol."""
    days = _count(facts.frame.protocol.washout_days, "day")
    if not facts.second_readings:
        nothing = "no second reading of a case is on record with its times"
        return f"The protocol asks for a wash-out of {days}; {nothing}."
    if facts.too_early:
        return (
            f"The protocol asks for a wash-out of {days}, which was not kept: "
            f"{facts.too_early} of {facts.second_readings} second readings of a case began before."
        )
    return (
        f"A wash-out of at least {days} lay between the sessions; "
        "the server opened no reading before."
    )


def _amendments(facts: Facts) -> Iterator[str]:
    late = [one for one in facts.versions[1:] if one.seen.opened or one.seen.looks]
    if not late:
        yield "The protocol was not amended after the first reading had been opened."
    for one in late:
        changes = "; ".join(one.changes) or "nothing"
        yield (
            f"Version {one.number} of {one.created_at} changed {changes}. By then "
            f"{_count(one.seen.complete, 'reading')} had been completed, and {_looks(one.seen)}."
        )


def _looks(seen: Seen) -> str:
    if seen.first_look is None:
        return "no look at answers by protocol was on record"
    return (
        f"answers by protocol had been seen ({_count(seen.looks, 'look')} on record, the first on "
        f"{minute(seen.first_look)})"
    )


def _blinding() -> Iterator[str]:
    yield (
        "Readers knew a case by a random code that was another in each session. The server showed "
        "them neither protocol, pseudonym nor statistics, named sequences alike in all protocols, "
        "and offered the images through a service that makes identifiers anew for each reading, "
        "passes on the header from a list of allowed attributes, and closes with the reading."
    )
    yield (
        "While readings were left, results by protocol were open to coordinator and statistician "
        "alone, and each look is an event in the audit trail."
    )
    yield ("Whether clinical information reached the readers in another way is not recorded here.")


def _readings(facts: Facts) -> Iterator[str]:
    protocol = facts.frame.protocol
    if protocol.criteria:
        yield (
            f"{_count(len(protocol.criteria), 'criterion', 'criteria')} of image "
            "quality were scored on ordinal scales, whose points stand below the tables of scores."
        )
    if protocol.findings:
        levels = len(dict.fromkeys(level for one in protocol.findings for level in one.levels))
        yield (
            f"{_count(len(protocol.findings), 'finding')} were looked for at "
            f"{_count(levels, 'level')}; a graded finding counts as present from grade 1 on."
        )
    signal = [one for one in protocol.regions if one.role is RegionRole.SIGNAL]
    if signal:
        yield (
            f"The signal-to-noise ratio was measured in {_count(len(signal), 'region')}: mean "
            "signal of the region over the standard deviation of the noise region of the same "
            "sequence, by the reader of the images."
        )
    if facts.with_gaps:
        yield (
            f"{_count(facts.with_gaps, 'reading')} lack answers, each with a reason "
            "that is in the audit trail."
        )
    yield (
        "Nothing was imputed: kappa, McNemar and paired differences use the complete pairs, ICC "
        "the complete cases, and n used stands beside every result."
    )
    if facts.amended:
        yield (
            f"Complete readings were amended {_count(facts.amended, 'time')}, each with a reason; "
            "the audit trail holds both versions."
        )


def _reconstruction(frame: Frame, table: Table[LineageRow]) -> Iterator[str]:
    made = Counter(
        (row.arm, row.model_name, row.model_version, row.model_sha256, row.strength)
        for row in table.rows
        if row.model_name is not None
    )
    for (arm, name, version, sha256, strength), n in sorted(made.items(), key=repr):
        share = "" if strength is None else f", strength {strength:g}"
        yield (
            f"{_count(n, 'series', 'series')} of {frame.arm_label(arm)} were reconstructed by the "
            f"deep-learning model {name} {version} (weights with SHA-256 {sha256}{share})."
        )
    # The reference arm is not reconstructed: nothing is missing there.
    without = Counter(
        row.arm for row in table.rows if row.model_name is None and row.arm in frame.test_arms
    )
    for arm, n in sorted(without.items()):
        series = _count(n, "series", "series")
        yield f"{series} of {frame.arm_label(arm)} have no recorded reconstruction."
    if made:
        yield "The version of ONNX Runtime that ran the model is not part of the recorded lineage."
    if not table.rows:
        yield "No series has been enrolled yet."


def _statistics(facts: Facts, tables: Tables) -> Iterator[str]:
    protocol = facts.frame.protocol
    yield f"Tests were two-sided at the level {protocol.alpha:g} unless said otherwise."
    yield f"{_TESTS[protocol.difference_test]}{_counted(tables)}."
    yield (
        "Values are given as mean and SD where the t-test answers, as median and quartiles where "
        "Wilcoxon's test does; below 20 pairs that differ its p is that of the exact permutation "
        "distribution."
    )
    if protocol.criteria:
        yield (
            "Scores were compared as ordered categories too: by visual grading characteristics, "
            "with intervals over patients, and by visual grading regression, an ordinal mixed "
            "model."
        )
    yield (
        "Readers are taken as fixed: intervals and p-values speak of these readers and of all "
        "patients like those examined. Only visual grading regression and the analysis of many "
        "readers and many cases take readers as random."
    )
    if protocol.findings:
        yield (
            "Detection was compared by McNemar's exact test with Tango's interval for the "
            "difference and, since a patient gives several levels, by the score test on the counts "
            "over their design effect (Rao & Scott 1992), with its interval."
        )
    yield (
        "Agreement on scores and findings was measured by Cohen's kappa (linear weights from three "
        "categories on) with non-null standard errors and, where a patient gives several "
        "observations, with cluster-robust ones beside; of measurements by ICC(A,1), within each "
        "protocol and pooled over the protocols. Words are those of Landis and Koch."
    )
    if protocol.regions:
        yield (
            "Limits of agreement of two readers' SNR are of the difference, or in all protocols of "
            "a region of the ratio (logarithms transformed back, Bland and Altman 1999) where the "
            "spread grows with the mean in any of them (one-sided regression of the absolute "
            "residual difference of the two readers shown on the mean, level 0.05)."
        )
    yield _multiplicity(facts)
    yield from _margins(facts, tables)
    if facts.interim:
        yield (
            f"This is an interim state: {facts.left} of {facts.allocated} readings are left. No "
            "p-value is adjusted for looks at interim states."
        )


def _margins(facts: Facts, tables: Tables) -> Iterator[str]:
    """Name the tests that decided against a margin, as their results do."""
    margins = [one for one in facts.frame.protocol.endpoints if one.margin is not None]
    if not margins:
        yield "No endpoint declares a margin: nothing was tested against one."
        return
    rows = [row for row in tables["equivalence"].rows if row.endpoint is not None]
    used = Counter(row.result.decision.method for row in rows)
    named = "; ".join(f"{method} ({_count(n, 'comparison')})" for method, n in used.items())
    yield (
        f"{_count(len(margins), 'endpoint')} with a declared margin were tested one-sided at the "
        f"level {facts.frame.protocol.alpha:g}: {named}."
        if named
        else f"{_count(len(margins), 'endpoint')} with a declared margin wait for readings."
    )


def _were(number: int, what: str) -> str:
    return f"{_count(number, what)} {'was' if number == 1 else 'were'}"


def _multiplicity(facts: Facts) -> str:
    stated = facts.frame.protocol.multiplicity
    if stated.method == "none":
        return f"{_capital(_ADJUSTED['none'])}."
    family = (
        f"in families of {_count(stated.family_size, 'test')}, one family for each item and place"
        if stated.family_size is not None
        else "within each table: its primary endpoints, its secondary ones and its other tests are "
        "a family each"
    )
    return f"{_capital(_ADJUSTED[stated.method])}, {family}."


def _counted(tables: Tables) -> str:
    """Say how often each test was used."""
    chosen = Counter(
        row.difference.chosen
        for name in ("scan-time", "image-quality", "snr")
        for row in tables[name].rows
        if isinstance(row, DifferenceRow) and row.difference.p_value is not None
    )
    if not chosen:
        return "; no comparison has data enough yet"
    t, wilcoxon = chosen["t"], chosen["wilcoxon"]
    return (
        f"; of {t + wilcoxon} comparisons with an answer, {t} are from the t-test and {wilcoxon} "
        "from Wilcoxon's"
    )


def _software(facts: Facts) -> Iterator[str]:
    used = _list([f"{name} {version}" for name, version in facts.software.items()])
    yield f"Computed by {used}."
    unused = _list([f"{name} {version}" for name, version in facts.unused.items()])
    yield f"Installed, but used by no table of this report: {unused}."


def _count(n: int, one: str, several: str | None = None) -> str:
    return f"{n} {one if n == 1 else several or f'{one}s'}"


def _list(names: list[str]) -> str:
    comma = "; " if any("," in name for name in names) else ", "
    return names[0] if len(names) == 1 else f"{comma.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text if text.startswith("p-") else text[0].upper() + text[1:]
