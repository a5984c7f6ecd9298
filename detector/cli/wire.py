"""Wiring: settings to parts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from detector.address import Locator
    from detector.config import Settings, SinkConfig, SourceConfig
    from detector.exceptions import Exceptions
    from detector.health.monitor import Monitor
    from detector.model.live import Behaviour
    from detector.pipeline import Pipeline
    from detector.record import Positions
    from detector.reload import Detections
    from detector.score import BehaviourState
    from detector.sigma.load import CompiledRule
    from detector.sinks import Sink
    from detector.sources import Source

NONE: Final = "none"


def load_rules(given: str | None, settings: "Settings", *, cases: bool = True) -> "list[CompiledRule]":
    """The rules of `--rules`, or else of the settings, or else the bundled ones; with or without their cases."""
    from detector.sigma.load import BUNDLED, load

    if given == NONE:
        return []
    return load(Path(given) if given else settings.rules.path or BUNDLED, cases=cases)


def load_exceptions(given: str | None, settings: "Settings", rules: "Sequence[CompiledRule]") -> "Exceptions":
    """The exceptions of `--exceptions`, or else of the settings, and after them the shipped ones."""
    from detector.exceptions import Exceptions
    from detector.exceptions.load import known_rules, load

    if given == NONE:
        return Exceptions()
    path = Path(given) if given else settings.exceptions.path
    known = known_rules(rules) if rules else None  # with no rules there is nothing to hold a name against
    return Exceptions(load(path, known, shipped=settings.exceptions.shipped))


def load_detections(settings: "Settings") -> "Detections":
    """Rules and exceptions of the settings."""
    from detector.reload import Detections

    rules = load_rules(None, settings)
    return Detections(rules, load_exceptions(None, settings, rules))


def detection_paths(settings: "Settings") -> list[Path]:
    """The files and folders that `load_detections` reads."""
    from detector.exceptions.load import SHIPPED
    from detector.sigma.load import BUNDLED

    exceptions = settings.exceptions.path
    return [settings.rules.path or BUNDLED, SHIPPED, *([exceptions] if exceptions else [])]


def open_behaviour(directory: Path, state: "BehaviourState | None", *, alerts_a_day: float, live: bool) -> "Behaviour":
    """The behaviour model of a folder, going on from the state that an earlier run with the same model left.

    Raises:
        ModelError: the model cannot be used.
    """
    from detector.model.forest import threshold_for
    from detector.model.live import Behaviour
    from detector.model.store import load
    from detector.score import BehaviourState

    model = load(directory)
    if state is None or state.model != model.label:
        state = BehaviourState(model=model.label, baselines=model.baselines)
    return Behaviour(model.forest, state, threshold_for(alerts_a_day), live=live)


def open_monitor(locator: "Locator", rules: "Sequence[CompiledRule]") -> "Monitor":
    """The checks of the stream's health, which know what bodies the rules look into."""
    from detector.audit_policy import AuditLevel
    from detector.health.monitor import Monitor
    from detector.sigma.levels import needs

    blinded: dict[tuple[str, str], dict[bool, list[str]]] = {}
    for rule in rules:
        for need in needs(rule):
            if not need.subresource:
                by_body = blinded.setdefault((need.api_group, need.resource), {})
                names = by_body.setdefault(need.level is AuditLevel.REQUEST_RESPONSE, [])
                if rule.metadata.name not in names:
                    names.append(rule.metadata.name)
    return Monitor(locator.locate, blinded)


def open_source(config: "SourceConfig", resume: "Positions") -> "Source":
    """The source of `run`."""
    from detector.sources.kafka import Config as KafkaConfig
    from detector.sources.kafka import KafkaSource
    from detector.sources.tail import TailSource

    return KafkaSource(config, resume) if isinstance(config, KafkaConfig) else TailSource(config, resume)


def open_sink(config: "SinkConfig") -> "Sink":
    """The sink of `run`."""
    from detector.sinks.elasticsearch import Config as ElasticsearchConfig
    from detector.sinks.elasticsearch import ElasticsearchSink
    from detector.sinks.ndjson import NdjsonSink

    if isinstance(config, ElasticsearchConfig):
        return ElasticsearchSink(config)
    return NdjsonSink(config.path, append=True)


@contextmanager
def on_signal(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Do something short whenever a signal comes."""
    import signal

    before = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def stop_on_signals(pipeline: "Pipeline", *signals: int) -> Iterator[list[int]]:
    """Let the first signal end the pipeline after its batch, and a second one end the process at once."""
    import os
    import signal

    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        pipeline.stop()

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
