"""`detector doctor`: what is wrong, in a line each, and what to do."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from detector.cli.options import Common
from detector.errors import DetectorError

if TYPE_CHECKING:
    from detector.config import Settings
    from detector.exceptions import Exceptions


def doctor(
    *,
    common: Common,
) -> None:
    """Check the settings, the rules and the services; exits with 1 if anything is wrong.

    Example: detector doctor --config detector.toml
    """
    from detector.config import load

    settings = load(common.config)
    checks: list[tuple[bool, str]] = [(True, f"settings: {common.config or 'defaults and environment'} can be used")]
    for name, examine in (("rules", _rules), ("source", _source), ("sink", _sink), ("state", _state)):
        try:
            checks += [(ok, f"{name}: {line}") for ok, line in examine(settings)]
        except DetectorError as error:
            checks += [(False, f"{name}: {line}") for line in str(error).splitlines()]
    print_checks(checks)


def print_checks(checks: Iterable[tuple[bool, str]]) -> None:
    """Write a line for each check; exits with 1 if one failed."""
    failed = False
    for ok, line in checks:
        typer.echo(f"{'ok  ' if ok else 'FAIL'}  {line}")
        failed = failed or not ok
    if failed:
        raise typer.Exit(1)


def _rules(settings: "Settings") -> list[tuple[bool, str]]:
    from detector.cli.wire import load_exceptions, load_rules
    from detector.sigma.cases import run_cases

    rules = load_rules(None, settings)
    failures = run_cases(rules)
    if failures:
        return [(False, str(failure)) for failure in failures]
    exceptions = load_exceptions(None, settings, rules)
    return [
        (True, f"{len(rules)} rules loaded, all their cases hold"),
        (True, f"{len(exceptions.entries)} exceptions loaded"),
        *_expiring(exceptions),
    ]


def _expiring(exceptions: "Exceptions") -> Iterator[tuple[bool, str]]:
    """The exceptions that today are over, or soon will be."""
    from detector.exceptions.entry import State

    for entry in exceptions.entries:
        match entry.state(datetime.now(UTC).date()):
            case State.EXPIRED:
                yield (False, f"exception {entry.id} ended on {entry.expires}; ask {entry.owner}, or remove it")
            case State.SOON:
                yield (True, f"exception {entry.id} ends on {entry.expires}; ask {entry.owner}")
            case State.ACTIVE:
                pass


def _source(settings: "Settings") -> list[tuple[bool, str]]:
    from detector.sources import kafka, tail

    match settings.source:
        case None:
            return [(False, "not set; `run` needs one: see `detector config init`")]
        case kafka.Config() as config:
            return [(True, line) for line in kafka.check(config)]
        case tail.Config(path=path):
            exists = path.is_file()
            return [(exists, f"{path} {'is there' if exists else 'is no file; check source.path'}")]


def _sink(settings: "Settings") -> list[tuple[bool, str]]:
    from detector.sinks import elasticsearch, ndjson
    from detector.sinks.elasticsearch_setup import check

    match settings.sink:
        case None:
            return [(False, "not set; `run` needs one: see `detector config init`")]
        case elasticsearch.Config() as config:
            return [(item.ok, item.line) for item in check(config)]
        case ndjson.Config(path=path):
            return [(True, f"alerts go to {path}")]


def _state(settings: "Settings") -> list[tuple[bool, str]]:
    from detector.state import StateFile

    state = StateFile(settings.state.directory)
    try:
        snapshot = state.load()
    finally:
        state.close()
    streams = len(snapshot.positions)
    return [(True, f"{settings.state.directory}: {streams} streams, {len(snapshot.folder.open)} open alerts")]
