"""Find: the rules that a person means by an id, a name or a file."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from detector.errors import UsageError
from detector.sigma.load import CompiledRule, load

_PREFIX: Final = "kubernetes_audit_"
_ID_DIGITS_MIN: Final = 6


def find(rules: Sequence[CompiledRule], text: str) -> list[CompiledRule]:
    """Every rule of a file, or the rules of that id (its first digits will do), title or file name.

    Raises:
        UsageError: none is meant, or an id's beginning is shared by several.
        RuleError: the file holds rules that cannot be loaded.
    """
    if Path(text).is_file():
        return load(Path(text))
    wanted = text.casefold().replace("-", "_")
    found = [rule for rule in rules if wanted in _names(rule)]
    if not found and len(text) >= _ID_DIGITS_MIN:
        found = [rule for rule in rules if rule.metadata.id.startswith(text.casefold())]
        if len(found) > 1:
            raise UsageError(f"{text} is the beginning of {len(found)} rules' ids: give more of it")
    if not found:
        names = {name: rule.metadata.name for rule in rules for name in _names(rule)}
        close = get_close_matches(wanted, names, n=1, cutoff=0.5)
        hint = f" (did you mean {names[close[0]]!r}?)" if close else ""
        raise UsageError(f"no rule is called {text}{hint}; `detector rules list` tells them all")
    return found


def _names(rule: CompiledRule) -> tuple[str, ...]:
    stem = rule.path.stem.casefold()
    spelt = (rule.metadata.id, rule.metadata.name.casefold(), stem, stem.removeprefix(_PREFIX))
    return tuple(name.replace("-", "_") for name in spelt)
