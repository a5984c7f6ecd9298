"""`detector rules backtest` and `rules tune`: rules over archived logs, and the exceptions that follow from it."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from detector.cli.archive import Archive, FormatName, Paths, Since, TrustedProxies, Until
from detector.cli.options import Common, OutputFormatOption
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.backtest import Outcome
    from detector.config import Settings
    from detector.evaluate import Label
    from detector.tune import Proposal

RulesOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="DIR", help="Rule file or folder; the bundled rules if left out.")
]
LabelsOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="NDJSON of {auditID, campaign, technique}: known attacks.")
]


class By(StrEnum):
    """What hits are counted by."""

    RULE = "rule"
    DAY = "day"
    IDENTITY = "identity"


_CHANGES: Final = ("gone", "new", "changed")


class TuneLevel(StrEnum):
    """Levels from which rules can be tuned."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


def backtest(
    paths: Paths,
    *,
    rules: RulesOption = None,
    labels: LabelsOption = None,
    by: Annotated[By, typer.Option(metavar="WHAT", help="A row per rule, day or identity.")] = By.RULE,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Two rule files or folders: alerts gone, new and changed."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="JUnit XML for CI; needs --labels.")] = None,
    false_a_day: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=0, help="Fail a rule with more false alerts a day of severity 47 or more; needs --labels."
        ),
    ] = None,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """Count what the rules would have alerted over archived logs; a failed rule or a lost campaign exits with 1.

    Example: detector rules backtest sample_logs/train.jsonl.zst --rules my-rules/ --by identity
    """
    from detector.cli.output import print_rows, write_text
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.junit import junit as as_junit

    if (junit is not None or false_a_day is not None) and (labels is None or diff is not None):
        raise UsageError("--junit and --false-a-day need --labels FILE to tell right from wrong, and no --diff")
    if diff is not None and (rules is not None or by is not By.RULE):
        raise UsageError("--diff OLD NEW names both sets of rules: leave --rules and --by out")
    settings = load(common.config)
    archive = Archive(paths, format_name, trusted_proxy, since, until)
    known = _labels(labels)
    if diff is not None:
        _diff(archive, settings, diff, known, output_format, quiet=common.quiet)
        return
    from detector.backtest import tally

    (outcome,) = _outcomes(archive, settings, [load_rules(rules, settings)], known)
    rows = tally(outcome, by)
    print_rows(rows, list(rows[0]) if rows else (), output_format)
    if not common.quiet:
        typer.echo(_summary(outcome), err=True)
    allowed = 1.0 if false_a_day is None else false_a_day
    if junit is not None:
        write_text(junit, as_junit(outcome, allowed))
    if false_a_day is not None:
        _fail_if_wrong(outcome, allowed)


def _labels(path: Path | None) -> "Mapping[str, Label]":
    from detector.evaluate import read_labels

    if path is None:
        return {}
    labels = read_labels(path)
    if not labels:
        raise UsageError(f"--labels {path} holds no label")
    return labels


def _outcomes(
    archive: Archive, settings: "Settings", sets: list[Any], labels: "Mapping[str, Label]"
) -> "Iterator[Outcome]":
    """The outcome of each set of rules, over one reading of the archive."""
    from detector.backtest import Backtest

    tests = [Backtest(rules, labels) for rules in sets]
    for activities, now in archive.read(settings):
        for test in tests:
            test.add(activities, now)
    return (test.finish() for test in tests)


def _summary(outcome: "Outcome") -> str:
    severe = sum(hit.severe for hit in outcome.hits)
    lines = [
        f"{len(outcome.rules)} rules, {len(outcome.hits):,} alerts in {outcome.days:.1f} days, "
        f"{severe:,} of severity 47 or more"
    ]
    if outcome.campaigns:
        false = sum(hit.severe and hit.verdict == "false" for hit in outcome.hits)
        missed = sorted(outcome.campaigns - outcome.found)
        lines.append(
            f"{len(outcome.found)} of {len(outcome.campaigns)} campaigns found"
            + (f", missed {', '.join(missed)}" if missed else "")
            + f"; {false / outcome.days:.2f} false alerts a day of severity 47 or more"
        )
    return "\n".join(lines)


def _fail_if_wrong(outcome: "Outcome", allowed: float) -> None:
    from detector.backtest import false_a_day

    wrong = {rule_id: rate for rule_id, rate in false_a_day(outcome).items() if rate > allowed}
    for rule in outcome.rules:
        if rule.metadata.id in wrong:
            rate = wrong[rule.metadata.id]
            typer.echo(f"{rule.metadata.name}: {rate:.2f} false alerts a day, {allowed:g} are allowed", err=True)
    if wrong:
        raise typer.Exit(1)


def _diff(
    archive: Archive,
    settings: "Settings",
    folders: tuple[str, str],
    labels: "Mapping[str, Label]",
    output_format: OutputFormatOption,
    *,
    quiet: bool,
) -> None:
    from detector.backtest import differences
    from detector.cli.output import print_rows
    from detector.sigma.load import load

    old, new = _outcomes(archive, settings, [load(Path(folder)) for folder in folders], labels)
    rows = differences(old, new)
    print_rows(rows, list(rows[0]) if rows else (), output_format)
    lost = sorted(old.found - new.found)
    if not quiet:
        counts = {change: sum(row["alerts"] for row in rows if row["change"] == change) for change in _CHANGES}
        typer.echo(", ".join(f"{count:,} {change}" for change, count in counts.items()), err=True)
    if lost:
        typer.echo(f"campaigns that {folders[0]} found and {folders[1]} misses: {', '.join(lost)}", err=True)
        raise typer.Exit(1)


def tune(
    paths: Paths,
    *,
    owner: Annotated[str, typer.Option(help="Who answers for the entries.")],
    reason: Annotated[str, typer.Option(help="Why what they silence is fine.")],
    labels: LabelsOption = None,
    rules: RulesOption = None,
    level: Annotated[
        TuneLevel, typer.Option(metavar="LEVEL", help="Rules from this level on: low, medium, high or critical.")
    ] = TuneLevel.MEDIUM,
    at_least: Annotated[
        int, typer.Option(metavar="N", min=1, help="Alerts that an entry must silence to be worth it.")
    ] = 5,
    format_name: FormatName = None,
    trusted_proxy: TrustedProxies = None,
    since: Since = None,
    until: Until = None,
    output_format: OutputFormatOption = None,
    common: Common,
) -> None:
    """Propose exceptions for what the rules raise on ordinary work, as YAML; none that loses a labelled attack.

    Example: detector rules tune sample_logs/train.jsonl.zst --owner sec@corp.example --reason "nightly job"
    """
    from detector.cli.output import print_rows
    from detector.cli.wire import load_rules
    from detector.config import load
    from detector.match import Level
    from detector.tune import Tuning, entries

    settings = load(common.config)
    tuning = Tuning(load_rules(rules, settings), _labels(labels), Level(level))
    for activities, _ in Archive(paths, format_name, trusted_proxy, since, until).read(settings):
        tuning.add(activities)
    if tuning.newest is None:
        raise UsageError("no audit event in these files; check --format, --since and --until")
    proposals = tuning.proposals(at_least)
    useful = [proposal for proposal in proposals if not proposal.loses]
    made = entries(useful, owner, reason, tuning.newest)
    if output_format is None:
        for proposal, entry in zip(useful, made, strict=True):
            typer.echo(_as_yaml(proposal, entry))
    else:
        rows = [
            {**entry, "expires": str(entry["expires"]), "alerts": proposal.alerts, "example": proposal.example}
            for proposal, entry in zip(useful, made, strict=True)
        ]
        print_rows(rows, list(rows[0]) if rows else (), output_format)
    _tell(proposals, labelled=labels is not None, quiet=common.quiet)


def _as_yaml(proposal: "Proposal", entry: dict[str, Any]) -> str:
    import yaml

    from detector.printable import printable

    told = (
        f"{proposal.rule.metadata.name}: silences {proposal.alerts:,} of the rule's {proposal.alerts_of_rule:,} alerts",
        f"{proposal.requests:,} requests from {proposal.first:%Y-%m-%d %H:%M} to {proposal.last:%Y-%m-%d %H:%M}",
        f"the first: {proposal.example}",
    )
    comments = "".join(f"# {printable(line)}\n" for line in told)
    return comments + yaml.safe_dump([entry], sort_keys=False, width=120)


def _tell(proposals: "list[Proposal]", *, labelled: bool, quiet: bool) -> None:
    for proposal in proposals:
        if proposal.loses:
            typer.echo(
                f"not proposed: {proposal.identity} from {proposal.rule.metadata.name!r} would also silence "
                f"{', '.join(proposal.loses)}",
                err=True,
            )
    if not quiet:
        count = sum(not proposal.loses for proposal in proposals)
        typer.echo(f"{count} entries proposed; read each before you use it", err=True)
        if not labelled:
            typer.echo("without --labels every alert counted as false, attacks too", err=True)
