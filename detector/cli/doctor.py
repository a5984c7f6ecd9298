"""`detector doctor`: what is wrong, in a line each, and what to do."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from detector.cli.options import Common
from detector.errors import DetectorError
from detector.printable import printable

if TYPE_CHECKING:
    from detector.config import Settings
    from detector.exceptions import Exceptions


def doctor(
    *,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Log files or folders: tell which rules they can support, no services asked; repeatable.",
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Audit policy: tell which rules it leaves blind.")
    ] = None,
    common: Common,
) -> None:
    """Check the settings, the rules and the services; exits with 1 if anything is wrong.

    Example: detector doctor --config detector.toml
    """
    from detector.config import load

    settings = load(common.config)
    if sample or policy:
        lines = [*_policy(settings, policy), *_sample(settings, sample or [])]
        print_checks((ok, printable(line)) for ok, line in lines)
        return
    checks: list[tuple[bool, str]] = [(True, f"settings: {common.config or 'defaults and environment'} can be used")]
    for name, examine in _CHECKS.items():
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


def _sample(settings: "Settings", paths: list[str]) -> Iterator[tuple[bool, str]]:
    """What given logs can support."""
    from detector.cli.wire import load_rules
    from detector.formats import Format
    from detector.sources.file import FileSource, find_files
    from detector.survey import Survey

    if not paths:
        return
    survey = Survey()
    refused = 0
    decode = Format(settings.format).decode
    for batch in FileSource(find_files(paths)):
        decoded = decode(batch.values, batch.positions)
        survey.add(decoded.events)
        refused += len(decoded.dead_letters) + len(batch.refused)
    if refused:
        yield False, f"sample: {refused:,} records cannot be used; `detector replay` writes them to its dead letters"
    for ok, line in survey.lines(load_rules(None, settings)):
        yield ok, f"sample: {line}"


def _policy(settings: "Settings", path: Path | None) -> Iterator[tuple[bool, str]]:
    """What an audit policy grants to the rules."""
    from detector.audit_policy import load_policy
    from detector.cli.wire import load_rules
    from detector.sigma.levels import lacking

    if path is None:
        return
    found = load_policy(path)
    rules = load_rules(None, settings)
    blind = {rule.metadata.name: needs for rule in rules if (needs := lacking(rule, found))}
    for name, needs in blind.items():
        whole = dict.fromkeys(f"{need.verb} of {need.target}" for need in needs)
        yield False, f"policy: {name} is blind on {', '.join(whole)}"
    yield True, f"policy: {len(rules) - len(blind)} of {len(rules)} rules get what they need"


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


def _model(settings: "Settings") -> list[tuple[bool, str]]:
    from detector.model.store import load

    if settings.model.path is None:
        return [(True, "none; rules work alone")]
    model = load(settings.model.path)
    return [(True, f"{model.label} can be used, it knows {model.manifest.identities:,} identities")]


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


_CHECKS: Final = {"rules": _rules, "model": _model, "source": _source, "sink": _sink, "state": _state}
