"""Summary: what a run did, counted batch by batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final

from detector.alert import Alert
from detector.event import AuditEvent, event_time
from detector.match import SEVERITY, Level
from detector.record import DeadLetter

_SEVERE_KEPT: Final = 12  # a screen has some forty lines


@dataclass(slots=True)
class Summary:
    """Figures for the panel at the end of a replay."""

    records: int = 0
    events: int = 0
    empty: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None
    alerts_opened: int = 0
    late: int = 0
    """Matches that came after their alert was complete."""
    by_severity: Counter[int] = field(default_factory=Counter)
    """Complete alerts by `event.severity`."""
    by_rule: Counter[str] = field(default_factory=Counter)
    by_identity: Counter[str] = field(default_factory=Counter)
    severe: list[Alert] = field(default_factory=list)
    """The first complete alerts of high or critical severity."""
    silenced: Mapping[str, int] = field(default_factory=dict)
    """Matches that each exception covered."""
    refused: Counter[str] = field(default_factory=Counter)
    """Dead letters by reason."""
    started: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return monotonic() - self.started

    @property
    def alerts(self) -> int:
        """Complete alerts."""
        return self.by_severity.total()

    def add_batch(self, records: int, events: int, empty: int, kept: Sequence[AuditEvent]) -> None:
        """Count a batch; the first and the last event that were kept stand for its span."""
        self.records += records
        self.events += events
        self.empty += empty
        for event in (*kept[:1], *kept[-1:]):
            time = event_time(event)
            if time is not None:
                self.first_time = time if self.first_time is None else min(self.first_time, time)
                self.last_time = time if self.last_time is None else max(self.last_time, time)

    def add_alerts(self, alerts: Sequence[Alert]) -> None:
        """Count alerts when they open and when they are complete."""
        for alert in alerts:
            if not alert.complete:
                self.alerts_opened += 1
                continue
            severity = alert.document.event.severity
            self.by_severity[severity] += 1
            if severity >= SEVERITY[Level.HIGH] and len(self.severe) < _SEVERE_KEPT:
                self.severe.append(alert)
            self.by_rule[alert.document.rule.name] += 1
            self.by_identity[alert.document.user.name] += 1

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Count what was refused, by reason."""
        self.refused.update(letter.reason for letter in letters)
