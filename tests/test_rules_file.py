"""The rules file: what it may hold, and where a message says that it is wrong."""

import contextlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_maker import mr_object, mr_series
from halfscan_plugin.acquisition import Acquisition
from halfscan_plugin.conditions import Subject
from halfscan_plugin.descriptions import LONGEST_LO, parse_description
from halfscan_plugin.errors import BadInput
from halfscan_plugin.rules import DEFAULT_RULES, Rules, decide
from halfscan_plugin.rules_file import lines, load_rules, parse_rules

FAST = Acquisition(in_plane_factor=2.0, averages=1.0)
RULE = """[[rule]]
name = "knee"
action = "reconstruct"
"""


def read(text: str) -> Rules:
    return parse_rules(text, "rules.toml", models=["dbpn-s", "other"])


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        read(text)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_everything_that_a_rule_can_say() -> None:
    rules = read(
        """
        defaults = false
        [[rule]]
        name = "spine"
        action = "reconstruct"
        model = "other"
        strength = 0.5
        series_description = "{SeriesDescription} HS"
        [rule.when]
        BodyPartExamined = "LSPINE"
        averages = "< 2"

        [[rule]]
        name = "rest"
        action = "skip"
        reason = "nobody asked for it"
        """
    )
    first, last = rules.rules
    assert (first.name, first.action, first.model, first.strength) == (
        "spine",
        "reconstruct",
        "other",
        0.5,
    )
    assert [condition.says for condition in first.conditions] == [
        "BodyPartExamined is 'LSPINE'",
        "averages < 2",
    ]
    assert (last.action, last.reason, last.conditions) == ("skip", "nobody asked for it", ())
    assert not rules.defaults


@pytest.mark.parametrize("text", ["", "# nothing\n", "defaults = true", "rule = []"])
def test_an_empty_file_is_the_default_rules(text: str) -> None:
    assert read(text) == DEFAULT_RULES


def test_one_strength_for_whole_numbers_and_fractions() -> None:
    assert read(RULE + "strength = 1").rules[0].strength == 1.0
    assert read(RULE + "strength = 0").rules[0].strength == 0.0


# What stands behind the first three lines of a rule that is right, the line and the message.
WRONG = [
    (
        "when.averages = 'few'",
        4,
        (
            "averages must be a comparison such as '< 2' or '>= 2 and < 4', a number or 'unknown', "
            "got 'few'"
        ),
    ),
    (
        "[rule.when]\n\n# a comment\naverages = 'few'",
        7,
        (
            "averages must be a comparison such as '< 2' or '>= 2 and < 4', a number or 'unknown', "
            "got 'few'"
        ),
    ),
    (
        "when = { averages = 'few' }",
        4,
        (
            "averages must be a comparison such as '< 2' or '>= 2 and < 4', a number or 'unknown', "
            "got 'few'"
        ),
    ),
    (
        "when.BodyPart = 'KNEE'",
        4,
        (
            "'BodyPart' is neither a fact of the acquisition nor a DICOM "
            "keyword; did you mean BodyPartExamined?"
        ),
    ),
    (
        "when.SeriesDescription = { regex = '(' }",
        4,
        (
            "SeriesDescription: '(' is no regular "
            "expression: missing ), unterminated subpattern at position 0"
        ),
    ),
    ("when = 'always'", 4, "when must be a table of conditions, got 'always'"),
    ("strenght = 0.5", 4, "'strenght' is no key here; did you mean strength?"),
    (
        "colour = 1",
        4,
        (
            "'colour' is no key here; known are: name, when, action, reason, model, "
            "strength, series_description"
        ),
    ),
    (
        "BodyPartExamined = 'KNEE'",
        4,
        (
            "'BodyPartExamined' is no key here; a condition belongs into the rule's table `when`: "
            "when.BodyPartExamined = ..."
        ),
    ),
    (
        "averages = '< 2'",
        4,
        (
            "'averages' is no key here; a condition belongs into the rule's table `when`: "
            "when.averages = ..."
        ),
    ),
    (
        "deep_learning = true",
        4,
        (
            "'deep_learning' is no key here; a condition belongs into the rule's table `when`: "
            "when.deep_learning = ..."
        ),
    ),
    (
        "when.factor = '>= 2'",
        4,
        (
            "'factor' is neither a fact of the acquisition nor a DICOM keyword; did you mean "
            "in_plane_factor?"
        ),
    ),
    ("strength = 1.5", 4, "strength must be a number from 0 to 1, got 1.5"),
    ("strength = -0.1", 4, "strength must be a number from 0 to 1, got -0.1"),
    ("strength = nan", 4, "strength must be a number from 0 to 1, got nan"),
    ("strength = true", 4, "strength must be a number from 0 to 1, got True"),
    ("strength = '1'", 4, "strength must be a number from 0 to 1, got '1'"),
    ("model = 'dbpn'", 4, "no model is called 'dbpn'; known are: dbpn-s, other"),
    ("model = ['dbpn-s']", 4, "no model is called ['dbpn-s']; known are: dbpn-s, other"),
    ("reason = 'because'", 4, "reason belongs to the action 'skip' only, got 'reconstruct'"),
    ("series_description = 3", 4, "series_description must be a text, got 3"),
    (
        "series_description = '{SeriesDescripton} HS'",
        4,
        (
            "series_description: 'SeriesDescripton' is "
            "neither a fact of the acquisition nor a DICOM keyword; did you mean SeriesDescription?"
        ),
    ),
    (
        "series_description = '{PatientName} HS'",
        4,
        ("series_description must not name a patient, got {PatientName}"),
    ),
    (
        "series_description = '{SeriesDescription'",
        4,
        ("series_description: expected '}' before end of string, got '{SeriesDescription'"),
    ),
    (
        "series_description = 'HS}'",
        4,
        ("series_description: Single '}' encountered in format string, got 'HS}'"),
    ),
    *[
        (
            f"series_description = '{template}'",
            4,
            (
                "series_description takes names in braces such "
                f"as {{SeriesDescription}}, got '{template}'"
            ),
        )
        for template in ("{}", "{0}", "{EchoTime:g}", "{EchoTime!r}", "{EchoTime.real}", "{a[0]}")
    ],
    (
        "series_description = 'a\\\\b'",
        4,
        ("series_description must be one line of text, got 'a\\\\\\\\b'"),
    ),
    ("series_description = ' '", 4, "series_description must be one line of text, got ' '"),
    (
        'series_description = "a\\nb"',
        4,
        ("series_description must be one line of text, got 'a\\nb'"),
    ),
    (
        f"series_description = '{'x' * 65}'",
        4,
        (f"series_description must be at most 64 characters, got 65: '{'x' * 65}'"),
    ),
]


@pytest.mark.parametrize(("more", "line", "message"), WRONG)
def test_what_is_wrong_is_named_with_file_line_and_rule(more: str, line: int, message: str) -> None:
    assert refusal(RULE + more) == f"rules.toml, line {line}, rule 'knee': {message}"


# Whole files.
FILES = [
    ("[[rule]]\naction = 'reconstruct'", "line 1, rule 1: name is missing"),
    (
        "\n[[rule]]\nname = 3\naction = 'reconstruct'",
        ("line 3, rule 1: name must be a line of text, got 3"),
    ),
    (
        "[[rule]]\nname = ''\naction = 'reconstruct'",
        ("line 2, rule '': name must be a line of text, got ''"),
    ),
    (
        f"[[rule]]\nname = '{'n' * 65}'\naction = 'reconstruct'",
        (f"line 2, rule '{'n' * 65}': name must be at most 64 characters, got 65"),
    ),
    (
        "[[rule]]\nname = 'default: x'\naction = 'reconstruct'",
        (
            "line 2, rule 'default: x': name "
            "must not begin with default: or always:, got 'default: x'"
        ),
    ),
    ("[[rule]]\nname = 'a'", "line 1, rule 'a': action is missing: 'reconstruct' or 'skip'"),
    (
        "[[rule]]\nname = 'a'\naction = 'recon'",
        ("line 3, rule 'a': action must be 'reconstruct' or 'skip', got 'recon'"),
    ),
    (
        "[[rule]]\nname = 'a'\naction = 'skip'",
        ("line 1, rule 'a': action 'skip' needs a reason, a line of text, got ''"),
    ),
    (
        "[[rule]]\nname = 'a'\naction = 'skip'\nreason = 3",
        ("line 4, rule 'a': action 'skip' needs a reason, a line of text, got 3"),
    ),
    *[
        (
            f"[[rule]]\nname = 'a'\naction = 'skip'\nreason = 'r'\n{key}",
            (
                f"line 5, rule 'a': {key.split()[0]} belongs to the action 'reconstruct' only, "
                "got 'skip'"
            ),
        )
        for key in ("model = 'dbpn-s'", "strength = 0.5", "series_description = 'x'")
    ],
    ("\ndefault = true", "line 2, 'default' is no key here; did you mean defaults?"),
    ("x = 1", "line 1, 'x' is no key here; known are: defaults, rule"),
    ("defaults = 'yes'", "line 1, defaults must be true or false, got 'yes'"),
    ("\n[rule]\nname = 'a'", "line 2, rules begin with [[rule]], in two pairs of brackets"),
    ("rule = ['a']", "line 1, rules begin with [[rule]], in two pairs of brackets"),
    (RULE + "\n" + RULE, "line 6, rule 'knee': the name stands on line 2 already"),
    (
        RULE + RULE.replace("knee", "hip"),
        ("line 4, rule 'hip': can never match, because rule 'knee' above has no conditions"),
    ),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_what_is_wrong_with_a_file(text: str, message: str) -> None:
    assert refusal(text) == f"rules.toml, {message}"


def test_all_that_is_wrong_is_named_at_once_in_the_order_of_lines() -> None:
    text = RULE + "strength = 2\nmodel = 'x'\n" + RULE.replace("knee", "hip") + "colour = 1"
    assert [line.split(":")[0] for line in refusal(text).splitlines()] == [
        "rules.toml, line 4, rule 'knee'",
        "rules.toml, line 5, rule 'knee'",
        "rules.toml, line 9, rule 'hip'",
    ]


def test_a_rule_for_vendor_deep_learning_is_reachable_behind_one_without_conditions() -> None:
    rules = read(RULE + RULE.replace("knee", "DL") + "when.deep_learning = true")
    assert [rule.name for rule in rules.rules] == ["knee", "DL"]
    vendor = Acquisition(in_plane_factor=2.0, averages=1.0, deep_learning=True)
    assert decide(mr_series(), vendor, rules).rule == "DL"
    assert decide(mr_series(), FAST, rules).rule == "knee"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[[rule]]\nname = knee", 2, "Invalid value"),
        ("[[rule]]\nname = 'a'\nname = 'b'", 3, "Cannot overwrite a value"),
        ("a = 1\n\nb = [1,\n", 3, "Invalid value"),
        ("a = 1\n[[rule", 2, "Expected"),
        ('a = 1\n\nb = """x\n', 3, "Unterminated string"),
    ],
)
def test_what_is_no_toml(text: str, line: int, message: str) -> None:
    assert refusal(text).startswith(f"rules.toml, line {line}: this is not TOML: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strength = " + "1" * 5000, "Exceeds the limit"),
        ("a = " + "[" * 5000 + "]" * 5000, "maximum recursion depth"),
    ],
)
def test_what_is_beyond_the_parser(text: str, message: str) -> None:
    assert refusal(text).startswith(f"rules.toml: this is not TOML: {message}")


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(b"\xef\xbb\xbf" + (RULE + 'model = "dbpn-s"').encode())  # as Notepad saves it
    assert load_rules(file).rules[0].model == "dbpn-s"
    file.write_text(RULE + 'model = "nobody"')
    with pytest.raises(BadInput) as caught:
        load_rules(file)
    assert str(caught.value).startswith(f"{file}, line 4, rule 'knee': no model is called 'nobody'")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"rules file .*missing.toml' cannot be read: No such file"):
        load_rules(tmp_path / "missing.toml")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load_rules(tmp_path)
    with pytest.raises(BadInput, match="cannot be read: embedded null byte"):
        load_rules(Path("a\0b"))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# ok\n# M\xfcller\n")
    with pytest.raises(BadInput) as caught:
        load_rules(latin)
    assert str(caught.value) == f"{latin}, line 2: the rules file must be UTF-8"


def test_models_are_those_of_the_workers_weights(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULE)
    with pytest.raises(BadInput, match="the list of models is missing"):
        load_rules(file, weights=tmp_path)


# --- line numbers -----------------------------------------------------------------------------


LONG = r"""# [[rule]]
[[ rule ]] # one
name = "a # [[rule]] \" "
reason = '''
[[rule]]
name = "b"
'''
[rule.when]
SeriesDescription = [ # [[rule]]
  "x", ']',
]
"Echo-Time" = 1
a.'b'."c" = 2
[[rule]]
x = QQQ
\QQQ
[[rule]]QQQ
y = {a = "}", b = [1]}
z = 1
""".replace("QQQ", 3 * '"')


def test_lines_step_over_texts_arrays_and_comments() -> None:
    assert tomllib.loads(LONG)
    assert lines(LONG) == {
        ("rule",): 2,
        ("rule", 0): 2,
        ("rule", 0, "name"): 3,
        ("rule", 0, "reason"): 4,
        ("rule", 0, "when"): 8,
        ("rule", 0, "when", "SeriesDescription"): 9,
        ("rule", 0, "when", "Echo-Time"): 12,
        ("rule", 0, "when", "a"): 13,
        ("rule", 0, "when", "a", "b"): 13,
        ("rule", 0, "when", "a", "b", "c"): 13,
        ("rule", 1): 14,
        ("rule", 1, "x"): 15,
        ("rule", 1, "y"): 18,
        ("rule", 1, "z"): 19,
    }


# Values as TOML writes them; all of them are things that a scanner could stumble over.
VALUES = st.sampled_from(
    ["1", '"a"', '"[[rule]]"', "'#'", '"""\n[[rule]]\nname = 1\n"""', "'''\n'a' ]\n'''", '"\\""',
     "[\n1, # ]\n2\n]", "[[1], [2]]", '{ a = 1, b = "}" }', "'\\'", '"""a\\"""\n"""', "true # '"]
)  # fmt: skip


@given(st.lists(st.lists(VALUES, max_size=4), max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_those_where_the_keys_were_written(rules: list[list[str]], newline: str) -> None:
    written: list[str] = []
    expected: dict[tuple[str | int, ...], int] = {}
    for index, values in enumerate(rules):
        written += ["# comment", "[[rule]]"]
        expected["rule", index] = len("\n".join(written).split("\n"))
        for key, value in enumerate(values):
            written.append(f"k{key} = {value}")
            before = "\n".join(written[:-1]).split("\n")
            expected["rule", index, f"k{key}"] = len(before) + 1
    text = "\n".join(written)
    parsed: dict[str, Any] = tomllib.loads(text.replace("\n", newline))
    assert [len(rule) for rule in parsed.get("rule", [])] == [len(values) for values in rules]
    found = lines(text.replace("\n", newline))
    assert {path: line for path, line in found.items() if len(path) > 1} == expected


@given(st.text(alphabet="[]{}\"'#=.\\ \nrule1,", max_size=60))
def test_any_text_is_rules_or_one_error(text: str) -> None:
    with contextlib.suppress(BadInput):
        read(text)
        return
    with pytest.raises(BadInput) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("rules.toml, line ")


# --- the description of the derived series ----------------------------------------------------


def fill(template: str, **attributes: Any) -> str | None:
    return parse_description(template).fill(Subject(mr_object(**attributes), FAST))


@pytest.mark.parametrize(
    ("template", "description"),
    [
        ("{SeriesDescription} HS", "t2_tse_sag HS"),
        ("HS {SeriesDescription}", "HS t2_tse_sag"),
        ("fast", "fast"),
        ("{SeriesDescription} R{in_plane_factor} x{averages}", "t2_tse_sag R2 x1"),
        ("{orientation}, TE {EchoTime}", "transverse, TE 90"),
        ("{ImageType}", "ORIGINAL/PRIMARY/M/ND"),
        ("{{{Modality}}}", "{MR}"),
        ("{StationName}", None),
        ("{StationName} {slice_factor} HS", "HS"),
        ("{deep_learning}", None),
    ],
)
def test_templates(template: str, description: str | None) -> None:
    assert fill(template) == description


def test_what_the_template_says_stays_when_the_values_are_too_long() -> None:
    long = "abcdefgh" * 8
    assert fill("{SeriesDescription} HS", SeriesDescription=long) == long[:61] + " HS"
    fixed = "x" * LONGEST_LO
    assert fill(fixed + "{SeriesDescription}", SeriesDescription=long) == fixed


@given(
    st.text(max_size=80),
    st.lists(st.sampled_from(["{SeriesDescription}", "{Modality}", " HS", "-", "{{"]), min_size=1),
)
def test_a_description_always_fits_an_lo(value: str, parts: list[str]) -> None:
    template = "".join(parts)
    fixed = sum(len(part.replace("{{", "{")) for part in parts if not part.endswith("}"))
    if fixed > LONGEST_LO or not template.strip():
        return
    header = mr_object()
    header.add_new("SeriesDescription", "UT", value)
    description = parse_description(template).fill(Subject(header, FAST))
    if description is not None:
        assert 0 < len(description) <= LONGEST_LO
        assert description.isprintable()
        assert "\\" not in description
        assert description == description.strip()


def test_what_stands_at_the_top_of_the_file_but_belongs_into_a_rule() -> None:
    written = '[[rule]]\nname = "a"\naction = "skip"\nreason = "r"\n[when]\naverages = 1'
    with pytest.raises(BadInput, match=r"line 5, 'when' is no key here; it belongs into a rule: "):
        parse_rules(written, "rules.toml", models=[])


def test_a_text_without_quotes() -> None:
    with pytest.raises(BadInput, match=r"line 2: this is not TOML: .* \(a text stands in quotes\)"):
        parse_rules("[[rule]]\naction = skip\n", "rules.toml", models=[])
