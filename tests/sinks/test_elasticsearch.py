"""The Elasticsearch sink, on a real server."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from detector.alert import Alert
from detector.errors import ConfigError, SinkRejected, SinkUnavailable
from detector.sinks.elasticsearch import Config, ElasticsearchSink
from detector.sinks.template import gaps, index_template
from tests.sinks.factory import alert, poison

pytestmark = pytest.mark.services


@pytest.fixture
def sink(config: Config) -> Iterator[ElasticsearchSink]:
    """The sink, writing to a fresh index."""
    with closing(ElasticsearchSink(config)) as opened:
        yield opened


def stored(server: Elasticsearch, index: str) -> dict[str, Any]:
    """All documents by id; fails if one id is stored twice."""
    server.indices.refresh(index=f"{index}*")
    hits = server.search(index=f"{index}*", size=1000)["hits"]["hits"]
    documents = {hit["_id"]: hit["_source"] for hit in hits}
    assert len(documents) == len(hits)
    return documents


def as_json(*alerts: Alert) -> dict[str, Any]:
    """What should be stored of these alerts."""
    return {one.id: one.document.to_json() for one in alerts}


def test_what_is_written_is_found_again_unchanged(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """Each alert is one document, equal to the alert's JSON, under the alert's id."""
    alerts = [alert(number, user=f"user-{number}") for number in range(20)]
    sink.write(alerts)
    assert stored(server, index) == as_json(*alerts)


def test_every_field_can_be_searched_by_its_type(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """Addresses match by network, times by range, names exactly, messages by word."""
    sink.write([alert(1)])
    server.indices.refresh(index=f"{index}*")
    queries: list[dict[str, Any]] = [
        {"term": {"source.ip": "203.0.113.0/24"}},
        {"term": {"related.ip": "2001:db8::/32"}},
        {"range": {"@timestamp": {"gte": "2026-10-05T10:07:31Z", "lt": "2026-10-05T10:07:32Z"}}},
        {"term": {"orchestrator.resource.type": "secrets"}},
        {"range": {"event.severity": {"gte": 47}}},
        {"term": {"detector.degraded": False}},
        {"match": {"message": "secret"}},
    ]
    assert [server.count(index=f"{index}*", query=query)["count"] for query in queries] == [1] * len(queries)


def test_writing_again_stores_nothing_more(config: Config, server: Elasticsearch, index: str) -> None:
    """A batch that is written again, by this process or the next, leaves what is stored alone."""
    alerts = [alert(1), alert(2)]
    for _ in range(2):
        with closing(ElasticsearchSink(config)) as sink:
            sink.write(alerts)
            sink.write(alerts)
    assert stored(server, index) == as_json(*alerts)
    assert server.indices.stats(index=f"{index}*")["_all"]["total"]["indexing"]["index_total"] == 2


def test_an_alert_that_is_completed_is_one_document(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """The final version replaces the opening one."""
    final = alert(1, complete=True, event_count=12)
    sink.write([alert(1)])
    sink.write([final])
    assert stored(server, index) == as_json(final)


def test_a_completed_alert_stays_as_it_is(config: Config, server: Elasticsearch, index: str) -> None:
    """Open versions that arrive after the final one, as after a restart, are ignored."""
    final = alert(1, complete=True, event_count=12, severity=73)
    with closing(ElasticsearchSink(config)) as sink:
        sink.write([final])
    with closing(ElasticsearchSink(config)) as restarted:
        restarted.write([alert(1)])
        restarted.write([alert(1, severity=73)])
    assert stored(server, index) == as_json(final)


def test_a_rise_of_severity_is_shown_also_after_a_restart(config: Config, server: Elasticsearch, index: str) -> None:
    """A version of higher severity replaces the open one, though another process wrote that."""
    risen = alert(1, severity=99, event_count=3)
    with closing(ElasticsearchSink(config)) as sink:
        sink.write([alert(1)])
    with closing(ElasticsearchSink(config)) as restarted:
        restarted.write([risen])
        restarted.write([alert(1)])
    assert stored(server, index) == as_json(risen)


def test_the_greatest_version_stands_whatever_the_order(
    sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """A final version that knows of more events replaces one that knows of fewer, never the other way round."""
    fuller = alert(1, complete=True, event_count=9)
    for event_count in (4, 9, 6):
        sink.write([alert(1, complete=True, event_count=event_count)])
    assert stored(server, index) == as_json(fuller)


def test_of_the_versions_in_one_batch_the_newest_is_stored(
    sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """Opening, rise and completion may be written at once, and an alert may be new to the sink as complete."""
    risen, final = alert(1, severity=73), alert(2, complete=True)
    sink.write([alert(1), risen, alert(2), final, alert(2, severity=73), alert(1)])
    assert stored(server, index) == as_json(risen, final)


def test_a_poison_document_is_refused_alone(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """Its neighbours are stored, and the reason quotes no value."""
    good = [alert(1), alert(3)]
    with pytest.raises(SinkRejected) as caught:
        sink.write([good[0], poison(2), good[1]])
    assert caught.value.rejected == [(alert(2).id, "400 strict_dynamic_mapping_exception")]
    assert "hunter2" not in str(caught.value)
    assert stored(server, index) == as_json(*good)


def test_an_id_that_fails_the_whole_request_is_refused_alone(
    sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """An over-long id makes Elasticsearch refuse all of a request (400); the culprits are found and the rest stored."""
    good = [alert(number) for number in range(100)]
    culprits = [alert(alert_id="x" * 600), alert(alert_id="y" * 600)]
    with pytest.raises(SinkRejected) as caught:
        sink.write([*good[:37], culprits[0], *good[37:90], culprits[1], *good[90:]])
    reason = "400 action_request_validation_exception"
    assert caught.value.rejected == [(culprit.id, reason) for culprit in culprits]
    assert stored(server, index) == as_json(*good)


def test_each_alert_goes_to_the_month_of_its_window(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """The month is that of UTC, wherever the time was written."""
    new_year = datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    sink.write([alert(1), alert(2, window_start=new_year), alert(3, window_start=datetime(2027, 1, 1, tzinfo=UTC))])
    assert set(server.indices.get(index=f"{index}*")) == {f"{index}-2026.10", f"{index}-2026.12", f"{index}-2027.01"}


def test_an_id_is_stored_once_whenever_it_is_replayed(config: Config, server: Elasticsearch, index: str) -> None:
    """New months' indices, a rollover and a restart do not make a second document of an alert."""
    october, final = alert(1), alert(1, complete=True, event_count=7)
    with closing(ElasticsearchSink(config)) as sink:
        sink.write([october])
        sink.write([alert(2, window_start=datetime(2026, 11, 3, tzinfo=UTC))])
    server.indices.update_aliases(actions=[{"add": {"index": f"{index}-2026.10", "alias": f"{index}-alias"}}])
    server.indices.rollover(alias=f"{index}-alias", new_index=f"{index}-rolled")
    with closing(ElasticsearchSink(config)) as later:
        later.write([october])
        later.write([final])
    assert stored(server, index) == as_json(final, alert(2))


def test_writers_that_begin_at_once_store_each_alert_once(config: Config, server: Elasticsearch, index: str) -> None:
    """Several processes may find that the month's index is missing, and create it at the same time."""
    alerts = [alert(number) for number in range(5)]

    def write(_: int) -> None:
        with closing(ElasticsearchSink(config)) as sink:
            sink.write(alerts)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert stored(server, index) == as_json(*alerts)


def test_the_indices_cannot_be_rolled_over_by_name(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """Elasticsearch rolls over aliases and data streams only, so nothing can start a second index of a month."""
    sink.write([alert(1)])
    answer = server.options(ignore_status=400).indices.rollover(alias=f"{index}-2026.10")
    assert answer["error"]["type"] == "illegal_argument_exception"


def test_nothing_is_written_before_setup(
    config: Config, server: Elasticsearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the template no index is made, and the message names the command that installs it."""
    monkeypatch.setattr("detector.sinks.elasticsearch.TEMPLATE_NAME", f"missing-{uuid.uuid4().hex}")
    with closing(ElasticsearchSink(config)) as sink, pytest.raises(SinkUnavailable, match="run `detector es setup`"):
        sink.write([alert(1)])
    assert not server.indices.exists(index=f"{index}-2026.10")


def test_a_template_of_an_older_version_is_not_enough(
    config: Config, server: Elasticsearch, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that lacks a field is refused, and so is none at all; the write goes on once it is mended."""
    name = f"older-{uuid.uuid4().hex}"
    monkeypatch.setattr("detector.sinks.elasticsearch.TEMPLATE_NAME", name)
    body = {**index_template(), "index_patterns": [f"{name}-*"]}
    older = index_template()["template"]
    del older["mappings"]["properties"]["detector"]["properties"]["degraded"]
    server.indices.put_index_template(name=name, body={**body, "template": older})
    try:
        with closing(ElasticsearchSink(config)) as sink:
            with pytest.raises(SinkUnavailable, match="older than this detector"):
                sink.write([alert(1)])
            server.indices.put_index_template(name=name, body=body)
            sink.write([alert(1)])
    finally:
        server.indices.delete_index_template(name=name)
    assert stored(server, index) == as_json(alert(1))


def test_our_template_wins_over_the_built_in_one(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """Where a template of lower priority makes data streams of the same names, alerts still go to a plain index."""
    name = f"builtin-{uuid.uuid4().hex}"
    server.indices.put_index_template(name=name, index_patterns=[f"{index}*"], data_stream={}, priority=100)
    try:
        sink.write([alert(1)])
    finally:
        server.indices.delete_index_template(name=name)
    assert list(server.indices.get(index=f"{index}*")) == [f"{index}-2026.10"]


def test_an_index_with_guessed_types_is_not_written_to(
    config: Config, sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """An index with a dynamic mapping is refused, in the month's place as well as by its own name."""
    for name in (index, f"{index}-2026.10"):
        server.indices.create(index=name, mappings={"dynamic": True})
    with pytest.raises(SinkUnavailable, match=r"-2026.10 was not made for alerts"):
        sink.write([alert(1)])
    single = config.model_copy(update={"single_index": True})
    with closing(ElasticsearchSink(single)) as replay, pytest.raises(ConfigError, match="name an index that does not"):
        replay.write([alert(1)])
    assert stored(server, index) == {}


def test_a_single_index_takes_every_month_under_the_same_mapping(config: Config, server: Elasticsearch) -> None:
    """A replay may go into an index of any name, outside of the template's pattern."""
    name = f"detector-replay-{uuid.uuid4().hex}"
    single = Config(url=config.url, index=name, single_index=True)
    alerts = [alert(1, complete=True), alert(2, complete=True, window_start=datetime(2024, 2, 1, tzinfo=UTC))]
    try:
        with closing(ElasticsearchSink(single)) as sink:
            sink.write(alerts)
            sink.write(alerts)
            with pytest.raises(SinkRejected):
                sink.write([poison(3)])
        assert stored(server, name) == as_json(*alerts)
        assert gaps(server.indices.get_mapping(index=name)[name]["mappings"]) == []
    finally:
        server.indices.delete(index=name)


def test_a_single_index_cannot_be_an_alias(config: Config, server: Elasticsearch, index: str) -> None:
    """Behind an alias an id may be stored in several indices."""
    server.indices.create(index=f"{index}-1", aliases={f"{index}-alias": {}})
    single = Config(url=config.url, index=f"{index}-alias", single_index=True)
    with closing(ElasticsearchSink(single)) as sink, pytest.raises(ConfigError, match="is an alias or a data stream"):
        sink.write([alert(1)])


def test_an_index_that_is_deleted_meanwhile_is_made_again(
    sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """The template gives it the strict mapping again."""
    sink.write([alert(1)])
    server.indices.delete(index=f"{index}-2026.10")
    sink.write([alert(2)])
    assert stored(server, index) == as_json(alert(2))
    assert gaps(server.indices.get_mapping(index=f"{index}-2026.10")[f"{index}-2026.10"]["mappings"]) == []


@pytest.mark.parametrize("block", ["read_only", "read_only_allow_delete"])
def test_a_write_block_holds_the_alerts_until_it_is_lifted(
    block: str, sink: ElasticsearchSink, server: Elasticsearch, index: str
) -> None:
    """A full disk or an administrator's block loses nothing; the message says what to do."""
    sink.write([alert(1)])
    server.indices.put_settings(index=f"{index}-2026.10", settings={f"index.blocks.{block}": True})
    try:
        with pytest.raises(SinkUnavailable, match="writing is blocked: free disk space"):
            sink.write([alert(2)])
    finally:
        server.indices.put_settings(index=f"{index}-2026.10", settings={f"index.blocks.{block}": None})
    sink.write([alert(2)])
    assert stored(server, index) == as_json(alert(1), alert(2))


def test_a_closed_index_holds_the_alerts(sink: ElasticsearchSink, server: Elasticsearch, index: str) -> None:
    """The message says that the index is to be opened."""
    sink.write([alert(1)])
    server.indices.close(index=f"{index}-2026.10")
    with pytest.raises(SinkUnavailable, match="the index is closed: open it"):
        sink.write([alert(2)])


def test_large_batches_are_sent_in_several_requests(config: Config, server: Elasticsearch, index: str) -> None:
    """Neither the number nor the size of alerts in a batch is limited."""
    small = config.model_copy(update={"bulk_documents": 7, "bulk_bytes": 10_000})
    alerts = [alert(number, message="x" * 500 * number) for number in range(30)]
    with closing(ElasticsearchSink(small)) as sink:
        sink.write(alerts)
    assert stored(server, index) == as_json(*alerts)
