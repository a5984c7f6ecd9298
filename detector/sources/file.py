"""Archived log files: plain, gzip of several members, zstd of several frames, or standard input.

Files that overlap in time (one a API server, say) are read side by side, so that event time moves on evenly.
Durability is the file's own: `commit` does nothing, a replay starts again from the beginning.
"""

import gzip
import heapq
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from time import sleep
from typing import BinaryIO, Final, cast

import zstandard

from detector.errors import DeadLetter, UsageError
from detector.record import Batch, Lines, Position, Positions

STDIN: Final = "-"
_BLOCK_BYTES: Final = 128 << 10
_LINE_BYTES_MAX: Final = 16 << 20  # as large as the largest record that a format reads
_RATIO_MAX: Final = 200  # real audit logs shrink 35-fold with zstd; a bomb does so 1,000-fold and more
_RATIO_FREE_BYTES: Final = 64 << 20
_ZSTD_WINDOW_BYTES_MAX: Final = 128 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_STAGE_TIME: Final = re.compile(rb'"stageTimestamp"\s*:\s*"([^"]{0,40})"')
_KEPT_BYTES: Final = 1024  # of a line that is too long


def find_files(paths: Sequence[str]) -> list[str]:
    """Resolve files, folders (all that lies below, hidden files left out) and globs to files, in order, once each.

    Raises:
        UsageError: a path that does not exist or matches nothing; all of them are named at once.
    """
    found: dict[str, None] = {}
    missing: list[str] = []
    for path in paths:
        if path == STDIN:
            matches = [path]
        elif Path(path).is_dir():
            below = (entry for entry in sorted(Path(path).rglob("*")) if entry.is_file())
            matches = [str(entry) for entry in below if not any(part.startswith(".") for part in entry.parts[1:])]
        elif Path(path).exists():
            matches = [path]
        else:
            matches = sorted(match for match in glob(path, recursive=True) if Path(match).is_file())  # noqa: PTH207 Path.glob takes no absolute pattern
        if not matches:
            missing.append(path)
        found.update(dict.fromkeys(matches))
    if missing:
        raise UsageError(f"no such file, folder or match: {', '.join(missing)}; check the path and its permissions")
    return list(found)


@dataclass(slots=True)
class _File:
    """One file being read, block by block, with the next batch in hand."""

    path: str
    raw: BinaryIO
    stream: BinaryIO
    rest: bytes = b""
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
            block = self.stream.read(_BLOCK_BYTES)
        except (EOFError, OSError, zstandard.ZstdError) as error:
            self._refuse("unreadable_file", f"{type(error).__name__}; the lines before it were read")
            block = b""
        self.bytes_produced += len(block)
        if self.bytes_produced > _RATIO_FREE_BYTES and self.raw is not self.stream and self._is_bomb():
            self._refuse("decompression_bomb", f"grows more than {_RATIO_MAX}-fold; the rest of the file is not read")
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
        lines = (self.rest + block).split(b"\n")
        self.rest = b"" if self.ended else lines.pop()
        if self.ended and not lines[-1]:
            lines.pop()
        if len(self.rest) > _LINE_BYTES_MAX:
            self._refuse("too_large", f"a line longer than {_LINE_BYTES_MAX:,} bytes", self.rest[:_KEPT_BYTES], lines)
            self.rest, self.skipping = b"", True
        return lines

    def _refuse(self, reason: str, detail: str, payload: bytes = b"", before: Sequence[bytes] = ()) -> None:
        position = Position(self.path, self.lines_read + len(before) + 1)
        self.refused.append(DeadLetter(position, reason, detail, payload))


class FileSource:
    """Reads files to their end, oldest first."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self._paths = paths
        self._stopped = False
        self.bytes_total = sum(Path(path).stat().st_size for path in paths if path != STDIN)
        """Size of all files as they lie on disk; standard input counts nothing."""
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of one file each; among files that overlap, always of the one that lags behind."""
        queue: list[tuple[bytes, int, _File | None, Batch | None]] = [
            (self._first_time(path), index, None, None) for index, path in enumerate(self._paths)
        ]
        heapq.heapify(queue)
        while queue and not self._stopped:
            _, index, file, batch = heapq.heappop(queue)
            if batch is not None:
                yield batch
            try:
                file = file or _open(self._paths[index])
            except OSError as error:
                path = self._paths[index]
                yield Batch(
                    (), (), {}, refused=[DeadLetter(Position(path, 0), "unreadable_file", str(error.strerror), b"")]
                )
                continue
            before = file.raw.tell() if file.raw.seekable() else 0
            following = file.read_batch()
            self.bytes_read += (file.raw.tell() if file.raw.seekable() else 0) - before
            if following is None:
                file.stream.close()
            else:
                heapq.heappush(queue, (_time_of(following.values), index, file, following))

    def commit(self, positions: Positions) -> None:
        """Do nothing: a replay has no place to go on from."""

    def hold(self, seconds: float) -> None:
        """Wait; a file does not run away."""
        sleep(seconds)

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopped = True

    def close(self) -> None:
        """Do nothing: files are closed when they end."""

    def _first_time(self, path: str) -> bytes:
        """The time of a file's first event, which orders the files; no time sorts first."""
        if path == STDIN:
            return b""
        try:
            with Path(path).open("rb") as raw:
                head = _decompressed(raw).read(64 * 1024)
        except (OSError, EOFError, zstandard.ZstdError):
            return b""
        return _time_of([head])


def _open(path: str) -> _File:
    raw = sys.stdin.buffer if path == STDIN else Path(path).open("rb")  # noqa: SIM115 closed when it ends
    return _File(path, raw, _decompressed(raw))


def _decompressed(raw: BinaryIO) -> BinaryIO:
    """Choose by the first bytes, for names lie; standard input is looked at without consuming it."""
    peekable = raw if hasattr(raw, "peek") else io.BufferedReader(raw)  # type: ignore[type-var]
    magic = peekable.peek(4)[:4]
    if magic[:2] == _GZIP_MAGIC:
        return cast("BinaryIO", gzip.open(peekable))
    if magic == _ZSTD_MAGIC:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        return decompressor.stream_reader(peekable, read_across_frames=True)
    return raw


def _time_of(lines: Sequence[bytes]) -> bytes:
    for line in lines[:10]:
        found = _STAGE_TIME.search(line)
        if found:
            return found[1]
    return b""
