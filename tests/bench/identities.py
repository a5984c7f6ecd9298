"""A million service accounts, each seen once: what they cost. `python -m tests.bench.identities`."""

import time
from pathlib import Path
from resource import getpagesize
from typing import Final

from detector.baseline import IDENTITIES_MAX, Baselines

_IDENTITIES: Final = 1_000_000
_STEP: Final = 100_000
_KNOWN: Final = "known"


def main() -> None:
    """Print time and memory as identities come in."""
    baselines = Baselines()
    for hour in range(48):
        _teach(baselines, _KNOWN, hour)
    started = time.perf_counter()
    for number in range(_IDENTITIES):
        _teach(baselines, f"system:serviceaccount:ns-{number // 10}:sa-{number}", 48 + number // 10_000)
        if (number + 1) % _STEP == 0:
            now = time.perf_counter()
            each, started = (now - started) / _STEP * 1e6, now
            kept = f"{len(baselines.identities):7,} kept, {each:4.0f} us each"
            print(f"{number + 1:9,} seen, {kept}, {_mebibytes():,.0f} MiB")
    still = "still" if _KNOWN in baselines.identities else "no longer"
    print(f"bound: {IDENTITIES_MAX:,}; who was known for two days is {still} known")


def _teach(baselines: Baselines, name: str, hour: int) -> None:
    seen = {
        "action": {"get secrets", "list pods"},
        "namespace": {"~own"},
        "place": {"secrets@~own", "pods@~own"},
        "object": {f"secrets@~own:{name}"},
        "client": {"service"},
        "network": {"10.0.0.0/24"},
        "hours": {f"weekday {hour % 24 // 2 * 2:02}"},
        "outcome": {"get secrets 2xx", "list pods 2xx"},
    }
    baselines.teach(name, "service_account", seen, (2.0, 1.0), 3600.0 * hour)


def _mebibytes() -> float:
    """Resident memory of this process, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize() / 2**20


if __name__ == "__main__":
    main()
