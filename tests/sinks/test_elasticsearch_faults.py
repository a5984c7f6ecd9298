"""The Elasticsearch sink, when the server fails: a stand-in answers as ordered, and no time is lost with waiting."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from detector.errors import SinkRejected, SinkUnavailable
from detector.sinks.elasticsearch import Config, ElasticsearchSink
from tests.sinks.factory import alert
from tests.sinks.stand_in import HANG_UP, Answer, FakeTime, StandIn, stand_in

ALERTS = [alert(number) for number in range(4)]
IDS = [one.id for one in ALERTS]


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in that stores everything unless told otherwise."""
    with stand_in() as started:
        yield started


@pytest.fixture
def time() -> FakeTime:
    """Time that only waiting moves on."""
    return FakeTime()


@pytest.fixture
def sink(server: StandIn, time: FakeTime) -> Iterator[ElasticsearchSink]:
    """A sink that gives up after 20 of those seconds."""
    config = Config(url=server.url, retry_seconds=20)
    with closing(ElasticsearchSink(config, clock=time.clock, sleep=time.sleep)) as opened:
        yield opened


@pytest.mark.parametrize("answer", [408, 429, 500, 502, 503, 504, HANG_UP])
def test_a_passing_failure_is_tried_again(
    answer: Answer, server: StandIn, sink: ElasticsearchSink, time: FakeTime
) -> None:
    """The whole request is sent again after a short while."""
    server.answers = [answer, answer]
    sink.write(ALERTS)
    assert server.requests == [IDS, IDS, IDS]
    assert server.stored == IDS
    assert len(time.slept) == 2


def test_only_what_failed_is_sent_again_in_its_order(server: StandIn, sink: ElasticsearchSink) -> None:
    """Items that were stored are not sent twice."""
    server.answers = [[429, 201, 503, 201], [201, 429]]
    sink.write(ALERTS)
    assert server.requests == [IDS, [IDS[0], IDS[2]], [IDS[2]]]
    assert server.stored == [IDS[1], IDS[3], IDS[0], IDS[2]]


def test_waits_grow_and_are_bounded(server: StandIn, sink: ElasticsearchSink, time: FakeTime) -> None:
    """A server that stays away costs no more time than was set, and the alerts are held."""
    server.answers = [503] * 100
    with pytest.raises(SinkUnavailable, match=r"cannot take alerts now \(503 some_exception\)"):
        sink.write(ALERTS)
    assert time.now_seconds <= 20
    assert time.slept[-1] > 4 * time.slept[0]
    assert len(server.requests) == len(time.slept) + 1 < 15


def test_a_held_batch_is_stored_once_the_server_is_back(server: StandIn, sink: ElasticsearchSink) -> None:
    """The same call may be made again; what was stored meanwhile (409) is no error."""
    server.answers = [[201, 503, 503, 503], *([503] * 20)]
    with pytest.raises(SinkUnavailable):
        sink.write(ALERTS)
    server.answers = [[409, 201, 201, 201]]
    sink.write(ALERTS)
    assert server.stored == IDS


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (401, "the user name, password or API key is not accepted"),
        ((403, "security_exception"), "to write, `monitor` on the cluster, and `create_index`, `index`"),
        ((403, "cluster_block_exception"), "writing is blocked"),
        ((404, "index_not_found_exception"), "run `detector es setup`"),
        ((400, "media_type_header_exception"), "Elasticsearch 8 or 9 is needed"),
        (406, "Elasticsearch 8 or 9 is needed"),
        (302, "cannot take alerts now"),
        ((400, ""), "cannot take alerts now"),
    ],
)
def test_what_a_person_must_mend_holds_the_alerts_at_once(
    answer: Answer, hint: str, server: StandIn, sink: ElasticsearchSink, time: FakeTime
) -> None:
    """There is no retry, and one line says what to do."""
    server.answers = [answer]
    with pytest.raises(SinkUnavailable) as caught:
        sink.write(ALERTS)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (time.slept, server.stored) == ([], [])


def test_an_item_that_is_not_allowed_holds_the_batch(server: StandIn, sink: ElasticsearchSink) -> None:
    """A privilege that is taken away is no reason to give an alert up."""
    server.answers = [[201, 403, 201, 201]]
    with pytest.raises(SinkUnavailable, match="the account lacks a privilege"):
        sink.write(ALERTS)


def test_a_request_that_is_too_large_is_halved(server: StandIn, sink: ElasticsearchSink) -> None:
    """Alerts that fit are stored in smaller requests; only one that does not fit alone is refused."""
    server.answers = [413, 413, 413]
    with pytest.raises(SinkRejected) as caught:
        sink.write(ALERTS)
    assert caught.value.rejected == [(IDS[0], "413 some_exception")]
    assert server.requests == [IDS, IDS[:2], IDS[:1], IDS[1:2], IDS[2:3], IDS[3:]]
    assert server.stored == IDS[1:]


def test_an_item_that_is_refused_is_reported_after_the_others_are_stored(
    server: StandIn, sink: ElasticsearchSink
) -> None:
    """An item's retry and another item's refusal in one answer do not disturb each other."""
    server.answers = [[400, 201, 429, 201]]
    with pytest.raises(SinkRejected) as caught:
        sink.write(ALERTS)
    assert caught.value.rejected == [(IDS[0], "400 some_exception")]
    assert server.stored == [IDS[1], IDS[3], IDS[2]]


def test_the_servers_words_reach_neither_log_nor_error(server: StandIn, sink: ElasticsearchSink) -> None:
    """The reason that the server gives quotes values that anybody can choose."""
    server.answers = [503, [400, 429, 201, 201], 413, (400, "x"), 401]
    with capture_logs() as logs, pytest.raises(SinkUnavailable) as caught:
        sink.write(ALERTS)
    assert len(logs) == 2
    assert "hunter2" not in f"{logs} {caught.value} {caught.value.__cause__}"


def test_a_template_that_may_not_be_read_is_named(server: StandIn, sink: ElasticsearchSink) -> None:
    """Without `monitor` the sink does not write on trust."""
    server.admin_status = 403
    with pytest.raises(SinkUnavailable, match="lacks a privilege: to write, `monitor`"):
        sink.write(ALERTS)
    assert server.requests == []


def test_another_product_is_told_apart(server: StandIn, sink: ElasticsearchSink) -> None:
    """What only looks like Elasticsearch is named in one line."""
    server.product = "OpenSearch"
    with pytest.raises(SinkUnavailable, match="what answers is not Elasticsearch: check `url`"):
        sink.write(ALERTS)


def test_a_server_that_is_not_there_is_named(time: FakeTime) -> None:
    """The address stands in the message, nothing hangs."""
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            closing(ElasticsearchSink(Config(url=url), clock=time.clock, sleep=time.sleep)) as sink,
            pytest.raises(SinkUnavailable, match=rf"{url}: cannot be reached \(ConnectionError\)"),
        ):
            sink.write(ALERTS)
    assert time.now_seconds <= 20


def test_a_server_that_never_answers_is_given_up(time: FakeTime) -> None:
    """Each request has a time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = Config(url=f"http://127.0.0.1:{silent.getsockname()[1]}", request_timeout_seconds=0.05)
        with (
            closing(ElasticsearchSink(config, clock=time.clock, sleep=time.sleep)) as sink,
            pytest.raises(SinkUnavailable, match=r"cannot be reached \(ConnectionTimeout\)"),
        ):
            sink.write(ALERTS)


def test_a_server_without_tls_is_not_trusted(server: StandIn) -> None:
    """A failed handshake is one line that names the setting."""
    config = Config(url=server.url.replace("http:", "https:"))
    with closing(ElasticsearchSink(config)) as sink, pytest.raises(SinkUnavailable, match="set `ca_certs`"):
        sink.write(ALERTS)


def test_a_node_that_is_gone_is_passed_over(server: StandIn, time: FakeTime) -> None:
    """With several addresses, one that is down costs nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = Config(url=(f"http://127.0.0.1:{taken.getsockname()[1]}", server.url))
        with closing(ElasticsearchSink(config, clock=time.clock, sleep=time.sleep)) as sink:
            sink.write(ALERTS)
    assert (server.stored, time.slept) == (IDS, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "https://elastic:hunter2@es:9200"}, "an address holds no credentials"),
        ({"url": "es:9200"}, "is not of the form"),
        ({"url": ["https://es:9200", "https://es"]}, "is not of the form"),
        ({"username": "elastic"}, "go together"),
        ({"username": "elastic", "password": "hunter2", "api_key": "hunter2"}, "one of them is enough"),
        ({"api_key": "hunter2\n"}, "without a line end"),
        ({"ca_certs": "/nonexistent/ca.pem"}, "does not point to a file"),
        ({"index": "Alerts"}, "cannot name an index"),
        ({"index": "alerts"}, "begins with"),
        ({"indices": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str], message: str) -> None:
    """The message says what is wrong, and repeats no secret."""
    with pytest.raises(ValidationError, match=message) as caught:
        Config.model_validate({"url": "https://es:9200", **settings})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """Settings can be printed."""
    settings = {"url": "https://es:9200", "username": "elastic", "password": "hunter2"}
    assert "hunter2" not in repr(Config.model_validate(settings))
