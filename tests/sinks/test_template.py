"""The index template is derived from the alert's classes."""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from detector.sinks.template import _object, gaps, index_template, mappings

KEPT = Path(__file__).parents[2] / "deploy/elasticsearch/index-template.json"
KEYWORD = {"type": "keyword", "ignore_above": 1024}


class Colour(StrEnum):
    RED = "red"


class Inner(BaseModel):
    text: Annotated[str, "text"]


class Outer(BaseModel):
    time: datetime = Field(alias="@time")
    name: str | None = None
    count: int
    share: float
    flag: bool
    address: Annotated[str, "ip"]
    addresses: tuple[Annotated[str, "ip"], ...] = ()
    names: list[str]
    word: Literal["a", "b"]
    colour: Colour
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()


def test_each_type_has_its_field_type() -> None:
    """The annotation of a field alone decides, also inside of tuples and of optional fields."""
    inner = {"dynamic": "strict", "properties": {"text": {"type": "text"}}}
    assert _object(Outer) == {
        "dynamic": "strict",
        "properties": {
            "@time": {"type": "date"},
            "name": KEYWORD,
            "count": {"type": "long"},
            "share": {"type": "float"},
            "flag": {"type": "boolean"},
            "address": {"type": "ip"},
            "addresses": {"type": "ip"},
            "names": KEYWORD,
            "word": KEYWORD,
            "colour": KEYWORD,
            "inner": inner,
            "many": inner,
        },
    }


@pytest.mark.parametrize("annotation", [dict[str, str], bytes, Any])
def test_a_type_without_a_field_type_is_refused(annotation: Any) -> None:
    """Nothing is mapped by guessing, and names that data brings are no field names."""
    model = type("Model", (BaseModel,), {"__annotations__": {"field": annotation}})
    with pytest.raises(TypeError, match="no Elasticsearch field type is chosen"):
        _object(model)


def test_the_template_kept_for_deployment_is_current() -> None:
    """What administrators install by hand is what `detector es setup` installs."""
    assert json.loads(KEPT.read_text()) == index_template(), f"{KEPT} is stale: run `make generate`"


def test_a_mapping_with_further_fields_has_no_gap() -> None:
    """An older detector goes on writing to indices of a newer one."""
    newer = mappings()
    newer["properties"]["novelty"] = {"type": "long"}
    assert gaps(newer) == []


def test_gaps_are_named() -> None:
    """What is missing, of another type or not strict is named by its path."""
    older = mappings()
    del older["properties"]["rule"]["properties"]["version"]
    older["properties"]["source"]["properties"]["ip"] = {"type": "keyword"}
    older["properties"]["user"]["dynamic"] = "true"
    assert sorted(gaps(older)) == ["rule.version", "source.ip", "user"]


def test_a_dynamic_mapping_has_gaps() -> None:
    """An index that takes any field is not one for alerts, whatever fields it has."""
    assert gaps({**mappings(), "dynamic": "true"}) != []
    assert gaps({}) != []


def test_the_version_follows_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes with any field and stays the same otherwise."""
    before = mappings()["_meta"]["version"]
    assert mappings()["_meta"]["version"] == before
    monkeypatch.setattr("detector.sinks.template.Document", Outer)
    assert mappings()["_meta"]["version"] != before
