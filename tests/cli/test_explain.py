"""`detector explain`: of an alert, and of an event."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detector.cli import app
from tests.cli import Run, called, detector
from tests.events import EXEC, event, line

PRIVILEGED = {
    "verb": "create",
    "objectRef": {"resource": "pods", "namespace": "shop", "name": "a"},
    "requestObject": {"spec": {"containers": [{"name": "c", "securityContext": {"privileged": True}}]}},
}


Call = Callable[..., Run]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in the folder, in this process."""

    def call(*arguments: str) -> Run:
        code = called(monkeypatch, *arguments, cwd=folder)
        written = capsys.readouterr()
        return Run(code, written.out, written.err)

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with two sessions in a pod, and the alerts of it."""
    path = tmp_path_factory.mktemp("explain")
    sessions = [line(**EXEC, auditID=f"s{number}") for number in range(7)]
    (path / "audit.log").write_bytes(b"\n".join(sessions) + b"\n")
    (path / "event.json").write_text(json.dumps(event(**PRIVILEGED), indent=2))
    (path / "two.log").write_bytes(b"[" + b",".join(sessions[:2]) + b"]")
    done = detector("replay", "audit.log", "--output", "alerts.ndjson", cwd=path)
    assert done.returncode == 0, done.stderr
    return path


def ids(folder: Path) -> list[str]:
    """The ids of the alerts."""
    return [json.loads(row)["event"]["id"] for row in (folder / "alerts.ndjson").read_text().splitlines()]


def test_an_alert_is_explained_with_its_evidence_and_its_rule(folder: Path, run: Call) -> None:
    """Who, why, the requests, what was hidden, and what to do."""
    done = run("explain", ids(folder)[0][:10], "--alerts", "alerts.ndjson")
    assert done.returncode == 0, done.stderr
    for part in (
        "ana@example.test (user)",
        "from 203.0.113.25",
        "the client's own choice",
        "get pods/exec shop/cart -> 101",
        "and 2 more requests",
        "hidden:",
        "triage:",
        "misses:",
    ):
        assert part in done.stdout


def test_an_alert_is_explained_to_a_program(folder: Path, run: Call) -> None:
    """The document, and the card of its rule."""
    told = json.loads(run("explain", ids(folder)[0], "--alerts", "alerts.ndjson", "--json").stdout)
    assert told["alert"]["event"]["id"] == ids(folder)[0]
    assert told["rule"]["id"] == told["alert"]["rule"]["id"]
    assert told["rule"]["triage"]


def test_the_newest_version_of_an_alert_is_explained(folder: Path, run: Call) -> None:
    """`run` writes an id again when its counts have grown."""
    rows = (folder / "alerts.ndjson").read_text().splitlines()
    later = json.loads(rows[0])
    later["detector"]["event_count"] = 4711
    (folder / "versions.ndjson").write_text("\n".join([*rows, json.dumps(later)]))
    done = run("explain", ids(folder)[0], "--alerts", "versions.ndjson")
    assert "4,711 requests" in done.stdout


def test_an_alert_outlives_its_rule(folder: Path, run: Call) -> None:
    """A changed rule is told, a broken or a missing one costs only its texts."""
    (folder / "broken.yml").write_text("[")
    done = run("explain", ids(folder)[0], "--alerts", "alerts.ndjson", "--rules", "broken.yml")
    assert done.returncode == 0
    assert "the rules cannot be loaded" in done.stderr
    rows = [json.loads(row) for row in (folder / "alerts.ndjson").read_text().splitlines()]
    rows[0]["rule"]["version"] = "older"
    (folder / "older.ndjson").write_text(json.dumps(rows[0]))
    done = run("explain", ids(folder)[0], "--alerts", "older.ndjson")
    assert "the rule has changed since: version older then" in done.stdout


def test_a_behaviour_alert_is_explained_by_what_is_usual(folder: Path, run: Call) -> None:
    """Each reason with the identity's own habit and its peers'."""
    alert = json.loads((folder / "alerts.ndjson").read_text().splitlines()[0])
    reason = {"feature": "place", "value": "secrets@shop", "usual": "pods@shop", "peers": "never", "contribution": 4.5}
    alert["rule"] = {**alert["rule"], "id": "behaviour", "ruleset": "behaviour", "description": "unlike it"}
    alert["detector"] |= {"kind": "behaviour", "score": 0.9, "threshold": 0.7, "model": "prod/1", "young": True}
    alert["detector"] |= {"reasons": [reason], "degraded": True}
    (folder / "behaviour.ndjson").write_text(json.dumps(alert))
    told = run("explain", alert["event"]["id"], "--alerts", "behaviour.ndjson").stdout
    for part in (
        "score 0.9 over the threshold 0.7 of model prod/1",
        "place secrets@shop; usual pods@shop; peers never (+4.5)",
        "the identity is known for too short a time",
        "so the alert is unproven",
        "unlike it",
    ):
        assert part in told


def test_an_event_is_judged_by_a_rule_test_by_test(run: Call) -> None:
    """The verdict, what decided it, and the whole tree."""
    done = run("explain", "--event", "event.json", "--rule", "pod_privileged")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Privileged Container: matches\n")
    assert "+ detector.containers.securityContext.privileged is true; found true" in done.stdout
    told = json.loads(run("explain", "--event", "event.json", "--rule", "dns_config", "--json").stdout)
    assert told["verdict"] == "does not match"
    assert "objectRef.resource" in {reason["field"] for reason in told["because"]}


def test_an_event_on_stdin_is_judged_by_all_rules(run: Call) -> None:
    """Those that match, and the nearest misses with what is against them."""
    dry_run = event(**PRIVILEGED, requestURI="/api/v1/namespaces/shop/pods?dryRun=All")
    result = CliRunner().invoke(app, ["explain", "-"], input=json.dumps(dry_run))
    assert result.exit_code == 0, result.output
    assert "  Privileged Container\n    + detector.dry_run is true; found true" in result.stdout
    matched = run("explain", "--event", "event.json").stdout.partition("nearest misses")[0]
    assert "high          Privileged Container" in matched


def test_a_rule_that_remembers_is_told_apart(run: Call) -> None:
    """Of one request it can only be said that the rule looks at it, and what else an alert wants."""
    wants = "requests of node_pod_made, then pod_entered within 1h"
    done = run("explain", "--event", "event.json", "--rule", "chain_node_pod_exec")
    assert f"that is said of this request alone; an alert wants {wants}" in done.stdout
    told = json.loads(run("explain", "--event", "event.json", "--rule", "chain_node_pod_exec", "--json").stdout)
    assert told["remembers"].startswith(wants)
    matched, _, after = run("explain", "--event", "event.json").stdout.partition("that remember look at it")
    assert "Pod That Reaches Its Node" not in matched
    assert f"Pod That Reaches Its Node Made and Entered by One Hand\n    wants {wants}" in after
    told = json.loads(run("explain", "--event", "event.json", "--json").stdout)
    assert {each["rule"] for each in told["matches"]}.isdisjoint(each["rule"] for each in told["part_of"])
    assert any(each["remembers"].startswith(wants) for each in told["part_of"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the id of an alert with --alerts FILE, or - or --event FILE"),
        (("0123456789",), "an alert's id needs --alerts FILE"),
        (("0123456789", "--alerts", "nowhere"), "--alerts nowhere cannot be read"),
        (("0123456789", "--alerts", "alerts.ndjson"), "no alert 0123456789 among the"),
        (("0123", "--alerts", "alerts.ndjson"), "give at least 6 digits"),
        (("0123456789", "--alerts", "audit.log"), "audit.log:1: no alert of detector"),
        (("--event", "nowhere"), "--event nowhere cannot be read"),
        (("--event", "alerts.ndjson"), "alerts.ndjson holds no audit event"),
        (("--event", "two.log"), "two.log holds 2 audit events; give one"),
        (("--event", "event.json", "--rule", "nothing-like-it"), "no rule is called nothing-like-it"),
        (("--event", "event.json", "--alerts", "alerts.ndjson"), "--alerts needs the id of an alert"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(run: Call, arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2."""
    done = run("explain", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
