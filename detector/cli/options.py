"""Options that several commands share, and what they mean."""

import errno
import inspect
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import structlog
import typer

from detector.errors import SinkUnavailable


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class OutputFormat(StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


OutputFormatOption: TypeAlias = Annotated[
    OutputFormat | None,
    typer.Option(
        metavar="FORM", help="table, json, ndjson or csv; if left out, table on a terminal and ndjson in a pipe."
    ),
]


@dataclass(frozen=True, slots=True)
class Common:
    """What was given for the options that every command has."""

    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="TOML file of settings; DETECTOR_* variables go over it."),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens in detail.")] = False
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", metavar="FORM", help="Form of the log on stderr: text or json.")
    ] = LogFormat.TEXT
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Show no progress bar.")] = False


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with the common options; its function takes them together, as `common`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [item for item in inspect.signature(function, eval_str=True).parameters.values() if item.name != "common"]
        shared = [
            inspect.Parameter(part.name, inspect.Parameter.KEYWORD_ONLY, default=part.default, annotation=part.type)
            for part in fields(Common)
        ]

        @wraps(function)
        def call(**given: Any) -> None:
            common = Common(**{part.name: given.pop(part.name) for part in fields(Common)})
            _configure_logging(common)
            try:
                try:
                    function(common=common, **given)
                finally:
                    sys.stdout.flush()
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ENOSPC):
                    raise
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
                if error.errno == errno.ENOSPC:
                    raise SinkUnavailable("output", "cannot be written: the disk is full") from None
                raise typer.Exit from None  # the reader of stdout went away, as `head` does; typer would exit with 1

        keywords = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own]
        call.__signature__ = inspect.Signature([*keywords, *shared])  # type: ignore[attr-defined]  # read by typer
        call.__annotations__ = {item.name: item.annotation for item in [*keywords, *shared]}
        app.command(name)(call)
        return function

    return register


def _configure_logging(common: Common) -> None:
    """Send structured logs to stderr, at the level that was asked for."""
    level = logging.ERROR if common.quiet else logging.DEBUG if common.verbose else logging.INFO
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if common.log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if common.log_format is LogFormat.JSON else structlog.dev.set_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.DEBUG if common.verbose else logging.CRITICAL, stream=sys.stderr)
