"""Backtest: what rules would have alerted over archived logs, how rightly, and what a change of rules would change."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from detector.activity import Activity
from detector.alert import Alert
from detector.errors import UsageError
from detector.evaluate import Aftermath, Label
from detector.fold import Folder
from detector.match import SEVERITY, Level
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule

Verdict: TypeAlias = Literal["true", "false", "aftermath"]
"""Whether an alert names a labelled request, or none, or is on what a controller did because of one."""
SEVERE: Final = SEVERITY[Level.MEDIUM]
"""From here on somebody is expected to look, so from here on a false alert counts."""
_SECONDS_MIN: Final = 3600.0  # a shorter archive would make any rate absurd


@dataclass(frozen=True, slots=True)
class Hit:
    """One alert of a backtest."""

    alert: Alert
    campaigns: frozenset[str]
    verdict: Verdict

    @property
    def severe(self) -> bool:
        """Whether somebody is expected to look at it."""
        return self.alert.document.event.severity >= SEVERE


@dataclass(frozen=True, slots=True)
class Outcome:
    """All alerts of one set of rules over one archive."""

    rules: Sequence[CompiledRule]
    hits: tuple[Hit, ...]
    days: float
    campaigns: frozenset[str]
    """Those that the archive holds requests of."""

    @property
    def found(self) -> frozenset[str]:
        """Campaigns of which a severe alert names a request."""
        return frozenset(name for hit in self.hits if hit.severe for name in hit.campaigns)


class Backtest:
    """Rules over activities, in order of time.

    Args:
        rules: those to try.
        labels: requests of known attacks by auditID; without any, nothing can be said of right and wrong.
    """

    def __init__(self, rules: Sequence[CompiledRule], labels: Mapping[str, Label]) -> None:
        self._rules = rules
        self._labels = labels
        self._engine = Engine(rules)
        self._folder = Folder("backtest", live=False)
        self._alerts: list[Alert] = []
        self._aftermath = Aftermath()
        self._campaigns: set[str] = set()
        self._first: datetime | None = None
        self._last: datetime | None = None

    def add(self, activities: list[Activity], now: datetime | None) -> None:
        """Take activities, and the event time that is reached after them."""
        for activity in activities:
            self._first = min(activity.time, self._first or activity.time)
            self._last = max(activity.time, self._last or activity.time)
            label = self._labels.get(activity.event.audit_id)
            if label is not None:
                self._campaigns.add(label.campaign)
                self._aftermath.note(activity)
        self._alerts += self._folder.add(self._engine.match(activities))
        if now is not None:
            self._engine.advance(now)
            self._alerts += self._folder.advance(now)

    def finish(self) -> Outcome:
        """Complete every alert and judge it.

        Raises:
            UsageError: there was nothing to judge, or none of the labels was met.
        """
        if self._first is None or self._last is None:
            raise UsageError("no audit event in these files; check --format, --since and --until")
        if self._labels and not self._campaigns:
            raise UsageError("none of the labelled requests is in these files; do --labels and PATH belong together?")
        self._alerts += self._folder.finish()
        seconds = (self._last - self._first).total_seconds()
        hits = tuple(self._hit(alert) for alert in self._alerts)
        return Outcome(self._rules, hits, max(seconds, _SECONDS_MIN) / 86_400, frozenset(self._campaigns))

    def _hit(self, alert: Alert) -> Hit:
        labels = (self._labels.get(audit_id) for audit_id in alert.document.detector.audit_ids)
        campaigns = frozenset(label.campaign for label in labels if label is not None)
        if campaigns:
            return Hit(alert, campaigns, "true")
        return Hit(alert, campaigns, "aftermath" if self._aftermath.holds(alert) else "false")


Key: TypeAlias = tuple[str, ...]
KEYS: Final[dict[str, tuple[tuple[str, ...], Callable[[Alert], Key]]]] = {
    "rule": (("rule",), lambda _: ()),
    "day": (("day", "rule"), lambda alert: (f"{alert.document.detector.first_seen:%Y-%m-%d}",)),
    "identity": (("identity", "rule"), lambda alert: (alert.document.user.name,)),
}
"""What hits can be counted by: the columns that name a row, and what stands before the rule in them."""


def tally(outcome: Outcome, by: str) -> list[dict[str, Any]]:
    """Count hits: a row for every rule, silent ones too, or for every day or identity and rule."""
    columns, prefix = KEYS[by]
    groups: defaultdict[tuple[Key, str], list[Hit]] = defaultdict(list)
    for hit in outcome.hits:
        groups[prefix(hit.alert), hit.alert.document.rule.id].append(hit)
    metadata = {rule.metadata.id: rule.metadata for rule in outcome.rules}
    if by == "rule":
        for rule_id in metadata:
            groups.setdefault(((), rule_id), [])
    rows = []
    for (key, rule_id), hits in groups.items():
        rule = metadata[rule_id]
        row: dict[str, Any] = dict(zip(columns, (*key, rule.name), strict=True))
        row |= {"level": rule.level.value, **_counts(hits, outcome.days if by != "day" else 1.0)}
        if outcome.campaigns:
            row |= _judged(hits)
        rows.append(row | {"id": rule_id})
    if by == "day":
        return sorted(rows, key=lambda row: (row["day"], -row["alerts"], row["rule"]))
    return sorted(rows, key=lambda row: (-row["alerts"], *(row[column] for column in columns)))


def _counts(hits: Sequence[Hit], days: float) -> dict[str, Any]:
    return {
        "alerts": len(hits),
        "alerts_a_day": round(len(hits) / days, 2),
        "severe": sum(hit.severe for hit in hits),
        "requests": sum(hit.alert.document.detector.event_count for hit in hits),
        "identities": len({hit.alert.document.user.name for hit in hits}),
    }


def _judged(hits: Sequence[Hit]) -> dict[str, Any]:
    counts = {verdict: sum(hit.verdict == verdict for hit in hits) for verdict in ("true", "false", "aftermath")}
    judged = counts["true"] + counts["false"]
    return {
        **counts,
        "precision": round(counts["true"] / judged, 3) if judged else None,
        "campaigns": sorted({name for hit in hits for name in hit.campaigns}),
    }


def false_a_day(outcome: Outcome) -> dict[str, float]:
    """Severe false alerts a day of every rule that gave one, by the rule's id."""
    counts: defaultdict[str, int] = defaultdict(int)
    for hit in outcome.hits:
        if hit.severe and hit.verdict == "false":
            counts[hit.alert.document.rule.id] += 1
    return {rule_id: count / outcome.days for rule_id, count in counts.items()}


def differences(old: Outcome, new: Outcome) -> list[dict[str, Any]]:
    """What the new rules change: alerts gone, new and changed, counted by rule and identity."""
    before, after = ({hit.alert.id: hit for hit in outcome.hits} for outcome in (old, new))
    groups: defaultdict[tuple[str, str, str, str], list[Hit]] = defaultdict(list)
    _group((hit for id_, hit in before.items() if id_ not in after), "gone", groups)
    _group((hit for id_, hit in after.items() if id_ not in before), "new", groups)
    _group((hit for id_, hit in after.items() if id_ in before and _differ(before[id_], hit)), "changed", groups)
    rows = []
    for (change, rule_id, rule, identity), hits in sorted(groups.items()):
        first = min(hits, key=lambda hit: hit.alert.document.detector.first_seen).alert.document
        earlier = before.get(first.event.id)
        severity = str(first.event.severity)
        if earlier is not None and change == "changed":
            severity = f"{earlier.alert.document.event.severity} -> {severity}"
        row: dict[str, Any] = {"change": change, "rule": rule, "identity": identity, "severity": severity}
        row |= {"alerts": len(hits), "first": f"{first.detector.first_seen:%Y-%m-%d %H:%M}", "example": first.message}
        if old.campaigns:
            row["campaigns"] = sorted({name for hit in hits for name in hit.campaigns})
        rows.append(row | {"id": rule_id})
    return rows


def _group(hits: Iterable[Hit], change: str, groups: dict[tuple[str, str, str, str], list[Hit]]) -> None:
    for hit in hits:
        document = hit.alert.document
        groups[change, document.rule.id, document.rule.name, document.user.name].append(hit)


def _differ(before: Hit, after: Hit) -> bool:
    """Tell whether a reader would see another alert; the rule's version alone makes none."""
    one, other = before.alert.document, after.alert.document
    return (one.event.severity, one.message, one.detector.event_count, one.detector.degraded) != (
        other.event.severity,
        other.message,
        other.detector.event_count,
        other.detector.degraded,
    )
