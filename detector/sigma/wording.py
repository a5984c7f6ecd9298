"""Wording: a Sigma value as a person reads it, for explanations of why a rule did or did not match."""

from typing import Final

from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaFieldReference,
    SigmaNull,
    SigmaRegularExpression,
    SigmaString,
    SigmaType,
)

_SIGNS: Final = {
    CompareOperators.LT: "<",
    CompareOperators.LTE: "<=",
    CompareOperators.GT: ">",
    CompareOperators.GTE: ">=",
}


def wording(value: SigmaType) -> str:  # noqa: PLR0911 one return a type
    """What a test asks of its field: `is pods`, `is *.pem`, `>= 400`."""
    match value:
        case SigmaNull() | SigmaExists():
            return "is there"
        case SigmaFieldReference():
            before, after = "*" * bool(value.ends_with), "*" * bool(value.starts_with)
            return f"is {before}{{{value.field}}}{after}"
        case SigmaCasedString():
            return f"is exactly {_text(value)}"
        case SigmaString():
            return f"is {_text(value)}"
        case SigmaRegularExpression():
            flags = "".join(sorted(flag.name[0].lower() for flag in value.flags))
            return f"fits /{value.regexp}/{flags}"
        case SigmaCIDRExpression():
            return f"lies in {value.cidr}"
        case SigmaCompareExpression():
            return f"{_SIGNS.get(value.op, value.op.name)} {value.number}"
        case SigmaBool():
            return f"is {str(value.boolean).lower()}"
        case _:
            return f"is {value}"


def _text(value: SigmaString) -> str:
    return str(value) or '""'
