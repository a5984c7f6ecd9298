"""Wiring: settings to parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.errors import ConfigError, DetectorError

if TYPE_CHECKING:
    from detector.config import Settings, SinkConfig
    from detector.pipeline import Pipeline
    from detector.record import Positions
    from detector.sigma.load import CompiledRule
    from detector.sinks import Sink
    from detector.sources import Source

NONE: Final = "none"


def load_rules(given: str | None, settings: "Settings") -> "list[CompiledRule]":
    """The rules of `--rules`, or else of the settings, or else the bundled ones."""
    from detector.sigma.load import BUNDLED, load

    if given == NONE:
        return []
    return load(Path(given) if given else settings.rules.path or BUNDLED)


def open_source(settings: "Settings", resume: "Positions") -> "Source":
    """The source of `run`."""
    from detector.sources.kafka import Config as KafkaConfig
    from detector.sources.kafka import KafkaSource
    from detector.sources.tail import TailSource

    config = settings.source
    if config is None:
        raise ConfigError("source: must be set for `run`; `detector config init` shows how")
    return KafkaSource(config, resume) if isinstance(config, KafkaConfig) else TailSource(config, resume)


def open_sink(config: "SinkConfig | None") -> "Sink":
    """The sink of `run`."""
    from detector.sinks.elasticsearch import Config as ElasticsearchConfig
    from detector.sinks.elasticsearch import ElasticsearchSink
    from detector.sinks.ndjson import NdjsonSink

    if config is None:
        raise ConfigError("sink: must be set for `run`; `detector config init` shows how")
    if isinstance(config, ElasticsearchConfig):
        return ElasticsearchSink(config)
    return NdjsonSink(config.path, append=True)


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


def first_line(error: DetectorError) -> str:
    """The first line of an error, for a list of checks."""
    return str(error).partition("\n")[0]
