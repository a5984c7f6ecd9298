"""Archived log files: plain, gzip of several members, zstd of several frames, or standard input.

Files that overlap in time (one a API server, say) are read side by side, so that event time moves on evenly.
Durability is the file's own: `commit` does nothing, a replay starts again from the beginning.
"""

import gzip
import heapq
import io
import os
import re
import select
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from time import sleep
from typing import Final, Protocol

import zstandard

from detector.errors import UsageError
from detector.record import Batch, DeadLetter, Lines, Position, Positions

STDIN: Final = "-"
_BLOCK_BYTES: Final = 128 << 10
_LINE_BYTES_MAX: Final = 16 << 20  # as large as the largest record that a format reads
_RATIO_MAX: Final = 200  # real audit logs shrink 35-fold with zstd; a bomb does so 1,000-fold and more
_RATIO_FREE_BYTES: Final = 64 << 20
_ZSTD_WINDOW_BYTES_MAX: Final = 128 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_PIECE_BYTES: Final = 1024  # compressed; of a bomb such a piece holds up to 32 MB
_HEAD_BYTES: Final = 64 << 10
_STAGE_TIME: Final = re.compile(rb'"stageTimestamp"\s*:\s*"([^"]{0,40})"')
_STAGE_TIME_IN_TEXT: Final = re.compile(rb'\\"stageTimestamp\\+"\s*:\s*\\+"([^"\\]{0,40})\\')
_STDIN_FILE: Final = 0
_STOP_SECONDS: Final = 0.2
_KEPT_BYTES: Final = 1024  # of a line that is too long


def find_files(paths: Sequence[str]) -> list[str]:
    """Resolve files, folders (all that lies below, hidden files left out) and globs to files, in order, once each.

    Raises:
        UsageError: paths that do not exist, match nothing, or are named and cannot be read; all are told at once. A
            file that was only found in a folder is told when it is its turn.
    """
    found: dict[str, None] = {}
    missing: list[str] = []
    closed: list[str] = []
    for path in paths:
        matches = [path] if path == STDIN else _find(path)
        if not matches:
            missing.append(path)
        elif path != STDIN and Path(path).is_file() and not os.access(path, os.R_OK):
            closed.append(path)
        found.update(dict.fromkeys(matches))
    problems = (
        [f"no such file, folder or match: {', '.join(missing)}; check the path and its permissions"] if missing else []
    )
    problems += [f"{path} cannot be read: check its permissions" for path in closed]
    if problems:
        raise UsageError("\n".join(problems))
    return list(found)


def _find(path: str) -> list[str]:
    given = Path(path)
    try:
        if given.is_dir():
            below = sorted(entry for entry in given.rglob("*") if entry.is_file())
            return [str(entry) for entry in below if not _is_hidden(entry.relative_to(given))]
        if given.exists():
            return [str(given)]
        matches = map(Path, sorted(glob(path, recursive=True)))  # noqa: PTH207 Path.glob takes no absolute pattern
        return [str(match) for match in matches if match.is_file()]
    except OSError:  # a folder that may not be entered, a name that is too long
        return []


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _File:
    """One file being read, block by block, with the next batch in hand."""

    path: str
    raw: io.BufferedReader
    stream: _Stream
    rest: bytearray = field(default_factory=bytearray)
    lines_read: int = 0
    bytes_produced: int = 0
    skipping: bool = False
    refused: list[DeadLetter] = field(default_factory=list)
    ended: bool = False

    def read_batch(self) -> Batch | None:
        """The lines of the next block, or None at the end; a fault in the file ends it and is told with the batch."""
        while not self.ended:
            lines = self._cut(self._read_block())
            if lines or self.refused:
                first_line = self.lines_read + 1
                self.lines_read += len(lines)
                refused, self.refused = self.refused, []
                return Batch(lines, Lines(self.path, first_line, len(lines)), {}, refused=refused)
        return None

    def _read_block(self) -> bytes:
        try:
            block = self.stream.read1(_BLOCK_BYTES)
        except EOFError:
            self._refuse("unreadable_file", "its compressed data is cut off; the lines before were read")
            block = b""
        except (OSError, zlib.error, zstandard.ZstdError) as error:
            self._refuse("unreadable_file", f"{type(error).__name__}; the lines before were read")
            block = b""
        self.bytes_produced += len(block)
        if self.bytes_produced > _RATIO_FREE_BYTES and self.raw is not self.stream and self._is_bomb():
            self._refuse("decompression_bomb", f"grows more than {_RATIO_MAX}-fold; the rest is not read")
            block = b""
        self.ended = not block
        return block

    def _is_bomb(self) -> bool:
        return self.raw.seekable() and self.bytes_produced > _RATIO_MAX * max(self.raw.tell(), 1)

    def _cut(self, block: bytes) -> list[bytes]:
        if self.skipping:
            _, newline, block = block.partition(b"\n")
            if not newline:
                return []
            self.skipping = False
            self.lines_read += 1
        lines: list[bytes] = []
        if b"\n" in block or self.ended:
            lines = (bytes(self.rest) + block).split(b"\n")
            self.rest[:] = lines.pop()
            if self.ended and self.rest:
                lines.append(bytes(self.rest))
        else:
            self.rest += block
        if len(self.rest) > _LINE_BYTES_MAX:
            self._refuse("too_large", f"a line longer than {_LINE_BYTES_MAX:,} bytes", lines)
            self.skipping = True
        return lines

    def _refuse(self, reason: str, detail: str, before: Sequence[bytes] = ()) -> None:
        """Give up the line in hand, which comes after those `before`."""
        position = Position(self.path, self.lines_read + len(before) + 1)
        self.refused.append(DeadLetter(position, reason, detail, bytes(self.rest[:_KEPT_BYTES])))
        self.rest.clear()

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        self.raw.close()


class FileSource:
    """Reads files to their end, oldest first."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self._paths = paths
        self.stopped = False
        self.bytes_total = sum(map(_size_bytes, paths))
        """Size of all files as they lie on disk; standard input counts nothing."""
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of one file each; among files that overlap, always of the one that lags behind."""
        queue: list[tuple[bytes, int, _File | None, Batch | None]] = [
            (self._first_time(path), index, None, None) for index, path in enumerate(self._paths)
        ]
        heapq.heapify(queue)
        with ExitStack() as opened:
            while queue and not self.stopped:
                _, index, file, batch = heapq.heappop(queue)
                if batch is not None:
                    yield batch
                try:
                    file = file or opened.enter_context(closing(self._open(self._paths[index])))
                except OSError as error:
                    position = Position(self._paths[index], 0)
                    yield Batch((), (), {}, refused=[DeadLetter(position, "unreadable_file", str(error.strerror), b"")])
                    continue
                before = _tell(file.raw)
                following = file.read_batch()
                self.bytes_read += _tell(file.raw) - before
                if following is None:
                    file.close()
                else:
                    heapq.heappush(queue, (_time_of(following.values), index, file, following))

    def commit(self, positions: Positions) -> None:
        """Do nothing: a replay has no place to go on from."""

    def hold(self, seconds: float) -> None:
        """Wait; a file does not run away."""
        sleep(seconds)

    def stop(self) -> None:
        """End after the batch in hand."""
        self.stopped = True

    def close(self) -> None:
        """Do nothing: files are closed with the iteration."""

    def _first_time(self, path: str) -> bytes:
        """The time of a file's first event, which orders the files; no time sorts first."""
        if not Path(path).is_file():  # what is read from a pipe is gone
            return b""
        try:
            with Path(path).open("rb") as raw, closing(_decompressed(raw)) as stream:
                return _time_of([_head(stream)])
        except (OSError, EOFError, zlib.error, zstandard.ZstdError):
            return b""

    def _open(self, path: str) -> _File:
        raw: io.BufferedReader
        raw = io.BufferedReader(_Stdin(self)) if path == STDIN else Path(path).open("rb")  # noqa: SIM115 `_File` closes it
        return _File(path, raw, _decompressed(raw))


class _Stdin(io.RawIOBase):
    """Standard input, which ends when reading is stopped although nothing more comes."""

    def __init__(self, source: FileSource) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io.BufferedReader gives no other buffer
        while not select.select([_STDIN_FILE], [], [], _STOP_SECONDS)[0]:
            if self._source.stopped:
                return 0
        return os.readv(_STDIN_FILE, [buffer])


class _ZstdFrames:
    """zstd frames one after another; zstandard's own reader does not tell when the last one is cut off."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._compressed = b""
        self._produced = memoryview(b"")

    def read1(self, size: int, /) -> bytes:
        """At most so many bytes, nothing at the end of the last frame.

        Raises:
            EOFError: the last frame is cut off.
        """
        while not self._produced:
            compressed = self._compressed or self._raw.read(_ZSTD_PIECE_BYTES)
            if not compressed:
                if self._frame is not None:
                    raise EOFError
                break
            frame = self._frame or self._decompressor.decompressobj()
            self._produced = memoryview(frame.decompress(compressed))
            self._compressed = frame.unused_data
            self._frame = None if frame.eof else frame
        block = bytes(self._produced[:size])
        self._produced = self._produced[size:]
        return block

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""


def _decompressed(raw: io.BufferedReader) -> _Stream:
    """Choose by the first bytes, for names lie; nothing is consumed."""
    magic = raw.peek(4)[:4]
    if magic[:2] == _GZIP_MAGIC:
        return gzip.open(raw)
    if magic == _ZSTD_MAGIC:
        return _ZstdFrames(raw)
    return raw


def _head(stream: _Stream) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (block := stream.read1(_HEAD_BYTES)):
        head += block
    return head


def _size_bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # standard input, or a file that has just gone
        return 0


def _tell(raw: io.BufferedReader) -> int:
    return raw.tell() if raw.seekable() else 0


def _time_of(lines: Sequence[bytes]) -> bytes:
    for line in lines[:10]:
        found = _STAGE_TIME.search(line) or _STAGE_TIME_IN_TEXT.search(line)
        if found:
            return found[1]
    return b""
