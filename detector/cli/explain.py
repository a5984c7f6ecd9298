"""`detector explain`: why this alert, or why an event did or did not match."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli.options import Common
from detector.errors import RuleError, UsageError

if TYPE_CHECKING:
    from detector.activity import Activity
    from detector.sigma.load import CompiledRule

_STDIN = "-"
_MISSES_SHOWN = 5


def explain(
    alert_id: Annotated[
        str | None,
        typer.Argument(metavar="ALERT_ID|-", help="Id of an alert of --alerts, or - for an event on stdin."),
    ] = None,
    *,
    alerts: Annotated[Path | None, typer.Option(metavar="FILE", help="NDJSON of alerts, as replay wrote it.")] = None,
    event: Annotated[Path | None, typer.Option(metavar="FILE", help="One audit event, instead of stdin.")] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="RULE", help="Id, title or file of the rule to judge the event by.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(metavar="DIR", help="Rule file or folder; the bundled rules if left out.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="A proxy whose X-Forwarded-For is believed; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    common: Common,
) -> None:
    """Tell why an alert was raised, or why an event did or did not match.

    Example: detector explain - --rule pod_privileged < event.json
    """
    from detector.cli.wire import load_rules
    from detector.config import load

    settings = load(common.config)
    if alert_id not in (None, _STDIN):
        if alerts is None or event is not None or rule is not None:
            raise UsageError("an alert's id needs --alerts FILE; --event and --rule are for an event")
        _explain_alert(alerts, str(alert_id), _loadable(rules, settings), as_json=as_json)
        return
    if event is None and alert_id is None:
        raise UsageError("give the id of an alert with --alerts FILE, or - or --event FILE for an event")
    if alerts is not None:
        raise UsageError("--alerts needs the id of an alert")
    activity = _read_event(event, [*settings.trusted_proxies], trusted_proxy or [])
    loaded = load_rules(rules, settings)
    told = _of_rule(loaded, rule, activity) if rule is not None else _of_rules(loaded, activity)
    _write(told, as_json=as_json)


def _loadable(rules: str | None, settings: Any) -> "list[CompiledRule]":
    """The rules, or none where they cannot be loaded: the alert tells enough by itself."""
    from detector.cli.wire import load_rules

    try:
        return load_rules(rules, settings)
    except RuleError as error:
        typer.echo(f"the rules cannot be loaded, so theirs is left out: {error.problems[0]}", err=True)
        return []


def _explain_alert(path: Path, id_: str, rules: "list[CompiledRule]", *, as_json: bool) -> None:
    from detector.cli.alert_text import alert_lines, find_alert, for_terminal
    from detector.sigma.card import card

    alert = find_alert(path, id_)
    rule = next((rule for rule in rules if rule.metadata.id == alert["rule"]["id"]), None)
    if as_json:
        typer.echo(json.dumps({"alert": alert, "rule": card(rule) if rule else None}, indent=2))
    else:
        typer.echo(for_terminal(alert_lines(alert, rule)))


def _read_event(path: Path | None, networks: list[Any], trusted_proxy: list[str]) -> "Activity":
    """The one audit event of a file or of stdin, in any envelope."""
    from detector.activity import activities
    from detector.address import Locator
    from detector.cli.replay import network_of
    from detector.formats import Format
    from detector.record import Position

    name = str(path) if path else "stdin"
    try:
        content = path.read_bytes() if path else sys.stdin.buffer.read()
    except OSError as error:
        raise UsageError(f"--event {path} cannot be read: {error.strerror}") from error
    decoded = Format("auto").decode([content.strip()], [Position(name, 0)])
    if decoded.dead_letters:
        letter = decoded.dead_letters[0]
        raise UsageError(f"{name} holds no audit event: {letter.reason} {letter.detail}; give one as JSON")
    if len(decoded.events) != 1:
        raise UsageError(f"{name} holds {len(decoded.events)} audit events; give one")
    locator = Locator([*networks, *map(network_of, trusted_proxy)])
    return activities(decoded.events, locator.locate)[0]


def _of_rule(rules: "list[CompiledRule]", name: str, activity: "Activity") -> dict[str, Any]:
    from detector.sigma.explain import as_lines, decisive, explain
    from detector.sigma.find import find
    from detector.sigma.recall import recall

    found = find(rules, name)
    if len(found) > 1:
        raise UsageError(f"{name} holds {len(found)} rules; name one by its id")
    step = explain(found[0], activity)
    deciding = list(decisive(step))
    asked = recall(found[0])
    return {
        "rule": found[0].metadata.name,
        "id": found[0].metadata.id,
        "verdict": _VERDICTS[step.verdict],
        "remembers": asked,
        "because": [part.as_json() for part in deciding],
        "tree": step.as_json(),
        "text": [
            f"{found[0].metadata.name}: {_VERDICTS[step.verdict]}",
            *([f"that is said of this request alone; an alert wants {asked}"] if asked else []),
            "because:",
            *(line for part in deciding for line in as_lines(part, 1)),
            "the whole condition (+ true, - false, ? undecided):",
            *as_lines(step, 1),
        ],
    }


_VERDICTS = {True: "matches", False: "does not match", None: "would match or not: the body that decides is missing"}


def _of_rules(rules: "list[CompiledRule]", activity: "Activity") -> dict[str, Any]:
    from detector.sigma.explain import as_lines, decisive, explain, nearest_misses
    from detector.sigma.recall import recall

    fitting = [rule for rule in rules if rule.node.evaluate(activity) is not False]
    matched = [rule for rule in fitting if not rule.remembers]
    part_of = [rule for rule in fitting if rule.remembers]
    missed = nearest_misses(rules, activity, _MISSES_SHOWN)
    lines = [f"{len(matched)} of {len(rules)} rules match:"]
    lines += [f"  {rule.metadata.level.value:<13} {rule.metadata.name}" for rule in matched]
    lines += [f"{len(part_of)} that remember look at it; their alerts depend on what came before:"] if part_of else []
    for rule in part_of:
        lines += [f"  {rule.metadata.level.value:<13} {rule.metadata.name}", f"    wants {recall(rule)}"]
    lines += ["nearest misses, and what is against them:"] if missed else []
    misses = []
    for rule, far in missed:
        against = list(decisive(explain(rule, activity)))
        misses.append({"rule": rule.metadata.name, "id": rule.metadata.id, "tests": far})
        lines.append(f"  {rule.metadata.name}")
        lines += [line for part in against for line in as_lines(part, 2)]
    return {
        "matches": [{"rule": rule.metadata.name, "id": rule.metadata.id} for rule in matched],
        "part_of": [
            {"rule": rule.metadata.name, "id": rule.metadata.id, "remembers": recall(rule)} for rule in part_of
        ],
        "nearest_misses": misses,
        "text": lines,
    }


def _write(told: dict[str, Any], *, as_json: bool) -> None:
    from detector.cli.alert_text import for_terminal

    lines = told.pop("text")
    typer.echo(json.dumps(told, indent=2) if as_json else for_terminal(iter(lines)))
