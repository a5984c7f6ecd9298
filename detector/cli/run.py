"""`detector run`: the service."""

import signal
from contextlib import ExitStack, closing
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import structlog

from detector.cli.options import Common
from detector.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from detector.config import ModelConfig
    from detector.model.live import Behaviour
    from detector.state import Snapshot

log = structlog.get_logger(__name__)

_REFRESH_SECONDS = 30.0


def run(
    *,
    common: Common,
) -> None:
    """Consume audit events and write alerts until SIGTERM.

    Rules and exceptions that change on disk are loaded anew, on SIGHUP at once; what cannot be used changes nothing.

    Example: detector run --config detector.toml
    """
    from detector.address import Locator
    from detector.cli.wire import (
        detection_paths,
        load_detections,
        on_signal,
        open_monitor,
        open_sink,
        open_source,
        stop_on_signals,
    )
    from detector.config import load
    from detector.exceptions import Exceptions
    from detector.fold import Folder
    from detector.formats import Format
    from detector.normalise import normalise
    from detector.pipeline import Pipeline
    from detector.reload import Reloader
    from detector.sigma.engine import Engine
    from detector.sinks.dead_letter import DeadLetterFile
    from detector.state import StateFile

    settings = load(common.config)
    if settings.source is None:
        raise ConfigError("source: must be set for `run`; `detector config init` shows how")
    if settings.sink is None:
        raise ConfigError("sink: must be set for `run`; `detector config init` shows how")
    reloader = Reloader(detection_paths(settings), partial(load_detections, settings))
    locator = Locator(settings.trusted_proxies)
    with ExitStack() as opened:
        state = opened.enter_context(closing(StateFile(settings.state.directory)))
        snapshot = state.load()
        detections = load_detections(settings)
        sink = opened.enter_context(closing(open_sink(settings.sink)))
        source = opened.enter_context(closing(open_source(settings.source, snapshot.positions)))
        if settings.metrics.port is not None:
            _serve_metrics(settings.metrics.address, settings.metrics.port)
        pipeline = Pipeline(
            source=source,
            format=Format(settings.format),
            normalise=normalise,
            locator=locator,
            engine=Engine(detections.rules, snapshot.memory),
            health=open_monitor(locator, detections.rules),
            folder=Folder(settings.cluster, state=snapshot.folder),
            behaviour=_open_behaviour(settings.model, snapshot),
            sink=sink,
            dead_letters=DeadLetterFile(settings.dead_letters.path),
            patience_seconds=inf,
            refresh_seconds=_REFRESH_SECONDS,
            exceptions=Exceptions(detections.exceptions.entries, snapshot.exception_hits),
            reload=reloader.poll,
            snapshot=snapshot,
            save=state.save,
        )
        with (
            on_signal(signal.SIGHUP, reloader.request),
            stop_on_signals(pipeline, signal.SIGINT, signal.SIGTERM) as received,
        ):
            pipeline.run()
    summary = pipeline.summary
    log.info("stopped", events=summary.events, alerts=summary.alerts_opened, refused=summary.refused.total())
    if signal.SIGINT in received:
        raise SystemExit(130)


def _open_behaviour(settings: "ModelConfig", snapshot: "Snapshot") -> "Behaviour | None":
    """The behaviour model; if it cannot be used, rules go on alone, and say so."""
    from detector import metrics
    from detector.cli.wire import open_behaviour

    if settings.path is None:
        return None
    try:
        behaviour = open_behaviour(settings.path, snapshot.behaviour, alerts_a_day=settings.alerts_a_day, live=True)
    except ModelError as error:
        metrics.DEGRADED.set(1)
        log.warning("behaviour model cannot be used, rules go on alone", reason=str(error))
        return None
    snapshot.behaviour = behaviour.state
    return behaviour


def _serve_metrics(address: str, port: int) -> None:
    from prometheus_client import start_http_server

    try:
        start_http_server(port, address)
    except OSError as error:
        raise ConfigError(f"metrics: {address}:{port} cannot be listened on: {error.strerror}") from error
