"""`detector model`: train, evaluate and show behaviour models."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from detector.cli.options import Common, command
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.activity import Activity
    from detector.config import Settings

app = typer.Typer(help="Train, evaluate and show behaviour models.", no_args_is_help=True)

Paths: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, folders, globs, or - for stdin; plain, .gz or .zst.")
]
FormatName: TypeAlias = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="auto, or the name of a format.")
]
TrustedProxies: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="CIDR", help="A proxy whose X-Forwarded-For is believed; repeatable.")
]
Since: TypeAlias = Annotated[str | None, typer.Option(metavar="TIME", help="Only events from this time on, RFC 3339.")]
Until: TypeAlias = Annotated[str | None, typer.Option(metavar="TIME", help="Only events before this time, RFC 3339.")]
Directory: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a model.")]


@command(app, "train")
def train(
    paths: Paths,
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, <name>/<version>.")],
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    rules: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Rules whose matches are habits too, or none; the bundled ones if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers of the forest.")] = 7,
    common: Common,
) -> None:
    """Learn baselines and a forest from archived logs without attacks in them.

    Example: detector model train sample_logs/train.jsonl.zst --trusted-proxy 127.0.0.1/32 --output models/mine/1
    """
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.model.store import save
    from detector.model.train import Training
    from detector.sigma.engine import Engine

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    engine = Engine(loaded)
    training = Training(seed, rules=[rule.metadata.name for rule in loaded])
    for activities, now in read_activities(settings, paths, format_name, trusted_proxy, (since, until)):
        training.add(activities, engine.match(activities), now)
    forest, state = training.finish()
    first, last = training.span
    about = {
        "name": output.resolve().parent.name,
        "version": output.name,
        "seed": seed,
        "first_time": first,
        "last_time": last,
        "requests": training.requests,
    }
    manifest = save(output, forest, state.baselines, about)
    if not common.quiet:
        typer.echo(
            f"{output}: {manifest.identities} identities, {manifest.requests:,} requests, "
            f"{manifest.windows:,} windows of {manifest.days:.1f} days",
            err=True,
        )


@command(app, "evaluate")
def evaluate(
    directory: Directory,
    paths: Paths,
    *,
    labels: Annotated[Path, typer.Option(metavar="FILE", help="NDJSON of {auditID, campaign, technique}.")],
    rules: Annotated[
        str | None, typer.Option(metavar="DIR", help="Rule file or folder, or none; the bundled rules if left out.")
    ] = None,
    exceptions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Exceptions beside the shipped ones, or none; those of the settings if left out."
        ),
    ] = None,
    alerts_a_day: Annotated[float, typer.Option(help="Expected false alerts a day of the model.")] = 1.0,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON document.")] = False,
    common: Common,
) -> None:
    """Measure what rules and model find of labelled attacks, and how often they are wrong.

    Example: detector model evaluate models/sample/1 sample_logs/test.jsonl.zst --labels sample_logs/labels.jsonl
    """
    from detector.cli.wire import load_exceptions, load_rules
    from detector.config import load
    from detector.evaluate import Evaluation, read_labels
    from detector.model.store import load as load_model

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    evaluation = Evaluation(
        load_model(directory),
        loaded,
        read_labels(labels),
        alerts_a_day=alerts_a_day,
        exceptions=load_exceptions(exceptions, settings, loaded),
    )
    for activities, now in read_activities(settings, paths, format_name, trusted_proxy, (since, until)):
        evaluation.add(activities, now)
    result = evaluation.finish()
    sys.stdout.write((json.dumps(result.as_json(), indent=2) if as_json else result.as_text()) + "\n")


@command(app, "show")
def show(directory: Directory, *, common: Common) -> None:
    """Write a model's card.

    Example: detector model show models/sample/1
    """
    from detector.model.store import card
    from detector.model.store import load as load_model

    del common
    sys.stdout.write(card(load_model(directory).manifest))


def read_activities(
    settings: "Settings",
    paths: list[str],
    format_name: str | None,
    trusted_proxy: list[str] | None,
    span: tuple[str | None, str | None],
) -> "Iterator[tuple[list[Activity], datetime | None]]":
    """The activities of archived logs, batch by batch, with the event time that is reached after each."""
    from detector.activity import activities
    from detector.address import Locator
    from detector.cli.replay import network_of, time_of
    from detector.formats import Format
    from detector.normalise import normalise
    from detector.sources.file import FileSource, find_files
    from detector.watermark import Watermark

    decode = Format(format_name or settings.format).decode
    keep = partial(normalise, since=time_of("--since", span[0]), until=time_of("--until", span[1]))
    locator = Locator([*settings.trusted_proxies, *(network_of(text) for text in trusted_proxy or [])])
    watermark = Watermark()
    files = find_files(paths)
    if not files:
        raise UsageError("no files to read")
    for batch in FileSource(files):
        events = keep(decode(batch.values, batch.positions).events)
        stream = batch.positions[0].stream if batch.positions else ""
        for part, now in watermark.parts(stream, events, ()):
            yield activities(part, locator.locate), now
