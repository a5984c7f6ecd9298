"""`detector replay`: archived logs through the whole path."""

import gc
import signal
from datetime import datetime
from enum import StrEnum
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.address import Locator, Network
from detector.cli.options import Common
from detector.errors import ConfigError, UsageError
from detector.event import parse_time

if TYPE_CHECKING:
    from detector.config import Settings
    from detector.sinks import Sink

_PATIENCE_SECONDS = 60.0  # a person waits in front of a replay


class FailLevel(StrEnum):
    """Levels that `--fail-on-alert` takes."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


def replay(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, globs, or - for stdin; plain, .gz or .zst."),
    ],
    *,
    log_format_name: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="auto, or the name of a format.")
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Rule file or folder, or none; the bundled rules if left out."),
    ] = None,
    exceptions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Exceptions beside the shipped ones, or none; those of the settings if left out."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="DIR", help="Behaviour model, as `model train` wrote it, or none.")
    ] = "none",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="A proxy whose X-Forwarded-For is believed; repeatable."),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only events from this time on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only events before this time, RFC 3339.")] = None,
    output: Annotated[str | None, typer.Option(metavar="FILE", help="NDJSON file of alerts, or - for stdout.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML report of the alerts, one file.")] = None,
    to_elasticsearch: Annotated[
        str | None,
        typer.Option(metavar="INDEX", help="Index to store the alerts in; the server is that of the settings' sink."),
    ] = None,
    dead_letters: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File for records that could not be used; made only if there are any."),
    ] = Path("detector-dead-letters.ndjson"),
    fail_on_alert: Annotated[
        FailLevel | None,
        typer.Option(metavar="LEVEL", help="Exit with 1 if any alert is as severe: low, medium, high or critical."),
    ] = None,
    common: Common,
) -> None:
    """Replay archived audit logs and write the alerts as NDJSON.

    Example: detector replay sample_logs/test.jsonl.zst --trusted-proxy 127.0.0.1/32 --output alerts.ndjson
    """
    from detector.cli.show import print_summary, watched
    from detector.cli.wire import (
        NONE,
        load_exceptions,
        load_rules,
        open_behaviour,
        open_monitor,
        stop_on_signals,
    )
    from detector.config import load
    from detector.fold import Folder
    from detector.formats import Format, names
    from detector.match import SEVERITY, Level
    from detector.normalise import normalise, within
    from detector.pipeline import Pipeline
    from detector.sigma.engine import Engine
    from detector.sinks.dead_letter import DeadLetterFile
    from detector.sources.file import FileSource

    if log_format_name is not None and log_format_name not in names():
        raise UsageError(f"--format {log_format_name}: no such format; known are {', '.join(names())}")
    settings = load(common.config)
    source = FileSource(_input(paths, output, report, dead_letters))
    span = partial(within, since=time_of("--since", since), until=time_of("--until", until))
    locator = Locator([*settings.trusted_proxies, *(network_of(text) for text in trusted_proxy or [])])
    loaded = load_rules(rules, settings, cases=False)
    excepted = load_exceptions(exceptions, settings, loaded)
    gc.freeze()  # rules and modules stay to the end: a twentieth of the time goes into looking at them for garbage
    behaviour = None
    if model != NONE:
        behaviour = open_behaviour(Path(model), None, alerts_a_day=settings.model.alerts_a_day, live=False)
    sink = _open_sinks(settings, output, report, to_elasticsearch)  # last: it replaces what an earlier replay wrote
    pipeline = Pipeline(
        source=source,
        format=Format(log_format_name or settings.format),
        within=span,
        normalise=normalise,
        locator=locator,
        engine=Engine(loaded),
        health=open_monitor(locator, loaded),
        exceptions=excepted,
        folder=Folder(settings.cluster, live=False),
        behaviour=behaviour,
        sink=sink,
        dead_letters=DeadLetterFile(dead_letters),
        patience_seconds=_PATIENCE_SECONDS,
    )
    with stop_on_signals(pipeline, signal.SIGINT, signal.SIGTERM) as received:
        pipeline.source = watched(source, pipeline.summary, show=not (common.quiet or common.no_progress))
        pipeline.run()
        pipeline.finish()
        sink.close()
    if not common.quiet:
        print_summary(pipeline.summary, dead_letters)
    if received:
        raise typer.Exit(130)
    threshold = SEVERITY[Level(fail_on_alert)] if fail_on_alert else None
    if threshold is not None and any(severity >= threshold for severity in pipeline.summary.by_severity):
        raise typer.Exit(1)


def _input(paths: list[str], output: str | None, report: Path | None, dead_letters: Path) -> list[str]:
    """The files to read; never one that is being written, as may happen with a folder that holds an earlier result."""
    from detector.sources.file import find_files

    files = find_files(paths)
    for option, written in (("--output", output), ("--report", report)):
        if written is not None and any(_is_same(file, written) for file in files):
            raise UsageError(f"{option} {written} is one of the files to read: name another")
    return [file for file in files if not _is_same(file, dead_letters)]


def _is_same(file: str, other: str | Path) -> bool:
    try:
        return Path(file).samefile(other)
    except OSError:  # one of them is not there
        return False


def _open_sinks(settings: "Settings", output: str | None, report: Path | None, index: str | None) -> "Sink":
    """Where a replay writes: stdout unless told otherwise."""
    from detector.sinks.elasticsearch_settings import Config as ElasticsearchConfig
    from detector.sinks.fan_out import FanOut
    from detector.sinks.ndjson import NdjsonSink

    sinks: list[Sink] = []
    if index is not None:
        from detector.sinks.elasticsearch import ElasticsearchSink  # loading the client takes a quarter of a second

        server = settings.sink
        if not isinstance(server, ElasticsearchConfig):
            raise ConfigError("--to-elasticsearch needs [sink] with type = elasticsearch and its url, in --config FILE")
        sinks.append(ElasticsearchSink(server.model_copy(update={"index": index, "single_index": True})))
    if output is not None or not (sinks or report):
        sinks.append(NdjsonSink(Path(output or "-"), append=False))
    if report is not None:
        from detector.sinks.html import HtmlSink

        sinks.append(HtmlSink(report))
    return FanOut(sinks)


def time_of(option: str, text: str | None) -> datetime | None:
    """Read a time given as an option; raises UsageError if it is none."""
    if text is None:
        return None
    time = parse_time(text)
    if time is None:
        raise UsageError(f"{option} {text}: not a time; write it like 2026-11-23T09:15:00Z")
    return time


def network_of(text: str) -> Network:
    """Read a trusted proxy's network; raises UsageError if it is none."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise UsageError(f"--trusted-proxy {text}: {error}; write it like 10.0.0.0/8 or 127.0.0.1/32") from error
