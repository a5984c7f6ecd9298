"""Request: what an alert remembers of one contributing request; never a body, a request URI or a token."""

from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from detector.activity import Activity
from detector.alert import Evidence
from detector.redact import mask_secrets

TEXT_MAX: Final = 1024  # as much as Elasticsearch indexes of a keyword; a client may send more
_REMEMBERED: Final = 1024  # one request stands in the alerts of several rules; masking its texts costs most of each


class Request(msgspec.Struct, frozen=True, order=True, gc=False):
    """One contributing request; the first by time stands for the whole alert."""

    time: datetime
    audit_id: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    """-1 where none was logged."""
    source_ip: str
    client_ip: str
    user_agent: str
    user_id: str
    roles: tuple[str, ...]
    command: str


def from_activity(activity: Activity) -> Request:
    """Take from an activity what may be shown once it is `masked`; most requests never are, so that comes later."""
    event = activity.event
    ref = event.object_ref
    code = event.response_status.code if event.response_status else None
    return Request(
        time=activity.received_time,
        audit_id=event.audit_id[:256],
        verb=event.verb[:TEXT_MAX],
        resource=ref.resource[:TEXT_MAX] if ref else event.request_uri.partition("?")[0][:TEXT_MAX],
        subresource=ref.subresource[:TEXT_MAX] if ref else "",
        namespace=ref.namespace[:TEXT_MAX] if ref else "",
        name=ref.name[:TEXT_MAX] if ref else "",
        code=code if code is not None and 0 <= code < 1000 else -1,
        source_ip=activity.addresses.source_ip,
        client_ip=activity.addresses.client_ip,
        user_agent=event.user_agent[:TEXT_MAX],
        user_id=event.user.uid[:TEXT_MAX],
        roles=tuple([group[:TEXT_MAX] for group in event.user.groups[:100]]),  # a list is faster, and most have few
        command=shown(activity.command) if activity.command else "",
    )


@lru_cache(maxsize=_REMEMBERED)
def masked(request: Request) -> Request:
    """The request with no text in it that could be a credential."""
    texts = ("verb", "resource", "subresource", "namespace", "name", "user_agent", "user_id")
    roles = tuple(map(shown, request.roles))
    return msgspec.structs.replace(request, roles=roles, **{name: shown(getattr(request, name)) for name in texts})


@lru_cache(maxsize=_REMEMBERED)
def to_evidence(request: Request) -> Evidence:
    """A request as it stands in an alert."""
    return Evidence(
        time=request.time,
        verb=request.verb,
        resource=request.resource,
        subresource=request.subresource,
        namespace=request.namespace,
        name=request.name,
        code=request.code if request.code >= 0 else None,
        source=request.source_ip,
        user_agent=request.user_agent,
    )


def shown(text: str) -> str:
    """A text that a client chose, cut and without secrets."""
    return _shown(text[:TEXT_MAX])


_shown: Final = lru_cache(maxsize=_REMEMBERED)(mask_secrets)
