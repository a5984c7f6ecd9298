"""Drives `detector run` against the real services: topics, documents and the process itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from elasticsearch import Elasticsearch
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

DETECTOR = Path(sys.executable).with_name("detector")
PATIENCE_SECONDS = 90.0


def create_topic(bootstrap: str, partitions: int) -> str:
    """Make a topic with a name of its own."""
    topic = f"audit-{uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(name=topic, num_partitions=partitions, replication_factor=1)])
    finally:
        admin.close()
    return topic


def produce(bootstrap: str, topic: str, values: Iterable[bytes]) -> None:
    """Send records without a key, as most shippers do; returns once the broker has them all."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, batch_size=1 << 18)
    try:
        for value in values:
            producer.send(topic, value)
        producer.flush()
    finally:
        producer.close()


def write_settings(
    directory: Path,
    bootstrap: str,
    topic: str,
    url: str,
    index: str,
    *,
    model: Path | None = None,
    rules: Path | None = None,
) -> Path:
    """Write the settings of one detector, which keeps its name in the group over restarts."""
    behaviour = f'[model]\npath = "{model}"\n' if model else ""
    behaviour += f'[rules]\npath = "{rules}"\n' if rules else ""
    path = directory / "detector.toml"
    path.write_text(
        f"""
trusted_proxies = ["127.0.0.1/32"]
[source]
type = "kafka"
bootstrap_servers = ["{bootstrap}"]
topics = ["{topic}"]
group_id = "{topic}"
group_instance_id = "detector-0"
auto_offset_reset = "earliest"
session_timeout_ms = 6000
[sink]
type = "elasticsearch"
url = "{url}"
index = "{index}"
[state]
directory = "{directory / "state"}"
[dead_letters]
path = "{directory / "dead-letters.ndjson"}"
{behaviour}""",
        encoding="utf-8",
    )
    return path


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of detector to its end."""
    return subprocess.run([DETECTOR, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


@contextmanager
def running(settings: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`detector run`, ended by SIGTERM if it still lives; a failure shows what it said."""
    errors = settings.with_name("run.log")
    with errors.open("ab") as log:
        process = subprocess.Popen([DETECTOR, "run", "--config", settings], stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE_SECONDS)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process with no chance to clean up."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def stored(url: str, index: str) -> dict[str, dict[str, Any]]:
    """Every stored alert by id, without the two fields that tell when it was written."""
    client = Elasticsearch(url)
    try:
        client.indices.refresh(index=f"{index}-*", allow_no_indices=True)
        answer = client.search(index=f"{index}-*", size=10_000, query={"match_all": {}})
        hits = answer["hits"]["hits"]
    finally:
        client.close()
    found = {hit["_id"]: comparable(hit["_source"]) for hit in hits}
    assert len(found) == len(hits), "an id is stored twice"
    return found


def replayed(paths: Sequence[Path], model: Path | None = None, rules: Path | None = None) -> dict[str, dict[str, Any]]:
    """What `detector replay` makes of the same input, by id."""
    options = ["--trusted-proxy", "127.0.0.1/32", "--model", str(model or "none"), "-q"]
    done = command("replay", *options, *(["--rules", str(rules)] if rules else []), *paths)
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    return {document["event"]["id"]: comparable(document) for document in documents}


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """A document without `event.created` and `event.ingested`, the only fields that may differ between two runs."""
    event = {key: value for key, value in document["event"].items() if key not in ("created", "ingested")}
    return {**document, "event": event}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until a condition holds, or fail saying what did not come about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.2)
