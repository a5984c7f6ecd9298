"""Reload: rules and exceptions that changed on disk take the place of those in use, between two batches.

Files are looked at every few seconds, and at once when asked (SIGHUP). A set is taken when it has stood still from one
look to the next, so that half of a copy is not used. One that cannot be used is logged and sets a metric.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, TypeAlias

import structlog

from detector import metrics
from detector.errors import DetectorError
from detector.exceptions import Exceptions
from detector.sigma.load import CompiledRule

log = structlog.get_logger(__name__)

_CHECK_SECONDS: Final = 5.0

_Stamps: TypeAlias = tuple[tuple[str, int, int], ...]
"""Path, time of change and size of every file, following links: a mounted ConfigMap changes by swapping one."""


class Detections(NamedTuple):
    """What is looked for, and what of it is fine: loaded together, for an exception names rules."""

    rules: Sequence[CompiledRule]
    exceptions: Exceptions


class Reloader:
    """Watches files and loads them anew.

    Args:
        paths: files and folders that make up a set.
        load: makes the set; whatever it cannot use it tells by a DetectorError.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, paths: Sequence[Path], load: Callable[[], Detections], clock: Callable[[], float] = monotonic
    ) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._clock = clock
        self._checked = clock()
        self._requested = False
        self._seen = self._used = self._stamps()
        self._digest = self._digest_now()

    def request(self) -> None:
        """Load anew before the next batch, changed or not; safe in a signal handler."""
        self._requested = True

    def poll(self) -> Detections | None:
        """The new set, if there is one that can be used."""
        requested, self._requested = self._requested, False
        if not requested and self._clock() - self._checked < _CHECK_SECONDS:
            return None
        self._checked = self._clock()
        stamps = self._stamps()
        settled, self._seen = stamps == self._seen, stamps
        if not requested and (stamps == self._used or not settled):
            return None
        self._used = stamps
        digest, before = self._digest_now(), self._digest
        self._digest = digest
        return self._loaded() if requested or digest != before else None

    def _loaded(self) -> Detections | None:
        try:
            detections = self._load()
        except (DetectorError, OSError) as error:
            metrics.RELOADS.labels("failed").inc()
            metrics.RELOAD_FAILED.set(1)
            for line in str(error).splitlines():
                log.warning("rules and exceptions cannot be loaded anew, the old ones stay", problem=line)
            return None
        metrics.RELOADS.labels("done").inc()
        metrics.RELOAD_FAILED.set(0)
        log.info("rules and exceptions were loaded anew", exceptions=len(detections.exceptions.entries))
        return detections

    def _stamps(self) -> _Stamps:
        return tuple(_stamp(file) for file in self._files())

    def _digest_now(self) -> bytes:
        digest = hashlib.sha256()
        for file in self._files():
            digest.update(repr(str(file)).encode())
            try:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError:  # what cannot be read is for loading to tell
                digest.update(b"unreadable")
        return digest.digest()

    def _files(self) -> Iterator[Path]:
        for path in self._paths:
            try:
                files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            except OSError:
                files = [path]
            yield from files


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError:
        return (str(file), 0, -1)
    return (str(file), status.st_mtime_ns, status.st_size)
