"""auditID: the name of a request, which the client may choose, and by which others tell requests apart."""

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from detector.event import AuditEvent
from detector.health import Arrival, Finding, health_rule
from detector.match import Level

# An API server copies the header Audit-ID (kubernetes/apiserver pkg/endpoints/filters/audit_init.go), so whatever is
# told here is low: it may cover tracks elsewhere, and proves nothing by itself.
REUSED: Final = health_rule(
    "c5d20e96-2f7b-4a18-8e4c-9b6f1a3d7c50",
    "One auditID for Two Requests",
    Level.LOW,
    description=(
        "Two requests with different verb, address or user carry one auditID. API servers make a new one for each "
        "request unless the client sends the header Audit-ID: whoever does so hides the second request from tools "
        "that tell events apart by it. Misses a pair with more than 2,500 other requests between them, a request "
        "that is repeated as it was, two reads of one address by two users, and requests that never end."
    ),
    message="{user} sent a {verb} of {resource} {name} in {namespace} from {source} under the auditID of "
    "another request ({count} requests): other tools may have dropped one of the two",
    covers=("audit-gap",),
)
NO_UUID: Final = health_rule(
    "4f7e1c82-b06d-4d95-a3c8-6e2b9d5f0a17",
    "auditID That Is No UUID",
    Level.LOW,
    description=(
        "A request carries an auditID that no API server makes, in a stream where nearly all others are UUIDs: the "
        "client chose it with the header Audit-ID. Misses a client that sends a UUID of its own."
    ),
    message="{user} chose the auditID of {count} requests, the first a {verb} of {resource} {name} in {namespace} from "
    "{source}",
    covers=("audit-gap",),
)
RULES: Final = (REUSED, NO_UUID)

_REMEMBERED: Final = 2_500
_UUID: Final = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_CHARACTERS: Final = 36
_HYPHENS: Final = (8, 13, 18, 23)
_HEXADECIMAL: Final = b"0123456789abcdefABCDEF"
_NORM: Final = 20  # UUIDs for each that is none; where fewer are, the collector makes ids of its own
_REQUEST_CHARACTERS: Final = 300
_READS: Final = frozenset({"get", "list", "watch"})


class AuditIds(msgspec.Struct):
    """The requests of late, by auditID."""

    recent: dict[str, str] = {}
    """Verb, user and request URI of each, in one text; of a read, to save time, the request URI alone."""
    before: dict[str, str] = {}
    """The same of those before `recent`: to drop all at once costs less than one by one."""
    events: int = 0
    odd: int = 0
    """Events whose auditID was no UUID."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Compare each auditID with those before."""
        del arrival
        ended = [event for event in events if event.stage == "ResponseComplete"]
        ids = [event.audit_id for event in ended]
        if not _all_uuids(ids):
            yield from self._odd(ended)
            ids = [each if len(each) <= _UUID_CHARACTERS else _digest(each) for each in ids]
        self.events += len(ended)
        requests = [
            event.request_uri if event.verb in _READS else f"{event.verb} {event.user.username} {event.request_uri}"
            for event in ended
        ]
        if max(map(len, requests), default=0) > _REQUEST_CHARACTERS:
            requests = [request[:_REQUEST_CHARACTERS] for request in requests]
        if self._are_new(ids):
            self.recent.update(zip(ids, requests, strict=True))
            return
        for audit_id, request, event in zip(ids, requests, ended, strict=True):
            known = self.before.get(audit_id) or self.recent.setdefault(audit_id, request)
            if known != request and audit_id:
                yield Finding(REUSED, event)
            if len(self.recent) >= _REMEMBERED:
                self.before, self.recent = self.recent, {}

    def _are_new(self, ids: list[str]) -> bool:
        """Tell whether all of them can be remembered without a second look, as nearly always."""
        full = len(self.recent) + len(ids) >= _REMEMBERED
        new = self.recent.keys().isdisjoint(ids) and self.before.keys().isdisjoint(ids)
        return new and not full and len(set(ids)) == len(ids)

    def _odd(self, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        for place, event in enumerate(events, start=self.events + 1):
            if event.audit_id and _UUID.fullmatch(event.audit_id) is None:
                self.odd += 1
                if self.odd * _NORM <= place:
                    yield Finding(NO_UUID, event)


def _all_uuids(ids: Sequence[str]) -> bool:
    """Tell whether all are UUIDs, looking at all of them at once: nearly always they are."""
    text, count = "".join(ids), len(ids)
    if set(map(len, ids)) - {_UUID_CHARACTERS} or not text.isascii():
        return False
    if any(text[place::_UUID_CHARACTERS] != "-" * count for place in _HYPHENS):
        return False
    return len(text.encode().translate(None, _HEXADECIMAL)) == len(_HYPHENS) * count


def _digest(audit_id: str) -> str:
    """A digest for an auditID longer than any that an API server makes."""
    return blake2b(audit_id.encode(errors="surrogatepass"), digest_size=16).hexdigest()
