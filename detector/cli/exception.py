"""`detector exception`: add, list and check what is fine and gives no alert."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from detector.cli.archive import FormatName, TrustedProxies
from detector.cli.options import Common, OutputFormatOption, command
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.config import Settings
    from detector.exception_check import Effect
    from detector.exceptions import Exceptions
    from detector.exceptions.entry import Entry
    from detector.exceptions.load import KnownRule
    from detector.model.live import Behaviour
    from detector.sigma.load import CompiledRule

app = typer.Typer(help="Add, list and check exceptions: what is fine and gives no alert.", no_args_is_help=True)

RulesOption: TypeAlias = Annotated[
    str | None, typer.Option("--rules", metavar="DIR", help="Rule file or folder; those of the settings if left out.")
]
File: TypeAlias = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="File of exceptions; that of the settings if left out.")
]
_RULE_FILE_PREFIX = "kubernetes_audit_"
_BEHAVIOUR_NAME = "behaviour"
_LIST_COLUMNS = ("id", "rule", "identity", "owner", "expires", "state", "hits")
_CHECK_COLUMNS = ("id", "rule", "matches", "alerts", "severe_alerts", "true_positives")


@command(app, "add")
def add(
    *,
    rule: Annotated[
        list[str],
        typer.Option(metavar="RULE", help="Id of a rule, its file's name, or behaviour; repeatable."),
    ],
    identity: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="User name as it stands in alerts; repeatable."),
    ],
    owner: Annotated[str, typer.Option(metavar="WHO", help="Who answers for it.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it is fine.")],
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day on which it holds, like 2026-12-31.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Field of the request and its value; a field may come several times."),
    ] = None,
    entry_id: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Its name; made up if left out.")] = None,
    file: File = None,
    rules: RulesOption = None,
    common: Common,
) -> None:
    """Add an exception to a file, after a check of it and of all that stands there.

    Example: detector exception add --rule exec_pod --identity ci:deployer --scope objectRef.namespace=shop
    --owner team-shop@example.com --reason "smoke tests" --until 2026-12-31 --file exceptions.yml
    """
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.exceptions.edit import append, as_yaml, new_id
    from detector.exceptions.load import known_rules
    from detector.exceptions.load import load as load_entries

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    path = _file(file, settings)
    known = known_rules(loaded)
    entries = load_entries(path if path.exists() else None, known)
    rule_ids = [_rule_id(name, loaded) for name in rule]
    taken = [each.id for each in entries]
    if entry_id in taken:
        raise UsageError(f"--id {entry_id}: there is one of that name already; choose another")
    entry = _entry(
        {
            "id": entry_id or new_id(known[rule_ids[0]].name if rule_ids[0] in known else "", identity[0], taken),
            "rule": rule_ids,
            "identity": identity,
            "scope": _scope(scope or []),
            "owner": owner,
            "reason": reason,
            "expires": until,
        },
        known,
    )
    append(path, entry)
    sys.stdout.write(as_yaml(entry))
    if not common.quiet:
        typer.echo(f"added to {path}; `detector exception check` shows what it silences", err=True)


@command(app, "list")
def list_exceptions(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Archived logs to count hits in; those that `run` counted if left out."),
    ] = None,
    *,
    file: File = None,
    rules: RulesOption = None,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """List the exceptions, shipped ones too, with whether they hold and what they silenced.

    Example: detector exception list --file exceptions.yml --output-format csv
    """
    from detector.cli.output import print_rows
    from detector.cli.wire import load_exceptions, load_rules
    from detector.config import load
    from detector.exceptions.load import known_rules

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    exceptions = load_exceptions(str(file) if file else None, settings, loaded)
    if paths:
        today, hits = _hits_in(paths, exceptions, loaded, settings, (format_name, trusted_proxy))
    else:
        today, hits = datetime.now(UTC).date(), _hits_of_run(settings)
    known = known_rules(loaded)
    rows = [
        {
            "id": entry.id,
            "rule": [known[rule_id].name if rule_id in known else rule_id for rule_id in entry.rule],
            "identity": list(entry.identity),
            "owner": entry.owner,
            "expires": entry.expires.isoformat() if entry.expires else None,
            "state": entry.state(today).value,
            "hits": hits.get(entry.id, 0),
        }
        for entry in exceptions.entries
    ]
    print_rows(rows, _LIST_COLUMNS, output_format)


@command(app, "check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of exceptions.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, globs, or - for stdin; plain, .gz or .zst.")
    ],
    *,
    labels: Annotated[
        Path, typer.Option(metavar="FILE", help="NDJSON of {auditID, campaign, technique}: known attacks in the logs.")
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model, for exceptions from behaviour; that of the settings.")
    ] = None,
    rules: RulesOption = None,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """Prove on labelled logs that no exception silences a known attack; exits with 1 if one does.

    Example: detector exception check exceptions.yml sample_logs/test.jsonl.zst --labels sample_logs/labels.jsonl
    """
    from detector.cli.archive import Archive
    from detector.cli.output import print_rows
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.evaluate import read_labels
    from detector.exception_check import Check
    from detector.exceptions import Exceptions
    from detector.exceptions.load import known_rules
    from detector.exceptions.load import load as load_entries

    settings = load(common.config)
    loaded = load_rules(rules, settings)
    known = known_rules(loaded)
    entries = load_entries(file, known, shipped=False)
    known_attacks = read_labels(labels)
    checking = Check(loaded, Exceptions(entries), known_attacks, _behaviour(entries, model, settings))
    for activities, now in Archive(paths, format_name, trusted_proxy, None, None).read(settings):
        checking.add(activities, now)
    effects = checking.finish()
    if not checking.labels_seen:
        raise UsageError(f"--labels {labels}: none of its {len(known_attacks)} requests is in the logs: nothing proven")
    print_rows([_effect_row(entry, effects[entry.id], known) for entry in entries], _CHECK_COLUMNS, output_format)
    _tell(effects, len(checking.labels_seen), quiet=common.quiet)


def _tell(effects: "Mapping[str, Effect]", labelled: int, *, quiet: bool) -> None:
    """Say what was lost, and what is of no use; exits with 1 if an attack is silenced."""
    lost = [f"{entry_id}: {line}" for entry_id, effect in effects.items() for line in _lost(effect)]
    for line in lost:
        typer.echo(f"silences a known attack: {line}", err=True)
    if not quiet:
        for entry_id in (entry_id for entry_id, effect in effects.items() if not effect.matches):
            typer.echo(f"{entry_id} silences nothing here, or only what an entry before it does", err=True)
        verdict = "silenced in part" if lost else "none silenced"
        typer.echo(f"{len(effects)} exceptions, {labelled} requests of known attacks: {verdict}", err=True)
    if lost:
        raise typer.Exit(1)


def _effect_row(entry: "Entry", effect: "Effect", known: "Mapping[str, KnownRule]") -> dict[str, Any]:
    return {
        "id": entry.id,
        "rule": [known[rule_id].name for rule_id in entry.rule],
        "matches": effect.matches,
        "alerts": effect.alerts,
        "severe_alerts": effect.severe_alerts,
        "true_positives": _lost(effect),
    }


def _lost(effect: "Effect") -> list[str]:
    return [f"{lost}, {len(requests)} requests" for lost, requests in sorted(effect.lost.items())]


def _file(given: Path | None, settings: "Settings") -> Path:
    path = given or settings.exceptions.path
    if path is None:
        raise UsageError("no file: give --file FILE or set exceptions.path")
    return path


def _rule_id(name: str, rules: "Sequence[CompiledRule]") -> str:
    """The id of a rule that is named by its id, by its file, or as `behaviour`."""
    from detector.score_alert import RULE_ID

    if name == _BEHAVIOUR_NAME:
        return RULE_ID
    by_file = {rule.path.stem.removeprefix(_RULE_FILE_PREFIX): rule.metadata.id for rule in rules}
    return by_file.get(name.removeprefix(_RULE_FILE_PREFIX), name)


def _scope(given: list[str]) -> dict[str, list[str]]:
    scope: dict[str, list[str]] = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--scope {text}: write it like objectRef.namespace=shop")
        scope.setdefault(field, []).append(value)
    return scope


def _entry(document: dict[str, Any], known: "Mapping[str, KnownRule]") -> "Entry":
    """Make the entry of what was given; raises UsageError with all that is wrong with it."""
    from pydantic import ValidationError

    from detector.exceptions.entry import Entry
    from detector.exceptions.load import explain, misfits

    try:
        entry = Entry.model_validate(document)
    except ValidationError as error:
        raise UsageError("\n".join(text for _, text in explain(error))) from error
    if problems := [text for _, text in misfits(entry, known)]:
        raise UsageError("\n".join(problems))
    return entry


def _behaviour(entries: "Sequence[Entry]", model: Path | None, settings: "Settings") -> "Behaviour | None":
    from detector.cli.wire import open_behaviour
    from detector.exception_check import on_behaviour

    directory = model or settings.model.path
    unchecked = on_behaviour(entries)
    if directory is None and unchecked:
        raise UsageError(f"{', '.join(unchecked)}: on behaviour; give --model DIR to check it")
    if directory is None or not unchecked:
        return None
    return open_behaviour(directory, None, alerts_a_day=settings.model.alerts_a_day, live=False)


def _hits_in(
    paths: list[str],
    exceptions: "Exceptions",
    rules: "Sequence[CompiledRule]",
    settings: "Settings",
    how: tuple[str | None, list[str] | None],
) -> tuple[date, Mapping[str, int]]:
    """The last day of archived logs, and the matches of rules that each exception silences there."""
    from detector.cli.archive import Archive
    from detector.sigma.engine import Engine

    engine = Engine(rules)
    day = None
    for activities, now in Archive(paths, *how, None, None).read(settings):
        exceptions.unexcepted(engine.match(activities))
        day = now.date() if now else day
    return day or datetime.now(UTC).date(), exceptions.hits


def _hits_of_run(settings: "Settings") -> Mapping[str, int]:
    from detector.state import read

    return read(settings.state.directory).exception_hits
