"""State: open alerts, event time and read positions, saved as one, so that a restart neither loses nor counts twice."""

import fcntl
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from detector.errors import ConfigError, SinkUnavailable
from detector.fold import FolderState
from detector.health.monitor import Checks
from detector.match import Rule
from detector.score import BehaviourState
from detector.sigma.memory import Memory
from detector.watermark import Watermark

_FORMAT: Final = 3
_FILE: Final = "state.msgpack"


class Snapshot(msgspec.Struct):
    """Everything a run remembers."""

    format: int = _FORMAT
    positions: dict[str, int] = {}
    """Per stream the position to go on from: what lies before it is in this snapshot."""
    folder: FolderState = msgspec.field(default_factory=FolderState)
    watermark: Watermark = msgspec.field(default_factory=Watermark)
    memory: Memory = msgspec.field(default_factory=Memory)
    """What correlations and first-seen conditions remember."""
    behaviour: BehaviourState | None = None
    """Baselines and windows of the model, if there is one."""
    health: Checks = msgspec.field(default_factory=Checks)
    """What the checks of the stream's health remember."""
    exception_hits: dict[str, int] = {}
    """Per exception how many matches it silenced."""


def read(directory: Path) -> Snapshot:
    """Read the snapshot in a folder, which a run may be using; an empty one if there is none.

    Raises:
        ConfigError: it is damaged or of another version.
    """
    path = directory / _FILE
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return Snapshot()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used: {error}; {_REMEDY}") from error


class StateFile:
    """One run's snapshot on disk; a second run on the same folder is refused."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"state.directory {directory} is in use by another detector") from error
        except OSError as error:
            raise ConfigError(f"state.directory {directory} cannot be written: {error.strerror}") from error

    def load(self) -> Snapshot:
        """Read the snapshot, as `read` does."""
        return read(self._path.parent)

    def save(self, snapshot: Snapshot) -> None:
        """Replace the snapshot in one step; durable when this returns."""
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(encode(snapshot))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise SinkUnavailable("state", f"{self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()


_REMEDY: Final = "remove it to go on from the consumer group's offsets; open alerts are then counted anew"


def _encode_rule(value: object) -> dict[str, Any]:
    if isinstance(value, Rule):
        return value.model_dump(mode="json")
    raise NotImplementedError(type(value).__name__)


def _decode_rule(kind: type, value: object) -> object:
    if kind is Rule:
        return Rule.model_validate(value)
    raise NotImplementedError(kind.__name__)


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_encode_rule)
_decoder: Final = msgspec.msgpack.Decoder(Snapshot, dec_hook=_decode_rule)


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes."""
    return _encoder.encode(snapshot)


def decode(content: bytes) -> Snapshot:
    """Read back what `encode` wrote; raises ValueError for damage or another format."""
    try:
        snapshot = _decoder.decode(content)
    except msgspec.DecodeError as error:
        raise ValueError(f"it is damaged ({error})") from error
    if snapshot.format != _FORMAT:
        raise ValueError(f"it has format {snapshot.format}, this version reads {_FORMAT}")
    return snapshot
