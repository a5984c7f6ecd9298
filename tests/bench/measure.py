"""What is measured: a replay against the bare decoding of the same bytes, and against itself with more of something."""

import gc
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from uuid import uuid4

import msgspec
import zstandard

from detector.activity import activities
from detector.address import Locator
from detector.alert import Alert
from detector.baseline import Baselines
from detector.event import decode_native
from detector.fold import Folder
from detector.formats import Format
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.model.store import Model
from detector.model.train import Training
from detector.normalise import normalise
from detector.pipeline import Pipeline
from detector.record import DeadLetter
from detector.score import BehaviourState
from detector.sigma.engine import Engine
from detector.sigma.load import BUNDLED, load
from detector.sources.file import FileSource
from detector.watermark import Watermark

MODEL = Path(__file__).parents[2] / "models" / "sample" / "1"
SAMPLE = Path(__file__).parents[2] / "sample_logs" / "test.jsonl.zst"
ROUNDS = 5
_DETECTOR = Path(sys.executable).with_name("detector")


class _Nowhere:
    """A sink that costs nothing."""

    def probe(self) -> None:
        """Do nothing."""

    def write(self, items: Sequence[Alert] | Sequence[DeadLetter]) -> None:
        """Drop them."""

    def close(self) -> None:
        """Do nothing."""


def lines() -> list[bytes]:
    """The events of the test days, undecoded."""
    with SAMPLE.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()


def decode_bare(values: Sequence[bytes]) -> None:
    """Decode each event typed, and drop it."""
    for value in values:
        decode_native(value)


def replay(rules: Path = BUNDLED, model: Model | None = None) -> Pipeline:
    """Replay the sample as `detector replay` does: from the compressed file to alerts."""
    behaviour = None
    if model is not None:
        baselines = msgspec.msgpack.decode(msgspec.msgpack.encode(model.baselines), type=Baselines)
        state = BehaviourState(model=model.label, baselines=baselines)
        behaviour = Behaviour(model.forest, state, threshold_for(1.0), live=False)
    pipeline = Pipeline(
        source=FileSource([str(SAMPLE)]),
        format=Format(),
        normalise=normalise,
        locator=Locator([ip_network("127.0.0.1/32")]),
        engine=Engine(load(rules)),
        folder=Folder("bench", live=False),
        behaviour=behaviour,
        sink=_Nowhere(),
        dead_letters=_Nowhere(),
        patience_seconds=0,
    )
    pipeline.summary.started = time.monotonic()
    pipeline.run()
    pipeline.finish()
    return pipeline


def train() -> float:
    """Seconds to train on the sample's test days, from the compressed file to a fitted forest."""
    start = time.monotonic()
    rules = load(BUNDLED)
    engine, training = Engine(rules), Training(seed=7, rules=[rule.metadata.name for rule in rules])
    decode, locator, watermark = Format().decode, Locator([ip_network("127.0.0.1/32")]), Watermark()
    for batch in FileSource([str(SAMPLE)]):
        events = normalise(decode(batch.values, batch.positions).events)
        for part, now in watermark.parts("", events, ()):
            acts = activities(part, locator.locate)
            training.add(acts, engine.match(acts), now)
    training.finish()
    return time.monotonic() - start


def best_seconds(what: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The shortest of several runs: what disturbs a run only ever makes it longer."""
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - start)
    return best


def best_replay_seconds(rules: Path = BUNDLED, model: Model | None = None, rounds: int = ROUNDS) -> float:
    """The shortest replay, without the loading of rules and model."""
    return min(replay(rules, model).summary.seconds for _ in range(rounds))


def copy_rules(directory: Path, copies: int) -> Path:
    """The bundled rules several times over, each copy with ids of its own."""
    for source in BUNDLED.glob("*.yml"):
        text = source.read_text(encoding="utf-8")
        for number in range(copies):
            copy = re.sub(r"(?m)^id: .*$", f"id: {uuid4()}", text)
            (directory / f"{source.stem}_{number}.yml").write_text(copy, encoding="utf-8")
    return directory


def peak_bytes(copies: int, directory: Path) -> int:
    """Peak memory of a `detector replay` of the sample, several times over a year apart, in a process of its own."""
    content = b"".join(line + b"\n" for line in lines())
    path = directory / f"{copies}.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as writer:
        for number in range(copies):
            writer.write(content.replace(b'Timestamp":"2026-', b'Timestamp":"%d-' % (2026 + number)))
    command = [str(_DETECTOR), "replay", "-q", "--output", str(directory / "alerts.ndjson"), str(path)]
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024
