"""`detector model`: train, evaluate and show behaviour models, compare two, and watch for drift."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from detector.cli.archive import Archive, FormatName, Paths, Since, TrustedProxies, Until
from detector.cli.options import Common, command
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.model.curation import Withheld
    from detector.model.store import Manifest

app = typer.Typer(help="Train, evaluate, show and compare behaviour models.", no_args_is_help=True)

Directory: TypeAlias = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a model.")]
AlertsADay: TypeAlias = Annotated[
    float, typer.Option(min=0.01, metavar="N", help="Expected false alerts a day of the model.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="All figures as one JSON document.")]


@command(app, "train")
def train(
    paths: Paths,
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, <name>/<version>.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="NDJSON of {auditID, campaign, technique}: attacks, which do not teach."),
    ] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="NDJSON alerts of earlier runs: what they rest on teaches only if --verdicts calls it benign.",
        ),
    ] = None,
    verdicts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NDJSON of {alert_id, verdict}: benign or malicious.")
    ] = None,
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
    from detector.model.curation import Curation
    from detector.model.store import save
    from detector.model.train import Training
    from detector.sigma.engine import Engine

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    engine = Engine(loaded)
    curation = Curation(_withheld(labels, alerts, verdicts))
    training = Training(seed, curation, rules=[rule.metadata.name for rule in loaded])
    for activities, now in Archive(paths, format_name, trusted_proxy, since, until).read(settings):
        training.add(activities, engine.match(activities), now)
        if now is not None:
            engine.advance(now)
    forest, state = training.finish()
    about = {"name": output.resolve().parent.name, "version": output.name, **training.about}
    manifest = save(output, forest, state.baselines, training.histograms, about)
    if not common.quiet:
        _tell(output, manifest)


def _withheld(labels: Path | None, alerts: Path | None, verdicts: Path | None) -> "Withheld":
    """What must not teach, by attack labels and by what people said of alerts."""
    from detector.evaluate import read_labels
    from detector.model.curation import Withheld
    from detector.model.verdicts import read_verdicts, withhold

    if verdicts is not None and alerts is None:
        raise UsageError("--verdicts needs --alerts FILE: the alerts name the requests that a verdict is about")
    withheld = Withheld() if alerts is None else withhold(alerts, read_verdicts(verdicts) if verdicts else {})
    if labels is not None:
        withheld.by_audit_id.update(dict.fromkeys(read_labels(labels), "labelled as an attack"))
    return withheld


def _tell(output: Path, manifest: "Manifest") -> None:
    typer.echo(
        f"{output}: {manifest.identities} identities, {manifest.requests:,} requests, "
        f"{manifest.windows:,} windows of {manifest.days:.1f} days",
        err=True,
    )
    for reason, count in manifest.left_out.items():
        typer.echo(f"left out: {count:,} {reason}", err=True)
    for first, last in manifest.silent:
        typer.echo(f"no event from {first} to {last}: these days do not count", err=True)
    if manifest.constant:
        typer.echo(f"features that had one value only, and so tell nothing: {', '.join(manifest.constant)}", err=True)


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
    alerts_a_day: AlertsADay = 1.0,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
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
    for activities, now in Archive(paths, format_name, trusted_proxy, since, until).read(settings):
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


@command(app, "compare")
def compare(
    first: Directory,
    second: Directory,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Logs to score by both; without any, only what they were trained on."),
    ] = None,
    *,
    alerts_a_day: AlertsADay = 1.0,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
    common: Common,
) -> None:
    """Put two models side by side: training, calibration, identities, and whom either would alert on.

    Example: detector model compare models/sample/1 models/mine/1 sample_logs/test.jsonl.zst
    """
    from dataclasses import replace

    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.model.compare import agree
    from detector.model.compare import compare as put_side_by_side
    from detector.model.judge import Judge
    from detector.model.store import load as load_model
    from detector.sigma.engine import Engine

    models = load_model(first), load_model(second)
    comparison = put_side_by_side(*models)
    if paths:
        judges = Judge(models[0], alerts_a_day), Judge(models[1], alerts_a_day)
        settings = load(common.config)
        engine = Engine(load_rules(None, settings))
        for activities, now in Archive(paths, format_name, trusted_proxy, since, until).read(settings):
            matches = engine.match(activities)
            if now is not None:
                engine.advance(now)
            for judge in judges:
                judge.add(activities, matches, now)
        for judge in judges:
            judge.finish()
        comparison = replace(comparison, agreement=agree(*judges))
    sys.stdout.write((json.dumps(comparison.as_json(), indent=2) if as_json else comparison.as_text()) + "\n")


@command(app, "drift")
def drift(
    directory: Directory,
    paths: Paths,
    *,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="INDEX", help="Exit with 1 if a feature's stability index is above; try 0.25."),
    ] = None,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
    common: Common,
) -> None:
    """Measure how far later logs are from those of the training, and say what to do.

    Example: detector model drift models/sample/1 sample_logs/test.jsonl.zst --trusted-proxy 127.0.0.1/32
    """
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.model.drift import drift as measure
    from detector.model.judge import Judge
    from detector.model.store import load as load_model
    from detector.sigma.engine import Engine

    settings = load(common.config)
    judge, engine = Judge(load_model(directory)), Engine(load_rules(None, settings))
    for activities, now in Archive(paths, format_name, trusted_proxy, since, until).read(settings):
        judge.add(activities, engine.match(activities), now)
        if now is not None:
            engine.advance(now)
    judge.finish()
    result = measure(judge)
    sys.stdout.write((json.dumps(result.as_json(), indent=2) if as_json else result.as_text()) + "\n")
    if fail_above is not None and result.greatest > fail_above:
        raise typer.Exit(1)
