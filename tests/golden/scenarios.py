"""The scenarios and their alerts."""

import json
from pathlib import Path
from typing import Any

from tests.pipelines import replay

FOLDER = Path(__file__).parents[2] / "sample_logs" / "scenarios"


def scenarios() -> list[Path]:
    """Every scenario's log."""
    return sorted(FOLDER.glob("*.jsonl"))


def golden_path(scenario: Path) -> Path:
    """Where a scenario's alerts stand."""
    return scenario.with_suffix(".alerts.ndjson")


def alerts_of(scenario: Path) -> str:
    """The complete alerts of a scenario, one JSON document a line, without what differs between two runs."""
    kept = replay([scenario.read_bytes().splitlines()])
    complete = [alert for alert in kept.versions if alert.complete]
    return "".join(json.dumps(_comparable(alert.document.to_json())) + "\n" for alert in complete)


def _comparable(document: dict[str, Any]) -> dict[str, Any]:
    event = {key: value for key, value in document["event"].items() if key not in ("created", "ingested")}
    return {**document, "event": event}
