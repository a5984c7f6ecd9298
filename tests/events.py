"""Audit events for tests: an ordinary one, and what differs from it."""

import json
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from detector.activity import Activity
from detector.address import Locator
from detector.event import AuditEvent, from_mapping
from detector.identity import from_event
from detector.sigma.cases import BASE_EVENT, merge


def event(**differences: Any) -> dict[str, Any]:
    """An allowed `get` of pods by a person, with differences laid over it; None removes a field."""
    return merge(BASE_EVENT, differences)


def line(**differences: Any) -> bytes:
    """The same as the API server writes it, without the line's end; its auditID is that of no other event."""
    document = event(**differences)
    if "auditID" not in differences:
        document["auditID"] = str(uuid5(NAMESPACE_OID, json.dumps(document)))
    return json.dumps(document).encode()


def audit_event(**differences: Any) -> AuditEvent:
    """The same, decoded."""
    return from_mapping(event(**differences))


def activity(**differences: Any) -> Activity:
    """The same as rules see it; no proxy is trusted."""
    decoded = audit_event(**differences)
    return Activity(decoded, from_event(decoded), Locator(()).locate(decoded.source_ips))


EXEC = {
    "verb": "get",
    "requestURI": "/api/v1/namespaces/shop/pods/cart/exec?command=id&container=cart&stdin=true",
    "objectRef": {"resource": "pods", "namespace": "shop", "name": "cart", "subresource": "exec"},
    "responseStatus": {"code": 101},
}
"""What differs in a shell in a container: the bundled rules raise a medium alert."""
