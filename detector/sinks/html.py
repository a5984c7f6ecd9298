"""An HTML report of a replay: one file, nothing loaded from outside, no script; made when the sink is closed."""

from collections import Counter
from collections.abc import Sequence
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, select_autoescape

from detector.alert import Alert, Document
from detector.errors import SinkUnavailable, UsageError
from detector.printable import printable

_KEPT: Final = 2000  # more than a person reads; the rest is counted
_SEVERITIES: Final = {99: "critical", 73: "high", 47: "medium", 21: "low"}


class HtmlSink:
    """Collects complete alerts, the most severe and newest of them in full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[tuple[int, str, str, Document]] = []
        self._by_severity: Counter[str] = Counter()
        self._by_rule: Counter[str] = Counter()
        self._by_identity: Counter[str] = Counter()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise UsageError(f"--report {path} cannot be written: {error.strerror}") from error

    def probe(self) -> None:
        """Do nothing: the file was opened when the sink was made."""

    def write(self, alerts: Sequence[Alert]) -> None:
        """Take complete alerts; they are on disk once the sink is closed."""
        for alert in alerts:
            document = alert.document
            self._by_severity[_SEVERITIES[document.event.severity]] += 1
            self._by_rule[document.rule.name] += 1
            self._by_identity[document.user.name] += 1
            item = (document.event.severity, document.timestamp.isoformat(), alert.id, document)
            if len(self._kept) < _KEPT:
                heappush(self._kept, item)
            else:
                heappushpop(self._kept, item)

    def close(self) -> None:
        """Write the file.

        Raises:
            SinkUnavailable: it cannot be written any more.
        """
        environment = Environment(
            loader=PackageLoader("detector"),
            autoescape=select_autoescape(default=True),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["printable"] = lambda value: printable(str(value))
        ordered = sorted(self._kept, key=lambda item: (-item[0], item[1], item[2]))
        page = environment.get_template("report.html.j2").render(
            alerts=[document for *_, document in ordered],
            total=self._by_severity.total(),
            severities=[(name, self._by_severity[name]) for name in _SEVERITIES.values()],
            severity_names=_SEVERITIES,
            rules=self._by_rule.most_common(10),
            identities=self._by_identity.most_common(10),
        )
        try:
            self._path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise SinkUnavailable("report", f"{self._path} cannot be written: {error.strerror}") from None
