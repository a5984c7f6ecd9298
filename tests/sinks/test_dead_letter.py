"""The dead-letter file: what could not be used, without the values in it."""

import base64
import hashlib
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import SinkUnavailable
from detector.record import DeadLetter, Position
from detector.sinks.dead_letter import DeadLetterFile, _line


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_dead_letter_tells_where_and_why(tmp_path: Path) -> None:
    """The payload can be recognised by its size and digest, but only its shape is shown."""
    payload = b'{"user": {"username": "alice"}, "n": 3'
    letter = DeadLetter(Position("audit[3]", 17), "invalid_json", "ends too early", payload)
    with closing(DeadLetterFile(tmp_path / "dead")) as file:
        file.write([letter])
    (entry,) = read(tmp_path / "dead")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(entry.pop("time"))) < timedelta(minutes=1)
    assert entry == {
        "stream": "audit[3]",
        "offset": 17,
        "reason": "invalid_json",
        "detail": "ends too early",
        "size_bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "excerpt": '{"user": {"username": "***"}, "n"***',
    }


def test_an_alert_that_was_refused_has_no_position(tmp_path: Path) -> None:
    """It came from several records."""
    with closing(DeadLetterFile(tmp_path / "dead")) as file:
        file.write([DeadLetter(None, "rejected_alert", "elasticsearch: 400 x", b"{}")])
    (entry,) = read(tmp_path / "dead")
    assert (entry["stream"], entry["offset"]) == (None, None)


def test_the_file_is_created_with_the_first_letter(tmp_path: Path) -> None:
    """A run without faults leaves no file; a later one adds to what is there."""
    path = tmp_path / "dead"
    with closing(DeadLetterFile(path)) as file:
        file.write([])
    assert not path.exists()
    for _ in range(2):
        with closing(DeadLetterFile(path)) as file:
            file.write([DeadLetter(None, "a", "", b""), DeadLetter(None, "b", "", b"")])
    assert [entry["reason"] for entry in read(path)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("path", ["/dev/full", "/nonexistent/dead"])
def test_a_file_that_cannot_be_written_stops_the_pipeline(path: str) -> None:
    """A record whose dead letter is lost would be lost."""
    with closing(DeadLetterFile(Path(path))) as file, pytest.raises(SinkUnavailable, match=f"{path} cannot be written"):
        file.write([DeadLetter(None, "a", "", b"")])


@given(payload=st.binary(max_size=3000))
def test_any_bytes_make_one_line_of_bounded_length(payload: bytes) -> None:
    """Control characters are escaped, and the excerpt is no longer than its part of the payload allows."""
    line = _line(DeadLetter(None, "invalid_json", "", payload))
    assert line.isascii()
    assert line.isprintable()
    assert len(json.loads(line)["excerpt"]) <= 3 * 1024


@given(secret=st.binary(min_size=24, max_size=48), padding=st.integers(0, 1100))
def test_no_value_survives_the_cut(secret: bytes, padding: int) -> None:
    """Wherever the first kilobyte ends."""
    value = base64.b64encode(secret).decode()
    payload = json.dumps({"a": "x" * padding, "requestObject": {"data": {"password": value}}}).encode()
    excerpt = json.loads(_line(DeadLetter(None, "too_large", "", payload)))["excerpt"]
    assert all(value[start : start + 8] not in excerpt for start in range(len(value) - 7))
