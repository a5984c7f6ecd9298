"""Memory: what correlations and first-seen conditions remember of the past, as it is stored over a restart.

Times are those of receipt, in whole microseconds, so that two spans of equal length compare equal. What there are many
of has `gc=False`: none of it can be part of a cycle, and looking for one took a fifth of a replay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from detector.activity import Activity
from detector.address import Addresses
from detector.event import AuditEvent, ObjectRef, ResponseStatus, User
from detector.identity import Identity, IdentityKind
from detector.request import Request, from_activity

GroupKey: TypeAlias = tuple[str, ...]
"""Whose requests belong together: identity and address unless a rule looks across identities, then its group fields."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """A time as microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """A time out of microseconds since the epoch."""
    return _EPOCH + micros * _MICROSECOND


class Sighting(msgspec.Struct, gc=False):
    """A request that a base rule of a correlation fired on: all that an alert needs of it, and no more."""

    micros: int
    key: bytes
    """The request's key: its stages and second deliveries are one sighting."""
    request: Request
    stage_micros: int
    identity_kind: IdentityKind
    user_name: str
    service_namespace: str
    effective_name: str
    proven: int = 0
    """The base rules that fired, as bits."""
    unproven: int = 0
    """Those that a hidden body would decide."""
    values: tuple[str, ...] = ()
    """What a count of distinct values counts."""
    told: dict[int, bool] = {}
    """The fold windows whose alerts hold this sighting; true where the alert is proven."""

    @property
    def begins(self) -> bool:
        """Whether the first of the base rules fired, or may have."""
        return bool((self.proven | self.unproven) & 1)

    def restore(self) -> Activity:
        """The activity again, as far as an alert tells of it: without bodies, annotations and unmasked commands."""
        request = self.request
        on_resource = not request.resource.startswith("/")
        event = AuditEvent(
            audit_id=request.audit_id,
            request_uri=f"/?command={quote(request.command)}" if on_resource else request.resource,
            verb=request.verb,
            user=User(username=self.user_name, uid=request.user_id, groups=list(request.roles)),
            user_agent=request.user_agent,
            object_ref=ObjectRef(
                resource=request.resource,
                subresource=request.subresource,
                namespace=request.namespace,
                name=request.name,
            )
            if on_resource
            else None,
            response_status=ResponseStatus(code=request.code) if request.code >= 0 else None,
            request_received_timestamp=request.time.isoformat(),
            stage_timestamp=from_micros(self.stage_micros).isoformat(),
        )
        identity = Identity(self.identity_kind, self.user_name, self.service_namespace, self.effective_name)
        activity = Activity(event, identity, Addresses(request.source_ip, request.client_ip))
        activity.keep_request_key(self.key)
        return activity


def sighting_of(activity: Activity, proven: int, unproven: int, values: tuple[str, ...]) -> Sighting:
    """Take from an activity what an alert would tell of it."""
    identity = activity.identity
    return Sighting(
        activity.received_micros,
        activity.request_key,
        from_activity(activity),
        to_micros(activity.time),
        identity.kind,
        identity.name,
        identity.namespace,
        identity.effective_name,
        proven,
        unproven,
        values,
    )


def add_to(known: Sighting, proven: int, unproven: int, values: tuple[str, ...]) -> bool:
    """Take what another base rule, or another stage of the request, adds; true if that is anything."""
    before = (known.proven, known.unproven, known.values)
    known.proven |= proven
    known.unproven |= unproven
    known.values = tuple(dict.fromkeys((*known.values, *values)))
    return before != (known.proven, known.unproven, known.values)


class Sightings(msgspec.Struct):
    """The sightings of one correlation rule."""

    shape: str
    """What the rule correlates; sightings that another version of it made may mean something else."""
    groups: dict[GroupKey, list[Sighting]] = {}
    """Each in order of time; the group that was touched last comes last."""
    count: int = 0
    swept_micros: int = 0


class Term(msgspec.Struct, gc=False):
    """One combination of values that a group was seen with."""

    first_micros: int
    last_micros: int
    new: bool
    """It was a first sight worth an alert, and so are its repeats within the same fold window."""


class Group(msgspec.Struct, gc=False):
    """What one group was seen with."""

    since_micros: int
    last_micros: int
    terms: dict[GroupKey, Term] = {}
    """The term that was seen last comes last."""


class Groups(msgspec.Struct):
    """The groups of one rule with a first-seen condition."""

    shape: str
    started_micros: int
    """When the rule was first at work."""
    groups: dict[GroupKey, Group] = {}
    """The group that was touched last comes last."""
    swept_micros: int = 0


class Memory(msgspec.Struct):
    """All that rules remember, by rule id."""

    sightings: dict[str, Sightings] = {}
    groups: dict[str, Groups] = {}
    now_micros: int = 0

    def keep_only(self, rule_ids: Iterable[str]) -> None:
        """Forget the rules that are no longer there."""
        known = frozenset(rule_ids)
        self.sightings = {rule_id: kept for rule_id, kept in self.sightings.items() if rule_id in known}
        self.groups = {rule_id: kept for rule_id, kept in self.groups.items() if rule_id in known}


_KeptT = TypeVar("_KeptT", Sightings, Groups)


def divided(
    kept: Mapping[str, _KeptT], rule_ids: Sequence[str], start: _KeptT, taken: set[int]
) -> Iterator[tuple[_KeptT, list[int]]]:
    """Divide rules that ask the same by what they remember, which is mostly the same: they need only one memory of it.

    Args:
        kept: what is remembered, by rule id.
        rule_ids: of the rules.
        start: what a rule begins with that nothing is kept of, or something of another shape.
        taken: which memories other rules have already, by `id`; rules that a change has parted get a copy of theirs.

    Yields:
        A memory, and the places of the rules that share it.
    """
    parts: list[tuple[_KeptT, list[int]]] = []
    for place, rule_id in enumerate(rule_ids):
        found = kept.get(rule_id)
        if found is None or found.shape != start.shape:
            found = start
        for memory, places in parts:
            if memory is found or memory == found:
                places.append(place)
                break
        else:
            parts.append((found, [place]))
    for memory, places in parts:
        own = deepcopy(memory) if id(memory) in taken else memory
        taken.add(id(own))
        yield own, places
