"""The command line: wires parts together, decides nothing. stdout carries data, stderr carries talk."""

import sys

import typer

from detector.cli import backtest, config, demo, doctor, es, exception, explain, identity, model, replay, rules, run
from detector.cli.options import command
from detector.errors import DetectorError

app = typer.Typer(
    name="detector",
    help="Runtime anomaly detector for Kubernetes API-server audit logs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command(app, "run")(run.run)
command(app, "replay")(replay.replay)
command(app, "demo")(demo.demo)
command(app, "explain")(explain.explain)
command(app, "doctor")(doctor.doctor)
command(rules.app, "backtest")(backtest.backtest)
command(rules.app, "tune")(backtest.tune)
app.add_typer(rules.app, name="rules")
app.add_typer(model.app, name="model")
app.add_typer(identity.app, name="identity")
app.add_typer(exception.app, name="exception")
app.add_typer(es.app, name="es")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line; an error that a person can act on is one line on stderr and an exit code."""
    try:
        app()
    except DetectorError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)  # noqa: T201 the last word of a command
        sys.exit(error.exit_code)
