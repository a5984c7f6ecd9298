"""The whole path in one loop; read this first.

source -> decode -> health -> normalise -> identity, address -> rules, exceptions, fold -> features, model -> sink;
positions flow back.

The guarantee: every record whose position is committed has been evaluated, and every alert it caused is stored by the
sink or lies in the dead letters with a reason. An alert may be sent twice; it is stored once. Nothing is dropped
without a counter. Source, sink, dead letters and state each state their part of this in their own file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from time import monotonic
from typing import Protocol

import structlog

from detector import metrics
from detector.activity import Activity, activities
from detector.address import Locator
from detector.alert import Alert
from detector.errors import SinkRejected, SinkUnavailable
from detector.event import AuditEvent
from detector.exceptions import Exceptions
from detector.fold import Folder
from detector.formats import Decoded, Format
from detector.health import Arrival
from detector.health.monitor import Monitor
from detector.match import Match
from detector.record import Batch, DeadLetter
from detector.reload import Detections
from detector.score import Score, Weight
from detector.score_alert import from_score
from detector.sigma.engine import Engine
from detector.sinks import Sink
from detector.sources import Source
from detector.state import Snapshot
from detector.summary import Summary

log = structlog.get_logger(__name__)


class Behaviour(Protocol):
    """Scores identities' behaviour."""

    def update(self, activities: Sequence[Activity], matches: Sequence[Match]) -> list[Score]:
        """Count activities, and the rules that matched them; what is strange already comes back."""

    def advance(self, now: datetime) -> list[Score]:
        """Move event time on; the strange windows that are over come back complete."""

    def weights(self) -> list[Weight]:
        """How usual what rules saw was, since this was asked last."""

    def finish(self) -> list[Score]:
        """Close every window."""


class DeadLetters(Protocol):
    """Keeps what could not be used."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Store them durably, or raise SinkUnavailable."""


@dataclass(slots=True)
class Pipeline:
    """Source to sink, wired by the command line."""

    source: Source
    format: Format
    normalise: Callable[[Sequence[AuditEvent]], list[AuditEvent]]
    locator: Locator
    engine: Engine
    folder: Folder
    sink: Sink
    dead_letters: DeadLetters
    patience_seconds: float
    """How long a sink may be unavailable before the run gives up."""
    behaviour: Behaviour | None = None
    """The behaviour model; without one, rules work alone."""
    health: Monitor | None = None
    """Looks at the stream itself, the events that `normalise` drops among them."""
    within: Callable[[Sequence[AuditEvent]], Sequence[AuditEvent]] = lambda events: events
    """Keeps the span of event time that was asked for."""
    refresh_seconds: float = inf
    """How often the counts of open alerts are brought up to date where they are stored; also whenever there is time."""
    checkpoint_seconds: float = 1.0
    """How much is read again after a crash; a synchronous commit takes some milliseconds."""
    exceptions: Exceptions = field(default_factory=Exceptions)
    """What is fine and gives no alert."""
    reload: Callable[[], Detections | None] = lambda: None
    """Asked before each batch for rules and exceptions that take the place of those in use."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    save: Callable[[Snapshot], None] = lambda _: None
    """Makes the snapshot durable; a replay, which starts again from the beginning, needs none."""
    summary: Summary = field(default_factory=Summary)
    _checkpointed: float = field(default_factory=monotonic)
    _refreshed: float = field(default_factory=monotonic)
    _checkpoint_cost_seconds: float = 0.0
    _deciding: bool = False
    _undurable: bool = False
    """Something was decided, or an alert refreshed, since the last checkpoint."""
    _stopping: bool = False

    def run(self) -> None:
        """Work until the source ends; open alerts stay open.

        Raises:
            SinkUnavailable: a sink cannot take alerts and the patience is over; nothing more is committed.
            SourceUnavailable: the source stays out of reach.
        """
        self.sink.probe()
        self.snapshot.folder = self.folder.state
        self.snapshot.exception_hits = self.exceptions.hits
        self.snapshot.memory = self.engine.memory
        self.source.checkpoint = self.checkpoint
        for batch in self.source:
            self._adopt(self.reload())
            with metrics.BATCH_SECONDS.time():
                self._deciding = True
                self._process(batch)
                self._deciding = False
            idle = not batch.values
            if idle or monotonic() - self._refreshed >= self.refresh_seconds:
                self._refresh()
            # Saving may take at most a twentieth of the time, however large the state has grown.
            wait_seconds = max(self.checkpoint_seconds, 20 * self._checkpoint_cost_seconds)
            if idle or monotonic() - self._checkpointed >= wait_seconds:
                self.checkpoint()
        self._refresh()
        self.checkpoint()

    def _adopt(self, detections: Detections | None) -> None:
        """Put new rules and exceptions in the place of the old; open alerts stay, and so does what is remembered."""
        if detections is not None:
            self.engine = Engine(detections.rules, self.engine.memory)
            self.exceptions = detections.exceptions.counting_on(self.exceptions)
            self.snapshot.memory, self.snapshot.exception_hits = self.engine.memory, self.exceptions.hits

    def _process(self, batch: Batch) -> None:
        decoded = self.format.decode(batch.values, batch.positions)
        arrived = self.within(decoded.events)
        events = self.normalise(arrived)
        alerts = self.folder.add(self._health(batch, arrived))
        matched = 0
        stream = batch.positions[0].stream if batch.positions else ""
        for part, now in self.snapshot.watermark.parts(stream, events, batch.behind):
            acts = activities(part, self.locator.locate)
            matches = self.engine.match(acts)
            scores = self.behaviour.update(acts, matches) if self.behaviour else []
            alerts += self.folder.add(self.exceptions.unexcepted(matches), self._weights()) + self._alerts(scores)
            if now is not None:
                alerts += self._advance(now)
            matched += len(matches)
        decoded.dead_letters += batch.refused
        self._deliver(alerts, decoded.dead_letters)
        self.snapshot.positions.update(batch.end)
        self._undurable = self._undurable or bool(batch.values or batch.end)
        self._count(batch, decoded, events, matched, alerts)

    def _health(self, batch: Batch, events: Sequence[AuditEvent]) -> list[Match]:
        if self.health is None or not events:
            return []
        arrival = Arrival(batch.positions[0].stream, batch.behind, batch.present)
        return self.health.look(self.snapshot.health, arrival, events)

    def _advance(self, now: datetime) -> list[Alert]:
        metrics.EVENT_TIME.set(now.timestamp())
        self.exceptions.review(now)
        self.engine.advance(now)
        scores = self.behaviour.advance(now) if self.behaviour else []
        return self.folder.add((), self._weights()) + self.folder.advance(now) + self._alerts(scores)

    def _weights(self) -> list[Weight]:
        return self.behaviour.weights() if self.behaviour else []

    def _alerts(self, scores: list[Score]) -> list[Alert]:
        unexcepted = self.exceptions.unexcepted_scores(scores)
        return [from_score(score, self.folder.cluster, self.folder.clock) for score in unexcepted]

    def finish(self) -> None:
        """Complete every open alert: there is no more input."""
        scores = self.behaviour.finish() if self.behaviour else []
        alerts = self.folder.add((), self._weights()) + self.folder.finish() + self._alerts(scores)
        self._deliver(alerts, [])
        self.summary.add_alerts(alerts)

    def stop(self) -> None:
        """End after the batch in hand; if a sink cannot take its alerts, without them. Safe in a signal handler."""
        self._stopping = True
        self.source.stop()

    def _refresh(self) -> None:
        """Bring the counts of open alerts up to date where they are stored."""
        if self.refresh_seconds < inf:
            alerts = self.folder.refresh()
            self._deliver(alerts, [])
            self._undurable = self._undurable or bool(alerts)
            self._refreshed = monotonic()

    def checkpoint(self) -> None:
        """Make what was decided durable, then let the source move on: so a crash repeats, but never skips.

        Between a batch's evaluation and its delivery there is nothing new to commit: the state is already ahead of the
        positions then, and must not be saved.
        """
        if self._deciding or not self._undurable:
            return
        start = monotonic()
        self.save(self.snapshot)
        self.source.commit(self.snapshot.positions)
        self._undurable = False
        self._checkpointed = monotonic()
        self._checkpoint_cost_seconds = self._checkpointed - start

    def _deliver(self, alerts: Sequence[Alert], letters: Sequence[DeadLetter]) -> None:
        """Write until it is done, holding the source for as long as a sink cannot take it."""
        waited_seconds = 0.0
        while True:
            try:
                if alerts:
                    letters = [*letters, *self._write(alerts)]
                    alerts = []
                if letters:
                    self.dead_letters.write(letters)
            except SinkUnavailable as error:
                if self._stopping or waited_seconds >= self.patience_seconds:
                    raise
                log.warning("sink unavailable, holding", sink=error.sink, reason=str(error))
                self.source.hold(error.retry_after_seconds)
                metrics.HELD_SECONDS.inc(error.retry_after_seconds)
                waited_seconds += error.retry_after_seconds
            else:
                return

    def _write(self, alerts: Sequence[Alert]) -> list[DeadLetter]:
        try:
            self.sink.write(alerts)
        except SinkRejected as error:
            documents = {alert.id: alert.document for alert in alerts}
            return [
                DeadLetter(
                    None, "rejected_alert", f"{error.sink}: {id_}: {reason}", documents[id_].model_dump_json().encode()
                )
                for id_, reason in error.rejected
            ]
        return []

    def _count(
        self, batch: Batch, decoded: Decoded, events: Sequence[AuditEvent], matches: int, alerts: Sequence[Alert]
    ) -> None:
        metrics.RECORDS.inc(len(batch.values))
        metrics.EVENTS.inc(len(decoded.events))
        metrics.MATCHES.inc(matches)
        metrics.LATE_MATCHES.inc(self.folder.late - self.summary.late)
        self.summary.late = self.folder.late
        metrics.OPEN_ALERTS.set(len(self.folder.state.open))
        for letter in decoded.dead_letters:
            metrics.DEAD_LETTERS.labels(letter.reason).inc()
        for alert in alerts:
            metrics.ALERTS.labels("complete" if alert.complete else "open").inc()
        self.summary.add_batch(len(batch.values), len(decoded.events), decoded.empty, events)
        self.summary.add_dead_letters(decoded.dead_letters)
        self.summary.silenced = self.exceptions.hits
        self.summary.add_alerts(alerts)
