"""`detector replay`, from archived logs to alerts, a report and an exit code."""

import gzip
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli import DETECTOR, ENVIRONMENT, PATIENCE_SECONDS, called, detector
from tests.events import EXEC, line

RULE = """
title: Exec
id: 6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d
description: For tests.
level: medium
tags: [attack.t1609]
logsource: {product: kubernetes, service: audit}
detection:
  selection: {objectRef.subresource: exec}
  condition: selection
detector:
  message: "{user} ran {command} in {name} from {source}"
"""
HOSTILE = {
    "user": {"username": "<script>alert(1)</script>\u202eresu\x1b[2J", "groups": ["<b>", '"><img src=x>']},
    "userAgent": "\"><img src=x onerror='alert(1)'>=cmd|calc",
    "requestURI": "/x?command=%3C%2Fdetails%3E%3Cscript%3Ealert(2)%3C%2Fscript%3E",
    "objectRef": {
        "resource": "pods",
        "namespace": "' onmouseover='alert(3)",
        "name": "</td><iframe src=javascript:alert(4)>\n\r\x9b31m",
        "subresource": "exec",
    },
    "sourceIPs": ['203.0.113.9"><svg onload=alert(5)>'],
    "auditID": "--><script>",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log with an exec at 09:15 and one at 11:15 by another person, and a rule for it."""
    (tmp_path / "rule.yml").write_text(RULE, encoding="utf-8")
    later = {"requestReceivedTimestamp": "2026-11-23T11:15:02Z", "stageTimestamp": "2026-11-23T11:15:02Z"}
    lines = [line(), line(**EXEC), line(**EXEC, **later, user={"username": "bob@example.test"})]
    (tmp_path / "audit.log").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path


def alerts(text: str) -> list[dict[str, Any]]:
    """The documents of an NDJSON text."""
    return [json.loads(document) for document in text.splitlines()]


def users(text: str) -> list[str]:
    """Whom they are about."""
    return [document["user"]["name"] for document in alerts(text)]


def test_alerts_go_to_stdout_and_talk_to_stderr(folder: Path) -> None:
    """So that a pipe gets nothing but data."""
    done = detector("replay", "audit.log", "--rules", "rule.yml", cwd=folder)
    assert done.returncode == 0
    assert users(done.stdout) == ["ana@example.test", "bob@example.test"]
    assert "3 events of 3 records" in done.stderr
    assert "2 alerts" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["audit.log", "rule.yml"]


def test_the_bundled_rules_are_used_unless_others_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They see an exec too; none means none."""
    assert called(monkeypatch, "replay", "audit.log", cwd=folder) == 0
    assert len(alerts(capsys.readouterr().out)) >= 2
    assert called(monkeypatch, "replay", "audit.log", "--rules", "none", cwd=folder) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "0 alerts" in printed.err


def test_quiet_says_nothing(folder: Path) -> None:
    """Neither on stdout, where the alerts go to a file, nor on stderr."""
    done = detector("replay", "audit.log", "--rules", "rule.yml", "-q", "--output", "alerts.ndjson", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(alerts((folder / "alerts.ndjson").read_text())) == 2


def test_two_replays_give_equal_documents(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the two fields that tell when they were made; a gzip member more or less does not matter."""
    (folder / "audit.log.gz").write_bytes(gzip.compress((folder / "audit.log").read_bytes()))
    given = []
    for name in ("audit.log", "audit.log.gz"):
        assert called(monkeypatch, "replay", name, "--rules", "rule.yml", "-q", cwd=folder) == 0
        given.append(alerts(capsys.readouterr().out))
    first, second = given
    for document in first + second:
        del document["event"]["created"], document["event"]["ingested"]
    assert first == second


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "2026-11-23T10:00:00Z"], ["bob@example.test"]),
        (["--until", "2026-11-23T10:00:00Z"], ["ana@example.test"]),
        (["--since", "2026-11-23 09:00", "--until", "2026-11-23T12:00:00+02:00"], ["ana@example.test"]),
        (["--since", "2027-01-01"], []),
    ],
)
def test_a_span_of_time_can_be_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[str]
) -> None:
    """By event time, the end not included."""
    options = [*options, "--rules", "rule.yml", "-q", "--output", "alerts.ndjson"]
    assert called(monkeypatch, "replay", "audit.log", *options, cwd=folder) == 0
    assert users((folder / "alerts.ndjson").read_text()) == expected


@pytest.mark.parametrize(
    ("level", "rules", "code"),
    [("low", "rule.yml", 1), ("medium", "rule.yml", 1), ("high", "rule.yml", 0), ("low", "none", 0)],
)
def test_exit_code_1_tells_of_an_alert_as_severe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: str, rules: str, code: int
) -> None:
    """Only if it was asked for; the alerts are written all the same."""
    options = ["--rules", rules, "--fail-on-alert", level, "-q", "--output", "alerts.ndjson"]
    assert called(monkeypatch, "replay", "audit.log", *options, cwd=folder) == code
    assert bool((folder / "alerts.ndjson").read_text()) == (rules != "none")


def test_a_trusted_proxy_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address before it is the source; the client's claim stands apart."""
    log = line(**EXEC, sourceIPs=["198.51.100.1", "203.0.113.9", "10.0.0.1", "127.0.0.1"])
    (folder / "audit.log").write_bytes(log)
    trust = ["--trusted-proxy", "127.0.0.1/32", "--trusted-proxy", "10.0.0.0/8"]
    assert called(monkeypatch, "replay", "audit.log", "--rules", "rule.yml", "-q", *trust, cwd=folder) == 0
    (alert,) = alerts(capsys.readouterr().out)
    assert (alert["source"]["ip"], alert["client"]["ip"]) == ("203.0.113.9", "198.51.100.1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nosuch.log", "other/*.gz"], "no such file, folder or match: nosuch.log, other/*.gz"),
        (["audit.log", "--rules", "missing"], "missing:1: no such file or folder"),
        (["audit.log", "--rules", "bad.yml"], "bad.yml:3: "),
        (["audit.log", "--format", "nosuch"], "--format nosuch: no such format; known are auto, apiserver"),
        (["audit.log", "--trusted-proxy", "10.0.0.0/33"], "--trusted-proxy 10.0.0.0/33: "),
        (["audit.log", "--trusted-proxy", "10.0.0.1/8"], "has host bits set"),
        (["audit.log", "--since", "yesterday"], "--since yesterday: not a time; write it like 2026-"),
        (["audit.log", "--until", "9999-12-31T23:59:59-01:00"], "--until 9999-"),
        (["audit.log", "--fail-on-alert", "mild"], "'mild' is not one of"),
        (["audit.log", "--report", "audit.log"], "--report audit.log is one of the files to read"),
        (["-", ".", "--output", "./audit.log"], "--output ./audit.log is one of the files to read"),
        (["audit.log", "--output", "nosuch/alerts.ndjson"], "there is no folder nosuch"),
        ([], "Missing argument 'PATH'"),
    ],
)
def test_bad_usage_is_told_in_a_line_and_touches_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    """Exit code 2; the alerts of an earlier replay stay, and so does the log."""
    (folder / "bad.yml").write_text("title: x\nlogsource: [\n", encoding="utf-8")
    (folder / "alerts.ndjson").write_text("{}\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    output = [] if "--output" in arguments else ["--output", "alerts.ndjson"]
    assert called(monkeypatch, "replay", *arguments, *output, cwd=folder) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('format = "nosuch"', "format: must be one of auto"),
        ("[rules]\npaht = 1", "rules.paht: no such setting; did you mean path?"),
        (None, "No such file or directory"),
    ],
)
def test_bad_settings_end_with_exit_code_3(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str | None,
    told: str,
) -> None:
    """Before anything is read."""
    if settings is not None:
        (folder / "detector.toml").write_text(settings)
    assert called(monkeypatch, "replay", "audit.log", "--config", "detector.toml", cwd=folder) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err


def test_broken_lines_are_counted_and_kept_and_the_others_evaluated(folder: Path) -> None:
    """The dead letters tell the place and the reason of each, and hold no secret."""
    broken = b'{"auditID":"a","verb":"create","requestObject":{"password":"hunter2"}'
    log = b"\n".join([line(**EXEC), b"", broken, b'{"kind":"Pod"}', b"\xff", line(**EXEC)])
    (folder / "broken.log").write_bytes(log)
    done = detector("replay", "broken.log", "--rules", "rule.yml", "--dead-letters", "dead.ndjson", cwd=folder)
    assert done.returncode == 0
    assert len(alerts(done.stdout)) == 1
    assert "2 malformed_json, 1 not_audit; see dead.ndjson" in done.stderr
    assert "1 records were empty" in done.stderr
    letters = alerts((folder / "dead.ndjson").read_text())
    assert [(letter["stream"], letter["offset"], letter["reason"]) for letter in letters] == [
        ("broken.log", 3, "malformed_json"),
        ("broken.log", 4, "not_audit"),
        ("broken.log", 5, "malformed_json"),
    ]
    assert "hunter2" not in (folder / "dead.ndjson").read_text()


def test_a_file_that_is_cut_off_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary tells of it."""
    (folder / "cut.gz").write_bytes(gzip.compress((folder / "audit.log").read_bytes())[:-10])
    assert called(monkeypatch, "replay", "cut.gz", "audit.log", "--rules", "rule.yml", cwd=folder) == 0
    printed = capsys.readouterr()
    assert len(alerts(printed.out)) == 2
    assert "1 unreadable_file" in printed.err


def test_what_a_replay_writes_is_not_read_by_the_next_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters in the folder that is replayed would otherwise breed."""
    (folder / "broken.log").write_bytes(b"broken\n")
    for _ in range(2):
        assert called(monkeypatch, "replay", ".", "--rules", "none", cwd=folder) == 0
    letters = alerts((folder / "detector-dead-letters.ndjson").read_text())
    assert {letter["stream"] for letter in letters} == {"broken.log", "rule.yml"}


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.policy = ""
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(attrs)
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values.get("content") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_shows_hostile_text_as_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the elements and attributes of a harmless one, no more, and forbids scripts beside."""
    (folder / "hostile.log").write_bytes(line(**HOSTILE))
    for name in ("audit", "hostile"):
        options = ["--rules", "rule.yml", "-q", "--report", f"{name}.html", "--output", "x"]
        assert called(monkeypatch, "replay", f"{name}.log", *options, cwd=folder) == 0
    harmless, hostile = (Page((folder / f"{name}.html").read_text("utf-8")) for name in ("audit", "hostile"))
    assert hostile.elements == harmless.elements
    assert not hostile.elements & {"script", "img", "iframe", "svg", "a", "form", "object", "link"}
    assert hostile.attributes == harmless.attributes
    assert "default-src 'none'" in hostile.policy
    assert "script" not in hostile.policy
    assert "<script>alert(1)</script>" in hostile.text
    assert "alert(4)" in hostile.text
    raw = (folder / "hostile.html").read_text("utf-8")
    assert not any(character in raw for character in "\u202e\x1b\x9b\r")


def test_hostile_text_does_not_steer_a_terminal(folder: Path) -> None:
    """Neither in the alerts nor in what is said beside them."""
    (folder / "hostile.log").write_bytes(line(**HOSTILE) + b"\n\x1b[2J\xe2\x80\xae broken\n")
    done = detector("replay", "hostile.log", "--rules", "rule.yml", cwd=folder)
    assert done.returncode == 0
    dead = (folder / "detector-dead-letters.ndjson").read_text()
    assert (done.stdout + dead).isascii()
    for text in (done.stdout, done.stderr, dead):
        assert not any(character in text for character in "\u202e\x1b\x9b\r\x07")
    (alert,) = alerts(done.stdout)
    assert alert["user"]["name"] == HOSTILE["user"]["username"]  # type: ignore[index]  # kept as it was, as JSON


def test_a_report_alone_leaves_stdout_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alerts are not told twice."""
    options = ["--rules", "rule.yml", "--report", "new/report.html"]
    assert called(monkeypatch, "replay", "audit.log", *options, cwd=folder) == 0
    assert capsys.readouterr().out == ""
    assert "bob@example.test" in (folder / "new/report.html").read_text("utf-8")


def started(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A replay under way, whose output goes to files."""
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [DETECTOR, "replay", *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_that_goes_away_ends_the_replay_in_peace(folder: Path) -> None:
    """As `head` does; exit code 1 would tell of alerts."""
    many = b"\n".join(line(**EXEC, user={"username": f"user-{number}"}) for number in range(500))
    (folder / "many.log").write_bytes(many)
    with subprocess.Popen(
        [DETECTOR, "replay", "many.log", "--rules", "rule.yml", "-q"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SECONDS) == 0


def test_an_interrupted_replay_finishes_its_batch_and_tells_what_it_did(folder: Path) -> None:
    """Exit code 130; the alerts found so far are written."""
    process = started(folder, "-", "--rules", "rule.yml")
    assert process.stdin is not None
    written = [0]

    def feed(pipe: IO[bytes]) -> None:
        lines = (line(**EXEC) + b"\n") * 100
        with suppress(BrokenPipeError), pipe:
            while True:
                written[0] += pipe.write(lines)

    feeder = threading.Thread(target=feed, args=(process.stdin,))
    feeder.start()
    wait_until(lambda: written[0] > 5_000_000)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    feeder.join()
    (alert,) = alerts((folder / "stdout").read_text())
    assert alert["user"]["name"] == "ana@example.test"
    assert "1 alerts" in (folder / "stderr").read_text()


def test_an_interrupt_while_nothing_comes_ends_the_replay_too(folder: Path) -> None:
    """Standard input stays open."""
    process = started(folder, "-", "--rules", "rule.yml", "-v", "--dead-letters", "dead.ndjson")
    assert process.stdin is not None
    process.stdin.write(line(**EXEC) + b"\nbroken\n")
    process.stdin.flush()
    wait_until((folder / "dead.ndjson").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert len(alerts((folder / "stdout").read_text())) == 1
    process.stdin.close()


def test_a_second_interrupt_ends_it_at_once(folder: Path) -> None:
    """Even while nobody reads the alerts that the first one made it write."""
    with subprocess.Popen(
        [DETECTOR, "replay", "-", "--rules", "rule.yml", "--dead-letters", "dead.ndjson"],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.writelines(line(**EXEC, user={"username": f"user-{number}"}) + b"\n" for number in range(500))
        process.stdin.write(b"broken\n")
        process.stdin.flush()
        wait_until((folder / "dead.ndjson").exists)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130


@pytest.mark.parametrize("options", [[], ["--report", "/dev/full"]])
def test_a_full_disk_is_told_in_a_line(folder: Path, options: list[str]) -> None:
    """Exit code 4: a place to write to stays out of reach."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [DETECTOR, "replay", "audit.log", "--rules", "rule.yml", "-q", *options],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 4
    (told,) = done.stderr.decode().splitlines()
    assert told.startswith("error: ")
    assert "cannot be written" in told


def test_a_report_that_may_not_be_written_is_told_before_anything_is_read(folder: Path) -> None:
    """Exit code 2."""
    folder.chmod(0o500)
    done = detector("replay", "audit.log", "--report", "report.html", cwd=folder)
    assert done.returncode == 2
    assert "--report report.html cannot be written" in done.stderr


def test_a_file_that_may_not_be_read_is_told_at_once_if_it_was_named(folder: Path) -> None:
    """Exit code 2, and nothing was read."""
    (folder / "audit.log").chmod(0)
    done = detector("replay", "audit.log", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "audit.log cannot be read: check its permissions" in done.stderr


def test_a_file_that_may_not_be_read_costs_only_itself_if_it_was_found(folder: Path) -> None:
    """The others of its folder are read, and the summary names the reason."""
    logs = folder / "logs"
    logs.mkdir()
    for name in ("a.log", "b.log"):
        (logs / name).write_bytes((folder / "audit.log").read_bytes())
    (logs / "a.log").chmod(0)
    done = detector("replay", "logs", cwd=folder)
    assert done.returncode == 0
    assert done.stdout
    assert "1 unreadable_file" in done.stderr
