"""A log file that an API server is writing, followed through its rotations.

Its positions are the next byte of the file and, beside it, the file's inode: after a restart the rest of a file that
was renamed in between is read first, if it still lies in the same folder.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import BinaryIO, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from detector.errors import SourceUnavailable
from detector.record import Batch, DeadLetter, Lines, Position, Positions

log = structlog.get_logger(__name__)

_BLOCK_BYTES: Final = 1 << 20
_LINE_BYTES_MAX: Final = 16 << 20  # as large as the largest record that a format reads
_KEPT_BYTES: Final = 1024  # of a line that is too long


class Config(BaseModel):
    """Settings of `[source]` with `type = "tail"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["tail"]
    path: Path = Field(description="The audit log file, as in the API server's --audit-log-path.")
    poll_seconds: float = Field(default=0.5, gt=0, description="How long to wait at the end of the file.")


class TailSource:
    """Reads a growing file, a batch a block of complete lines."""

    def __init__(self, config: Config, resume: Positions) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self._config = config
        self._resume = resume
        self._stopped = False
        self._lines_read = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the complete lines as they come, an empty batch whenever there are none."""
        path = self._config.path
        renamed = self._renamed_file()
        if renamed is not None:
            with renamed.open("rb") as file:
                file.seek(self._resume[str(path)])
                yield from self._read_rest(file, final=True)
        rotated = renamed is not None
        while not self._stopped:
            if rotated and not path.exists():  # the moment between the renaming of the old and the creation of the new
                yield Batch((), (), {})
                sleep(self._config.poll_seconds)
                continue
            try:
                file = path.open("rb")
            except OSError as error:
                raise SourceUnavailable(f"{path} cannot be read: {error.strerror}; check source.path") from error
            with file:
                file.seek(0 if rotated else self._offset(file))
                yield from self._follow(file)
            rotated = True

    def commit(self, positions: Positions) -> None:
        """Do nothing: the positions are kept in the state."""

    def hold(self, seconds: float) -> None:
        """Wait; a file does not run away."""
        sleep(seconds)

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopped = True

    def close(self) -> None:
        """Do nothing: the file is closed with the iteration."""

    def _follow(self, file: BinaryIO) -> Iterator[Batch]:
        """Read until the file is replaced and read to its end, or truncated."""
        while not self._stopped:
            replaced = self._is_replaced(file)
            read = False
            for batch in self._read_rest(file, final=replaced):
                read = True
                yield batch
                if self._stopped:
                    return
            if replaced:
                log.info("log file was rotated", path=str(self._config.path))
                return
            if not read:
                yield Batch((), (), {})
                sleep(self._config.poll_seconds)

    def _read_rest(self, file: BinaryIO, *, final: bool) -> Iterator[Batch]:
        """The lines from here to the end; a last line without its end is left for later, unless nothing more comes."""
        stream = str(self._config.path)
        inode = os.fstat(file.fileno()).st_ino
        while not self._stopped:
            start = file.tell()
            block = _read_block(file)
            complete, newline, _ = block.rpartition(b"\n")
            lines: list[bytes] = []
            refused: list[DeadLetter] = []
            if newline:
                lines = complete.split(b"\n")
                file.seek(start + len(complete) + 1)
            elif len(block) > _LINE_BYTES_MAX and (_skip_line(file) or final):
                detail = f"a line longer than {_LINE_BYTES_MAX:,} bytes"
                refused = [DeadLetter(Position(stream, self._lines_read + 1), "too_large", detail, block[:_KEPT_BYTES])]
            elif block and final:
                lines = [block]
            else:
                file.seek(start)
                return
            positions = Lines(stream, self._lines_read + 1, len(lines))
            self._lines_read += len(lines) + len(refused)
            yield Batch(lines, positions, {stream: file.tell(), f"{stream}#inode": inode}, refused=refused)

    def _is_replaced(self, file: BinaryIO) -> bool:
        mine = os.fstat(file.fileno())
        try:
            current = self._config.path.stat()
        except FileNotFoundError:  # between the renaming of the old and the creation of the new one
            return False
        return current.st_ino != mine.st_ino or current.st_size < file.tell()

    def _offset(self, file: BinaryIO) -> int:
        stream = str(self._config.path)
        known, inode = self._resume.get(stream, 0), self._resume.get(f"{stream}#inode")
        now = os.fstat(file.fileno())
        return known if known <= now.st_size and inode == now.st_ino else 0

    def _renamed_file(self) -> Path | None:
        """The file that was being read when the state was saved, if it now lies under another name."""
        path = self._config.path
        inode = self._resume.get(f"{path}#inode")
        if inode is None or (path.exists() and path.stat().st_ino == inode):
            return None
        try:
            with os.scandir(path.parent) as entries:
                found = next((Path(entry.path) for entry in entries if entry.inode() == inode), None)
        except OSError:  # `__iter__` tells what is wrong with the folder
            return None
        if found is None:
            log.warning("log file was rotated and is gone, what was unread of it is lost", path=str(path))
        return found


def _read_block(file: BinaryIO) -> bytes:
    """At least one whole line, if there is one that is not too long."""
    block = file.read(_BLOCK_BYTES)
    while block and b"\n" not in block and len(block) <= _LINE_BYTES_MAX:
        more = file.read(_BLOCK_BYTES)
        if not more:
            break
        block += more
    return block


def _skip_line(file: BinaryIO) -> bool:
    """Go behind the end of the line; False if it has none yet."""
    while block := file.read(_BLOCK_BYTES):
        before, newline, _ = block.partition(b"\n")
        if newline:
            file.seek(len(before) + 1 - len(block), os.SEEK_CUR)
            return True
    return False
