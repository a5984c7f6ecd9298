"""The index template of Elasticsearch, derived from the alert's classes; no field is ever guessed by the server.

Only field types of the basic distribution are used. `python -m detector.sinks.template` prints the template as it is
kept in `deploy/elasticsearch/index-template.json`.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from detector.alert import Document

TEMPLATE_NAME: Final = "detector-alerts"
INDEX_PREFIX: Final = "logs-detector.alerts-"
# Above the built-in `logs` template (100) and Fleet's (200): those would make a data stream of every `logs-*-*`, and a
# data stream takes no second version of a document.
_PRIORITY: Final = 500
# Longer values stay in the document but are not searchable. A term longer than 32,766 bytes would be refused with its
# whole document; 1,024 characters are at most 4,096 bytes of UTF-8.
_IGNORE_ABOVE: Final = 1024
_SCALARS: Final[Mapping[type, str]] = {bool: "boolean", int: "long", float: "float", datetime: "date"}


def index_template() -> dict[str, Any]:
    """The body of `PUT _index_template/detector-alerts`."""
    return {
        "index_patterns": [f"{INDEX_PREFIX}*"],
        "priority": _PRIORITY,
        "allow_auto_create": True,
        "template": index_body(),
        "_meta": mappings()["_meta"],
    }


def index_body() -> dict[str, Any]:
    """The body of `PUT <index>`: what the template gives to an index, for one that is created by hand."""
    return {
        "settings": {"index": {"number_of_shards": "1", "auto_expand_replicas": "0-1"}},
        "mappings": mappings(),
    }


def mappings() -> dict[str, Any]:
    """The strict mapping of `detector.alert.Document`; `_meta.version` is a digest of its fields."""
    fields = _object(Document)
    version = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
    return {"_meta": {"managed_by": "detector", "version": version}, **fields}


def gaps(stored: Mapping[str, Any]) -> list[str]:
    """Names of the fields for which a stored mapping does not do what ours does; empty for one that takes our alerts.

    Further fields are no gap: an older detector can go on writing to what a newer one has set up.
    """
    return _gaps(mappings(), stored, "")


def _gaps(wanted: Mapping[str, Any], stored: Mapping[str, Any], path: str) -> list[str]:
    if "properties" not in wanted:
        return [] if wanted == stored else [path]
    found = [] if stored.get("dynamic") == "strict" else [path or "(the document: its mapping is not strict)"]
    inner = stored.get("properties", {})
    for name, field in wanted["properties"].items():
        found += _gaps(field, inner.get(name, {}), f"{path}.{name}".lstrip("."))
    return found


def _object(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "dynamic": "strict",
        "properties": {
            field.alias or name: _field(field.annotation, field.metadata) for name, field in model.model_fields.items()
        },
    }


def _field(annotation: Any, marks: list[Any]) -> dict[str, Any]:
    """The mapping of one type; `marks` are what `Annotated` says of it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _field(arguments[0], list(arguments[1:]))
    if origin in (Union, UnionType):
        (annotation,) = (argument for argument in arguments if argument is not NoneType)
        return _field(annotation, marks)
    if origin in (tuple, list):  # to Elasticsearch, many values of a field are mapped like one
        return _field(arguments[0], marks)
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, str)):
        return _string(marks)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _object(annotation)
    if annotation in _SCALARS:
        return {"type": _SCALARS[annotation]}
    raise TypeError(f"no Elasticsearch field type is chosen for {annotation}")


def _string(marks: list[Any]) -> dict[str, Any]:
    for mark in ("ip", "text"):
        if mark in marks:
            return {"type": mark}
    return {"type": "keyword", "ignore_above": _IGNORE_ABOVE}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(index_template(), indent=2) + "\n")
