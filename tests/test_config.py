"""Settings: a file, over it the environment, and everything wrong with them told at once."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from detector.config import Settings, load
from detector.config_file import example
from detector.errors import ConfigError
from detector.sinks import elasticsearch, ndjson
from detector.sources import kafka, tail

FILE = """
cluster = "prod"
trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
format = "event_list"

[source]
type = "kafka"
bootstrap_servers = ["kafka:9092"]
topics = ["audit"]
group_id = "detector"
auto_offset_reset = "earliest"

[sink]
type = "elasticsearch"
url = "https://elasticsearch:9200"
username = "detector"
password = "hunter2"

[metrics]
port = 9090
"""


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the one who runs the tests has set must not matter."""
    for name in list(os.environ):
        if name.upper().startswith("DETECTOR_"):
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of settings that can be used."""
    path = tmp_path / "detector.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def problems(path: Path | None, content: str | None = None) -> list[str]:
    """What is wrong, a line each, without the file's name."""
    if path is not None and content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == 3
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_file_is_read_into_typed_settings(path: Path) -> None:
    """Each part gets its own class."""
    settings = load(path)
    assert settings.cluster == "prod"
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert isinstance(settings.source, kafka.Config)
    assert settings.source.topics == ("audit",)
    assert isinstance(settings.sink, elasticsearch.Config)
    assert settings.metrics.port == 9090


def test_without_a_file_the_defaults_hold() -> None:
    """Enough for a replay."""
    settings = load(None)
    assert (settings.source, settings.sink, settings.format) == (None, None, "auto")


def test_the_environment_goes_over_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting of a section at a time; what it leaves out stays as the file has it."""
    monkeypatch.setenv("DETECTOR_SINK__URL", "https://other:9200")
    monkeypatch.setenv("DETECTOR_SINK__PASSWORD", "changed")
    monkeypatch.setenv("DETECTOR_METRICS__PORT", "9191")
    monkeypatch.setenv("DETECTOR_SOURCE__TOPICS", '["one", "two"]')
    monkeypatch.setenv("DETECTOR_CLUSTER", "test")
    settings = load(path)
    assert isinstance(settings.sink, elasticsearch.Config)
    assert settings.sink.url == "https://other:9200"
    assert (settings.sink.username, settings.sink.password.get_secret_value()) == ("detector", "changed")
    assert isinstance(settings.source, kafka.Config)
    assert settings.source.topics == ("one", "two")
    assert (settings.metrics.port, settings.cluster) == (9191, "test")


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.setenv("DETECTOR_SOURCE__TYPE", "tail")
    monkeypatch.setenv("DETECTOR_SOURCE__PATH", "/var/log/audit.log")
    assert load(None).source == tail.Config(type="tail", path=Path("/var/log/audit.log"))


def test_everything_wrong_is_told_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, value and what was expected; a mistyped name with the nearest one that there is."""
    monkeypatch.setenv("DETECTOR_SNK__URL", "x")
    found = problems(
        path,
        """
        clusterr = "x"
        format = "jsonl"
        trusted_proxies = ["10.0.0.0/33"]
        [source]
        type = "kafka"
        topics = ["audit"]
        group_idd = "detector"
        [sink]
        type = "elastic"
        [metrics]
        port = 99999
        """,
    )
    assert found == [
        "environment: DETECTOR_SNK__URL is no setting; did you mean DETECTOR_SINK?",
        "trusted_proxies.0: value is not a valid IPv4 or IPv6 network, not '10.0.0.0/33'",
        "format: must be one of auto, apiserver, event_list, text_field, not 'jsonl'",
        "source.bootstrap_servers: must be set",
        "source.group_id: must be set",
        "source.auto_offset_reset: must be set",
        "source.group_idd: no such setting; did you mean group_id?",
        "sink.type: must be one of 'elasticsearch', 'ndjson', not 'elastic'",
        "metrics.port: input should be less than or equal to 65535, not 99999",
        "clusterr: no such setting; did you mean cluster?",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("DETECTOR_CLUSTR", "DETECTOR_CLUSTR is no setting; did you mean DETECTOR_CLUSTER?"),
        ("DETECTOR_METRIC__PORT", "DETECTOR_METRIC__PORT is no setting; did you mean DETECTOR_METRICS?"),
        ("DETECTOR_CLUSTER__NAME", "DETECTOR_CLUSTER__NAME is no setting; did you mean DETECTOR_CLUSTER?"),
        ("DETECTOR_XYZZY", "DETECTOR_XYZZY is no setting"),
        ("DETECTOR_METRICS__PROT", "metrics.prot: no such setting; did you mean port?"),
        ("DETECTOR_METRICS__PORT", "metrics.port: input should be a valid integer"),
        ("DETECTOR_TRUSTED_PROXIES", 'a list is written as JSON, such as ["a", "b"]'),
        ("DETECTOR_SINK__URL", "sink.type: must be set"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    """It would else be passed over in silence."""
    monkeypatch.setenv(name, "10.0.0.0/8")
    (found,) = problems(None)
    assert found.startswith("environment: ")
    assert told in found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a = [\nb = 1\n", "is not valid TOML: .*line 2"),
        (b'cluster = "x\n', "is not valid TOML: .*line 1"),
        (b"cluster = \xff", "is not valid TOML"),
        (b'cluster = "a"\ncluster = "b"\n', "is not valid TOML: .*line 2"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(path: Path, content: bytes, told: str) -> None:
    """And its name."""
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path)) + " " + told):
        load(path)


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    """So is a folder in its place."""
    with pytest.raises(ConfigError, match="No such file or directory; `detector config init` writes one"):
        load(tmp_path / "nosuch.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '[sink]\ntype = "elasticsearch"\nurl = "http://user:hunter2@host:9200"',
        '[sink]\ntype = "elasticsearch"\nurl = ["http://user:hunter2@host:9200", 5]',
        '[sink]\ntype = "elasticsearch"\nurl = "http://host:9200"\npassword = ["hunter2"]',
        '[sink]\ntype = "elasticsearch"\nurl = "http://host:9200"\napi_key = "hunter2\\n"',
        '[sink]\ntype = "elasticsearch"\nurl = "http://host:9200"\nusername = "x"\npasword = "hunter2"',
        '[source]\ntype = "kafka"\nsasl_password = {a = "hunter2"}',
        '[source]\ntype = "kafka"\nbootstrap_servers = "user:hunter2@host"',
        'cluster = ["hunter2"]',
    ],
)
def test_no_error_tells_a_secret(path: Path, content: str) -> None:
    """Neither one in its place nor one in a wrong place."""
    assert "hunter2" not in "\n".join(problems(path, content))


def test_settings_are_shown_without_their_secrets(path: Path) -> None:
    """Neither as JSON nor in a log."""
    settings = load(path)
    shown = settings.model_dump_json()
    assert "hunter2" not in shown + repr(settings) + str(settings)
    assert json.loads(shown)["sink"]["password"] == "**********"


def models() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its class."""
    yield from (
        ("source", kafka.Config),
        ("source", tail.Config),
        ("sink", elasticsearch.Config),
        ("sink", ndjson.Config),
    )
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def test_the_example_file_can_be_used_as_it_is(tmp_path: Path) -> None:
    """`detector config init` writes it."""
    path = tmp_path / "detector.toml"
    path.write_text(example(), encoding="utf-8")
    settings = load(path)
    assert isinstance(settings.source, kafka.Config)
    assert isinstance(settings.sink, elasticsearch.Config)


def test_the_example_file_holds_every_setting_with_its_description() -> None:
    """Those of the other source and the other sink too, as comments."""
    text = example()
    for name in set(Settings.model_fields) - {"source", "sink"} - {name for name, _ in models()}:
        assert re.search(rf"^# {name} =", text, re.MULTILINE), name
    for section, model in models():
        _, found, body = text.partition(f"[{section}]  # {(model.__doc__ or '').splitlines()[0]}")
        assert found, section
        body = re.split(r"^(?:# )?\[", body, flags=re.MULTILINE)[0]
        for name, field in model.model_fields.items():
            assert re.search(rf"^(?:# )?{name} =", body, re.MULTILINE), (section, name)
            assert name == "type" or f"# {field.description}" in body


def test_each_default_in_the_example_file_can_be_uncommented(tmp_path: Path) -> None:
    """It is the default indeed; a setting without one has no value there."""
    uncommented = re.sub(r"^# (\w+ = .+)$", r"\1", example(), flags=re.MULTILINE)
    uncommented = re.sub(r"^# \[(source|sink)\].*\n(?:(?!\[|# \[).*\n)*", "", uncommented, flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(uncommented, encoding="utf-8")
    (tmp_path / "some.toml").write_text(example(), encoding="utf-8")
    assert len(tomllib.loads(uncommented)["sink"]) > 5
    assert load(tmp_path / "all.toml") == load(tmp_path / "some.toml")


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema."""
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes(inner)


def test_the_schema_is_json_schema_and_whole() -> None:
    """Its references lead somewhere, its types are JSON's, and what is required is described."""
    schema = Settings.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    assert set(schema["properties"]) == set(Settings.model_fields)
    for node in nodes(schema):
        reference = node.get("$ref")
        assert reference is None or reference.removeprefix("#/$defs/") in schema["$defs"]
        if isinstance(node.get("type"), str):
            assert (
                node["type"] in {"object", "array", "string", "integer", "number", "boolean", "null"} or "enum" in node
            )
        assert set(node.get("required", ())) <= set(node.get("properties", ()))


def test_the_settings_kept_for_deployment_are_current() -> None:
    """They are what `config init` writes; `make generate` brings them up to date."""
    kept = Path(__file__).parents[1] / "deploy" / "detector.toml"
    assert kept.read_text(encoding="utf-8") == example()
