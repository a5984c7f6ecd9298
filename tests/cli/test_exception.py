"""`detector exception` and `--exceptions`: from a file that a person keeps to a run that follows it."""

import csv
import io
import json
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from detector.exceptions.load import load
from tests.cli import DETECTOR, ENVIRONMENT, PATIENCE_SECONDS, called
from tests.cli.test_replay import RULE, alerts, users, wait_until
from tests.events import EXEC, line

RULE_ID = "6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d"
ATTACK = "5b0c3f0e-8a52-4bb1-9d56-00000000beef"
SAMPLE = Path(__file__).parents[2] / "sample_logs"
MODEL = Path(__file__).parents[2] / "models" / "sample" / "1"


def add(**differences: str | None) -> list[str]:
    """The command line that adds an exception for Ana; None leaves an option out."""
    options = {
        "rule": "rule",
        "identity": "ana@example.test",
        "scope": "objectRef.namespace=shop",
        "owner": "team@example.test",
        "reason": "smoke tests",
        "until": "2026-11-30",
        "file": "exceptions.yml",
        "rules": "rule.yml",
    }
    words = [f"--{name}={value}" for name, value in {**options, **differences}.items() if value is not None]
    return ["exception", "add", *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A rule, and a log with two sessions, one of them a known attack by Bob."""
    (tmp_path / "rule.yml").write_text(RULE, encoding="utf-8")
    bob = line(**EXEC, auditID=ATTACK, user={"username": "bob@example.test"})
    (tmp_path / "audit.log").write_bytes(b"\n".join([line(), line(**EXEC), bob]) + b"\n")
    label = {"auditID": ATTACK, "campaign": "exec#0", "technique": "exec"}
    (tmp_path / "labels.jsonl").write_text(json.dumps(label) + "\n", encoding="utf-8")
    return tmp_path


def test_what_is_added_is_shown_loaded_and_silent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The replay says how much was silenced, and warns of an end that is near in the time of the log."""
    assert called(monkeypatch, *add(), cwd=folder) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "exceptions.yml").read_text(encoding="utf-8")
    (entry,) = load(folder / "exceptions.yml", None, shipped=False)
    assert (entry.rule, entry.scope) == ((RULE_ID,), {"objectRef.namespace": ("shop",)})
    replay = ["replay", "audit.log", "--rules", "rule.yml"]
    assert called(monkeypatch, *replay, "--exceptions", "exceptions.yml", cwd=folder) == 0
    silenced = capsys.readouterr()
    assert users(silenced.out) == ["bob@example.test"]
    assert "1 matches silenced by 1 exceptions" in silenced.err
    assert "exception expires soon" in silenced.err
    assert called(monkeypatch, *replay, "--exceptions", "none", cwd=folder) == 0
    everything = capsys.readouterr()
    assert sorted(users(everything.out)) == ["ana@example.test", "bob@example.test"]
    assert "silenced" not in everything.err
    monkeypatch.setenv("DETECTOR_EXCEPTIONS__PATH", "exceptions.yml")
    assert called(monkeypatch, *replay, cwd=folder) == 0
    assert users(capsys.readouterr().out) == ["bob@example.test"]


@pytest.mark.parametrize(
    ("differences", "told"),
    [
        ({"identity": "*"}, "would cover whoever chooses a fitting name"),
        ({"rule": "rul"}, "rule: rul is no loaded rule"),
        ({"rule": "exec"}, f"did you mean {RULE_ID} (Exec)?"),
        ({"scope": "userAgent=kubectl"}, "binds nobody"),
        ({"scope": "shop"}, "write it like objectRef.namespace=shop"),
        ({"owner": ""}, "owner: "),
        ({"until": "soon"}, "is no day; write it like 2026-12-31"),
        ({"rule": "behaviour"}, "it takes no scope"),
        ({"file": None}, "give --file FILE or set exceptions.path"),
        ({"id": "first"}, "there is one of that name already"),
        ({"owner": None}, "--owner"),
    ],
)
def test_a_faulty_entry_is_not_added(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    differences: dict[str, str | None],
    told: str,
) -> None:
    """Exit code 2, and the file is as it was."""
    assert called(monkeypatch, *add(id="first"), cwd=folder) == 0
    before = (folder / "exceptions.yml").read_bytes()
    capsys.readouterr()
    assert called(monkeypatch, *add(**differences), cwd=folder) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.out == ""
    assert (folder / "exceptions.yml").read_bytes() == before


def test_a_broken_file_is_told_with_file_and_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whatever command reads it, with exit code 2."""
    (folder / "exceptions.yml").write_text("- id: a\n  rule: '*'\n", encoding="utf-8")
    for command in (
        add(),
        ["exception", "list", "--rules=rule.yml", "--file=exceptions.yml"],
        ["exception", "check", "exceptions.yml", "audit.log", "--rules=rule.yml", "--labels=labels.jsonl"],
        ["replay", "audit.log", "--rules=rule.yml", "--exceptions=exceptions.yml"],
    ):
        assert called(monkeypatch, *command, cwd=folder) == 2
        assert "error: exceptions.yml:2: rule: must name each rule by its id" in capsys.readouterr().err


def test_exceptions_are_listed_with_state_and_hits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the time of the logs that are named."""
    called(monkeypatch, *add(id="soon"), cwd=folder)
    called(monkeypatch, *add(id="expired", identity="bob@example.test", until="2026-11-22"), cwd=folder)
    called(monkeypatch, *add(id="active", identity="bob@example.test", until="2027-11-22"), cwd=folder)
    capsys.readouterr()
    command = ["exception", "list", "audit.log", "--rules=rule.yml", "--file=exceptions.yml"]
    assert called(monkeypatch, *command, "--output-format=csv", cwd=folder) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["id"], row["state"], row["hits"]) for row in rows] == [
        ("soon", "soon", "1"),
        ("expired", "expired", "0"),
        ("active", "active", "1"),
    ]
    assert (rows[0]["rule"], rows[0]["owner"], rows[0]["expires"]) == ("Exec", "team@example.test", "2026-11-30")
    assert called(monkeypatch, "exception", "list", cwd=folder) == 0
    shipped = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert {row["owner"] for row in shipped} == {"detector"}


def test_doctor_tells_of_exceptions_that_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has ended is a fault: its alerts are back."""
    today = datetime.now(UTC).date()
    called(monkeypatch, *add(id="soon", until=str(today + timedelta(days=3))), cwd=folder)
    called(monkeypatch, *add(id="ended", until=str(today - timedelta(days=3))), cwd=folder)
    monkeypatch.setenv("DETECTOR_EXCEPTIONS__PATH", "exceptions.yml")
    monkeypatch.setenv("DETECTOR_EXCEPTIONS__SHIPPED", "false")
    monkeypatch.setenv("DETECTOR_RULES__PATH", "rule.yml")
    capsys.readouterr()
    assert called(monkeypatch, "doctor", cwd=folder) == 1
    printed = capsys.readouterr().out
    assert "ok    rules: 2 exceptions loaded" in printed
    assert "ok    rules: exception soon ends on" in printed
    assert "FAIL  rules: exception ended ended on" in printed


def check(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """The exit code of a check of the folder's exceptions on its log."""
    command = ["exception", "check", "exceptions.yml", "audit.log", "--labels=labels.jsonl", "--rules=rule.yml"]
    return called(monkeypatch, *command, cwd=folder)


def test_a_check_fails_if_a_known_attack_is_silenced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and by which exception; one that silences nothing is told too."""
    called(monkeypatch, *add(id="fine"), cwd=folder)
    called(monkeypatch, *add(id="unused", identity="cy@example.test"), cwd=folder)
    capsys.readouterr()
    assert check(monkeypatch, folder) == 0
    printed = capsys.readouterr()
    rows = [json.loads(text) for text in printed.out.splitlines()]
    assert [(row["id"], row["matches"], row["alerts"], row["severe_alerts"]) for row in rows] == [
        ("fine", 1, 1, 1),
        ("unused", 0, 0, 0),
    ]
    assert "unused silences nothing here" in printed.err
    assert "2 exceptions, 1 requests of known attacks: none silenced" in printed.err
    called(monkeypatch, *add(id="too-much", identity="bob@example.test"), cwd=folder)
    capsys.readouterr()
    assert check(monkeypatch, folder) == 1
    assert "too-much: exec#0 (exec): Exec by bob@example.test, 1 requests" in capsys.readouterr().err


def test_a_check_without_a_known_attack_in_the_logs_proves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says so, with exit code 2."""
    called(monkeypatch, *add(), cwd=folder)
    (folder / "audit.log").write_bytes(line(**EXEC) + b"\n")
    assert check(monkeypatch, folder) == 2
    assert "none of its 1 requests is in the logs" in capsys.readouterr().err


def test_an_exception_from_behaviour_is_checked_with_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the slow attack that no rule sees; without a model it cannot be."""
    called(monkeypatch, *add(rule="behaviour", scope=None, identity="bob@corp.example"), cwd=folder)
    log, labels = str(SAMPLE / "scenarios" / "slow-dev-breadth.jsonl"), str(SAMPLE / "labels.jsonl")
    command = ["exception", "check", "exceptions.yml", log, "--labels", labels, "--trusted-proxy=127.0.0.1/32"]
    assert called(monkeypatch, *command, cwd=folder) == 2
    assert "give --model DIR" in capsys.readouterr().err
    assert called(monkeypatch, *command, "--model", str(MODEL), cwd=folder) == 1
    assert "slow-dev-breadth#0 (slow-breadth)" in capsys.readouterr().err


SETTINGS = """
[source]
type = "tail"
path = "audit.log"
poll_seconds = 0.01
[sink]
type = "ndjson"
path = "alerts.ndjson"
[rules]
path = "rule.yml"
[exceptions]
path = "exceptions.yml"
"""


def test_a_run_follows_its_files_on_sighup_and_keeps_the_hits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken file leaves the old set; what was silenced can be listed afterwards."""
    exceptions, log, said = folder / "exceptions.yml", folder / "audit.log", folder / "run.log"
    (folder / "detector.toml").write_text(SETTINGS, encoding="utf-8")
    exceptions.write_text("[]\n", encoding="utf-8")
    log.write_bytes(b"")

    def alerted() -> list[str]:
        text = (folder / "alerts.ndjson").read_text() if (folder / "alerts.ndjson").exists() else ""
        return users(text[: text.rfind("\n") + 1])

    def happens(*names: str) -> None:
        with log.open("ab") as file:
            file.writelines(line(**EXEC, user={"username": name}) + b"\n" for name in names)

    def reload(process: "subprocess.Popen[bytes]", words: str) -> None:
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: words in said.read_text())

    with said.open("ab") as output:
        process = subprocess.Popen(
            [DETECTOR, "run", "--config", "detector.toml"], cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output
        )
        try:
            happens("ana@example.test")
            wait_until(lambda: "ana@example.test" in alerted())
            exceptions.unlink()
            assert called(monkeypatch, *add(identity="bob@example.test"), cwd=folder) == 0
            reload(process, "were loaded anew")
            exceptions.rename(folder / "kept.yml")
            exceptions.write_text("- id: [\n", encoding="utf-8")
            reload(process, "exceptions.yml:2: not valid YAML")
            happens("bob@example.test", "cy@example.test")
            wait_until(lambda: "cy@example.test" in alerted())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert set(alerted()) == {"ana@example.test", "cy@example.test"}
    capsys.readouterr()
    (folder / "kept.yml").replace(exceptions)
    assert called(monkeypatch, "exception", "list", "--config", "detector.toml", cwd=folder) == 0
    row: dict[str, Any] = alerts(capsys.readouterr().out)[0]
    assert (row["identity"], row["hits"]) == (["bob@example.test"], 1)
