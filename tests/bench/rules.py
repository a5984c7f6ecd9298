"""What rules cost: the bundled pack once, and ten times over with other ids. `python -m tests.bench.rules`.

Times are CPU times of whole `detector replay` processes, medians of interleaved rounds; start-up, which a longer log
does not pay again, is measured by replaying an empty file, and said apart.
"""

import re
import sys
import tempfile
from functools import partial
from pathlib import Path

from detector.sigma.load import BUNDLED
from tests.bench import measure

ROUNDS = 5
TEN_PACKS_MAX = 1.5
OF_BARE_DECODING_MIN = 0.2
_CONDITION = re.compile(r"^  condition: (?:>-?\n(?P<block>(?:    .*\n)+)|(?P<line>.*)\n)", re.MULTILINE)


def main() -> int:
    """Print the figures of the test days and of the training days; 1 if one misses its target."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packs = {"once": BUNDLED, "ten times": folder / "copies", "ten times, each asking more": folder / "variants"}
        (folder / "empty.jsonl").touch()
        for pack in list(packs.values())[1:]:
            pack.mkdir()
            measure.copy_rules(pack, copies=10)
        vary(packs["ten times, each asking more"])
        return max([_compare(sample, packs, folder) for sample in ("test", "train")])


def vary(pack: Path) -> None:
    """Make each copy ask something of its own, as no other rule does: so that nothing can be asked once for all."""
    for number, path in enumerate(sorted(pack.glob("*.yml"))):
        text = path.read_text(encoding="utf-8")
        text = _CONDITION.sub(_with_own, text, count=1)
        own = f"detection:\n  own:\n    auditID: own-{number}\n"
        path.write_text(text.replace("detection:\n", own, 1), encoding="utf-8")


def _with_own(condition: re.Match[str]) -> str:
    text = " ".join((condition["block"] or condition["line"]).split())
    return f"  condition: ({text}) and not own\n"


def _compare(sample: str, packs: dict[str, Path], folder: Path) -> int:
    path = measure.SAMPLE.with_name(f"{sample}.jsonl.zst")
    values = measure.lines(path)
    measures = {"decoding": partial(measure.decode_cpu_seconds, values)}
    for name, pack in packs.items():
        for what, file in (("", path), (" start-up", folder / "empty.jsonl")):
            measures[name + what] = partial(measure.replay_cpu_seconds, file, pack, folder / "alerts.ndjson")
    seconds = measure.interleaved(measures, ROUNDS)
    once, start, ten = seconds["once"], seconds["once start-up"], seconds["ten times"]
    print(f"{sample} days, {len(values):,} events, CPU seconds:")
    for name, value in seconds.items():
        print(f"  {name:36} {value:.2f}")
    variants = "ten times, each asking more"
    print(f"  decoding / replay, without start-up  {seconds['decoding'] / (once - start):.3f}")
    print(f"  ten times / once, without start-up   {(ten - seconds['ten times start-up']) / (once - start):.3f}")
    print(f"  {variants} / once {seconds[variants] / once:.3f} (no target)")
    share, slower = seconds["decoding"] / once, ten / once
    print(f"{_mark(share >= OF_BARE_DECODING_MIN)}  decoding / replay: {share:.3f} (target >= {OF_BARE_DECODING_MIN})")
    print(f"{_mark(slower <= TEN_PACKS_MAX)}  ten times / once: {slower:.3f} (target <= {TEN_PACKS_MAX})")
    return 0 if share >= OF_BARE_DECODING_MIN and slower <= TEN_PACKS_MAX else 1


def _mark(met: bool) -> str:
    return "ok  " if met else "MISS"


if __name__ == "__main__":
    sys.exit(main())
