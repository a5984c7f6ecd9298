"""What a person sees of a replay: a progress bar while it runs, a panel at its end; all on stderr."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from detector.match import SEVERITY, Level
from detector.printable import printable
from detector.record import Batch, Positions
from detector.sources import Source
from detector.sources.file import FileSource
from detector.summary import Summary

SEVERITY_NAMES = {99: "critical", 73: "high", 47: "medium", 21: "low"}
_TOP = 5


class _Watched:
    """A source that moves a progress bar; everything else it leaves to the source behind it."""

    def __init__(self, source: FileSource, summary: Summary, progress: Progress) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self._source, self._summary, self._progress = source, summary, progress

    def __iter__(self) -> Iterator[Batch]:
        with self._progress:
            task = self._progress.add_task("replay", total=self._source.bytes_total or None, note="")
            for batch in self._source:
                yield batch
                rate = self._summary.events / max(self._summary.seconds, 1e-9)
                note = f"{self._summary.events:,} events · {rate:,.0f}/s · {self._summary.alerts} alerts"
                self._progress.update(task, completed=self._source.bytes_read, note=note)

    def commit(self, positions: Positions) -> None:
        self._source.commit(positions)

    def hold(self, seconds: float) -> None:
        self._source.hold(seconds)

    def stop(self) -> None:
        self._source.stop()

    def close(self) -> None:
        self._source.close()


def watched(source: FileSource, summary: Summary, *, show: bool) -> Source:
    """Put a progress bar around a source, where there is a terminal to draw it on."""
    if not show or not sys.stderr.isatty():
        return source
    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    return _Watched(source, summary, Progress(*columns, console=Console(stderr=True), transient=True))


def print_summary(summary: Summary, dead_letters: Path) -> None:
    """Say what a replay read, found and could not use."""
    seconds = summary.seconds
    lines = [
        f"{summary.events:,} events of {summary.records:,} records in {seconds:.1f} s"
        f" ({summary.events / max(seconds, 1e-9):,.0f} events/s)",
        f"from {summary.first_time:%Y-%m-%d %H:%M} to {summary.last_time:%Y-%m-%d %H:%M} UTC"
        if summary.first_time and summary.last_time
        else "no event told its time",
        f"{summary.alerts:,} alerts: "
        + (
            ", ".join(f"{summary.by_severity[number]:,} {name}" for number, name in SEVERITY_NAMES.items())
            if summary.alerts
            else "none"
        ),
        *_top("rules", summary.by_rule),
        *_top("identities", summary.by_identity),
        *_severe(summary),
    ]
    if hits := [count for count in summary.silenced.values() if count]:
        lines.append(f"{sum(hits):,} matches silenced by {len(hits):,} exceptions")
    if summary.refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.refused.most_common())
        lines.append(f"refused: {reasons}; see {dead_letters}")
    if summary.late:
        lines.append(f"{summary.late:,} matches came after their alert was complete; the input is not in order of time")
    if summary.empty:
        lines.append(f"{summary.empty:,} records were empty")
    Console(stderr=True, highlight=False).print(
        Panel("\n".join(escape(line) for line in lines), title="replay", expand=False)
    )


def _severe(summary: Summary) -> list[str]:
    if not summary.severe:
        return []
    count = sum(number for severity, number in summary.by_severity.items() if severity >= SEVERITY[Level.HIGH])
    lines = [f"high and critical{f', the first {len(summary.severe)}' if count > len(summary.severe) else ''}:"]
    for alert in summary.severe:
        message = printable(alert.document.message).partition(";")[0]
        lines.append(f"  {alert.document.timestamp:%m-%d %H:%M}  {message}")
    return lines


def _top(what: str, counts: Counter[str]) -> list[str]:
    if not counts:
        return []
    return [f"top {what}:", *(f"  {count:>6,}  {printable(name)}" for name, count in counts.most_common(_TOP))]
