"""`detector es`: what Elasticsearch needs before alerts can be stored."""

from typing import TYPE_CHECKING

import typer

from detector.cli.options import Common, command
from detector.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from detector.sinks.elasticsearch import Config

app = typer.Typer(help="Set up and check Elasticsearch.", no_args_is_help=True)


@command(app, "setup")
def setup(
    *,
    common: Common,
) -> None:
    """Install the index template; safe to repeat.

    Example: detector es setup --config detector.toml
    """
    from detector.sinks.elasticsearch_setup import setup as install

    for line in install(_config(common.config)):
        typer.echo(line)


@command(app, "check")
def check(
    *,
    common: Common,
) -> None:
    """Say whether alerts can be stored; exits with 1 if not.

    Example: detector es check --config detector.toml
    """
    from detector.cli.doctor import print_checks
    from detector.sinks.elasticsearch_setup import check as inspect

    print_checks([(item.ok, item.line) for item in inspect(_config(common.config))])


def _config(path: "Path | None") -> "Config":
    from detector.config import load
    from detector.sinks.elasticsearch import Config

    sink = load(path).sink
    if not isinstance(sink, Config):
        raise ConfigError("sink: must have type = elasticsearch and a url; give --config FILE or DETECTOR_SINK__URL")
    return sink
