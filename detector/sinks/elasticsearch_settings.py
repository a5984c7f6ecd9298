"""Settings of the Elasticsearch sink; apart from it, so that whoever reads settings need not load the client."""

import re
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, field_validator, model_validator

from detector.sinks.template import INDEX_PREFIX

_INDEX_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")


class Config(BaseModel):
    """Where and how alerts are stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Literal["elasticsearch"] = "elasticsearch"
    url: str | tuple[str, ...] = Field(description="Address of each node, `https://host:9200`.")
    index: str = Field(
        default=f"{INDEX_PREFIX}default",
        description=f"Alerts go to `<index>-<year>.<month>`; begins with `{INDEX_PREFIX}` for the template's sake.",
    )
    single_index: bool = Field(default=False, description="Put all alerts into the index of exactly that name.")
    username: str = Field(default="", description="User name, together with `password`.")
    password: SecretStr = Field(default=SecretStr(""), description="Password, together with `username`.")
    api_key: SecretStr = Field(default=SecretStr(""), description="Encoded API key, instead of name and password.")
    ca_certs: FilePath | None = Field(default=None, description="PEM file of the CAs to trust instead of the system's.")
    verify_certs: bool = Field(default=True, description="Whether the server's certificate is checked.")
    request_timeout_seconds: float = Field(default=30.0, gt=0, description="How long to wait for one answer.")
    retry_seconds: float = Field(default=5.0, ge=0, description="How long one write retries before it gives up.")
    bulk_documents: int = Field(default=500, ge=1, description="Most alerts in one request.")
    bulk_bytes: int = Field(default=5 * 2**20, ge=1, description="Most bytes in one request of several alerts.")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return (self.url,) if isinstance(self.url, str) else tuple(dict.fromkeys(self.url))

    @field_validator("url")
    @classmethod
    def _names_nodes(cls, url: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for node in (url,) if isinstance(url, str) else url:
            parts = urlsplit(node)
            if parts.username or parts.password:  # addresses stand in logs
                raise ValueError("an address holds no credentials: use `username` and `password`, or `api_key`")
            if parts.scheme not in ("http", "https") or not parts.hostname or not parts.port:
                raise ValueError(f"{node!r} is not of the form https://host:9200")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        password, api_key = self.password.get_secret_value(), self.api_key.get_secret_value()
        if bool(self.username) != bool(password):
            raise ValueError("`username` and `password` go together")
        if self.username and api_key:
            raise ValueError("there are both an `api_key` and a `username`: one of them is enough")
        # The client would raise an error that quotes the secret; a file's line end is easily taken along.
        if not (self.username + password + api_key).isascii() or not (password + api_key).isprintable():
            raise ValueError("credentials are printable ASCII, without a line end")
        if not _INDEX_NAME.fullmatch(self.index):
            raise ValueError(f"{self.index!r} cannot name an index: lower-case letters, digits, `.`, `_` and `-` can")
        if not self.single_index and not self.index.startswith(INDEX_PREFIX):
            raise ValueError(f"`index` begins with {INDEX_PREFIX!r}, else the index template does not apply to it")
        return self
