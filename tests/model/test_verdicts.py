"""What people said of alerts decides which requests may teach."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from detector.errors import UsageError
from detector.model.verdicts import MALICIOUS, UNJUDGED, read_verdicts, withhold
from tests.model import town

TIME = town.START
USER = "dev-0@corp.example"


def alert(alert_id: str, audit_ids: list[str], *, severity: int = 47, count: int | None = None) -> dict[str, Any]:
    """What is read of an alert."""
    return {
        "event": {"id": alert_id, "severity": severity},
        "user": {"name": USER},
        "detector": {
            "audit_ids": audit_ids,
            "event_count": len(audit_ids) if count is None else count,
            "first_seen": TIME.isoformat(),
            "last_seen": (TIME + timedelta(hours=1)).isoformat(),
        },
    }


def written(path: Path, *lines: object) -> Path:
    """Write NDJSON."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_only_what_was_judged_benign_teaches(tmp_path: Path) -> None:
    """Malicious alerts never, and those that nobody judged not yet."""
    verdicts = written(
        tmp_path / "verdicts",
        {"alert_id": "fine", "verdict": "malicious", "analyst": "ana"},
        {"alert_id": "theft", "verdict": "malicious"},
        {"alert_id": "fine", "verdict": "benign"},
    )
    alerts = written(tmp_path / "alerts", alert("fine", ["a"]), alert("theft", ["b"]), alert("open", ["c", "b"]))
    assert withhold(alerts, read_verdicts(verdicts)).by_audit_id == {"b": MALICIOUS, "c": UNJUDGED}


def test_a_low_alert_teaches_unless_it_was_judged_malicious(tmp_path: Path) -> None:
    """There are hundreds of them, and they are about ordinary acts."""
    alerts = written(tmp_path / "alerts", alert("low", ["a"], severity=21), alert("theft", ["b"], severity=21))
    verdicts = written(tmp_path / "verdicts", {"alert_id": "theft", "verdict": "malicious"})
    assert withhold(alerts, read_verdicts(verdicts)).by_audit_id == {"b": MALICIOUS}


def test_of_an_alert_that_names_only_some_of_its_requests_the_whole_time_is_withheld(tmp_path: Path) -> None:
    """Of its identity, from its first request to its last."""
    withheld = withhold(written(tmp_path / "alerts", alert("open", ["a"], count=5000)), {})
    inside, after = (town.activity(town.request(TIME + timedelta(minutes=minute), USER)) for minute in (60, 61))
    other = town.activity(town.request(TIME, "dev-1@corp.example"))
    assert [withheld.reason(activity) for activity in (inside, after, other)] == [UNJUDGED, None, None]


def test_a_malicious_verdict_without_its_alert_is_refused(tmp_path: Path) -> None:
    """Its requests would teach unseen."""
    verdicts = written(tmp_path / "verdicts", {"alert_id": "gone", "verdict": "malicious"})
    with pytest.raises(UsageError, match=r"lacks 1 of the alerts judged malicious \(gone\)"):
        withhold(written(tmp_path / "alerts", alert("open", ["a"])), read_verdicts(verdicts))


@pytest.mark.parametrize("line", ["{", "[]", '{"alert_id": "a", "verdict": "perhaps"}', '{"verdict": "benign"}'])
def test_a_verdict_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    """And with what is expected there."""
    path = tmp_path / "verdicts"
    path.write_text(f'{{"alert_id": "a", "verdict": "benign"}}\n\n{line}\n')
    with pytest.raises(UsageError, match=r"verdicts:3: must be a JSON object with alert_id"):
        read_verdicts(path)


def test_files_that_are_missing_or_no_alerts_are_told(tmp_path: Path) -> None:
    """By the option that names them."""
    with pytest.raises(UsageError, match=r"--verdicts .*gone cannot be read"):
        read_verdicts(tmp_path / "gone")
    with pytest.raises(UsageError, match="alerts:1: must be an alert as `replay` writes it"):
        withhold(written(tmp_path / "alerts", {"event": {}}), {})
