"""Habits: what an activity says of its identity's ways, as one token in each of eight dimensions; and rules' matches.

A token names a kind of act, never a single object: volatile parts of names are removed, a service account's own
namespace is `~own`, clients lose their versions and addresses their host part. So what is usual can be learned, and
shared by peers.
"""

from datetime import datetime
from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.families import client_program, source_network, stable_name
from detector.identity import Identity, IdentityKind


class Tokens(NamedTuple):
    """One activity in each dimension."""

    action: str
    """`get pods/exec`; a watch is a list; `as` when impersonating."""
    namespace: str
    """`~own` for a service account at home, `*` for the whole cluster."""
    place: str
    """The resource in its namespace: `secrets@shop`."""
    object: str
    """The object by the stable part of its name: `pods@shop:cart-*`."""
    client: str
    """The user agent's program, without its version."""
    network: str
    """The /24 or /48 of the trusted source address."""
    hours: str
    """Two hours of a working day or of the weekend, UTC."""
    outcome: str
    """The action with the class of its answer: `get pods 2xx`, `list secrets 403`."""


SIGNAL: Final = "signal"
"""The dimension of rules that matched, each by its name: what one rule sees is a habit of some, and news of others."""
DIMENSIONS: Final = (*Tokens._fields, SIGNAL)
PeerGroup: TypeAlias = str
Act: TypeAlias = tuple[tuple[str, str], ...]
"""Dimensions, each with a token."""

_CODES_APART: Final = frozenset({401, 403, 404})


def tokens(activity: Activity) -> Tokens:
    """The tokens of one activity."""
    event = activity.event
    ref = event.object_ref
    if ref is None:
        resource, namespace, name = event.request_uri.partition("?")[0][:64], "", ""
    else:
        resource = f"{ref.resource}/{ref.subresource}" if ref.subresource else ref.resource
        namespace, name = ref.namespace, ref.name
    identity = activity.identity
    at = "~own" if namespace and namespace == identity.namespace else namespace or "*"
    verb = "list" if event.verb == "watch" else event.verb
    action = f"{verb} {resource} as" if identity.effective_name else f"{verb} {resource}"
    code = event.response_status.code if event.response_status else None
    return Tokens(
        action,
        at,
        f"{resource}@{at}",
        f"{resource}@{at}:{stable_name(name)}",
        client_program(event.user_agent),
        source_network(activity.addresses.source_ip),
        _hours(activity.received_time),
        f"{action} {_class(code)}",
    )


def peer_group(identity: Identity, groups: tuple[str, ...]) -> PeerGroup:
    """Whom an identity is like: people of the same groups, controllers, workloads, nodes."""
    if identity.kind is IdentityKind.USER:
        return "user:" + ",".join(sorted(group for group in groups if group != "system:authenticated"))
    if identity.kind is IdentityKind.SERVICE_ACCOUNT:
        return "service_account:kube-system" if identity.namespace == "kube-system" else "service_account"
    return identity.kind.value


def _hours(time: datetime) -> str:
    return f"{'weekend' if time.weekday() > 4 else 'weekday'} {time.hour // 2 * 2:02}"


def _class(code: int | None) -> str:
    if code is None:
        return "-"
    return str(code) if code in _CODES_APART else f"{code // 100}xx"
