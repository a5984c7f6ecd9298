"""Sink: NDJSON, a file or stdout with one alert a line. Once `write` returns, the lines are on disk."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.alert import Alert
from detector.errors import SinkUnavailable, UsageError
from detector.sinks.line_file import LineFile

_STDOUT: Final = Path("-")


class Config(BaseModel):
    """Where alerts are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["ndjson"] = "ndjson"
    path: Path = Field(description="The file, `-` for stdout.")


class NdjsonSink:
    """Writes a line for each version of an alert: the last line of an id is the alert.

    Args:
        path: The file, `-` for stdout.
        append: Add to the file instead of replacing it.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        self._path = path
        try:
            self._file = None if path == _STDOUT else LineFile(path, append=append)
        except OSError as error:
            raise UsageError(f"{path}: {_remedy(error, path)}") from None

    def probe(self) -> None:
        """Do nothing: the file was opened when the sink was made."""

    def write(self, alerts: Sequence[Alert]) -> None:
        """Write a line for each alert.

        Raises:
            SinkUnavailable: they cannot be written now, as when the disk is full; none of them stands in the file.
            BrokenPipeError: whoever read stdout has gone (`| head`), which is no fault.
        """
        lines = [_line(alert) for alert in alerts]
        if self._file is None:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
            return
        try:
            self._file.write(lines)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SinkUnavailable("ndjson", f"{self._path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _line(alert: Alert) -> str:
    # All but ASCII is escaped: names that a client chose cannot steer the terminal or break the line.
    return alert.document.to_json_text()


def _remedy(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}: create it first"
    if isinstance(error, IsADirectoryError):
        return "this is a folder: name a file in it"
    return f"cannot be written ({error.strerror}): name another file, or change the permissions"
