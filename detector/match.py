"""Rule: what a detection says of itself; Match: a rule that fired on one activity."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from detector.activity import Activity


class Level(StrEnum):
    """Sigma's levels, from least to most severe."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


LATENESS: Final = timedelta(minutes=10)
"""How long everything waits for late events: a webhook batches 30 s, a cloud's log service takes minutes."""
WRITE_VERBS: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
"""Verbs that change something."""
SEVERITY: Final = {
    Level.INFORMATIONAL: 21,
    Level.LOW: 21,
    Level.MEDIUM: 47,
    Level.HIGH: 73,
    Level.CRITICAL: 99,
}
"""ECS `event.severity` of each level; the four numbers are those that Elastic Security knows."""


MESSAGE_PLACEHOLDERS: Final = frozenset(
    {
        "user",
        "effective",
        "verb",
        "resource",
        "subresource",
        "namespace",
        "name",
        "source",
        "client",
        "count",
        "command",
    }
)
"""What a rule's message may name, `{user}` for one; each is taken from the first contributing request."""


class Rule(BaseModel):
    """The metadata of one rule: all that an alert says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    version: str
    """Digest of the rule's file: what an alert was made by, to the letter."""
    ruleset: str
    level: Level
    kind: Literal["rule", "chain", "health"] = "rule"
    """What its alerts rest on: one request, several that belong together, or the stream of events itself."""
    description: str = ""
    reference: str = ""
    techniques: tuple[str, ...] = ()
    """ATT&CK technique ids, `T1552.007`."""
    tactics: tuple[str, ...] = ()
    """ATT&CK tactic names as Sigma tags spell them, `credential-access`."""
    group_by: tuple[str, ...] = ()
    """Fields whose values keep alerts of one identity apart."""
    fold_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = 3600
    """Repeats within one window of this length are one alert."""
    across_identities: bool = False
    """Its alerts stand for a group of requests, whoever made them; whoever came first is shown."""
    message: str = ""
    """One sentence with placeholders out of `MESSAGE_PLACEHOLDERS`; empty for a standard one."""


class Match(msgspec.Struct, frozen=True):
    """A rule that fired on an activity."""

    rule: Rule
    activity: Activity
    group: tuple[str, ...]
    """The values of `rule.group_by`, in its order."""
    degraded: bool = False
    """True where the body that the rule asks for was not logged: it would match, or would not."""
    fold_time: datetime | None = None
    """The time whose window it falls into, where that is not the request's: a chain belongs to where it ends."""
