"""`detector model compare` and `drift`, and what `train` leaves out, as a user has them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from detector import metrics
from detector.cli.run import _open_behaviour
from detector.config import ModelConfig
from detector.state import Snapshot
from tests.cli import called, detector
from tests.model import town
from tests.model.test_model import DAY, MALLORY, intrusion


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Write NDJSON."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of usual days, of a day with an intrusion and of another town; and a model of each half of the days."""
    path = tmp_path_factory.mktemp("towns")
    usual = town.ordered(town.usual(days=8))
    later = [event for event in usual if event["stageTimestamp"] >= "2026-10-09"]
    written(path / "usual.log", usual[: len(usual) - len(later)])
    written(path / "later.log", later)
    written(path / "attacked.log", town.ordered(iter([*later, *intrusion()])))
    strangers = [{**event, "user": {"username": f"{event['user']['username']}-x"}} for event in later]
    written(path / "elsewhere.log", strangers)
    town.save(path / "one" / "1")
    done = detector("model", "train", "usual.log", "--seed", "8", "--rules", "none", "--output", "two/1", cwd=path)
    assert done.returncode == 0, done.stderr
    return path


def output(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a command wrote, as JSON."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_compare_shows_whom_either_model_would_alert_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds of the same days agree on the intruder."""
    assert called(monkeypatch, "model", "compare", "one/1", "two/1", "attacked.log", "--json", cwd=folder) == 0
    result = output(capsys)
    assert result["about"]["seed"] == ["7", "8"]
    assert (result["identities_only_first"], result["identities_only_second"]) == ([], [])
    assert result["archive"]["rank_correlation"] > 0.7  # what is usual is scored alike, so its order is chance
    assert MALLORY in {alert["identity"] for alert in result["archive"]["both"]}


def test_compare_needs_no_archive(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the models were trained on stands in them."""
    assert called(monkeypatch, "model", "compare", "one/1", "two/1", cwd=folder) == 0
    text = capsys.readouterr().out
    assert "raw score at 1 windows a day" in text
    assert "identities only in town/1@" in text
    assert "scored by both" not in text


def test_an_alert_of_one_model_only_is_listed_with_both_scores(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A budget of nearly no alerts leaves nothing to agree on, a generous one a lot."""
    arguments = ("model", "compare", "one/1", "two/1", "attacked.log", "--alerts-a-day", "50")
    assert called(monkeypatch, *arguments, cwd=folder) == 0
    text = capsys.readouterr().out
    assert f"  {MALLORY}" in text
    assert "alerts by both: " in text
    assert "more" in text


def test_usual_days_have_not_drifted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is new, and the advice is to do nothing but for the weekend that training never saw."""
    arguments = ("model", "drift", "one/1", "later.log", "--until", "2026-10-10T00:00:00Z", "--fail-above", "0.25")
    assert called(monkeypatch, *arguments, "--json", cwd=folder) == 0
    result = output(capsys)
    assert (result["identities"], result["new_identities"]) == (9, [])
    assert result["greatest_stability_index"] < 0.25


def test_the_logs_of_another_cluster_have_drifted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everybody is new, features drift, and `--fail-above` fails."""
    assert called(monkeypatch, "model", "drift", "one/1", "elsewhere.log", "--fail-above", "0.25", cwd=folder) == 1
    text = capsys.readouterr().out
    assert "new identities: 100%" in text
    assert "more of it than in training" in text
    assert "train a model for it" in text


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("compare", "one/1", "nothing"), 3, "`detector model train` makes one"),
        (("drift", "one/1", "later.log", "--until", "2026-10-09T03:00:00Z"), 3, "windows, at least 100 are needed"),
        (("drift", "one/1", "gone.log"), 2, "no such file"),
        (("train", "usual.log", "--output", "x/1", "--verdicts", "gone"), 2, "--verdicts needs --alerts FILE"),
        (("train", "usual.log", "--output", "x/1", "--labels", "gone"), 2, "--labels gone cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(folder: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    """With the exit code of the contract."""
    done = detector("model", *arguments, cwd=folder)
    assert done.returncode == code
    assert told in done.stderr


VERDICTS = ("--alerts", "alerts.ndjson", "--verdicts", "verdicts")


def judge(path: Path, verdict: str) -> None:
    """Usual days with an intrusion in them as `a.log`, what rules say of the intrusion, and what somebody says then."""
    attack = intrusion(town.START + timedelta(days=2))
    written(path / "attack.log", attack)
    done = detector("replay", "attack.log", "--output", "alerts.ndjson", cwd=path)
    assert done.returncode == 0, done.stderr
    alerts = [json.loads(line)["event"]["id"] for line in (path / "alerts.ndjson").read_text().splitlines()]
    written(path / "verdicts", [{"alert_id": alert, "verdict": verdict} for alert in alerts])
    written(path / "a.log", town.ordered(iter([*town.usual(), *attack])))


def test_training_tells_what_it_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr and in the card: events of overlapping files, and the requests of alerts that were judged malicious."""
    judge(tmp_path, "malicious")
    usual = (folder / "usual.log").read_text()
    (tmp_path / "b.log").write_text(usual)
    arguments = ("model", "train", "a.log", "b.log", *VERDICTS, "--output", "m/1")
    assert called(monkeypatch, *arguments, cwd=tmp_path) == 0
    told = capsys.readouterr().err
    events = len(usual.splitlines())
    assert f"left out: {events:,} given twice" in told
    assert "left out: 4 in alerts judged malicious" in told
    assert f"{events:,} given twice, 4 in alerts judged malicious" in (tmp_path / "m" / "1" / "card.md").read_text()


def test_a_benign_verdict_lets_an_alert_teach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the developer did is then one of their habits."""
    judge(tmp_path, "benign")
    arguments = ("a.log", *VERDICTS, "--output", "m/1")
    assert called(monkeypatch, "model", "train", *arguments, cwd=tmp_path) == 0
    assert "left out" not in capsys.readouterr().err
    show = ("identity", "show", MALLORY, "--model", "m/1", "--output-format", "ndjson")
    assert called(monkeypatch, *show, cwd=tmp_path) == 0
    assert "secrets@pay" in capsys.readouterr().out


def test_a_model_that_cannot_be_used_stops_a_replay_and_shows_in_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replay exits with 3; doctor has a line that says what to do."""
    written(tmp_path / "x.log", [town.request(DAY, MALLORY)])
    assert called(monkeypatch, "replay", "x.log", "--model", "broken", cwd=tmp_path) == 3
    capsys.readouterr()
    (tmp_path / "detector.toml").write_text('[model]\npath = "broken"\n')
    assert called(monkeypatch, "doctor", "--config", "detector.toml", cwd=tmp_path) == 1
    assert "FAIL  model: broken holds no model: features.json is missing" in capsys.readouterr().out


def test_run_goes_on_with_rules_alone_and_shows_it(tmp_path: Path) -> None:
    """By a metric and a warning that says what to do."""
    with structlog.testing.capture_logs() as logs:
        assert _open_behaviour(ModelConfig(path=tmp_path), Snapshot()) is None
    assert metrics.DEGRADED._value.get() == 1.0
    assert logs[0]["log_level"] == "warning"
    assert "`detector model train` makes one" in logs[0]["reason"]
    metrics.DEGRADED.set(0)
