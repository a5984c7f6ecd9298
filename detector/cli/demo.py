"""`detector demo`: the sample logs through every stage, without any service."""

from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import Common
from detector.errors import UsageError

_SAMPLE = Path("sample_logs/test.jsonl.zst")
_MODEL = Path("models/sample/1")


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the alerts and the report.")] = Path("out"),
    *,
    common: Common,
) -> None:
    """Replay the sample logs: 67,268 events of a real API server, with ten kinds of attack in them.

    Example: detector demo
    """
    from detector.cli.replay import replay

    if not _SAMPLE.exists():
        raise UsageError(f"no {_SAMPLE} here; run `detector demo` in a clone of the repository")
    output.mkdir(parents=True, exist_ok=True)
    alerts, report = output / "alerts.ndjson", output / "report.html"
    replay(
        [str(_SAMPLE)],
        model=str(_MODEL),
        trusted_proxy=["127.0.0.1/32"],
        output=str(alerts),
        report=report,
        common=common,
    )
    if not common.quiet:
        typer.echo(f"alerts: {alerts}\nreport: {report}", err=True)
