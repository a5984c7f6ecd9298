"""Evaluate: what rules and model find of labelled attacks, and how often they are wrong.

An alert counts from severity 47 on. It finds every campaign of which it names a request; one that names none is false,
unless a controller only did what an attack made it do, which counts neither way.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from detector.activity import Activity
from detector.alert import Alert
from detector.errors import UsageError
from detector.exceptions import Exceptions
from detector.fold import Folder
from detector.identity import IdentityKind
from detector.match import SEVERITY, WRITE_VERBS, Level
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.model.separation import separation
from detector.model.store import Model
from detector.model.trees import Vectors
from detector.score import WINDOW_SECONDS, BehaviourState, Score, Window
from detector.score_alert import from_score
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule


class Label(NamedTuple):
    """What a labelled request was part of."""

    campaign: str
    technique: str


def read_labels(path: Path) -> dict[str, Label]:
    """Read labels by auditID.

    Raises:
        UsageError: the file cannot be read, with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--labels {path} cannot be read: {error}") from error
    return dict(_read_label(path, number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _read_label(path: Path, number: int, line: str) -> tuple[str, Label]:
    try:
        row = json.loads(line)
        return row["auditID"], Label(row["campaign"], row["technique"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--labels {path}:{number}: must be JSON with auditID, campaign and technique") from error


class Aftermath:
    """What labelled requests made, by which to know what controllers did only because of them."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def note(self, activity: Activity) -> None:
        """Remember the object that a labelled request wrote."""
        event = activity.event
        if event.verb in WRITE_VERBS and event.object_ref and event.object_ref.name:
            self._made.add(event.object_ref.name)

    def made(self, name: str) -> bool:
        """Tell whether an object has the name of one that a labelled request wrote, or one made from it."""
        return any(name.startswith(made) for made in self._made)

    def holds(self, alert: Alert) -> bool:
        """Tell whether an alert is on nothing but what a controller or node did with such objects."""
        detector = alert.document.detector
        controller = detector.identity.kind in (IdentityKind.CONTROL_PLANE, IdentityKind.NODE) or (
            detector.identity.namespace == "kube-system"
        )
        names = [request.name for request in detector.evidence if request.name]  # of a creation it may not be told
        return controller and bool(names) and all(map(self.made, names))


@dataclass(frozen=True)
class Result:
    """The figures."""

    days: float
    found: Mapping[str, float]
    """Campaign -> share of its requests that were over when it was first alerted."""
    missed: tuple[str, ...]
    pairs_found: int
    pairs: int
    false_alerts: tuple[str, ...]
    aftermath: int
    roc_auc: tuple[float, float, float] | None
    """Value and bootstrap interval."""
    average_precision: tuple[float, float, float] | None

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "days": round(self.days, 2),
            "campaigns": len(self.found) + len(self.missed),
            "campaigns_found": len(self.found),
            "missed": list(self.missed),
            "delay_share_of_requests": {name: round(share, 3) for name, share in sorted(self.found.items())},
            "technique_pairs": self.pairs,
            "technique_pairs_found": self.pairs_found,
            "false_alerts": len(self.false_alerts),
            "false_alerts_a_day": round(len(self.false_alerts) / self.days, 3),
            "false_alert_messages": list(self.false_alerts),
            "aftermath_alerts": self.aftermath,
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
        }

    def as_text(self) -> str:
        """The figures for a person."""
        count = len(self.false_alerts)
        lines = [
            f"campaigns found: {len(self.found)} of {len(self.found) + len(self.missed)}"
            + (f", missed {', '.join(self.missed)}" if self.missed else ""),
            f"campaign-technique pairs found: {self.pairs_found} of {self.pairs}",
            f"false alerts a day: {count / self.days:.2f} ({count} in {self.days:.1f} days)",
            f"alerts on what controllers did because of an attack: {self.aftermath}",
        ]
        for name, value in (("ROC-AUC", self.roc_auc), ("average precision", self.average_precision)):
            if value:
                lines.append(f"{name} over identity-windows: {value[0]:.4f} ({value[1]:.4f} to {value[2]:.4f})")
        lines.append("share of a campaign's requests that were over when it was first alerted:")
        lines += [f"  {share:5.0%}  {name}" for name, share in sorted(self.found.items())]
        lines += [f"false: {message}" for message in self.false_alerts]
        return "\n".join(lines)


@dataclass
class Evaluation:
    """Rules and model over labelled activities, in order of time."""

    model: Model
    rules: Sequence[CompiledRule]
    labels: Mapping[str, Label]
    alerts_a_day: float
    exceptions: Exceptions = field(default_factory=Exceptions)
    _first_alert: dict[str, datetime] = field(default_factory=dict)
    _times: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _alerts: dict[str, Alert] = field(default_factory=dict)
    _windows: list[tuple[float, str, float]] = field(default_factory=list)
    _attacked: set[tuple[float, str]] = field(default_factory=set)
    _aftermath: Aftermath = field(default_factory=Aftermath)
    _span: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Wire rules and model as `run` does."""
        state = BehaviourState(model=self.model.label, baselines=self.model.baselines)
        threshold = threshold_for(self.alerts_a_day)
        self._behaviour = Behaviour(self.model.forest, state, threshold, live=True, observe=self._observe)
        self._engine = Engine(self.rules)
        self._folder = Folder("evaluation", live=True)

    def add(self, activities: Sequence[Activity], now: datetime | None) -> None:
        """Take activities: up to each labelled one by itself, for it matters after which of them an alert comes."""
        taken = 0
        for index, activity in enumerate(activities):
            label = self.labels.get(activity.event.audit_id)
            if label is not None:
                self._note(activity, label)
                self._decide(activities[taken : index + 1])
                taken = index + 1
        self._decide(activities[taken:])
        if now is not None:
            self._span = [*self._span[:1], now]
            self._engine.advance(now)
            scores = self._behaviour.advance(now)
            self._take(self._folder.add((), self._behaviour.weights()))
            self._take(self._folder.advance(now))
            self._take_scores(scores)

    def _decide(self, activities: Sequence[Activity]) -> None:
        matches = self._engine.match(activities)
        scores = self._behaviour.update(activities, matches)
        self._take(self._folder.add(self.exceptions.unexcepted(matches), self._behaviour.weights()))
        self._take_scores(scores)

    def finish(self) -> Result:
        """Close everything and count."""
        scores = self._behaviour.finish()
        self._take(self._folder.add((), self._behaviour.weights()))
        self._take(self._folder.finish())
        self._take_scores(scores)
        found: set[str] = set()
        pairs: set[Label] = set()
        false: list[str] = []
        aftermath = 0
        for alert in self._alerts.values():
            if alert.document.event.severity < SEVERITY[Level.MEDIUM]:
                continue
            hits = {self.labels[audit_id] for audit_id in alert.document.detector.audit_ids if audit_id in self.labels}
            pairs |= hits
            found |= {label.campaign for label in hits}
            if not hits and self._aftermath.holds(alert):
                aftermath += 1
            elif not hits:
                false.append(f"{alert.document.timestamp:%m-%d %H:%M} {alert.document.message}")
        campaigns = set(self._times)
        days = max((self._span[-1] - self._span[0]).total_seconds() / 86_400, 1 / 24) if self._span else 1 / 24
        return Result(
            days=days,
            found={name: self._share_over(name) for name in found},
            missed=tuple(sorted(campaigns - found)),
            pairs_found=len(pairs),
            pairs=len({label for label in self.labels.values() if label.campaign in campaigns}),
            false_alerts=tuple(sorted(false)),
            aftermath=aftermath,
            **separation(self._windows, self._attacked),
        )

    def _note(self, activity: Activity, label: Label) -> None:
        start = activity.time.timestamp() // WINDOW_SECONDS * WINDOW_SECONDS
        self._attacked.add((start, activity.identity.name))
        self._times[label.campaign].append(activity.time)
        self._aftermath.note(activity)

    def _take_scores(self, scores: list[Score]) -> None:
        self._take(from_score(score, "evaluation") for score in self.exceptions.unexcepted_scores(scores))

    def _take(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._alerts[alert.id] = alert
            if alert.document.event.severity < SEVERITY[Level.MEDIUM]:
                continue
            for audit_id in alert.document.detector.audit_ids:
                label = self.labels.get(audit_id)
                if label is not None:
                    self._first_alert.setdefault(label.campaign, alert.document.timestamp)

    def _share_over(self, campaign: str) -> float:
        times = self._times[campaign]
        return sum(time <= self._first_alert[campaign] for time in times) / len(times)

    def _observe(self, window: Window, vector: Vectors, score: float) -> None:
        del vector
        self._windows.append((window.start_seconds, window.name, score))
