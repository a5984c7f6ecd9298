"""The commented settings file of `detector config init`, derived from the settings' own descriptions."""

import json
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from detector.config import Settings
from detector.sinks import elasticsearch_settings, ndjson
from detector.sources import kafka_settings, tail

_ALTERNATIVES: Final[dict[str, type[BaseModel]]] = {"source": tail.Config, "sink": ndjson.Config}
_EXAMPLES: Final = {
    "source.bootstrap_servers": '["kafka:9092"]',
    "source.topics": '["audit"]',
    "source.group_id": '"detector"',
    "source.auto_offset_reset": '"earliest"',
    "source.path": '"/var/log/kubernetes/audit.log"',
    "sink.url": '"https://elasticsearch:9200"',
    "sink.path": '"alerts.ndjson"',
}
"""What stands for a setting without which its section cannot be."""


def example() -> str:
    """A TOML file with every setting: the required ones filled in, the others as comments that show the default."""
    lines = ["# Settings of detector. Each can also be given as DETECTOR_<SECTION>__<NAME>.", ""]
    sections: dict[str, type[BaseModel]] = {"source": kafka_settings.Config, "sink": elasticsearch_settings.Config}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections[name] = field.annotation
        elif name not in sections:
            lines += _setting(name, field)
    for name, model in sections.items():
        lines += _section(name, model)
        if name in _ALTERNATIVES:
            lines += map(_commented, _section(name, _ALTERNATIVES[name]))
    return "\n".join(lines) + "\n"


def _section(name: str, model: type[BaseModel]) -> Iterator[str]:
    yield ""
    yield f"[{name}]  # {(model.__doc__ or '').splitlines()[0]}"
    for key, field in model.model_fields.items():
        if key == "type":
            kind = field.annotation.__args__[0]  # type: ignore[union-attr]  # a Literal of one
            yield f'type = "{kind}"'
        else:
            yield from _setting(key, field, f"{name}.{key}")


def _setting(name: str, field: FieldInfo, path: str = "") -> Iterator[str]:
    yield f"# {field.description}"
    if field.is_required():
        yield f"{name} = {_EXAMPLES[path]}"
    else:
        yield f"# {name} = {_toml(field.default)}".rstrip()


def _commented(line: str) -> str:
    return f"# {line}" if line and not line.startswith("#") else line


def _toml(default: object) -> str:
    """A default as TOML; nothing where there is none."""
    if default is None:
        return ""
    if isinstance(default, SecretStr):
        return '""'
    if isinstance(default, bool | int | float):
        return json.dumps(default)
    if isinstance(default, tuple | list):
        return json.dumps([str(item) for item in default])
    return json.dumps(str(default))
