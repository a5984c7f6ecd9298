"""Dead letters: records and alerts that could not be used, one JSON object a line, without the values they hold."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from detector.errors import SinkUnavailable
from detector.record import DeadLetter
from detector.redact import mask
from detector.sinks.line_file import LineFile

_EXCERPT_BYTES: Final = 1024


class DeadLetterFile:
    """Adds dead letters to a file that is created with the first of them; durable once `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: LineFile | None = None

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write a line for each dead letter.

        Raises:
            SinkUnavailable: they cannot be written; the pipeline must not go on, or they would be lost.
        """
        if not letters:
            return
        try:
            if self._file is None:
                self._file = LineFile(self._path, append=True)
            self._file.write(_line(letter) for letter in letters)
        except OSError as error:
            message = f"{self._path} cannot be written ({error.strerror}): see to its folder, its permissions and space"
            raise SinkUnavailable("dead letters", message) from None

    def close(self) -> None:
        """Close the file, if there was any dead letter."""
        if self._file is not None:
            self._file.close()


def _line(letter: DeadLetter) -> str:
    entry: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "stream": letter.position.stream if letter.position else None,
        "offset": letter.position.offset if letter.position else None,
        "reason": letter.reason,
        "detail": letter.detail,
        "size_bytes": len(letter.payload),
        "sha256": hashlib.sha256(letter.payload).hexdigest(),
        # Cut first: a payload of 100 MB must not be searched for secrets, and `mask` knows cut-off strings.
        "excerpt": mask(letter.payload[:_EXCERPT_BYTES].decode(errors="replace")),
    }
    return json.dumps(entry, separators=(",", ":"))
