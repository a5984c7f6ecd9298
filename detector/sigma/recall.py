"""Recall: what a rule that remembers asks of the requests before the one at hand, in words."""

from typing import Final

from detector.sigma.correlation import Correlation, CorrelationType
from detector.sigma.first_seen import FirstSeen
from detector.sigma.load import CompiledRule

_UNIT_SECONDS: Final = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def recall(rule: CompiledRule) -> str:
    """What must come together for an alert, and of whom; empty for a rule that each request decides by itself."""
    if rule.correlation is not None:
        return (
            f"{_together(rule.correlation)} within {span(rule.correlation.span_micros)}, {_of_group(rule.correlation)}"
        )
    if rule.first_seen is not None:
        return _new(rule.first_seen)
    return ""


def span(micros: int) -> str:
    """A time as a rule writes it: `30m`, `1d`, `6w`."""
    seconds = micros // 1_000_000
    unit = next(unit for unit, size in _UNIT_SECONDS.items() if seconds % size == 0)
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"


def _together(correlation: Correlation) -> str:
    names = [base.name for base in correlation.bases]
    match correlation.type:
        case CorrelationType.EVENT_COUNT:
            return f"at least {correlation.at_least} requests of {' or '.join(names)}"
        case CorrelationType.VALUE_COUNT:
            values = " with ".join(field.path for field in correlation.bases[0].value_fields)
            return f"at least {correlation.at_least} different values of {values} in requests of {' or '.join(names)}"
        case CorrelationType.TEMPORAL:
            count = "" if correlation.at_least == len(names) else f"{correlation.at_least} of "
            return f"requests of {count}{' and '.join(names)} in any order"
        case CorrelationType.TEMPORAL_ORDERED:
            return f"requests of {', then '.join(names)}"


def _of_group(correlation: Correlation) -> str:
    same: list[str] = []
    for number, field in enumerate(correlation.bases[0].group_fields):
        paths = {base.name: base.group_fields[number].path for base in correlation.bases}
        alike = len(set(paths.values())) == 1
        same.append(field.path if alike else " as ".join(f"{path} of {name}" for name, path in paths.items()))
    return _whose(same, across_identities=correlation.across_identities)


def _new(first_seen: FirstSeen) -> str:
    whose = _whose([field.path for field in first_seen.group_fields], across_identities=first_seen.across_identities)
    memory = span(first_seen.memory_micros)
    if first_seen.of_silence:
        return f"a silence of {memory} before it, {whose}"
    values = " with ".join(field.path for field in first_seen.fields)
    known = span(first_seen.warm_up_micros)
    return f"a value of {values} that was not seen in {memory}, {whose}; known for at least {known}"


def _whose(same: list[str], *, across_identities: bool) -> str:
    whose = "of whatever identities" if across_identities else "of one identity"
    return f"{whose} with the same {' and '.join(same)}" if same else whose
