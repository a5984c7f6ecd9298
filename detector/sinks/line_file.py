"""LineFile: a file to which whole lines are added, on disk once `write` returns."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_MODE: Final = 0o600  # what is written here tells of a cluster's users


class LineFile:
    """Adds lines to the end of a file, a pipe or a device.

    Args:
        path: Created if need be, its folder is not.
        append: Keep what stands there already.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        kept = 0 if append else os.O_TRUNC
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | kept, _MODE)
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        if self._regular:
            _sync(path.parent)
        # A writer that was killed may have left part of a line: the next one must not be glued to it.
        self._lead = b"\n" if self._regular and _ends_within_a_line(path) else b""

    def write(self, lines: Iterable[str]) -> None:
        """Add all of the lines, or none.

        Raises:
            OSError: they cannot be written, as when the disk is full.
        """
        rest = memoryview(self._lead + "".join(f"{line}\n" for line in lines).encode())
        end = os.fstat(self._file).st_size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if self._regular:
                os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, end)
            raise
        self._lead = b""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read() not in (b"", b"\n")


def _sync(folder: Path) -> None:
    """Make a new file's name durable, as fsync of the file does for its content only."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
