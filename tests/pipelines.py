"""A pipeline in memory: batches as they are given, alerts kept, every part between them the real one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network

from detector.address import Locator
from detector.alert import Alert
from detector.fold import Folder
from detector.formats import Format
from detector.health.monitor import Monitor
from detector.normalise import normalise
from detector.pipeline import Pipeline
from detector.record import Batch, DeadLetter, Lines, Positions
from detector.sigma.engine import Engine
from detector.sigma.load import BUNDLED, CompiledRule, load
from detector.state import Snapshot

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STREAM = "memory"
_RULES: list[CompiledRule] = []


def bundled_rules() -> list[CompiledRule]:
    """The bundled rules, loaded once: it takes a second."""
    if not _RULES:
        _RULES.extend(load(BUNDLED))
    return _RULES


class Memory:
    """A source of batches, from a position on; keeps what was committed."""

    def __init__(self, batches: Sequence[Sequence[bytes]], start: int = 0) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self.committed: Positions = {}
        self.held: list[float] = []
        self.stopped = False
        self._batches = batches
        self._start = start

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches; positions count records."""
        offset = 0
        for values in self._batches:
            first, offset = offset, offset + len(values)
            if offset <= self._start:
                continue
            yield Batch(values, Lines(STREAM, first, len(values)), {STREAM: offset})

    def commit(self, positions: Positions) -> None:
        """Keep the positions."""
        self.committed = dict(positions)

    def hold(self, seconds: float) -> None:
        """Keep the time asked for, and do not wait."""
        self.held.append(seconds)

    def stop(self) -> None:
        """Keep that it was called."""
        self.stopped = True

    def close(self) -> None:
        """Do nothing."""


@dataclass
class Kept:
    """A sink and a dead-letter file in one: keeps all, and stores alerts as Elasticsearch does, by id and version."""

    versions: list[Alert] = field(default_factory=list)
    stored: dict[str, Alert] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    def probe(self) -> None:
        """Do nothing."""

    def write(self, items: Sequence[Alert] | Sequence[DeadLetter]) -> None:
        """Take alerts or dead letters."""
        for item in items:
            if isinstance(item, DeadLetter):
                self.letters.append(item)
                continue
            self.versions.append(item)
            known = self.stored.get(item.id)
            if known is None or item.version >= known.version:
                self.stored[item.id] = item

    def close(self) -> None:
        """Do nothing."""

    def documents(self) -> dict[str, object]:
        """The stored alerts as JSON, by id."""
        return {alert_id: alert.document.to_json() for alert_id, alert in self.stored.items()}


def pipeline(
    source: Memory, sink: Kept, snapshot: Snapshot | None = None, rules: Sequence[CompiledRule] | None = None
) -> Pipeline:
    """Wire the real parts between a source and a sink in memory; the clock stands still."""
    snapshot = snapshot or Snapshot()
    locator = Locator([ip_network("127.0.0.1/32")])
    return Pipeline(
        source=source,
        format=Format(),
        normalise=normalise,
        locator=locator,
        engine=Engine(bundled_rules() if rules is None else rules, snapshot.memory),
        health=Monitor(locator.locate),
        folder=Folder("test", clock=lambda: NOON, state=snapshot.folder),
        sink=sink,
        dead_letters=sink,
        patience_seconds=0,
        snapshot=snapshot,
    )


def replay(batches: Sequence[Sequence[bytes]], rules: Sequence[CompiledRule] | None = None) -> Kept:
    """Run batches to the end and complete every alert."""
    sink = Kept()
    line = pipeline(Memory(batches), sink, rules=rules)
    line.run()
    line.finish()
    return sink
