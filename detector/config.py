"""Settings: a TOML file, over it `DETECTOR_*` environment variables; each part's own section is in its own file.

It stands above the stages because it is put together from their `Config` classes; no stage imports it.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from detector.errors import ConfigError
from detector.sinks import elasticsearch, ndjson
from detector.sources import kafka, tail

ENVIRONMENT_PREFIX: Final = "DETECTOR_"

SourceConfig: TypeAlias = Annotated[kafka.Config | tail.Config, Field(discriminator="type")]
SinkConfig: TypeAlias = Annotated[elasticsearch.Config | ndjson.Config, Field(discriminator="type")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RulesConfig(_Section):
    """Which rules are loaded."""

    path: Path | None = Field(default=None, description="Rule file or folder; the bundled rules if left out.")


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
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), description="Load balancers and proxies before the API server whose X-Forwarded-For is believed."
    )
    format: str = Field(default="auto", description="Format of the records: auto, or a name of `replay --format`.")
    source: SourceConfig | None = Field(default=None, description="Where `run` reads.")
    sink: SinkConfig | None = Field(default=None, description="Where `run` writes alerts.")
    rules: RulesConfig = RulesConfig()
    state: StateConfig = StateConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    metrics: MetricsConfig = MetricsConfig()


def load(path: Path | None) -> Settings:
    """Read the file, if one is given, and lay the environment over it.

    Raises:
        ConfigError: with everything that is wrong at once: key, value and what was expected.
    """
    document = _read(path) if path else {}
    try:
        environment = EnvSettingsSource(Settings)()
        _refuse_unknown_variables()
        return Settings.model_validate(_merged(document, environment))
    except ValidationError as error:
        origin = str(path) if path else "environment"
        raise ConfigError("\n".join(f"{origin}: {line}" for line in _explained(error))) from error
    except ValueError as error:  # a variable that should hold JSON and does not
        raise ConfigError(f"environment: {error}") from error


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


def _refuse_unknown_variables() -> None:
    known = [f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name.partition("__")[0] not in known:
            raise ConfigError(f"environment: {name} is no setting{_nearest(name, known)}")


def _explained(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(str(step) for step in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{where}: no such setting{_nearest(str(fault['loc'][-1]), _names(Settings))}"
        elif fault["type"] == "missing":
            yield f"{where}: must be set"
        else:
            secret = any(word in where for word in ("password", "key"))
            given = "" if secret or isinstance(fault["input"], dict) else f", not {fault['input']!r}"
            yield f"{where}: {fault['msg'][0].lower()}{fault['msg'][1:]}{given}"


def _names(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for part in (model, kafka.Config, tail.Config, elasticsearch.Config, ndjson.Config):
        names += part.model_fields
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += field.annotation.model_fields
    return names


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
