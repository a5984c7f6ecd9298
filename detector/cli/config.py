"""`detector config`: the settings."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import Common, command
from detector.errors import UsageError

app = typer.Typer(help="Write, check and show the settings.", no_args_is_help=True)


@command(app, "init")
def init(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write; stdout if left out. An existing one is kept.")
    ] = None,
    *,
    common: Common,  # noqa: ARG001 every command takes the same options
) -> None:
    """Write a commented settings file.

    Example: detector config init detector.toml
    """
    from detector.config_file import example

    if path is None:
        sys.stdout.write(example())
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError as error:
        raise UsageError(f"{path} is there already; choose another name or remove it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


@command(app, "schema")
def schema(
    *,
    common: Common,  # noqa: ARG001 every command takes the same options
) -> None:
    """Write the JSON Schema of the settings.

    Example: detector config schema > detector.schema.json
    """
    from detector.config import Settings

    sys.stdout.write(json.dumps(Settings.model_json_schema(), indent=2) + "\n")


@command(app, "validate")
def validate(
    *,
    common: Common,
) -> None:
    """Check the settings; everything wrong is told at once, and exits with 3.

    Example: detector config validate --config detector.toml
    """
    from detector.config import load

    load(common.config)
    if not common.quiet:
        typer.echo(f"{common.config or 'defaults and environment'}: fine", err=True)


@command(app, "show")
def show(
    *,
    common: Common,
) -> None:
    """Write the settings in force as JSON; secrets are masked.

    Example: detector config show --config detector.toml
    """
    from detector.config import load

    sys.stdout.write(load(common.config).model_dump_json(indent=2, exclude_none=True) + "\n")
