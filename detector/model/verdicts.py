"""Verdicts: what people said of alerts decides which requests may teach the next model.

A malicious alert's requests never teach, and neither do those of an alert of medium severity or more that nobody has
judged yet: what looked strange waits until someone says it was fine.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from detector.errors import UsageError
from detector.match import SEVERITY, Level
from detector.model.curation import Span, Withheld

MALICIOUS: Final = "in alerts judged malicious"
UNJUDGED: Final = "in alerts nobody judged"


class Verdict(StrEnum):
    """What a person said of an alert."""

    BENIGN = "benign"
    MALICIOUS = "malicious"


class _Judged(msgspec.Struct, frozen=True):
    alert_id: str
    verdict: Verdict


class _Event(msgspec.Struct, frozen=True):
    id: str
    severity: int


class _User(msgspec.Struct, frozen=True):
    name: str = ""


class _Detector(msgspec.Struct, frozen=True):
    audit_ids: list[str]
    event_count: int
    first_seen: datetime
    last_seen: datetime


class _Alert(msgspec.Struct, frozen=True):
    event: _Event
    detector: _Detector
    user: _User = _User()


_Line = TypeVar("_Line", _Judged, _Alert)


def read_verdicts(path: Path) -> dict[str, Verdict]:
    """Read verdicts by alert id, NDJSON of `{"alert_id": ..., "verdict": "benign"}`; of several, the last one holds.

    Raises:
        UsageError: the file cannot be read, with the line.
    """
    expected = "a JSON object with alert_id, and verdict benign or malicious"
    return {line.alert_id: line.verdict for line in _lines("--verdicts", path, _Judged, expected)}


def withhold(path: Path, verdicts: Mapping[str, Verdict]) -> Withheld:
    """Read the alerts that `run` or `replay` wrote, and withhold the requests of those that are not known to be benign.

    Raises:
        UsageError: the file cannot be read, or lacks an alert that was judged malicious: its requests are not known.
    """
    withheld = Withheld()
    missing = {alert_id for alert_id, verdict in verdicts.items() if verdict is Verdict.MALICIOUS}
    for alert in _lines("--alerts", path, _Alert, "an alert as `replay` writes it"):
        missing.discard(alert.event.id)
        verdict = verdicts.get(alert.event.id)
        if verdict is Verdict.MALICIOUS:
            _withhold(withheld, alert, MALICIOUS)
        elif verdict is None and alert.event.severity >= SEVERITY[Level.MEDIUM]:
            _withhold(withheld, alert, UNJUDGED)
    if missing:
        raise UsageError(
            f"--alerts {path} lacks {len(missing)} of the alerts judged malicious ({', '.join(sorted(missing)[:3])}), "
            "so their requests would teach; give the file that holds them"
        )
    return withheld


def _withhold(withheld: Withheld, alert: _Alert, reason: str) -> None:
    for audit_id in alert.detector.audit_ids:
        if withheld.by_audit_id.get(audit_id) != MALICIOUS:
            withheld.by_audit_id[audit_id] = reason
    if alert.detector.event_count > len(alert.detector.audit_ids):  # it names only some of its requests
        span = Span(alert.detector.first_seen, alert.detector.last_seen, reason)
        withheld.by_identity.setdefault(alert.user.name, []).append(span)


def _lines(option: str, path: Path, kind: type[_Line], expected: str) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _decode(decoder, line, f"{option} {path}:{number}: must be {expected}")
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from error


def _decode(decoder: msgspec.json.Decoder[_Line], line: bytes, told: str) -> _Line:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{told}: {error}") from error
