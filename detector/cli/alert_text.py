"""What a person reads of one stored alert: why it was raised, on what it rests, and what was hidden."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detector.errors import UsageError
from detector.printable import printable

if TYPE_CHECKING:
    from detector.sigma.load import CompiledRule

_SEVERITY_NAMES: Final = {99: "critical", 73: "high", 47: "medium", 21: "low"}
_ID_DIGITS_MIN: Final = 6


def find_alert(path: Path, id_: str) -> dict[str, Any]:
    """The newest version of an alert in an NDJSON file, by its id or the first digits of it.

    Raises:
        UsageError: the file cannot be read, holds something else, or has no such alert or several.
    """
    if len(id_) < _ID_DIGITS_MIN:
        raise UsageError(f"{id_}: give at least {_ID_DIGITS_MIN} digits of the alert's id")
    found: dict[str, dict[str, Any]] = {}
    count = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for count, line in enumerate(lines, start=1):
                if line.strip():
                    document = _document(path, count, line)
                    if document["event"]["id"].startswith(id_):
                        found[document["event"]["id"]] = document
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--alerts {path} cannot be read: {error}") from error
    if not found:
        raise UsageError(f"no alert {id_} among the {count:,} lines of {path}")
    if len(found) > 1:
        raise UsageError(f"{id_} is the beginning of {len(found)} alerts' ids in {path}: give more of it")
    return next(iter(found.values()))


def _document(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(line)
        if isinstance(document["event"]["id"], str) and isinstance(document["detector"], dict):
            return document
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path}:{number}: no alert of detector; write them with `detector replay --output FILE`")


def alert_lines(alert: dict[str, Any], rule: "CompiledRule | None") -> Iterator[str]:
    """The alert for a terminal; the rule adds its texts, if it is still loaded."""
    event, detector = alert["event"], alert["detector"]
    severity = event["severity"]
    yield alert["message"]
    yield f"{event['id']}  {_SEVERITY_NAMES.get(severity, severity)} (risk {event['risk_score']:g}), {detector['kind']}"
    yield f"{detector['event_count']:,} requests from {detector['first_seen']} to {detector['last_seen']}"
    yield from _section("who", _who(alert))
    yield from _section("why", _reasons(alert))
    yield from _section("evidence", _evidence(detector))
    yield from _section("hidden", _hidden(detector))
    yield from _section("rule", _rule(alert, rule))


def _section(title: str, entries: Iterator[str]) -> Iterator[str]:
    lines = [f"  {entry}" for entry in entries]
    if lines:
        yield f"{title}:"
        yield from lines


def _who(alert: dict[str, Any]) -> Iterator[str]:
    user, identity = alert["user"], alert["detector"]["identity"]
    yield f"{user['name']} ({identity['kind']})" + (f" as {user['effective']['name']}" if user.get("effective") else "")
    for key, what in (("source", "from"), ("client", "claims to come from")):
        if alert.get(key):
            yield f"{what} {alert[key]['ip']}"
    if alert.get("user_agent"):
        yield f"with {alert['user_agent']['original']} (the client's own choice)"


def _reasons(alert: dict[str, Any]) -> Iterator[str]:
    detector = alert["detector"]
    if detector.get("score") is not None:
        yield f"score {detector['score']:g} over the threshold {detector['threshold']:g} of model {detector['model']}"
    for reason in detector.get("reasons", ()):
        yield (
            f"{reason['feature']} {reason['value']}; usual {reason['usual']}; peers {reason['peers']} "
            f"({reason['contribution']:+g})"
        )
    threat = alert.get("threat")
    if threat:
        names = [*threat["tactic"].get("name", ()), *threat["technique"].get("name", ())]
        yield f"ATT&CK: {', '.join(names)}"


def _evidence(detector: dict[str, Any]) -> Iterator[str]:
    for request in detector["evidence"]:
        resource = "/".join(filter(None, (request["resource"], request["subresource"])))
        place = "/".join(filter(None, (request["namespace"], request["name"])))
        answer = request["code"] if request.get("code") is not None else "no code"
        yield f"{request['time']}  {request['verb']} {resource} {place} -> {answer}, from {request['source']}"
    rest = detector["event_count"] - len(detector["evidence"])
    if rest > 0:
        yield f"and {rest:,} more requests; detector.audit_ids names {len(detector['audit_ids']):,}"


def _hidden(detector: dict[str, Any]) -> Iterator[str]:
    if detector["degraded"]:
        yield "the body that would decide: the audit level or a truncation kept it back, so the alert is unproven"
    if detector.get("young"):
        yield "habits of its own: the identity is known for too short a time, so its peers were the measure"
    yield "request bodies, and what looks like a secret in names and commands, are never copied into an alert"


def _rule(alert: dict[str, Any], rule: "CompiledRule | None") -> Iterator[str]:
    from detector.sigma.notes import notes

    told = alert["rule"]
    yield f"{told['name']} ({told['id']}, {told['ruleset']})"
    if rule is None:
        if told.get("description"):
            yield told["description"]
        return
    if rule.metadata.version != told["version"]:
        yield f"the rule has changed since: version {told['version']} then, {rule.metadata.version} now"
    texts = notes(rule)
    yield f"means: {texts.means}"
    yield f"misses: {texts.misses or '-'}"
    yield f"triage: {texts.triage}"
    for text in texts.false_positives:
        yield f"normal: {text}"


def for_terminal(lines: Iterator[str]) -> str:
    """Lines of text that others chose, safe for a terminal."""
    return "\n".join(map(printable, lines))
