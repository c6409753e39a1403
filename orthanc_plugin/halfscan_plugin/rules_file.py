"""The rules file: TOML to `Rules`, or an error with file, line and rule.

tomllib keeps no line numbers. `lines` is a small scanner for them: it knows what it must step over
(comments, texts over several lines, arrays over several lines) and finds where each table and key
begins; what a value is, tomllib alone says.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from halfscan_models.errors import ModelsError
from halfscan_models.registry import WEIGHTS, list_models
from halfscan_plugin.conditions import FACTS, parse_condition
from halfscan_plugin.descriptions import parse_description
from halfscan_plugin.errors import BadInput
from halfscan_plugin.rules import Rule, Rules

__all__ = ["load_rules", "parse_rules"]

Path_ = tuple[str | int, ...]  # such as ("rule", 0, "when", "averages")

FILE_KEYS = ("defaults", "rule")
ACTIONS = ("reconstruct", "skip")
KEYS = ("name", "when", "action", "reason", "model", "strength", "series_description")
# What only one of the two actions can use.
KEYS_OF = {"model": "reconstruct", "strength": "reconstruct", "series_description": "reconstruct",
           "reason": "skip"}  # fmt: skip
LONGEST_NAME = 64
RESERVED = ("default:", "always:")  # how the names of built-in rules begin

# What ends or nests a value, longest first: texts of several lines, texts, comments, brackets.
TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]|\n',
    re.DOTALL,
)
HEADER = re.compile(r"\[\[?([^\[\]]+)\]\]?")
KEY_PART = re.compile(r'\s*(?:"([^"]*)"|\'([^\']*)\'|([\w-]+))\s*(?:\.|$)')


def load_rules(path: Path, *, weights: Path | None = None) -> Rules:
    """Read a rules file.

    Parameters
    ----------
    path : Path
        A TOML file.
    weights : Path, optional
        Folder with the models that rules may name; the package's own where None.

    Raises
    ------
    BadInput
        If the file cannot be read, is no TOML, or a rule breaks a rule; the message names file,
        line and rule, and all rules that are wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}, line {line}: the rules file must be UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"the rules file {str(path)!r} cannot be read: {reason}") from error
    try:
        models = [spec.name for spec in list_models(weights=weights or WEIGHTS)]
    except ModelsError as error:
        raise BadInput(str(error)) from error
    return parse_rules(text, str(path), models=models)


def parse_rules(text: str, source: str, *, models: Sequence[str]) -> Rules:
    """Read the text of a rules file.

    Parameters
    ----------
    text : str
        TOML.
    source : str
        What messages call the file.
    models : sequence of str
        The names of the models that there are.

    Raises
    ------
    BadInput
        As `load_rules`.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers and nesting beyond Python's
        raise BadInput(_syntax_error(source, str(error), text)) from error
    return _Reader(source, lines(text), models).read(content)


class _Reader:
    """Turns what tomllib gives into rules, and collects what is wrong."""

    def __init__(self, source: str, where: dict[Path_, int], models: Sequence[str]) -> None:
        self._source = source
        self._where = where
        self._models = models
        self._problems: list[tuple[int, str]] = []

    def read(self, content: dict[str, Any]) -> Rules:
        """Read the whole file."""
        for key in (key for key in content if key not in FILE_KEYS):
            self._complain((key,), None, _unknown_key(key, FILE_KEYS))
        defaults = content.get("defaults", True)
        if not isinstance(defaults, bool):
            self._complain(("defaults",), None, f"defaults must be true or false, got {defaults!r}")
        tables = content.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._complain(("rule",), None, "rules begin with [[rule]], in two pairs of brackets")
            tables = []
        rules = [self._rule(index, table) for index, table in enumerate(tables)]
        self._check_order([rule for rule in rules if rule is not None], tables)
        if self._problems:
            raise BadInput("\n".join(message for _, message in sorted(self._problems)))
        return Rules(tuple(rule for rule in rules if rule is not None), bool(defaults))

    def _rule(self, index: int, table: dict[str, Any]) -> Rule | None:
        """Read one rule; what is wrong is noted, and the others are read all the same."""
        name = table.get("name")
        before = len(self._problems)
        for key, message in _problems(table, self._models):
            self._complain(("rule", index, *key), name, message)
        conditions = []
        when = table.get("when", {})
        for key, written in when.items() if isinstance(when, dict) else ():
            try:
                conditions.append(parse_condition(key, written))
            except BadInput as error:
                self._complain(("rule", index, "when", key), name, str(error))
        description = None
        if isinstance(table.get("series_description"), str):
            try:
                description = parse_description(table["series_description"])
            except BadInput as error:
                self._complain(("rule", index, "series_description"), name, str(error))
        if len(self._problems) > before:
            return None
        strength = table.get("strength")
        return Rule(
            name=str(name),
            action=table["action"],
            conditions=tuple(conditions),
            reason=table.get("reason", ""),
            model=table.get("model"),
            strength=None if strength is None else float(strength),
            series_description=description,
        )

    def _check_order(self, rules: Sequence[Rule], tables: Sequence[dict[str, Any]]) -> None:
        """Refuse names that stand twice, and rules that can never match."""
        names = [table.get("name") for table in tables]
        catch_all: str | None = None
        for rule in rules:
            index = names.index(rule.name)
            if names.count(rule.name) > 1:
                again = names.index(rule.name, index + 1)
                message = f"the name stands on line {self._line(('rule', index, 'name'))} already"
                self._complain(("rule", again, "name"), rule.name, message)
                return
            # What the vendor's deep learning has touched passes by a rule without conditions.
            if catch_all is not None and not rule.lifts_deep_learning:
                message = f"can never match, because rule {catch_all!r} above has no conditions"
                self._complain(("rule", index), rule.name, message)
            elif not rule.conditions:
                catch_all = rule.name

    def _line(self, path: Path_) -> int:
        """Give the line of a key, or of the nearest thing around it that has one."""
        while path and path not in self._where:
            path = path[:-1]
        return self._where.get(path, 1)

    def _complain(self, path: Path_, rule: object, message: str) -> None:
        of_rule = f" rule {rule!r}:" if isinstance(rule, str) else ""
        if not of_rule and path[:1] == ("rule",) and len(path) > 1:
            of_rule = f" rule {int(path[1]) + 1}:"
        line = self._line(path)
        self._problems.append((line, f"{self._source}, line {line},{of_rule} {message}"))


def _problems(table: dict[str, Any], models: Sequence[str]) -> Iterator[tuple[Path_, str]]:
    """Find what is wrong with the keys of a rule, its conditions and description apart."""
    for key in table:
        if key not in KEYS:
            yield (key,), _unknown_key(key, KEYS)
    name = table.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        yield (
            ("name",),
            f"name must be a line of text, got {name!r}"
            if "name" in table
            else ("name is missing"),
        )
    elif len(name) > LONGEST_NAME:
        yield ("name",), f"name must be at most {LONGEST_NAME} characters, got {len(name)}"
    elif name.startswith(RESERVED):
        yield ("name",), f"name must not begin with {' or '.join(RESERVED)}, got {name!r}"
    if not isinstance(table.get("when", {}), dict):
        yield ("when",), f"when must be a table of conditions, got {table['when']!r}"
    yield from _action_problems(table)
    yield from _model_problems(table, models)


def _action_problems(table: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    action = table.get("action")
    if "action" not in table:
        yield ("action",), "action is missing: 'reconstruct' or 'skip'"
        return
    if action not in ACTIONS:
        yield ("action",), f"action must be 'reconstruct' or 'skip', got {action!r}"
        return
    for key, of in KEYS_OF.items():
        if key in table and of != action:
            yield (key,), f"{key} belongs to the action {of!r} only, got {action!r}"
    reason = table.get("reason", "" if action == "skip" else "none")
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable():
        yield ("reason",), f"action 'skip' needs a reason, a line of text, got {reason!r}"


def _model_problems(table: dict[str, Any], models: Sequence[str]) -> Iterator[tuple[Path_, str]]:
    model = table.get("model")
    if "model" in table and model not in models:
        yield ("model",), f"no model is called {model!r}; known are: {', '.join(models)}"
    strength = table.get("strength", 1)
    if isinstance(strength, bool) or not (isinstance(strength, int | float) and 0 <= strength <= 1):
        yield ("strength",), f"strength must be a number from 0 to 1, got {strength!r}"
    described = table.get("series_description", "")
    if not isinstance(described, str):
        yield ("series_description",), f"series_description must be a text, got {described!r}"


def _unknown_key(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
    if key in FACTS or tag_for_keyword(key) is not None:
        hint = f"a condition belongs into the rule's table `when`: when.{key} = ..."
    elif key in KEYS and known is FILE_KEYS:
        hint = f"it belongs into a rule: below [[rule]], a table as [rule.{key}]"
    return f"{key!r} is no key here; {hint}"


def _syntax_error(source: str, message: str, text: str) -> str:
    """Put the line that tomllib names in front: ``rules.toml, line 3: ...``."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message)
    if match is None:
        return f"{source}: this is not TOML: {message}"
    line = match[2] or max(1, len(text.splitlines()))
    hint = " (a text stands in quotes)" if match[1] == "Invalid value" else ""
    return f"{source}, line {line}: this is not TOML: {match[1]}{hint}"


def lines(text: str) -> dict[Path_, int]:
    """Find the lines on which the tables and keys of a TOML text begin.

    Parameters
    ----------
    text : str
        TOML that tomllib accepts.

    Returns
    -------
    dict of tuple to int
        Line numbers from 1, by path: the keys from the top, and for an array of tables the index
        behind its name. Keys of an inline table have none of their own.
    """
    found: dict[Path_, int] = {}
    counts: dict[Path_, int] = {}
    table: Path_ = ()
    for line, statement in _statements(text):
        header = HEADER.match(statement)
        if header is None:
            path = (*table, *_key(statement.partition("=")[0]))
        else:
            path = table = _table(_key(header[1]), counts, array=statement.startswith("[["))
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the first line of each statement: a table's header or a key."""
    begin, depth, line = 0, 0, 1
    start = 1
    for token in TOKEN.finditer(text + "\n"):
        written = token[0]
        if written in "[{":
            depth += 1
        elif written in "]}":
            depth -= 1
        elif written == "\n" and depth == 0:
            statement = text[begin : token.start()].strip()
            if statement and not statement.startswith("#"):
                yield start, statement
            begin, start = token.end(), line + 1
        line += written.count("\n")


def _table(key: Path_, counts: dict[Path_, int], *, array: bool) -> Path_:
    """Give the path of a table, with the index of each array of tables above it."""
    if array:
        counts[key] = counts.get(key, -1) + 1
    path: Path_ = ()
    for length in range(1, len(key) + 1):
        path = (*path, key[length - 1])
        if key[:length] in counts:
            path = (*path, counts[key[:length]])
    return path


def _key(written: str) -> Path_:
    """Split a dotted key, some of whose parts may be in quotes."""
    return tuple(
        next(filter(None, part.groups()), "") for part in KEY_PART.finditer(written.strip())
    )
