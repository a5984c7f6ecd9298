"""Entry: one exception as it stands in a file, and what it may not say."""

import re
from datetime import date, timedelta
from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from detector.identity import UNAUTHENTICATED_NAME
from detector.score_alert import RULE_ID as BEHAVIOUR
from detector.sigma.fields import catalogue, resolve

SOON: Final = timedelta(days=14)
"""How long before its end an exception is warned of."""
SHIPPED_OWNER: Final = "detector"
IMPERSONATED: Final = "impersonatedUser.username"
"""The field that a scope must name before an entry covers requests in another identity's name."""
NODES: Final = "system:node:*"
_ACCOUNTS_OF_NAMESPACE: Final = re.compile(r"system:serviceaccount:([a-z0-9](?:[-a-z0-9]*[a-z0-9])?):\*")
_NOBODY: Final = frozenset({"system:anonymous", UNAUTHENTICATED_NAME})
_CLIENTS_CHOICE: Final = {
    "userAgent": "is a text that the client sends",
    "auditID": "is a header that the client may send",
    "sourceIPs": "begins with what the client sends as X-Forwarded-For; use detector.source.ip",
}
_CLIENTS_CHOICE_PREFIX: Final = "detector.client."


class State(StrEnum):
    """Whether an exception holds."""

    ACTIVE = "active"
    SOON = "soon"
    EXPIRED = "expired"


def _listed(value: Any) -> Any:
    """One value, or a list of them, as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _texts(value: Any) -> Any:
    """The same as texts, as values of events are compared: a number and a boolean as JSON writes them."""
    return tuple(
        str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int) else item
        for item in _listed(value)
    )


_Text = Annotated[str, Field(min_length=1, max_length=1024)]
_Several = Annotated[tuple[_Text, ...], Field(min_length=1), BeforeValidator(_listed)]


class Entry(BaseModel):
    """What is fine, by whom, who says so, and until when."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
    rule: _Several
    identity: _Several
    scope: dict[str, Annotated[tuple[_Text, ...], Field(min_length=1), BeforeValidator(_texts)]] = {}
    owner: _Text
    reason: _Text
    expires: date | None = None
    """The last day on which it holds, in UTC of the events."""

    @field_validator("rule")
    @classmethod
    def _names_rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in rule for rule in rules):
            raise ValueError("must name each rule by its id; an exception from every rule matches everything")
        return rules

    @field_validator("identity")
    @classmethod
    def _is_exact_or_anchored(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if "*" in name and name != NODES and namespace_of(name) is None:
                raise ValueError(
                    f"{name!r} would cover whoever chooses a fitting name; write the exact name, "
                    "system:serviceaccount:<namespace>:* or system:node:*"
                )
        return names

    @field_validator("scope")
    @classmethod
    def _names_fields(cls, scope: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in scope.items():
            _check_field(name, values)
        return scope

    @field_validator("expires", mode="before")
    @classmethod
    def _is_a_day(cls, value: Any) -> Any:
        if value is None or isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{value!r} is no day; write it like 2026-12-31") from error

    @model_validator(mode="after")
    def _is_bounded(self, info: ValidationInfo) -> Self:
        if self.expires is None and not (info.context or {}).get("shipped"):
            raise ValueError("expires: must be set to the last day on which it holds, like 2026-12-31")
        if BEHAVIOUR in self.rule and self.scope:
            raise ValueError("scope: an alert on behaviour rests on an hour of requests; it takes no scope")
        if BEHAVIOUR in self.rule and any("*" in name for name in self.identity):
            raise ValueError("identity: an alert on behaviour is one identity's and may be of high severity; name each")
        if _NOBODY & {*self.identity} and not self.scope:
            raise ValueError("identity: without a credential anybody has this name; bind it with a scope")
        return self

    def state(self, today: date) -> State:
        """Whether it holds on a day, and for how long."""
        if self.expires is None or today + SOON < self.expires:
            return State.ACTIVE
        return State.SOON if today <= self.expires else State.EXPIRED


def namespace_of(name: str) -> str | None:
    """The namespace of `system:serviceaccount:<namespace>:*`; None for any other name."""
    anchored = _ACCOUNTS_OF_NAMESPACE.fullmatch(name)
    return anchored[1] if anchored else None


def _check_field(name: str, values: tuple[str, ...]) -> None:
    """Raise ValueError for what may not bind an exception."""
    field, _, modifier = name.partition("|")
    if field in _CLIENTS_CHOICE:
        raise ValueError(f"{field} {_CLIENTS_CHOICE[field]}: it binds nobody")
    if field.startswith(_CLIENTS_CHOICE_PREFIX):
        raise ValueError(f"{field} is what the client claims; use detector.source.ip")
    if resolve(field) is None:
        raise ValueError(f"no audit event has a field {field!r}; known are {', '.join(catalogue())}")
    if modifier == "cidr" and field == "detector.source.ip":
        _check_networks(values)
    elif modifier:
        raise ValueError(f"{name}: values are exact; only detector.source.ip may have a modifier, |cidr")
    elif starred := [value for value in values if "*" in value]:
        raise ValueError(f"{name}: {starred[0]!r}: values are exact, write each of them out")


def _check_networks(values: tuple[str, ...]) -> None:
    for value in values:
        if ip_network(value).prefixlen == 0:  # its own ValueError tells what is no network
            raise ValueError(f"detector.source.ip|cidr: {value} is every address")
