"""Sink: Elasticsearch 8 and 9. Once `write` returns, the newest version of each alert is stored, once.

An alert goes to the index of the month in which its fold window starts. That month is the same for every version of
an alert, so one id has one index, whenever it is written and by whomever. A data stream could not promise that: it
takes no second version of a document, and after a rollover it takes an id again.

Which version of an alert stands is decided by Elasticsearch: `Alert.version` is sent along as an external version, and
only a greater one replaces what is stored. A version that arrives late or again, after a restart or from a second
writer, changes nothing (409, which is success), so the sink has nothing to remember and nothing to read back.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import Any, cast

from elasticsearch import ApiError, Elasticsearch, NotFoundError, TransportError

from detector.alert import Alert
from detector.errors import ConfigError, DetectorError, SinkRejected, SinkUnavailable
from detector.sinks.bulk import Action, Bulk, Failure, Reply, unavailable
from detector.sinks.elasticsearch_settings import Config
from detector.sinks.template import TEMPLATE_NAME, gaps, index_body, index_template, mappings

__all__ = ["Config", "ElasticsearchSink", "Server"]


class Server:
    """Elasticsearch as far as alerts need it; what goes wrong is told in one line, never in the server's words.

    Every method raises `SinkUnavailable` when the server is out of reach or does not allow what is asked for.
    """

    def __init__(self, config: Config) -> None:
        self.where = ", ".join(config.nodes)
        password = config.password.get_secret_value()
        self._client = Elasticsearch(
            list(config.nodes),
            basic_auth=(config.username, password) if password else None,
            api_key=config.api_key.get_secret_value() or None,
            request_timeout=config.request_timeout_seconds,
            max_retries=len(config.nodes) - 1,  # each other node once, if one cannot be reached
            retry_on_status=(),  # `Bulk` does that, item by item
            **_tls(config),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def status(self) -> str:
        """`green`, `yellow` or `red`."""
        with self._one_line():
            # `GET /` would tell the version too, but not every distribution answers it.
            return str(self._client.cluster.health()["status"])

    def template_gaps(self) -> list[str]:
        """What the installed index template lacks of ours: names of fields."""
        with self._one_line():
            try:
                answer = self._client.indices.get_index_template(name=TEMPLATE_NAME)
            except NotFoundError:
                return gaps({})
        return gaps(answer["index_templates"][0]["index_template"].get("template", {}).get("mappings", {}))

    def put_template(self) -> Failure | None:
        """Install our index template, or replace an older one; returns why it cannot be had."""
        return self._try(lambda: self._client.indices.put_index_template(name=TEMPLATE_NAME, body=index_template()))

    def mappings(self, indices: str) -> Mapping[str, Mapping[str, Any]]:
        """The mapping of each index that the name or pattern stands for; empty if there is none."""
        with self._one_line():
            try:
                answer = self._client.indices.get_mapping(index=indices)
            except NotFoundError:
                return {}
        return {name: index["mappings"] for name, index in answer.items()}

    def create(self, index: str) -> Failure | None:
        """Create an index with our mapping; returns why it cannot be had under this name."""
        return self._try(lambda: self._client.indices.create(index=index, body=index_body()))

    def add_fields(self, index: str) -> Failure | None:
        """Give an index the fields of our mapping that it lacks; returns why it cannot have them."""
        return self._try(lambda: self._client.indices.put_mapping(index=index, body=mappings()))

    def count(self, indices: str) -> int:
        """How many documents can be found in these indices."""
        with self._one_line():
            return int(self._client.count(index=indices)["count"])

    def bulk(self, actions: Sequence[Action]) -> Reply:
        """Send one bulk request."""
        # The client takes encoded lines as well, but its annotation does not say so.
        operations = cast("list[dict[str, Any]]", [line for action in actions for line in action.lines])
        wanted = ["items.*.status", "items.*.error.type"]  # of an item's error, its text does not even get here
        try:
            items = self._client.bulk(operations=operations, filter_path=wanted).get("items", [])
        except (ApiError, TransportError) as error:
            return _failure(error)
        if len(items) != len(actions):
            return Failure(0, "UnsupportedProductError")
        results = [item["index"] for item in items]
        return [None if result["status"] < 300 else Failure(result["status"], _type(result)) for result in results]

    def _try(self, request: Callable[[], object]) -> Failure | None:
        with self._one_line():
            try:
                request()
            except ApiError as error:
                failure = _failure(error)
                if failure.status != 400:
                    raise
                return failure
        return None

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (ApiError, TransportError) as error:
            raise unavailable(self.where, _failure(error)) from None


class ElasticsearchSink:
    """Writes alerts with `bulk`, under their own ids."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._server = Server(config)
        self._clock = clock
        self._sleep = sleep
        self._ready: set[str] = set()  # indices that are known to have our mapping

    def probe(self) -> None:
        """Ask for the server and its index template."""
        self._server.status()
        self._require_template()

    def write(self, alerts: Sequence[Alert]) -> None:
        """Store each alert unless the same version or a newer one is stored already.

        While Elasticsearch fails this takes up to `retry_seconds`, and one request's timeout more.

        Raises:
            SinkUnavailable: some are not stored; the same call may be made again.
            SinkRejected: some are refused for good, all others are stored.
            ConfigError: with `single_index`, the index is not fit for alerts.
        """
        bulk = Bulk(self._server.bulk, self._server.where, self._config.retry_seconds, self._clock, self._sleep)
        try:
            for index in sorted({self._index(alert) for alert in alerts} - self._ready):
                self._prepare(index)
                self._ready.add(index)
            for request in self._requests(alerts):
                bulk.store(request)
        except SinkUnavailable:
            self._ready.clear()  # whoever mends the server may have deleted an index
            raise
        if bulk.rejected:
            raise SinkRejected("elasticsearch", bulk.rejected)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _index(self, alert: Alert) -> str:
        if self._config.single_index:
            return self._config.index
        start = alert.window_start.astimezone(UTC)
        return f"{self._config.index}-{start.year:04}.{start.month:02}"

    def _prepare(self, index: str) -> None:
        """See to it that an index has our mapping before anything is written to it: nothing is left to guessing."""
        self._require_template()
        stored = self._server.mappings(index)
        if not stored:
            failure = self._server.create(index)
            if failure and failure.type != "resource_already_exists_exception":  # another writer may be faster
                raise self._unfit(f"index {index} cannot be created ({failure})")
            stored = self._server.mappings(index)
        if set(stored) != {index}:
            raise self._unfit(f"{index} is an alias or a data stream, not an index")
        if missing := gaps(stored[index]):
            raise self._unfit(f"index {index} was not made for alerts of this version, see {missing[0]}")

    def _require_template(self) -> None:
        if not self._config.single_index and self._server.template_gaps():
            raise self._unfit(f"index template {TEMPLATE_NAME} is missing or older than this detector")

    def _unfit(self, why: str) -> DetectorError:
        if self._config.single_index:
            return ConfigError(f"elasticsearch: {why}: name an index that does not exist yet")
        return SinkUnavailable("elasticsearch", f"{why}: run `detector es setup`", retry_after_seconds=10.0)

    def _requests(self, alerts: Sequence[Alert]) -> Iterator[list[Action]]:
        newest: dict[str, Alert] = {}
        for alert in alerts:
            if alert.id not in newest or alert.version > newest[alert.id].version:
                newest[alert.id] = alert
        request: list[Action] = []
        size_bytes = 0
        for action in map(self._action, newest.values()):
            too_many = len(request) == self._config.bulk_documents
            if request and (too_many or size_bytes + action.size_bytes > self._config.bulk_bytes):
                yield request
                request, size_bytes = [], 0
            request.append(action)
            size_bytes += action.size_bytes
        if request:
            yield request

    def _action(self, alert: Alert) -> Action:
        what = {"_index": self._index(alert), "_id": alert.id, "version": alert.version, "version_type": "external"}
        return Action(alert.id, (_line({"index": what}), _line(alert.document.to_json())))


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _tls(config: Config) -> dict[str, Any]:
    """The client's TLS arguments, which it wants left out for an address without TLS."""
    if not any(node.startswith("https:") for node in config.nodes):
        return {}
    trusted = {"ca_certs": str(config.ca_certs)} if config.ca_certs else {}
    return {"verify_certs": config.verify_certs, "ssl_show_warn": False, **trusted}


def _failure(error: ApiError | TransportError) -> Failure:
    if isinstance(error, ApiError) and error.meta.status >= 300:
        return Failure(error.meta.status, _type(error.body))
    return Failure(0, type(error).__name__)


def _type(body: object) -> str:
    """The `error.type` of an answer or of one of its items; a proxy's answer has none."""
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("type", "")) if isinstance(error, dict) else ""
