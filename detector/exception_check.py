"""Check of exceptions: what each silences in archived logs, and whether any of it was a known attack."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from detector.activity import Activity
from detector.alert import Alert
from detector.evaluate import Label
from detector.exceptions import Exceptions
from detector.exceptions.entry import Entry
from detector.fold import Folder
from detector.match import SEVERITY, Level, Match
from detector.model.live import Behaviour
from detector.score import Score
from detector.score_alert import RULE_ID, from_score
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule

_CLUSTER = "check"


class Lost(NamedTuple):
    """What of a known attack an exception silences."""

    campaign: str
    technique: str
    rule: str
    identity: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.campaign} ({self.technique}): {self.rule} by {self.identity}"


@dataclass
class Effect:
    """What one exception silences."""

    matches: int = 0
    alerts: int = 0
    """Alerts that are gone altogether; of the others the exception takes repeats away."""
    severe_alerts: int = 0
    """Those of them of severity 47 or more."""
    lost: dict[Lost, set[str]] = field(default_factory=dict)
    """And the auditIDs of its requests."""


class Check:
    """Rules, model and exceptions over labelled activities, in order of time.

    Args:
        rules: those whose matches are looked at.
        exceptions: those to be checked.
        labels: requests of known attacks, by auditID.
        behaviour: the model, without which exceptions from alerts on behaviour are not checked.
    """

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        exceptions: Exceptions,
        labels: Mapping[str, Label],
        behaviour: Behaviour | None = None,
    ) -> None:
        self.labels_seen: set[str] = set()
        """AuditIDs of the labelled requests that are in the logs."""
        self._exceptions = exceptions
        self._labels = labels
        self._engine = Engine(rules)
        self._behaviour = behaviour
        self._effects = {entry.id: Effect() for entry in exceptions.entries}
        self._kept = _Alerts()
        self._silenced = {entry.id: _Alerts() for entry in exceptions.entries}

    def add(self, activities: Sequence[Activity], now: datetime | None) -> None:
        """Take activities, and the event time that is reached after them."""
        self.labels_seen |= self._labels.keys() & {activity.event.audit_id for activity in activities}
        matches = self._engine.match(activities)
        for match in matches:
            self._take(match)
        if self._behaviour:
            self._take_scores(self._behaviour.update(activities, matches))
        if now is not None:
            for alerts in (self._kept, *self._silenced.values()):
                alerts.advance(now)
            if self._behaviour:
                self._take_scores(self._behaviour.advance(now))

    def finish(self) -> dict[str, Effect]:
        """Complete every alert; the effect of each exception comes back, by its id."""
        if self._behaviour:
            self._take_scores(self._behaviour.finish())
        kept = self._kept.finish()
        for entry_id, effect in self._effects.items():
            gone = {key: severity for key, severity in self._silenced[entry_id].finish().items() if key not in kept}
            effect.alerts = len(gone)
            effect.severe_alerts = sum(severity >= SEVERITY[Level.MEDIUM] for severity in gone.values())
        return self._effects

    def _take(self, match: Match) -> None:
        entry = self._exceptions.covering(match)
        alerts = self._kept if entry is None else self._silenced[entry.id]
        alerts.folder.add([match])
        if entry is not None:
            activity = match.activity
            self._note(entry, [activity.event.audit_id], match.rule.name, activity.identity.name)

    def _take_scores(self, scores: Iterable[Score]) -> None:
        for score in scores:
            if not score.complete:
                continue
            entry = self._exceptions.covering_score(score)
            alert = from_score(score, _CLUSTER)
            (self._kept if entry is None else self._silenced[entry.id]).take([alert])
            if entry is not None:
                audit_ids = [request.audit_id for request in score.requests]
                self._note(entry, audit_ids, alert.document.rule.name, score.episode.name)

    def _note(self, entry: Entry, audit_ids: Iterable[str], rule: str, identity: str) -> None:
        effect = self._effects[entry.id]
        effect.matches += 1
        for audit_id in audit_ids:
            label = self._labels.get(audit_id)
            if label is not None:
                effect.lost.setdefault(Lost(label.campaign, label.technique, rule, identity), set()).add(audit_id)


def on_behaviour(entries: Iterable[Entry]) -> list[str]:
    """The ids of the exceptions from alerts on behaviour, which only a model can check."""
    return [entry.id for entry in entries if RULE_ID in entry.rule]


class _Alerts:
    """The severity of every alert that some of the matches give, by the alert's id."""

    def __init__(self) -> None:
        self.folder = Folder(_CLUSTER, live=False, clock=lambda: datetime.now(UTC))
        self._severities: dict[str, int] = {}

    def advance(self, now: datetime) -> None:
        self.take(self.folder.advance(now))

    def take(self, alerts: Iterable[Alert]) -> None:
        self._severities |= {alert.id: alert.document.event.severity for alert in alerts}

    def finish(self) -> dict[str, int]:
        self.take(self.folder.finish())
        return self._severities
