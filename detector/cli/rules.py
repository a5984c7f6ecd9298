"""`detector rules`: list, show, check and test the rules."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import Common, OutputFormatOption, command

if TYPE_CHECKING:
    from detector.sigma.load import CompiledRule

app = typer.Typer(help="List, show, check, test, measure and tune the rules.", no_args_is_help=True)
RulesArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Rule file or folder; those of the settings, or the bundled ones, if left out."),
]


@command(app, "list")
def list_rules(
    rules: RulesArgument = None,
    *,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """List the rules.

    Example: detector rules list --output-format csv
    """
    from detector.cli.output import print_rows

    rows = [
        {
            "level": rule.metadata.level.value,
            "name": rule.metadata.name,
            "techniques": list(rule.metadata.techniques),
            "id": rule.metadata.id,
            "file": rule.path.name,
        }
        for rule in _load(rules, common.config)
    ]
    print_rows(rows, ("level", "name", "techniques", "id", "file"), output_format)


@command(app, "lint")
def lint(
    rules: RulesArgument = None,
    *,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Audit policy of the API server: tell which rules it leaves blind."),
    ] = None,
    common: Common,
) -> None:
    """Check the rules: what cannot be loaded exits with 2, what should be better with 1.

    Example: detector rules lint my-rules/ --policy audit-policy.yaml
    """
    from detector.audit_policy import load_policy
    from detector.sigma.lint import lint as check

    loaded = _load(rules, common.config)
    problems = check(loaded, load_policy(policy) if policy else None)
    for problem in problems:
        typer.echo(str(problem))
    if not common.quiet:
        typer.echo(f"{len(loaded)} rules, {len(problems)} problems", err=True)
    if problems:
        raise typer.Exit(1)


@command(app, "test")
def run_tests(
    rules: RulesArgument = None,
    *,
    common: Common,
) -> None:
    """Run the cases that stand in the rules; any failure exits with 1.

    Example: detector rules test my-rules/exec.yml
    """
    from detector.sigma.cases import run_cases

    loaded = _load(rules, common.config)
    failures = run_cases(loaded)
    for failure in failures:
        typer.echo(str(failure))
    if not common.quiet:
        cases = Counter(case.match is not False for rule in loaded for case in rule.cases)
        typer.echo(
            f"{len(loaded)} rules, {cases[True]} cases that must match, {cases[False]} that must not; "
            f"{len(failures)} failed",
            err=True,
        )
    if failures:
        raise typer.Exit(1)


@command(app, "show")
def show(
    name: Annotated[str, typer.Argument(metavar="RULE", help="Id (its first digits will do), title, or file.")],
    *,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rule file or folder; those of the settings, or the bundled ones."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    common: Common,
) -> None:
    """Show everything of one rule: meaning, blind spots, triage, audit levels, fields and cases.

    Example: detector rules show pod_privileged
    """
    import json

    from detector.printable import printable
    from detector.sigma.card import as_text, card
    from detector.sigma.find import find

    loaded = [] if Path(name).is_file() else _load(rules, common.config)
    cards = [card(rule) for rule in find(loaded, name)]
    if as_json:
        typer.echo(json.dumps(cards[0] if len(cards) == 1 else cards, indent=2))
    else:
        typer.echo("\n\n".join("\n".join(map(printable, as_text(known).splitlines())) for known in cards))


@command(app, "coverage")
def show_coverage(
    rules: RulesArgument = None,
    *,
    navigator: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the techniques as an ATT&CK Navigator layer.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if an idea is neither covered nor declined.")
    ] = False,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """List the detection ideas of all peers, and what covers each or why it is declined.

    Example: detector rules coverage --navigator layer.json
    """
    from detector.cli.output import print_rows, write_text
    from detector.health.monitor import RULES
    from detector.sigma.coverage import Status, coverage, navigator_layer, summary

    loaded = _load(rules, common.config)
    table = coverage(loaded, {check.metadata.name: check.covers for check in RULES})
    rows = [covered.as_row() for covered in table]
    print_rows(rows, ("idea", "status", "by", "cases", "why not", "peers"), output_format)
    if not common.quiet:
        typer.echo(summary(table), err=True)
    if navigator is not None:
        every = [*(rule.metadata for rule in loaded), *(check.metadata for check in RULES)]
        write_text(navigator, navigator_layer(every))
    if strict and any(covered.status is Status.OPEN for covered in table):
        raise typer.Exit(1)


def _load(rules: Path | None, config: Path | None) -> "list[CompiledRule]":
    from detector.cli.wire import load_rules
    from detector.config import load

    return load_rules(str(rules) if rules else None, load(config))
