"""`detector run`: the service."""

import signal
from math import inf

import structlog

from detector.cli.options import Common

log = structlog.get_logger(__name__)

_REFRESH_SECONDS = 30.0


def run(
    *,
    common: Common,
) -> None:
    """Consume audit events and write alerts until SIGTERM.

    Example: detector run --config detector.toml
    """
    from detector.address import Locator
    from detector.cli.wire import load_rules, open_sink, open_source, stop_on_signals
    from detector.config import load
    from detector.fold import Folder
    from detector.formats import Format
    from detector.normalise import normalise
    from detector.pipeline import Pipeline
    from detector.sigma.engine import Engine
    from detector.sinks.dead_letter import DeadLetterFile
    from detector.state import StateFile

    settings = load(common.config)
    engine = Engine(load_rules(None, settings))
    form = Format(settings.format)
    state = StateFile(settings.state.directory)
    snapshot = state.load()
    source = open_source(settings, snapshot.positions)
    sink = open_sink(settings.sink)
    if settings.metrics.port is not None:
        _serve_metrics(settings.metrics.address, settings.metrics.port)
    pipeline = Pipeline(
        source=source,
        format=form,
        normalise=normalise,
        locator=Locator(settings.trusted_proxies),
        engine=engine,
        folder=Folder(settings.cluster, state=snapshot.folder),
        sink=sink,
        dead_letters=DeadLetterFile(settings.dead_letters.path),
        patience_seconds=inf,
        refresh_seconds=_REFRESH_SECONDS,
        snapshot=snapshot,
        save=state.save,
    )
    try:
        with stop_on_signals(pipeline, signal.SIGINT, signal.SIGTERM) as received:
            pipeline.run()
    finally:
        source.close()
        sink.close()
        state.close()
    summary = pipeline.summary
    log.info("stopped", events=summary.events, alerts=summary.alerts_opened, refused=summary.refused.total())
    if signal.SIGINT in received:
        raise SystemExit(130)


def _serve_metrics(address: str, port: int) -> None:
    from prometheus_client import start_http_server

    from detector.errors import ConfigError

    try:
        start_http_server(port, address)
    except OSError as error:
        raise ConfigError(f"metrics: {address}:{port} cannot be listened on: {error.strerror}") from error
