"""The NDJSON sink, on files, pipes and stdout."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from detector.alert import Alert
from detector.errors import SinkUnavailable, UsageError
from detector.sinks.ndjson import NdjsonSink
from tests.sinks.factory import alert


def write(path: Path, *alerts: Alert, append: bool = True) -> None:
    """Write some alerts as one process does."""
    with closing(NdjsonSink(path, append=append)) as sink:
        sink.write(alerts)


def lines(path: Path) -> list[tuple[str, int]]:
    """Id and severity of each line."""
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    return [(document["event"]["id"], document["event"]["severity"]) for document in documents]


def test_each_version_is_a_line(tmp_path: Path) -> None:
    """The last line of an id is the alert."""
    versions = [alert(1), alert(1, severity=73), alert(2), alert(1, severity=73, complete=True)]
    write(tmp_path / "alerts", *versions)
    assert lines(tmp_path / "alerts") == [(one.id, one.document.event.severity) for one in versions]


def test_fields_stand_in_the_order_of_the_alert(tmp_path: Path) -> None:
    """One alert has one text, so that files can be compared byte for byte."""
    write(tmp_path / "alerts", alert(1))
    text = (tmp_path / "alerts").read_text()
    assert text == json.dumps(alert(1).document.to_json(), separators=(",", ":")) + "\n"
    assert text.startswith('{"@timestamp":"2026-10-05T10:07:31.123456Z","ecs":{')


def test_what_a_client_chose_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """The file is ASCII: control characters and marks that turn text round are escaped."""
    write(tmp_path / "alerts", alert(1, user="\u001b[2J\u202e\u0085\u2028\r"))
    assert all(character == "\n" or character.isprintable() for character in (tmp_path / "alerts").read_text("ascii"))


def test_a_run_appends_and_a_replay_begins_again(tmp_path: Path) -> None:
    """`append` decides whether what stood in the file stays."""
    path = tmp_path / "alerts"
    write(path, alert(1))
    write(path, alert(2), append=True)
    assert [one for one, _ in lines(path)] == [alert(1).id, alert(2).id]
    write(path, alert(3), append=False)
    assert [one for one, _ in lines(path)] == [alert(3).id]


def test_alerts_are_for_their_owner_only(tmp_path: Path) -> None:
    """They tell who does what in the cluster."""
    write(tmp_path / "alerts", alert(1))
    assert (tmp_path / "alerts").stat().st_mode & 0o077 == 0


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A path that cannot work stops before anything is read."""
    with pytest.raises(UsageError, match=r"missing/alerts: there is no folder .*missing: create it first"):
        NdjsonSink(tmp_path / "missing" / "alerts", append=False)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    """The message says so."""
    with pytest.raises(UsageError, match="this is a folder: name a file in it"):
        NdjsonSink(tmp_path, append=False)


def test_a_file_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(UsageError, match=r"Permission denied.*change the permissions"):
        NdjsonSink(tmp_path / "alerts", append=False)


def test_a_full_disk_holds_the_alerts() -> None:
    """It is an outage like any other: the same call may be made again."""
    with (
        closing(NdjsonSink(Path("/dev/full"), append=True)) as sink,
        pytest.raises(SinkUnavailable, match="/dev/full cannot be written: No space left on device"),
    ):
        sink.write([alert(1)])


def test_a_dash_is_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """Each write is flushed."""
    with closing(NdjsonSink(Path("-"), append=False)) as sink:
        sink.write([alert(1)])
        assert capfd.readouterr().out == json.dumps(alert(1).document.to_json(), separators=(",", ":")) + "\n"


def test_a_reader_that_leaves_is_told_apart_from_an_outage() -> None:
    """`| head` ends with BrokenPipeError, which the command line takes for a normal end."""
    program = """if True:
        from pathlib import Path
        from detector.sinks.ndjson import NdjsonSink
        from tests.sinks.factory import alert
        sink = NdjsonSink(Path("-"), append=False)
        try:
            while True:
                sink.write([alert(1)])
        except BrokenPipeError:
            raise SystemExit(7)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"@timestamp"')
        process.stdout.close()
        assert process.wait(timeout=30) in (7, 120)  # 120: Python could not flush the rest at exit, either


def test_a_pipe_can_be_written(tmp_path: Path) -> None:
    """`--output >(command)` is a file that cannot be synced."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(path, alert(1))
        assert os.read(reader, 1 << 16).endswith(b"}\n")
    finally:
        os.close(reader)
