"""Survey: what given audit logs can support, and which rules would be blind on them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from detector.audit_policy import SECRET_BODIES, AuditLevel
from detector.event import AuditEvent
from detector.health import CHANGES, is_change
from detector.sigma.levels import needs
from detector.sigma.load import CompiledRule

_TRUNCATED: Final = "audit.k8s.io/truncated"
_TRUNCATED_SHARE_MAX: Final = 0.05
_READS: Final = frozenset({"get", "list", "watch"})
_UNAUTHENTICATED_CODE: Final = 401
_ENOUGH_EVENTS: Final = 1_000


class Line(NamedTuple):
    """One thing that the logs show, and whether it is as it should be."""

    ok: bool
    text: str


class Target(NamedTuple):
    """What a write was made on."""

    api_group: str
    resource: str
    subresource: str


@dataclass(slots=True)
class Survey:
    """What was seen so far."""

    events: int = 0
    truncated: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    unauthenticated: int = 0
    secret_reads: int = 0
    writes: Counter[Target] = field(default_factory=Counter)
    requests: Counter[Target] = field(default_factory=Counter)
    """Writes whose body was logged."""
    responses: Counter[Target] = field(default_factory=Counter)
    """Writes whose answer was logged."""

    def add(self, events: Sequence[AuditEvent]) -> None:
        """Count events, the `RequestReceived` ones among them."""
        self.events += len(events)
        self.levels.update(event.level or "none told" for event in events)
        self.stages.update(event.stage or "none told" for event in events)
        for event in events:
            self.truncated += _TRUNCATED in event.annotations
            status, ref = event.response_status, event.object_ref
            self.unauthenticated += status is not None and status.code == _UNAUTHENTICATED_CODE
            if ref is None:
                continue
            self.secret_reads += event.verb in _READS and ref.resource == "secrets"
            if event.verb in CHANGES and event.stage == "ResponseComplete" and is_change(event):
                target = Target(ref.api_group, ref.resource, ref.subresource)
                self.writes[target] += 1
                self.requests[target] += bool(bytes(event.request_object))
                self.responses[target] += bool(bytes(event.response_object))

    def lines(self, rules: Sequence[CompiledRule]) -> Iterator[Line]:
        """Tell what the logs show, the blind rules one by one at the end."""
        if not self.events:
            yield Line(ok=False, text="no audit event in it")
            return
        shares = ", ".join(f"{level} {count / self.events:.0%}" for level, count in self.levels.most_common())
        yield Line(ok=True, text=f"{self.events:,} events, levels: {shares}")
        yield from self._stages()
        share = self.truncated / self.events
        advice = "; log no answers of lists, or raise the limit" if share > _TRUNCATED_SHARE_MAX else ""
        yield Line(share <= _TRUNCATED_SHARE_MAX, f"{share:.1%} of the events lost their bodies for their size{advice}")
        if not self.secret_reads:
            text = "no read of a secret: if the policy drops them, rules on secrets are blind"
            yield Line(self.events < _ENOUGH_EVENTS, text)
        yield from self._blind(rules)

    def _stages(self) -> Iterator[Line]:
        if not self.stages["ResponseStarted"]:
            text = "no ResponseStarted: sessions in pods are seen when they end, and refused logins never"
            yield Line(self.events < _ENOUGH_EVENTS, text)
        if not self.unauthenticated:
            yield Line(
                ok=True, text="no answer 401: nobody failed to log in, or the policy drops it; the log cannot tell"
            )
        if not self.stages["RequestReceived"]:
            text = "no RequestReceived: a write whose end is lost goes unseen; deploy/audit-policy.yaml keeps it"
            yield Line(ok=True, text=text)

    def _blind(self, rules: Sequence[CompiledRule]) -> Iterator[Line]:
        blind: list[Line] = []
        unseen = 0
        for rule in rules:
            wanted = {need._replace(verb="") for need in needs(rule) if need[:2] not in SECRET_BODIES}
            if not wanted:
                continue
            if not any(self.writes[Target(*need[:3])] for need in wanted):
                unseen += 1
            dark = sorted(need for need in wanted if self._is_dark(Target(*need[:3]), need.level))
            if dark:
                seen = ", ".join(f"{need.target} ({self.writes[Target(*need[:3])]:,} writes)" for need in dark)
                blind.append(Line(ok=False, text=f"{rule.metadata.name} is blind: no body logged of {seen}"))
        if unseen:
            text = f"{unseen} rules look into bodies of writes that are not in these logs: nothing can be said of them"
            yield Line(ok=True, text=text)
        yield from blind

    def _is_dark(self, target: Target, level: AuditLevel) -> bool:
        bodies = self.responses if level is AuditLevel.REQUEST_RESPONSE else self.requests
        return bool(self.writes[target]) and not bodies[target]
