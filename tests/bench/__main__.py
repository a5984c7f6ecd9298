"""`make bench`: prints each figure, and exits with 1 if one misses its target."""

import sys
import tempfile
from pathlib import Path

from detector.model.store import load
from tests.bench import measure


def main() -> int:
    """Measure all, print a line each."""
    values = measure.lines()
    bare = measure.best_seconds(lambda: measure.decode_bare(values))
    replay = measure.best_replay_seconds()
    with tempfile.TemporaryDirectory() as directory:
        once, twelve_times = (measure.peak_bytes(copies, Path(directory)) for copies in (1, 12))
    model = load(measure.MODEL)
    with_model = measure.best_replay_seconds(model=model)
    training = min(measure.train() for _ in range(2))
    events = len(values)
    figures = [
        ("replay / bare typed decoding, events per second", bare / replay, ">=", 0.20),
        ("peak memory of 12 x the input / of the input", twelve_times / once, "<=", 1.1),
    ]
    print(f"bare typed decoding {events / bare:,.0f} events/s, replay {events / replay:,.0f} events/s,")
    print(
        f"peak memory {once / 2**20:.0f} MiB for {events:,} events, {twelve_times / 2**20:.0f} MiB for {12 * events:,}"
    )
    print(f"replay with the model takes {with_model / replay:.2f} times as long as with rules alone (wanted: 1.6)")
    print(f"training takes {training / replay:.2f} times as long as a replay (wanted: 3)")
    missed = 0
    for name, value, relation, target in figures:
        met = value >= target if relation == ">=" else value <= target
        missed += not met
        print(f"{'ok  ' if met else 'MISS'}  {name}: {value:.3f} (target {relation} {target})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
