"""LineFile: whole lines or none."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from detector.sinks.line_file import LineFile


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """Let writes fail half-way, as on a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    """The same lines can be written again once there is space, and none stands twice or in part."""
    path = tmp_path / "lines"
    with closing(LineFile(path, append=True)) as file:
        file.write(["first"])
        with no_file_larger_than(100), pytest.raises(OSError, match="File too large"):
            file.write(["second", "x" * 200])
        assert path.read_text() == "first\n"
        file.write(["second", "third"])
    assert path.read_text() == "first\nsecond\nthird\n"


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """After a crash within a write, the next line begins on its own."""
    path = tmp_path / "lines"
    path.write_text("whole\ncut o")
    with closing(LineFile(path, append=True)) as file:
        file.write(["next"])
        file.write(["last"])
    assert path.read_text() == "whole\ncut o\nnext\nlast\n"


def test_lines_are_on_disk_when_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write is synced once, and a new file's folder too, or the file's name could be lost."""
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    with closing(LineFile(tmp_path / "lines", append=False)) as file:
        file.write(["a", "b"])
        file.write(["c"])
    assert synced == [True, False, False]
