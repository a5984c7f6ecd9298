"""`detector rules` beyond list, lint and test: show, coverage, backtest and tune, and their exit codes."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.cli import Run, called
from tests.cli.test_commands import GOOD_RULE
from tests.events import EXEC, event

ID = "6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of six days with one exec a day by ana and one by bob, the label of bob's, and two sets of rules."""
    path = tmp_path_factory.mktemp("rules")
    events = []
    for day in range(1, 7):
        for user in ("ana", "bob") if day == 3 else ("ana",):
            time = f"2026-11-0{day}T09:00:00.000000Z"
            times = {"requestReceivedTimestamp": time, "stageTimestamp": time}
            events.append(event(**EXEC, **times, auditID=f"{user}-{day}", user={"username": user}))
    (path / "audit.log").write_text("".join(json.dumps(each) + "\n" for each in events))
    (path / "labels").write_text('{"auditID": "bob-3", "campaign": "shell", "technique": "exec"}\n')
    for name, text in (("old", GOOD_RULE), ("new", GOOD_RULE.replace("level: medium", "level: low"))):
        (path / name).mkdir()
        (path / name / "exec.yml").write_text(text)
    return path


Call = Callable[..., Run]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `detector rules` in the folder, in this process."""

    def call(*arguments: str) -> Run:
        code = called(monkeypatch, "rules", *arguments, cwd=folder)
        written = capsys.readouterr()
        return Run(code, written.out, written.err)

    return call


def rows_of(done: Run) -> list[dict[str, Any]]:
    """What came out as NDJSON."""
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_show_tells_everything_of_a_rule(run: Call) -> None:
    """For people and for programs."""
    text = run("show", "old/exec.yml").stdout
    for part in ("Exec (medium, severity 47)", ID, "means:", "triage:", "Metadata is enough", "match: an exec"):
        assert part in text
    known = json.loads(run("show", ID, "--rules", "old", "--json").stdout)
    assert (known["name"], known["fields"], known["severity"]) == ("Exec", ["objectRef.subresource"], 47)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "no-such-thing"), "error: no rule is called no-such-thing"),
        (("show", "x", "--rules", "nowhere"), "no such file or folder"),
        (("lint", "old", "--policy", "nowhere"), "error: nowhere cannot be read"),
        (("backtest", "nowhere"), "no such file, folder or match: nowhere"),
        (("backtest", "audit.log", "--since", "2030-01-01T00:00:00Z"), "error: no audit event in these files"),
        (("backtest", "audit.log", "--junit", "j.xml"), "--junit and --false-a-day need --labels"),
        (("backtest", "audit.log", "--diff", "old", "new", "--rules", "old"), "leave --rules and --by out"),
        (("backtest", "audit.log", "--diff", "old", "nowhere"), "nowhere:1: no such file or folder"),
        (("backtest", "audit.log", "--labels", "audit.log"), "audit.log:1: must be JSON with auditID, campaign"),
        (("backtest", "audit.log", "--labels", "empty"), "--labels empty holds no label"),
        (("backtest", "audit.log", "--labels", "others"), "none of the labelled requests is in these files"),
        (("backtest", "audit.log", "--labels", "labels", "--junit", "no/j.xml"), "no/j.xml cannot be written"),
        (("tune", "audit.log", "--owner", "o", "--reason", "r", "--until", "2020-01-01T00:00:00Z"), "no audit event"),
        (("coverage", "--navigator", "no/layer.json"), "no/layer.json cannot be written"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    folder: Path, run: Call, arguments: tuple[str, ...], message: str
) -> None:
    """With exit code 2, or 3 for an audit policy."""
    (folder / "empty").write_text("\n")
    (folder / "others").write_text('{"auditID": "z", "campaign": "c", "technique": "t"}\n')
    done = run(*arguments)
    assert done.returncode == (3 if "--policy" in arguments else 2)
    assert message in done.stderr


def test_lint_tells_what_a_policy_leaves_blind(folder: Path, run: Call) -> None:
    """And exits with 1, for the rule would never do what it says."""
    (folder / "policy.yaml").write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}")
    (folder / "body.yml").write_text(GOOD_RULE.replace("{objectRef.subresource: exec}", "{detector.pod.hostPID: true}"))
    done = run("lint", "body.yml", "--policy", "policy.yaml")
    assert done.returncode == 1
    assert "needs level Request, which the policy does not grant" in done.stdout
    assert run("lint", "old", "--policy", "policy.yaml").returncode == 0


def test_coverage_lists_every_idea_and_writes_a_layer(folder: Path, run: Call) -> None:
    """Under --strict an open one fails."""
    done = run("coverage", "--navigator", "layer.json", "--output-format", "csv")
    assert done.returncode == 0
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 122
    assert "ideas that peers have: 98" in done.stderr
    assert json.loads((folder / "layer.json").read_text())["domain"] == "enterprise-attack"
    assert "0 open" in done.stderr.splitlines()[0]
    assert run("coverage", "--strict").returncode == 0
    assert run("coverage", "old", "--strict").returncode == 1


def test_backtest_counts_hits(run: Call) -> None:
    """By rule, by day and by identity."""
    (row,) = rows_of(run("backtest", "audit.log", "--rules", "old"))
    assert (row["rule"], row["alerts"], row["identities"]) == ("Exec", 7, 2)
    by_day = rows_of(run("backtest", "audit.log", "--rules", "old", "--by", "day"))
    assert [row["alerts"] for row in by_day] == [1, 1, 2, 1, 1, 1]
    by_identity = rows_of(run("backtest", "audit.log", "--rules", "old", "--by", "identity"))
    assert {row["identity"]: row["alerts"] for row in by_identity} == {"ana": 6, "bob": 1}


def test_backtest_can_fail_a_build(folder: Path, run: Call) -> None:
    """A rule that is wrong too often exits with 1, and stands in the JUnit file."""
    arguments = ("backtest", "audit.log", "--rules", "old", "--labels", "labels", "--junit", "junit.xml")
    done = run(*arguments, "--false-a-day", "0.5")
    (row,) = rows_of(done)
    assert (row["true"], row["false"], row["campaigns"]) == (1, 6, ["shell"])
    assert done.returncode == 1
    assert "Exec: 1.20 false alerts a day, 0.5 are allowed" in done.stderr
    suite = ElementTree.fromstring((folder / "junit.xml").read_text())  # noqa: S314 our own
    assert suite.get("failures") == "1"
    assert run(*arguments, "--false-a-day", "2").returncode == 0


def test_a_difference_that_loses_a_campaign_fails(run: Call) -> None:
    """The other way round it is fine."""
    arguments = ("backtest", "audit.log", "--labels", "labels", "--diff")
    done = run(*arguments, "old", "new")
    assert {(row["change"], row["identity"], row["severity"]) for row in rows_of(done)} == {
        ("changed", "ana", "47 -> 21"),
        ("changed", "bob", "47 -> 21"),
    }
    assert done.returncode == 1
    assert "campaigns that old found and new misses: shell" in done.stderr
    assert run(*arguments, "new", "old").returncode == 0


def test_tune_prints_entries_as_yaml(run: Call) -> None:
    """What each would silence stands above it; the labelled identity has none."""
    done = run("tune", "audit.log", "--rules", "old", "--owner", "o@x.example", "--reason", "r", "--labels", "labels")
    assert done.returncode == 0, done.stderr
    (entry,) = yaml.safe_load(done.stdout)
    assert (entry["rule"], entry["identity"], entry["owner"]) == (ID, "ana", "o@x.example")
    assert entry["scope"]["objectRef.subresource"] == "exec"
    assert f"{entry['expires']}" == "2027-02-04"
    assert done.stdout.startswith("# Exec: silences 6 of the rule's 7 alerts\n# 6 requests from 2026-11-01 09:00")
    assert "1 entries proposed" in done.stderr


def test_tune_says_that_without_labels_attacks_count_as_ordinary(run: Call) -> None:
    """Nobody can know them then."""
    done = run("tune", "audit.log", "--rules", "old", "--owner", "o", "--reason", "r", "--output-format", "json")
    assert [row["alerts"] for row in json.loads(done.stdout)] == [6]
    assert "without --labels every alert counted as false" in done.stderr
