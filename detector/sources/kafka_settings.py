"""Settings of the Kafka source, and what its client is told."""

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from detector.errors import ConfigError


class Config(BaseModel):
    """Settings of `[source]` with `type = "kafka"`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Literal["kafka"]
    bootstrap_servers: tuple[Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^\s:,/\[\]]+)(:\d{1,5})?$")], ...] = (
        Field(min_length=1, description="Brokers to start from, each as host:port; the others are found from these.")
    )
    topics: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")], ...] = Field(
        min_length=1, description="Topics that hold the audit events."
    )
    group_id: str = Field(min_length=1, description="Consumer group: all processes of one group share the partitions.")
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        description="Where to start in a partition of which the group has read nothing, or no longer holds what comes "
        "next: earliest reads all that there is, latest passes over what came before. There is no default, for the "
        "one may flood you with old alerts and the other may miss an attack."
    )
    client_id: str = Field(default="detector", min_length=1, description="Name of this process in the brokers' logs.")
    group_instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Fixed name of this process, such as that of its pod in a StatefulSet: a restart within "
        "session_timeout_ms then moves no partition. No two processes may share one.",
    )
    max_poll_records: int = Field(
        default=1000,  # 66 k records/s of 1.5 kB on 2 cores; 100 give 25 k, 5,000 give 97 k: each more than rules take
        ge=1,
        description="Most records of a batch, which is the unit of work and of commit.",
    )
    max_poll_interval_ms: int = Field(
        default=300_000, ge=1_000, description="Longest time for one batch; then other processes take its partitions."
    )
    session_timeout_ms: int = Field(
        default=45_000,
        ge=6_000,
        description="How long a silent process keeps its partitions; brokers set bounds to it.",
    )
    connect_timeout_seconds: float = Field(default=15, gt=0, description="How long to look for a broker at the start.")
    stall_seconds: float = Field(
        default=120, gt=0, description="The group is joined anew when a partition gives none of its records so long."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="What the brokers' listener speaks."
    )
    ssl_cafile: Path | None = Field(default=None, description="CA certificates (PEM); those of the system if left out.")
    ssl_certfile: Path | None = Field(default=None, description="Client certificate (PEM), for mutual TLS.")
    ssl_keyfile: Path | None = Field(default=None, description="Its key (PEM), without a passphrase.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to log in."
    )
    sasl_username: str | None = Field(default=None, description="User name.")
    sasl_password: SecretStr | None = Field(default=None, description="Password.")

    @property
    def servers(self) -> str:
        """The brokers to start from, as messages name them."""
        return ", ".join(self.bootstrap_servers)

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        login = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        certificate = (self.ssl_certfile, self.ssl_keyfile)
        if self.security_protocol.startswith("SASL") and not all(login):
            raise ValueError(f"{self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password")
        if not self.security_protocol.startswith("SASL") and any(login):
            raise ValueError("sasl_* need security_protocol SASL_SSL or SASL_PLAINTEXT: nobody would log in")
        if not self.security_protocol.endswith("SSL") and any((self.ssl_cafile, *certificate)):
            raise ValueError("ssl_* need security_protocol SSL or SASL_SSL: nothing would be encrypted")
        if any(certificate) and not all(certificate):
            raise ValueError("ssl_certfile and ssl_keyfile go together")
        return self


def client_settings(config: Config) -> dict[str, Any]:
    """The arguments of kafka-python's consumer.

    Raises:
        ConfigError: a certificate or key that cannot be read.
    """
    return {
        "bootstrap_servers": list(config.bootstrap_servers),
        "bootstrap_timeout_ms": int(config.connect_timeout_seconds * 1000),
        "client_id": config.client_id,
        "group_id": config.group_id,
        "group_instance_id": config.group_instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",  # the client would skip records without a word; the source does it with one
        "isolation_level": "read_committed",
        "max_poll_records": config.max_poll_records,
        "max_poll_interval_ms": config.max_poll_interval_ms,
        "session_timeout_ms": config.session_timeout_ms,
        "heartbeat_interval_ms": config.session_timeout_ms // 15,  # 3 s for 45 s, as Kafka has it
        "reconnect_backoff_max_ms": 1_000,  # as Kafka's own; with the client's 30 s it finds a restarted broker late
        "metrics_enabled": False,
        "security_protocol": config.security_protocol,
        "ssl_context": _tls(config),
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": config.sasl_username,
        "sasl_plain_password": config.sasl_password.get_secret_value() if config.sasl_password else None,
    }


def _tls(config: Config) -> ssl.SSLContext | None:
    def no_passphrase() -> str:  # else OpenSSL asks for it on the terminal, and waits
        raise ValueError("the key has a passphrase")

    if not config.security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=config.ssl_cafile)
        if config.ssl_certfile:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, no_passphrase)
    except (OSError, ValueError) as error:
        files = [str(file) for file in (config.ssl_cafile, config.ssl_certfile, config.ssl_keyfile) if file]
        raise ConfigError(f"source.ssl_*: {error}; check {' and '.join(files)}") from error
    return context
