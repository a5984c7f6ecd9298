"""Settings: a TOML file, over it `DETECTOR_*` environment variables; each part's own section is in its own file.

It stands above the stages because it is put together from their `Config` classes; no stage imports it.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from detector import formats
from detector.errors import ConfigError
from detector.sinks import elasticsearch_settings, ndjson
from detector.sources import kafka_settings, tail

ENVIRONMENT_PREFIX: Final = "DETECTOR_"

SourceConfig: TypeAlias = Annotated[kafka_settings.Config | tail.Config, Field(discriminator="type")]
SinkConfig: TypeAlias = Annotated[elasticsearch_settings.Config | ndjson.Config, Field(discriminator="type")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RulesConfig(_Section):
    """Which rules are loaded."""

    path: Path | None = Field(default=None, description="Rule file or folder; the bundled rules if left out.")


class ExceptionsConfig(_Section):
    """What is fine and gives no alert."""

    path: Path | None = Field(default=None, description="YAML file of exceptions, as `exception add` writes it.")
    shipped: bool = Field(default=True, description="Whether exceptions for well-known controllers are loaded too.")


class ModelConfig(_Section):
    """Behaviour model of `run`."""

    path: Path | None = Field(default=None, description="Folder that `model train` wrote; rules alone if left out.")
    alerts_a_day: float = Field(default=1.0, gt=0, description="False alerts a day that the model may give.")


class StateConfig(_Section):
    """What `run` remembers over a restart."""

    directory: Path = Field(default=Path(".detector/state"), description="Folder of open alerts and positions.")


class DeadLettersConfig(_Section):
    """Where records go that could not be used."""

    path: Path = Field(default=Path(".detector/dead-letters.ndjson"), description="File, appended to.")


class MetricsConfig(_Section):
    """Prometheus metrics of `run`."""

    port: int | None = Field(default=None, ge=1, le=65535, description="HTTP port of /metrics; off if left out.")
    address: str = Field(default="127.0.0.1", description="Address to listen on.")


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    cluster: str = Field(default="", description="Name of the cluster, as it stands in every alert.")
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Load balancers and proxies before the API server whose X-Forwarded-For is believed."
    )
    format: str = Field(default="auto", description="Format of the records: auto, or a name of `replay --format`.")
    source: SourceConfig | None = Field(default=None, description="Where `run` reads.")
    sink: SinkConfig | None = Field(default=None, description="Where `run` writes alerts.")
    rules: RulesConfig = RulesConfig()
    exceptions: ExceptionsConfig = ExceptionsConfig()
    model: ModelConfig = ModelConfig()
    state: StateConfig = StateConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    metrics: MetricsConfig = MetricsConfig()

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in formats.names():
            raise ValueError(f"must be one of {', '.join(formats.names())}, not {name!r}")
        return name


def load(path: Path | None) -> Settings:
    """Read the file, if one is given, and lay the environment over it.

    Raises:
        ConfigError: with everything that is wrong at once: key, value and what was expected.
    """
    document = _read(path) if path else {}
    problems = [f"environment: {problem}" for problem in _unknown_variables()]
    try:
        settings = Settings.model_validate(_merged(document, EnvSettingsSource(Settings)()))
    except ValidationError as error:
        problems += [f"{path or 'environment'}: {problem}" for problem in _explained(error)]
    except SettingsError as error:
        problems.append(f'environment: {error}; a list is written as JSON, such as ["a", "b"]')
    else:
        if not problems:
            return settings
    raise ConfigError("\n".join(problems))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; `detector config init` writes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def _unknown_variables() -> Iterator[str]:
    settings = {f"{ENVIRONMENT_PREFIX}{name.upper()}": field for name, field in Settings.model_fields.items()}
    for variable in sorted(os.environ):
        name, separator, _ = variable.upper().partition("__")
        is_setting = name in settings and not (separator and _holds_text(settings[name]))
        if name.startswith(ENVIRONMENT_PREFIX) and not is_setting:
            yield f"{variable} is no setting{_nearest(name, list(settings))}"


def _holds_text(field: FieldInfo) -> bool:
    """Tell a setting that is written as one text from a section."""
    return field.annotation is str


def _explained(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        steps = list(fault["loc"])
        if steps[0] in ("source", "sink") and len(steps) > 1:
            del steps[1]  # pydantic's name for the type, which stands in no file
        where = ".".join(map(str, steps))
        context = fault.get("ctx", {})
        match fault["type"]:
            case "extra_forbidden":
                yield f"{where}: no such setting{_nearest(str(steps[-1]), _names(Settings))}"
            case "missing":
                yield f"{where}: must be set"
            case "union_tag_not_found":
                yield f"{where}.type: must be set"
            case "union_tag_invalid":
                yield f"{where}.type: must be one of {context['expected_tags']}, not {context['tag']!r}"
            case "value_error":  # our own words, which quote a value only where it cannot be a secret
                yield f"{where}: {context['error']}"
            case _:
                given = f", not {fault['input']!r}" if _is_harmless(where, fault["input"]) else ""
                yield f"{where}: {fault['msg'][0].lower()}{fault['msg'][1:]}{given}"


def _is_harmless(where: str, given: object) -> bool:
    """Tell what an error message may quote: no secret, and no address, which may hold one."""
    if any(word in where for word in ("password", "key")):
        return False
    return isinstance(given, bool | int | float) or (isinstance(given, str) and "@" not in given)


def _names(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for part in (model, kafka_settings.Config, tail.Config, elasticsearch_settings.Config, ndjson.Config):
        names += part.model_fields
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += field.annotation.model_fields
    return names


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
