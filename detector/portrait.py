"""Portrait: who acted, from where and on what; the parts of an alert that its first request gives."""

from collections.abc import Iterable
from functools import lru_cache
from typing import TypedDict

from detector.alert import (
    AddressPart,
    ClusterPart,
    EffectiveUser,
    OrchestratorPart,
    RelatedPart,
    ResourcePart,
    UserAgentPart,
    UserPart,
)
from detector.request import TEXT_MAX, Request


class Portrait(TypedDict):
    """The parts, by their names in the document."""

    user: UserPart
    source: AddressPart | None
    client: AddressPart | None
    user_agent: UserAgentPart | None
    orchestrator: OrchestratorPart
    related: RelatedPart


def portray(first: Request, name: str, effective_name: str, cluster: str, addresses: Iterable[str]) -> Portrait:
    """Draw an alert's identity, addresses and object; `first` must be masked already."""
    return _portray(first, name, effective_name, cluster, tuple(sorted(addresses)))


# Several rules often fire on one request: these parts, half of what a document costs, are then made once for all.
@lru_cache(maxsize=1024)
def _portray(first: Request, name: str, effective_name: str, cluster: str, addresses: tuple[str, ...]) -> Portrait:
    effective = effective_name[:TEXT_MAX]
    return Portrait(
        user=UserPart(
            name=name[:TEXT_MAX],
            id=first.user_id or None,
            roles=first.roles,
            effective=EffectiveUser(name=effective) if effective else None,
        ),
        source=AddressPart(ip=first.source_ip) if first.source_ip else None,
        client=AddressPart(ip=first.client_ip) if first.client_ip else None,
        user_agent=UserAgentPart(original=first.user_agent) if first.user_agent else None,
        orchestrator=OrchestratorPart(
            cluster=ClusterPart(name=cluster) if cluster else None,
            namespace=first.namespace or None,
            resource=ResourcePart(type=resource_of(first) or None, name=first.name or None),
        ),
        related=RelatedPart(
            user=tuple(dict.fromkeys(one for one in (name[:TEXT_MAX], effective) if one)), ip=addresses
        ),
    )


def resource_of(request: Request) -> str:
    """`pods/exec`, or the path of a request on no resource."""
    return f"{request.resource}/{request.subresource}" if request.subresource else request.resource
