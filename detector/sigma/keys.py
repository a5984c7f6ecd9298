"""Keys: what the engine's index knows of an activity before any rule is asked, and by what it is looked up."""

from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.sigma.compile import Known
from detector.sigma.fields import DECISION, Values, resolve

Actor: TypeAlias = tuple[str, ...]
"""Trusted address, user agent, user name and groups: what an identity's requests have in common."""
_ACTOR_FIELDS: Final = [
    field
    for name in (
        "detector.source.ip",
        "detector.source.scope",
        "detector.source.network",
        "detector.client.program",
        "detector.identity.namespace",
        "userAgent",
        "user.username",
        "user.groups",
    )
    if (field := resolve(name)) is not None
]
"""What an actor tells; an event's other addresses do not take part, for clients choose those anew each time."""


class Key(NamedTuple):
    """What the index knows of an activity before any rule is asked."""

    verb: str
    resource: str
    subresource: str
    api_group: str
    stage: str
    code: int | None
    decision: str
    identity_kind: str
    impersonated: bool


def known_of_resource(key: Key) -> Known:
    """The fields whose values a key's resource tells: the first step, after which few of many rules are left."""
    return {
        "verb": _values(key.verb),
        "objectRef.resource": _values(key.resource),
        "objectRef.subresource": _values(key.subresource),
    }


def known_of_key(key: Key) -> Known:
    """The other fields whose values a key tells."""
    known: dict[str, Values] = {
        "objectRef.apiGroup": _values(key.api_group),
        "stage": _values(key.stage),
        "responseStatus.code": () if key.code is None else (key.code,),
        f"annotations.{DECISION}": _values(key.decision),
        "detector.identity.kind": _values(key.identity_kind),
    }
    if not key.impersonated:
        known["impersonatedUser"] = ()
    return known


def _values(text: str) -> Values:
    return (text,) if text else ()


def key_of(activity: Activity) -> tuple[str, str, str, str, str, int | None, str, str, bool]:
    """The fields of a `Key`, as the plain tuple that equals it: one is made for every event."""
    event = activity.event
    ref = event.object_ref
    status = event.response_status
    resource, subresource, api_group = ("", "", "") if ref is None else (ref.resource, ref.subresource, ref.api_group)
    return (
        event.verb,
        resource,
        subresource,
        api_group,
        event.stage,
        None if status is None else status.code,
        event.annotations.get(DECISION, ""),
        activity.identity.kind,
        event.impersonated_user is not None,
    )


def known_of_actor(activity: Activity) -> Known:
    """The fields whose values the actor tells."""
    return {field.path: field.read(activity) for field in _ACTOR_FIELDS}


def actor_of(activity: Activity) -> Actor:
    """What is known of an activity's actor, as one key."""
    event = activity.event
    return (activity.addresses.source_ip, event.user_agent, event.user.username, *event.user.groups)
