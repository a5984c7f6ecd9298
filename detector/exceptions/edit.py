"""Edit: one more entry in a file of exceptions, where all that stands there stays as it is."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from detector.errors import RuleError, RuleProblem, UsageError
from detector.exceptions.entry import Entry
from detector.exceptions.load import parse
from detector.sigma.rule_file import YamlError, read

_ID_CHARACTERS = 60
_BREAKS = frozenset("\x85\u2028\u2029")  # PyYAML writes them as they are, and reads them as ends of lines


def new_id(rule: str, identity: str, taken: Iterable[str]) -> str:
    """A readable id out of a rule's and an identity's name, that no entry has yet."""
    last = identity.removesuffix(":*").rpartition(":")[2]
    slug = re.sub(r"[^a-z0-9]+", "-", f"{last} {rule}".lower()).strip("-")[:_ID_CHARACTERS].strip("-") or "exception"
    known = set(taken)
    numbered = (f"{slug}-{number}" for number in range(2, len(known) + 3))
    return slug if slug not in known else next(name for name in numbered if name not in known)


def as_yaml(entry: Entry) -> str:
    """An entry as it is written."""
    document: dict[str, Any] = {"id": entry.id, "rule": _short(entry.rule), "identity": _short(entry.identity)}
    if entry.scope:
        document["scope"] = {name: _short(values) for name, values in entry.scope.items()}
    document |= {"owner": entry.owner, "reason": entry.reason}
    if entry.expires is not None:
        document["expires"] = entry.expires
    text = yaml.safe_dump([document], sort_keys=False, allow_unicode=True, width=110)
    return yaml.safe_dump([document], sort_keys=False, width=110) if _BREAKS.intersection(text) else text


def append(path: Path, entry: Entry) -> None:
    """Write an entry to the end of a file, in one step; a file that is not there is made.

    Raises:
        RuleError: what stands in the file cannot be used.
        UsageError: the file cannot be written, or is laid out so that nothing can be put at its end.
    """
    path = path.resolve()  # a link stays one
    problems: list[RuleProblem] = []
    try:
        before = read(path) if path.exists() else b""
    except YamlError as error:
        raise RuleError([RuleProblem(path, error.line, str(error))]) from error
    known = parse(before, path, problems, shipped=False)
    if problems:
        raise RuleError(problems)
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    after = before + gap + as_yaml(entry).encode()
    if [each for each, _ in parse(after, path, problems, shipped=False)] != [*(each for each, _ in known), entry]:
        raise UsageError(f"{path}: its list is not written as lines that begin with `- `; add this entry by hand")
    _replace(path, after)


def _short(values: tuple[str, ...]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
