"""The commented settings file of `detector config init`, derived from the settings' own descriptions."""

import json
from collections.abc import Iterator

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from detector.config import Settings
from detector.sinks import elasticsearch
from detector.sources import kafka

_EXAMPLES = {
    "bootstrap_servers": '["kafka:9092"]',
    "topics": '["audit"]',
    "group_id": '"detector"',
    "auto_offset_reset": '"earliest"',
    "url": '"https://elasticsearch:9200"',
}


def example() -> str:
    """A TOML file with every setting: the required ones filled in, the others as comments that show the default."""
    lines = ["# Settings of detector. Each can also be given as DETECTOR_<SECTION>__<NAME>.", ""]
    for name, field in Settings.model_fields.items():
        if name not in ("source", "sink") and not _is_section(field):
            lines += _setting(name, field)
    lines += _section("source", kafka.Config) + _section("sink", elasticsearch.Config)
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += _section(name, field.annotation)
    return "\n".join(lines) + "\n"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _section(name: str, model: type[BaseModel]) -> list[str]:
    lines = ["", f"[{name}]  # {(model.__doc__ or '').splitlines()[0]}"]
    for key, field in model.model_fields.items():
        if key == "type":
            kind = field.annotation.__args__[0]  # type: ignore[union-attr]  # a Literal of one
            lines.append(f'type = "{kind}"')
        else:
            lines += _setting(key, field)
    return lines


def _setting(name: str, field: FieldInfo) -> Iterator[str]:
    yield f"# {field.description}"
    if field.is_required():
        yield f"{name} = {_EXAMPLES[name]}"
    else:
        yield f"# {name} = {_toml(field.default)}"


def _toml(value: object) -> str:
    if value is None or value is PydanticUndefined:
        return '""'
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        return json.dumps([str(item) for item in value])
    return json.dumps(str(value))
