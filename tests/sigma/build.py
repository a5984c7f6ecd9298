"""Rules and activities for tests, made as the pipeline makes them: from a rule file, and from the bytes of an event."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

from detector.activity import Activity
from detector.address import Locator
from detector.event import decode_native
from detector.identity import from_event
from detector.sigma.cases import BASE_EVENT
from detector.sigma.load import CompiledRule, load

Document: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]

_LOCATOR: Final = Locator(())


def rule_id(number: int) -> str:
    """A UUID that is told from others by a number."""
    return str(UUID(int=number, version=4))


def document(detection: Mapping[str, Any], **changes: Any) -> Document:
    """A whole rule around a detection; changes replace keys of it."""
    head = {
        "title": "a rule",
        "id": rule_id(1),
        "level": "low",
        "logsource": {"product": "kubernetes", "service": "audit"},
    }
    return {**head, "detection": dict(detection), **changes}


def compile_rules(*documents: Document) -> list[CompiledRule]:
    """Load rules through a file; JSON is YAML too."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rules.yml"
        path.write_text("\n---\n".join(json.dumps(each, ensure_ascii=False) for each in documents), encoding="utf-8")
        return load(path)


def compile_selection(*maps: Mapping[str, Any], **changes: Any) -> CompiledRule:
    """Load a rule that matches if any of the maps does."""
    selection = [dict(each) for each in maps]
    return compile_rules(document({"selection": selection, "condition": "selection"}, **changes))[0]


def activity(event: Mapping[str, Any]) -> Activity:
    """Decode an event from its bytes, as the native format does."""
    return from_bytes(json.dumps(event, ensure_ascii=False).encode())


def from_bytes(value: bytes) -> Activity:
    """Decode the bytes of an event."""
    decoded = decode_native(value)
    return Activity(decoded, from_event(decoded), _LOCATOR.locate(decoded.source_ips))


def event(**changes: Any) -> Event:
    """An ordinary request; changes replace whole fields of it."""
    return {**BASE_EVENT, **changes}


def write(**changes: Any) -> Event:
    """The creation of a pod, logged with its bodies."""
    created = {
        "verb": "create",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "web", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
    }
    return event(**{**created, **changes})


def verdict(selection: Mapping[str, Any], on: Mapping[str, Any]) -> bool | None:
    """What a rule with one map of field tests says of an event; None where a hidden body decides."""
    return compile_selection(selection).node.evaluate(activity(on))


def verdict_on_body(selection: Mapping[str, Any], body: Any) -> bool | None:
    """What a rule says of the creation of an object with this body."""
    return verdict(selection, write(requestObject=body))
