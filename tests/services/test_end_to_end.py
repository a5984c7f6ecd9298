"""From a real Kafka topic to a real Elasticsearch, as a SOC runs it."""

import random
import time
from pathlib import Path
from uuid import uuid4

import pytest
import zstandard

from detector.sigma.load import BUNDLED
from tests.services import live
from tests.services.proxy import Proxy
from tests.services.services import ROOT, Services

SAMPLE = ROOT / "sample_logs" / "test.jsonl.zst"
MODEL = ROOT / "models" / "sample" / "1"

pytestmark = pytest.mark.services


@pytest.fixture(scope="session")
def sample_lines() -> list[bytes]:
    """The events of the test days, a line each."""
    with SAMPLE.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()


@pytest.fixture
def index() -> str:
    """A name for indices that no other test writes to."""
    return f"logs-detector.alerts-{uuid4().hex[:12]}"


def _setup(
    services: Services,
    tmp_path: Path,
    index: str,
    *,
    partitions: int,
    model: Path | None = None,
    rules: Path | None = None,
) -> tuple[str, Path]:
    topic = live.create_topic(services.kafka_bootstrap, partitions)
    url = services.elasticsearch_url
    settings = live.write_settings(tmp_path, services.kafka_bootstrap, topic, url, index, model=model, rules=rules)
    done = live.command("es", "setup", "--config", settings)
    assert done.returncode == 0, done.stderr
    return topic, settings


def test_a_run_from_kafka_stores_the_very_alerts_that_a_replay_of_the_file_gives(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """Documents are equal id for id, although three partitions mix the order of events."""
    expected = live.replayed([SAMPLE])
    topic, settings = _setup(services, tmp_path, index, partitions=3)
    live.produce(services.kafka_bootstrap, topic, sample_lines)
    with live.running(settings) as process:
        live.wait_until(
            lambda: len(live.stored(services.elasticsearch_url, index)) >= len(expected) or process.poll() is not None,
            "as many documents as alerts",
        )
        live.wait_until(lambda: live.stored(services.elasticsearch_url, index) == expected, "equal documents")
    assert process.returncode == 0
    assert not (tmp_path / "dead-letters.ndjson").exists()


def test_ten_kills_at_random_moments_lose_no_alert_and_store_none_twice(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """After each `kill -9` the next process goes on from the state; in the end the documents equal a replay's."""
    expected = live.replayed([SAMPLE])
    topic, settings = _setup(services, tmp_path, index, partitions=1)
    _kill_ten_times(services, topic, settings, sample_lines)
    with live.running(settings):
        live.wait_until(lambda: live.stored(services.elasticsearch_url, index) == expected, "equal documents")


def test_ten_kills_over_two_partitions_give_the_same_ids(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """None is missing and none comes twice, in whatever order the partitions are read.

    But for rules of first sights: which of two requests of one group came first is not known across partitions.
    """
    rules = tmp_path / "rules"
    rules.mkdir()
    for rule in BUNDLED.glob("*.yml"):
        text = rule.read_text(encoding="utf-8")
        if "\n  first_seen:" not in text and "\n  dormant:" not in text:
            (rules / rule.name).write_text(text, encoding="utf-8")
    expected = live.replayed([SAMPLE], rules=rules)
    topic, settings = _setup(services, tmp_path, index, partitions=2, rules=rules)
    _kill_ten_times(services, topic, settings, sample_lines)
    with live.running(settings):
        live.wait_until(
            lambda: live.stored(services.elasticsearch_url, index).keys() == expected.keys(), "the same ids"
        )


def _kill_ten_times(services: Services, topic: str, settings: Path, sample_lines: list[bytes]) -> None:
    moments = random.Random()  # noqa: S311 not for secrets
    share = len(sample_lines) // 10 + 1
    for start in range(0, len(sample_lines), share):
        live.produce(services.kafka_bootstrap, topic, sample_lines[start : start + share])
        with live.running(settings) as process:
            time.sleep(moments.uniform(0.5, 4.0))  # the moment itself is what is tested
            live.kill(process)


def test_behaviour_survives_kills_too(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """Baselines, open windows and positions are saved as one: scores and reasons equal those of a replay."""
    expected = live.replayed([SAMPLE], MODEL)
    assert any(document["rule"]["ruleset"] == "behaviour" for document in expected.values())
    topic, settings = _setup(services, tmp_path, index, partitions=1, model=MODEL)
    moments = random.Random()  # noqa: S311 not for secrets
    share = len(sample_lines) // 3 + 1
    for start in range(0, len(sample_lines), share):
        live.produce(services.kafka_bootstrap, topic, sample_lines[start : start + share])
        with live.running(settings) as process:
            time.sleep(moments.uniform(2.5, 5.0))  # the moment itself is what is tested
            live.kill(process)
    with live.running(settings):
        live.wait_until(lambda: live.stored(services.elasticsearch_url, index) == expected, "equal documents")


def test_a_model_that_cannot_be_used_leaves_the_rules_at_work(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """One line says so; alerts of rules come all the same."""
    topic, settings = _setup(services, tmp_path, index, partitions=1, model=tmp_path / "nothing")
    live.produce(services.kafka_bootstrap, topic, [line for line in sample_lines if b"/exec?" in line])
    with live.running(settings):
        live.wait_until(lambda: len(live.stored(services.elasticsearch_url, index)) >= 1, "an alert")
    assert b"rules go on alone" in (tmp_path / "run.log").read_bytes()


def test_a_broken_record_goes_to_the_dead_letters_and_the_others_are_evaluated(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """The dead letter names topic, partition and offset."""
    topic, settings = _setup(services, tmp_path, index, partitions=1)
    exec_event = next(line for line in sample_lines if b"/exec?" in line and b'"code":101' in line)
    live.produce(services.kafka_bootstrap, topic, [b'{"auditID": "cut off', exec_event])
    with live.running(settings):
        live.wait_until(lambda: len(live.stored(services.elasticsearch_url, index)) >= 1, "the alert")
    letter = (tmp_path / "dead-letters.ndjson").read_text(encoding="utf-8")
    assert f'"stream":"{topic}[0]"' in letter.replace('": "', '":"')
    assert '"offset":0' in letter.replace('": 0', '":0')


def test_an_unreachable_server_is_told_at_the_start_in_one_line(services: Services, tmp_path: Path, index: str) -> None:
    """Exit code 4, and nothing was read."""
    _, settings = _setup(services, tmp_path, index, partitions=1)
    text = settings.read_text(encoding="utf-8").replace(services.elasticsearch_url, "http://127.0.0.1:9")
    settings.write_text(text, encoding="utf-8")
    done = live.command("run", "--config", settings)
    assert done.returncode == 4
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "http://127.0.0.1:9" in errors[0]
    assert "Traceback" not in done.stderr


def test_a_server_that_goes_away_holds_the_records_until_it_is_back(
    services: Services, tmp_path: Path, index: str, sample_lines: list[bytes]
) -> None:
    """Nothing is committed meanwhile; ended while it waits, it exits with 4, and the next one reads them again."""
    topic, settings = _setup(services, tmp_path, index, partitions=1)
    right = settings.read_text(encoding="utf-8")
    excerpt = tmp_path / "excerpt.jsonl"
    excerpt.write_bytes(b"\n".join(sample_lines[:20_000]))
    expected = live.replayed([excerpt])
    with Proxy(services.elasticsearch_url) as proxy:
        settings.write_text(right.replace(services.elasticsearch_url, proxy.url), encoding="utf-8")
        with live.running(settings) as process:
            live.wait_until(lambda: b"reading starts" in (tmp_path / "run.log").read_bytes(), "the start")
            proxy.cut()
            live.produce(services.kafka_bootstrap, topic, sample_lines[:20_000])
            live.wait_until(lambda: b"holding" in (tmp_path / "run.log").read_bytes(), "a word about it")
            assert process.poll() is None
    assert process.returncode == 4
    assert live.stored(services.elasticsearch_url, index) == {}
    settings.write_text(right, encoding="utf-8")
    with live.running(settings):
        live.wait_until(lambda: live.stored(services.elasticsearch_url, index) == expected, "equal documents")
