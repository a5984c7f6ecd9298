"""Link: a correlation document to the base rules that it names.

Only what can be decided from what has been seen so far is taken: `lt` would depend on what never comes, and an alert
once given is not taken back.

Source: SigmaHQ/sigma-specification v2, Sigma correlation rules specification.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sigma.correlations import SigmaCorrelationTimespan
from sigma.exceptions import SigmaTimespanError

from detector.sigma.compile import Node, Or
from detector.sigma.correlate import SIGHTINGS_OF_GROUP
from detector.sigma.correlation import Base, Correlation, CorrelationType
from detector.sigma.fields import Field as EventField
from detector.sigma.fields import catalogue, resolve
from detector.sigma.parse import UnsupportedError

_SPAN_SECONDS_MAX: Final = 7 * 86_400
_BASES_MAX: Final = 32
_AT_LEAST: Final = {"gte": 0, "gt": 1}
"""The operators of a condition, and what each adds to its number to make it `at least`."""


class Section(BaseModel):
    """The section `correlation:` of a rule file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str
    rules: str | list[str]
    group_by: str | list[str] = Field(alias="group-by", default=[])
    timespan: str
    condition: dict[str, Any] | str | None = None
    aliases: dict[str, dict[str, str]] = {}
    generate: bool = False

    @model_validator(mode="after")
    def _can_be_decided(self) -> "Section":
        """Tell what we cannot do before pySigma tells what it would like better."""
        if not 0 < len(self.references) <= _BASES_MAX:
            raise UnsupportedError(f"a correlation needs 1 to {_BASES_MAX} rules, not {len(self.references)}", "rules")
        if len(set(self.references)) != len(self.references):
            raise UnsupportedError("a rule is named twice", "rules")
        seconds_of(self.timespan)
        _condition(self, _type(self))
        return self

    @property
    def references(self) -> list[str]:
        """The base rules, by id or name."""
        return _listed(self.rules)

    @property
    def groups(self) -> list[str]:
        """The fields whose values keep requests apart, or aliases of fields."""
        return _listed(self.group_by)


def link(
    section: Section, nodes: Mapping[str, Node], *, apart: Sequence[str], across_identities: bool
) -> tuple[Correlation, Node]:
    """Make a correlation out of its section, and the tree that any of its base rules fires on.

    Args:
        section: what the document says.
        nodes: the trees of the rules that can be referred to, by id and by name.
        apart: those of its groups that keep alerts apart.
        across_identities: look at requests of all identities together.

    Raises:
        UnsupportedError: for a part that cannot be decided, or refers to nothing.
    """
    type_ = _type(section)
    at_least, values = _condition(section, type_)
    bases = tuple(_bases(section, nodes, values))
    correlation = Correlation(
        type=type_,
        bases=bases,
        at_least=at_least,
        span_micros=1_000_000 * seconds_of(section.timespan),
        apart=tuple(section.groups.index(name) for name in apart),
        across_identities=across_identities,
    )
    return correlation, bases[0].node if len(bases) == 1 else Or(tuple(base.node for base in bases))


def seconds_of(timespan: str, key: str = "timespan") -> int:
    """The seconds of a Sigma timespan such as `5m`, `1h` or `30d`."""
    try:
        seconds = SigmaCorrelationTimespan(timespan).seconds
    except SigmaTimespanError as error:
        raise UnsupportedError(f"{timespan!r} is no time span; write a number and s, m, h, d or w", key) from error
    if key == "timespan" and seconds > _SPAN_SECONDS_MAX:
        raise UnsupportedError("a timespan may have seven days: every request within it is remembered", key)
    return seconds


def event_field(name: str, key: str) -> EventField:
    """The field of a name; `key` is where it stands."""
    field = resolve(name)
    if field is None:
        raise UnsupportedError(f"no audit event has a field {name!r}; known are {', '.join(catalogue())}", key)
    return field


def _type(section: Section) -> CorrelationType:
    try:
        return CorrelationType(section.type)
    except ValueError:
        known = ", ".join(CorrelationType)
        raise UnsupportedError(f"correlations of type {section.type!r} are not supported; known are {known}", "type")  # noqa: B904 the cause adds nothing


def _condition(section: Section, type_: CorrelationType) -> tuple[int, list[str]]:
    """How much is asked for at least, and the fields whose distinct values are counted."""
    condition = section.condition
    temporal = type_ in (CorrelationType.TEMPORAL, CorrelationType.TEMPORAL_ORDERED)
    rules = len(section.references)
    if condition is None and temporal:
        return rules, []
    if not isinstance(condition, dict):
        raise UnsupportedError("the condition must be a mapping such as `gte: 10`", "condition")
    values = condition.get("field", [])
    operators = [key for key in condition if key != "field"]
    if len(operators) != 1 or operators[0] not in _AT_LEAST:
        told = ", ".join(operators) or "none"
        raise UnsupportedError(
            f"a condition needs one of gte and gt, not {told}: anything else depends on what never comes", "condition"
        )
    count = condition[operators[0]]
    if not isinstance(count, int) or isinstance(count, bool):
        raise UnsupportedError(f"{operators[0]} needs a whole number", "condition")
    at_least = count + _AT_LEAST[operators[0]]
    most = rules if temporal else SIGHTINGS_OF_GROUP
    if not 1 <= at_least <= most or (type_ is CorrelationType.TEMPORAL_ORDERED and at_least != rules):
        wanted = str(rules) if type_ is CorrelationType.TEMPORAL_ORDERED else f"1 to {most}"
        raise UnsupportedError(f"the condition asks for at least {at_least}; it can ask for {wanted}", "condition")
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UnsupportedError("field must be the name of a field, or a list of them", "field")
    if (type_ is CorrelationType.VALUE_COUNT) != bool(values):
        raise UnsupportedError("value_count, and no other type, counts the values of a field", "condition")
    return at_least, values


def _bases(section: Section, nodes: Mapping[str, Node], values: Sequence[str]) -> Iterator[Base]:
    for alias, mapping in section.aliases.items():
        if set(mapping) != set(section.references):
            raise UnsupportedError(f"the alias {alias!r} must name a field for each of the rules", "aliases")
    for reference in section.references:
        node = nodes.get(reference)
        if node is None:
            raise UnsupportedError(f"no rule has the id or name {reference!r}", "rules")

        def field(name: str, key: str, reference: str = reference) -> EventField:
            alias = section.aliases.get(name)
            return event_field(name, key) if alias is None else event_field(alias[reference], "aliases")

        yield Base(
            reference,
            node,
            tuple(field(name, "group-by") for name in section.groups),
            tuple(field(name, "field") for name in values),
        )


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names
