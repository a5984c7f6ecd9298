"""A growing log file is followed through its rotations, and nothing of it is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.errors import SourceUnavailable
from detector.record import Batch, Positions
from detector.sources.tail import Config, TailSource


class Follower:
    """Steps through a source, and remembers where it was."""

    def __init__(self, path: Path, resume: Positions | None = None) -> None:
        self.source = TailSource(Config(type="tail", path=path, poll_seconds=1e-6), resume or {})
        self._batches: Iterator[Batch] = iter(self.source)
        self.end: dict[str, int] = dict(resume or {})
        self.batches: list[Batch] = []

    def step(self) -> list[bytes]:
        """The lines of the next batch."""
        batch = next(self._batches)
        self.batches.append(batch)
        self.end.update(batch.end)
        return list(batch.values)

    def read(self) -> list[bytes]:
        """All lines until two batches in a row are empty: a rotation lies between two."""
        lines: list[bytes] = []
        quiet = 0
        while quiet < 2:
            step = self.step()
            quiet = 0 if step or self.batches[-1].refused else quiet + 1
            lines += step
        return lines

    def stop(self) -> None:
        """End it, and let its file be closed."""
        self.source.stop()
        assert list(self._batches) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log file with two lines."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\ntwo\n")
    return path


def append(path: Path, content: bytes) -> None:
    """Write on at the end, as an API server does."""
    with path.open("ab") as file:
        file.write(content)


def rotate(path: Path, number: int = 1) -> Path:
    """Rename the file and begin a new one."""
    old = path.rename(path.with_name(f"audit-{number}.log"))
    path.touch()
    return old


def test_lines_are_given_as_they_are_appended(path: Path) -> None:
    """First those that stand there already."""
    follower = Follower(path)
    assert follower.step() == [b"one", b"two"]
    assert follower.step() == []
    append(path, b"three\n")
    assert follower.step() == [b"three"]
    append(path, b"four\n\nsix\n")
    assert follower.read() == [b"four", b"", b"six"]
    assert [str(follower.batches[0].positions[i]) for i in range(2)] == [f"{path}:1", f"{path}:2"]
    follower.stop()


def test_half_a_line_waits_for_its_end(path: Path) -> None:
    """The API server may be seen in the midst of writing."""
    follower = Follower(path)
    append(path, b'{"auditID":')
    assert follower.read() == [b"one", b"two"]
    assert follower.read() == []
    append(path, b'"a"}\nnext')
    assert follower.read() == [b'{"auditID":"a"}']
    assert follower.end[str(path)] == path.stat().st_size - len(b"next")
    follower.stop()


def test_a_line_longer_than_a_block_is_given_whole(path: Path) -> None:
    """An event may have megabytes."""
    follower = Follower(path)
    follower.read()
    append(path, b"x" * (3 << 20))
    assert follower.read() == []
    append(path, b"x\ny\n")
    assert follower.read() == [b"x" * ((3 << 20) + 1), b"y"]
    follower.stop()


def test_a_line_that_is_too_long_is_refused_and_the_next_one_read(path: Path) -> None:
    """It must not hold up the log for ever."""
    follower = Follower(path)
    follower.read()
    append(path, b"x" * (17 << 20))
    assert follower.read() == []
    append(path, b"x\nnext\n")
    assert follower.read() == [b"next"]
    (letter,) = [letter for batch in follower.batches for letter in batch.refused]
    assert (letter.reason, letter.payload) == ("too_large", b"x" * 1024)
    assert str(letter.position) == f"{path}:3"
    assert str(follower.batches[-3].positions[0]) == f"{path}:4"
    assert follower.end[str(path)] == path.stat().st_size
    follower.stop()


def test_a_rotation_loses_nothing(path: Path) -> None:
    """What was written before it is read from the renamed file, what comes after it from the new one."""
    follower = Follower(path)
    assert follower.step() == [b"one", b"two"]
    append(path, b"three\n")
    rotate(path)
    append(path, b"four\n")
    assert follower.read() == [b"three", b"four"]
    rotate(path, 2)
    assert follower.read() == []
    append(path, b"five\n")
    assert follower.read() == [b"five"]
    follower.stop()


def test_a_line_without_its_end_in_a_rotated_file_is_given(path: Path) -> None:
    """Nothing more will come to it: if it is no event, that is to be told."""
    follower = Follower(path)
    append(path, b"half")
    assert follower.read() == [b"one", b"two"]
    rotate(path)
    append(path, b"new\n")
    assert follower.read() == [b"half", b"new"]
    follower.stop()


def test_the_moment_without_a_file_is_waited_out(path: Path) -> None:
    """Between the renaming of the old file and the creation of the new one."""
    follower = Follower(path)
    follower.read()
    path.rename(path.with_name("audit-1.log"))
    assert follower.read() == []
    path.write_bytes(b"three\n")
    assert follower.read() == [b"three"]
    follower.stop()


def test_a_file_that_is_copied_and_emptied_is_read_from_its_beginning(path: Path) -> None:
    """As `copytruncate` of logrotate does."""
    follower = Follower(path)
    assert follower.read() == [b"one", b"two"]
    os.truncate(path, 0)
    assert follower.read() == []
    append(path, b"3\n")
    assert follower.read() == [b"3"]
    follower.stop()


def test_a_restart_goes_on_at_the_byte_after_the_last_batch(path: Path) -> None:
    """Neither a line twice nor one left out."""
    first = Follower(path)
    first.read()
    first.stop()
    append(path, b"three\n")
    second = Follower(path, first.end)
    assert second.read() == [b"three"]
    second.stop()


def test_a_restart_after_a_rotation_reads_the_rest_of_the_old_file_first(path: Path) -> None:
    """It still lies in the folder under another name, among files of all kinds."""
    first = Follower(path)
    first.read()
    first.stop()
    append(path, b"three\n")
    rotate(path)
    append(path, b"four\n")
    path.with_name("0-dangling").symlink_to("nowhere")
    path.with_name("folder").mkdir()
    second = Follower(path, first.end)
    assert second.step() == [b"three"]
    between = dict(second.end)
    assert second.read() == [b"four"]
    second.stop()
    third = Follower(path, between)  # as if it had been killed between the two
    assert third.read() == [b"four"]
    third.stop()


def test_a_restart_before_the_new_file_is_there_waits_for_it(path: Path) -> None:
    """The renamed file is read meanwhile."""
    first = Follower(path)
    first.read()
    first.stop()
    append(path, b"three\n")
    path.rename(path.with_name("audit-1.log"))
    second = Follower(path, first.end)
    assert second.read() == [b"three"]
    path.write_bytes(b"four\n")
    assert second.read() == [b"four"]
    second.stop()


def test_a_restart_after_the_old_file_is_gone_reads_the_new_one_whole(path: Path) -> None:
    """What is gone is gone, and no byte of the new file is passed over."""
    first = Follower(path)
    first.read()
    first.stop()
    keeper = path.open("rb")  # keeps the inode, which would else be given to the new file
    path.unlink()
    path.write_bytes(b"three\nfour\nfive\n")
    second = Follower(path, first.end)
    assert second.read() == [b"three", b"four", b"five"]
    second.stop()
    keeper.close()


def test_a_restart_after_a_truncation_reads_from_the_beginning(path: Path) -> None:
    """The saved position lies behind the end."""
    first = Follower(path)
    first.read()
    first.stop()
    os.truncate(path, 0)
    append(path, b"3\n")
    second = Follower(path, first.end)
    assert second.read() == [b"3"]
    second.stop()


def test_a_missing_file_is_told_with_its_setting(tmp_path: Path) -> None:
    """At the start it is a mistake, not a rotation."""
    with pytest.raises(SourceUnavailable, match=r"nosuch\.log cannot be read: No such file.*source\.path"):
        Follower(tmp_path / "nosuch.log").step()


def test_a_stopped_source_ends_after_the_batch_in_hand(path: Path) -> None:
    """However much is left."""
    append(path, b"x" * 100 + b"\n" + b"y" * (2 << 20) + b"\n")
    source = TailSource(Config(type="tail", path=path, poll_seconds=1e-6), {})
    given = 0
    for _ in source:
        given += 1
        source.stop()
    assert given == 1
