"""The Kafka source, on a real broker."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import LogTruncationError, UnknownBrokerIdError
from kafka.structs import OffsetAndMetadata
from pydantic import ValidationError
from structlog.testing import capture_logs

from detector.errors import ConfigError, SinkUnavailable, SourceUnavailable
from detector.record import Batch, Position
from detector.sources.kafka import Config, KafkaSource, check
from tests.services.services import Services

PATIENCE_SECONDS = 30

# kafka-python leaves the socket of a failed connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <(socket|ssl):ResourceWarning")


class Reader:
    """Reads a source batch by batch and keeps what came."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source
        self.batches = iter(source)
        self.values: list[bytes] = []
        self.end: dict[str, int] = {}
        self.behind: frozenset[str] = frozenset()
        self.checkpoints = 0

    def step(self) -> Batch:
        """Take the next batch."""
        batch = next(self.batches)
        self._keep(batch)
        return batch

    def _keep(self, batch: Batch) -> None:
        self.values += batch.values
        self.end |= batch.end
        self.behind = batch.behind

    def start(self) -> None:
        """Read on a thread until the source is stopped."""
        thread = ThreadPoolExecutor(1)
        self._reading = thread.submit(self._read)
        thread.shutdown(wait=False)

    def _read(self) -> None:
        for batch in self.batches:
            self._keep(batch)

    def finished(self) -> None:
        """Wait for the thread's end; raises what ended it."""
        self._reading.result(PATIENCE_SECONDS)

    def commit(self) -> None:
        """Commit all that came."""
        self.source.commit(self.end)

    def checkpoint(self) -> None:
        """Commit all that came, and count it."""
        self.checkpoints += 1
        self.commit()


class Topic:
    """A topic of its own, and the sources that read it, closed when the test ends."""

    def __init__(self, servers: str, opened: ExitStack) -> None:
        self.servers = servers
        self.name = f"audit-{uuid4().hex[:12]}"
        self._opened = opened

    def send(self, *values: bytes | None, partition: int = 0, **settings: Any) -> None:
        """Write records to a partition; returns once the broker has them."""
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=20, **settings)
        for value in values:
            producer.send(self.name, value, key=b"user", partition=partition)
        producer.close()

    def config(self, **settings: Any) -> Config:
        """Settings of a source, with the short session that lets a group rebalance fast."""
        return config(self.servers, topics=[self.name], group_id=self.name, **settings)

    def reader(self, resume: dict[str, int] | None = None, **settings: Any) -> Reader:
        """A reader of a source of its own."""
        source = KafkaSource(self.config(**settings), resume or {})
        self._opened.callback(source.close)
        return Reader(source)

    def stream(self, partition: int = 0) -> str:
        """The stream's name."""
        return f"{self.name}[{partition}]"


def config(servers: str, **settings: Any) -> Config:
    """Settings of a source; what is given wins over the defaults."""
    defaults = {
        "type": "kafka",
        "bootstrap_servers": [servers],
        "topics": ["audit"],
        "group_id": "detector",
        "auto_offset_reset": "earliest",
        "session_timeout_ms": 6000,
    }
    return Config.model_validate(defaults | settings)


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Sockets that were left must not trouble the tests of other modules."""
    yield
    gc.collect()


@pytest.fixture
def admin(services: Services) -> Iterator[Any]:
    """Makes topics and deletes records."""
    client = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap)
    yield client
    client.close()


@pytest.fixture
def make_topic(services: Services, admin: Any) -> Iterator[Callable[..., Topic]]:
    """Makes topics with so many partitions."""
    with ExitStack() as opened:

        def make(partitions: int = 1, **configs: str) -> Topic:
            topic = Topic(services.kafka_bootstrap, opened)
            settings = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
            admin.create_topics({topic.name: settings}, wait_for_metadata=True)
            return topic

        yield make


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Values that tell their order."""
    return [b"%d" % number for number in range(start, start + count)]


def until(done: Callable[[], object], *readers: Reader) -> None:
    """Let each reader take a batch in turn until it is done."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, [(len(reader.values), reader.end, reader.behind) for reader in readers]
        for reader in readers:
            reader.step()


@contextmanager
def running(reader: Reader) -> Iterator[Reader]:
    """Read on a thread; in the end commit and leave the group."""
    reader.source.checkpoint = reader.checkpoint
    reader.start()
    try:
        yield reader
    finally:
        reader.source.stop()
        with suppress(SinkUnavailable):
            reader.finished()
            reader.commit()
        reader.source.close()


def wait(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(reader: Reader, count: int) -> list[bytes]:
    """All that came, once it is so many values."""
    until(lambda: len(reader.values) >= count, reader)
    return reader.values


class TestSettings:
    def test_where_to_start_must_be_chosen(self) -> None:
        """There is no default for what either floods or misses."""
        with pytest.raises(ValidationError, match="auto_offset_reset"):
            config("kafka:9092", auto_offset_reset=None)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"security_protocol": "SASL_SSL", "sasl_username": "detector", "sasl_password": "hunter2"},
            {"sasl_mechanism": "PLAIN", "sasl_username": "detector", "sasl_password": "hunter2"},
            {"ssl_cafile": "ca.pem", "sasl_password": "hunter2"},
            {"security_protocol": "SSL", "ssl_certfile": "cert.pem"},
            {"topics": []},
            {"topics": ["audit logs"]},
            {"bootstrap_servers": ["http://kafka:9092"]},
            {"bootstrap_servers": ["kafka:9092,other:9092"]},
        ],
    )
    def test_what_cannot_work_is_refused_without_showing_the_password(self, wrong: dict[str, object]) -> None:
        """A half-given login or certificate would make a connection less safe than it looks."""
        with pytest.raises(ValidationError) as refused:
            config("kafka:9092", **wrong)
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize("server", ["kafka", "kafka:9092", "10.0.0.1:9092", "[fd00::1]:9092"])
    def test_names_and_addresses_are_taken(self, server: str) -> None:
        """IPv6 addresses too, in brackets."""
        assert config(server).servers == server

    def test_a_missing_certificate_is_named(self, tmp_path: Path) -> None:
        """Before any broker is asked."""
        missing = tmp_path / "ca.pem"
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            KafkaSource(config("127.0.0.1:1", security_protocol="SSL", ssl_cafile=missing))

    def test_an_unreachable_broker_is_named_in_time(self) -> None:
        """The line says where, why and what to check."""
        threads, start = threading.active_count(), time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:1: .*ECONNREFUSED; check source\.bootstrap_servers"):
            KafkaSource(config("127.0.0.1:1", connect_timeout_seconds=1))
        assert time.monotonic() - start < 5
        assert threading.active_count() == threads


@pytest.mark.services
class TestConnecting:
    def test_a_missing_topic_is_named(self, services: Services) -> None:
        """And not created by asking for it."""
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="no topic no-such-topic; create it"):
                KafkaSource(config(services.kafka_bootstrap, topics=["no-such-topic"]))

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"security_protocol": "SSL"}, "SSL"),
            (
                {
                    "security_protocol": "SASL_PLAINTEXT",
                    "sasl_mechanism": "PLAIN",
                    "sasl_username": "detector",
                    "sasl_password": "hunter2",
                },
                "takes no login",
            ),
        ],
    )
    def test_a_listener_of_another_kind_is_told_in_one_line(
        self, services: Services, settings: dict[str, str], says: str
    ) -> None:
        """What the client only logs reaches the person."""
        with pytest.raises(SourceUnavailable, match=says) as told:
            KafkaSource(config(services.kafka_bootstrap, connect_timeout_seconds=1.5, **settings))
        assert "\n" not in str(told.value)
        assert "hunter2" not in str(told.value)

    def test_the_check_tells_partitions_and_lag(self, make_topic: Callable[..., Topic]) -> None:
        """What was never read is told apart from what lags."""
        topic = make_topic(partitions=2)
        topic.send(*numbered(5))
        reader = topic.reader(max_poll_records=2)
        read(reader, 2)
        reader.source.commit({topic.stream(): 2})
        assert check(topic.config()) == [
            f"Kafka answers at {topic.servers}",
            f"topic {topic.name}: 2 partitions, group {topic.name} 3 records behind; 1 of them not read so far, "
            "which start at earliest",
        ]

    def test_the_check_fails_as_the_source_does(self, services: Services) -> None:
        """So that `doctor` says what `run` would."""
        with pytest.raises(SourceUnavailable, match="no topic"):
            check(config(services.kafka_bootstrap, topics=["no-such-topic"]))


@pytest.mark.services
class TestReading:
    def test_every_record_comes_once_in_the_order_of_its_partition(self, make_topic: Callable[..., Topic]) -> None:
        """Positions name partition and offset; a batch holds one partition and says where reading goes on."""
        topic = make_topic(partitions=3)
        for partition in range(3):
            topic.send(*numbered(50, start=100 * partition), partition=partition)
        reader = topic.reader(max_poll_records=20)
        came: dict[str, list[tuple[int, bytes]]] = {}
        while sum(map(len, came.values())) < 150:
            batch = reader.step()
            for (stream, offset), value in zip(list(batch.positions), batch.values, strict=True):
                assert batch.positions[0].stream == stream
                came.setdefault(stream, []).append((offset, value))
        for partition in range(3):
            assert came[topic.stream(partition)] == list(enumerate(numbered(50, start=100 * partition)))
        assert reader.end == {topic.stream(partition): 50 for partition in range(3)}
        assert str(Position(topic.stream(2), 7)) == f"{topic.name}[2]:7"

    def test_a_stream_is_behind_until_it_is_read_to_its_end(self, make_topic: Callable[..., Topic]) -> None:
        """An empty partition is not behind once the broker has said that it is empty."""
        topic = make_topic(partitions=2)
        topic.send(*numbered(30))
        reader = topic.reader(max_poll_records=10)
        behind = []
        while len(reader.values) < 30:
            if reader.step().values:
                behind.append(topic.stream() in reader.behind)
        assert behind == [True, True, False]
        until(lambda: not reader.behind, reader)

    def test_partitions_that_wait_in_the_same_poll_are_behind(self, make_topic: Callable[..., Topic]) -> None:
        """Event time must not pass records that are read but not yet handed over."""
        topic = make_topic(partitions=2)
        for partition in range(2):
            topic.send(b"only", partition=partition)
        reader = topic.reader()
        read(reader, 1)
        assert len(reader.behind) == 1
        read(reader, 2)
        assert not reader.behind

    def test_an_empty_batch_comes_when_nothing_does(self, make_topic: Callable[..., Topic]) -> None:
        """So that a quiet pipeline can do timed work."""
        reader = make_topic().reader()
        start = time.monotonic()
        for _ in range(4):
            assert not reader.step().values
        assert time.monotonic() - start < 4

    def test_a_tombstone_is_an_empty_value(self, make_topic: Callable[..., Topic]) -> None:
        """Its position counts like any other."""
        topic = make_topic()
        topic.send(b"first", None, b"last")
        reader = topic.reader()
        assert read(reader, 3) == [b"first", b"", b"last"]
        assert reader.end == {topic.stream(): 3}

    @pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
    def test_compressed_records_are_read(self, make_topic: Callable[..., Topic], compression: str) -> None:
        """Whatever a producer commonly chooses."""
        topic = make_topic()
        topic.send(*numbered(500), compression_type=compression)
        assert read(topic.reader(), 500) == numbered(500)

    def test_a_compression_that_cannot_be_read_is_told(self, make_topic: Callable[..., Topic]) -> None:
        """The records are not passed over."""
        topic = make_topic(**{"compression.type": "snappy"})
        topic.send(b"compressed by the broker")
        with pytest.raises(SourceUnavailable, match=r"snappy.*compression\.type"):
            read(topic.reader(), 1)

    def test_an_aborted_transaction_is_left_out_and_its_marks_are_passed(
        self, make_topic: Callable[..., Topic]
    ) -> None:
        """Offsets 1 and 3 are marks: without passing them, the partition would look behind for ever."""
        topic = make_topic()
        producer = KafkaProducer(bootstrap_servers=topic.servers, transactional_id=topic.name)
        producer.init_transactions()
        for value, finish in (b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction):
            producer.begin_transaction()
            producer.send(topic.name, value).get(timeout=PATIENCE_SECONDS)
            finish()
        producer.close()
        reader = topic.reader()
        assert read(reader, 1) == [b"committed"]
        until(lambda: reader.end == {topic.stream(): 4} and not reader.behind, reader)


@pytest.mark.services
class TestPositions:
    def test_a_restart_goes_on_where_it_committed(self, make_topic: Callable[..., Topic]) -> None:
        """What was read after the commit comes again."""
        topic = make_topic()
        topic.send(*numbered(30))
        first = topic.reader(max_poll_records=10)
        read(first, 10)
        first.commit()
        read(first, 20)
        first.source.close()
        assert read(topic.reader(), 20) == numbered(20, start=10)

    def test_without_a_commit_all_is_read_again(self, make_topic: Callable[..., Topic]) -> None:
        """Nothing is committed by itself, not even when the source is closed."""
        topic = make_topic()
        topic.send(*numbered(10))
        first = topic.reader()
        read(first, 10)
        first.source.close()
        assert read(topic.reader(), 10) == numbered(10)

    @pytest.mark.parametrize("committed", [None, 4])
    def test_what_the_restored_state_holds_does_not_come_again(
        self, make_topic: Callable[..., Topic], committed: int | None
    ) -> None:
        """A crash between the saving of the state and the commit counts nothing twice."""
        topic = make_topic()
        topic.send(*numbered(10))
        if committed:
            first = topic.reader()
            read(first, 10)
            first.source.commit({topic.stream(): committed})
            first.source.close()
        second = topic.reader({topic.stream(): 7})
        assert read(second, 3) == numbered(3, start=7)
        assert second.end == {topic.stream(): 10}

    def test_a_state_older_than_the_group_does_not_turn_it_back(self, make_topic: Callable[..., Topic]) -> None:
        """Another process has decided what lies between, perhaps days of it; nor is the old position committed."""
        topic = make_topic()
        topic.send(*numbered(10))
        first = topic.reader()
        read(first, 10)
        first.commit()
        first.source.close()
        second = topic.reader({topic.stream(): 3})
        while not second.end:
            second.source.commit({topic.stream(): 3})
            second.step()
        assert second.end == {topic.stream(): 10}
        second.source.close()
        topic.send(b"next")
        assert read(topic.reader(), 1) == [b"next"]

    def test_latest_passes_over_what_came_before_and_holds_to_that(self, make_topic: Callable[..., Topic]) -> None:
        """The place of the start is committed even if nothing was read, so that a restart does not skip again."""
        topic = make_topic()
        topic.send(*numbered(10))
        first = topic.reader(auto_offset_reset="latest")
        until(lambda: first.end == {topic.stream(): 10}, first)
        first.commit()
        first.source.close()
        topic.send(b"meanwhile")
        assert read(topic.reader(auto_offset_reset="latest"), 1) == [b"meanwhile"]

    @pytest.mark.parametrize(("reset", "goes_on"), [("earliest", numbered(4, start=6)), ("latest", [])])
    def test_a_gap_is_told_and_left_as_the_operator_chose(
        self, make_topic: Callable[..., Topic], admin: Any, reset: str, goes_on: list[bytes]
    ) -> None:
        """Kafka has deleted records that were not read: the log says from where to where."""
        topic = make_topic()
        topic.send(*numbered(10))
        admin.delete_records({TopicPartition(topic.name, 0): 6})
        with capture_logs() as logs:
            reader = topic.reader({topic.stream(): 2}, auto_offset_reset=reset)
            until(lambda: reader.end == {topic.stream(): 10}, reader)
        assert reader.values == goes_on
        at = 10 - len(goes_on)
        gap = {"event": "reading starts", "log_level": "warning", "stream": topic.stream(), "before": 2, "at": at}
        assert any(gap.items() <= entry.items() for entry in logs)

    def test_after_a_truncation_it_goes_on_at_the_first_new_record(self, make_topic: Callable[..., Topic]) -> None:
        """An election that lost records makes the offsets of other records come twice."""
        topic = make_topic()
        topic.send(*numbered(10))
        reader = topic.reader()
        read(reader, 10)
        truncated = LogTruncationError({TopicPartition(topic.name, 0): OffsetAndMetadata(8, "", 0)})
        with capture_logs() as logs:
            reader.source._restart(truncated)
        assert [(entry["log_level"], entry["before"], entry["at"]) for entry in logs] == [("warning", 10, 8)]
        assert read(reader, 12)[10:] == numbered(2, start=8)


@pytest.mark.services
class TestGroup:
    def test_two_members_share_the_partitions_and_one_takes_over_from_the_other(
        self, make_topic: Callable[..., Topic]
    ) -> None:
        """With a commit at every hand-over, each record is read exactly once."""
        topic = make_topic(partitions=4)
        with running(topic.reader()) as first:
            wait(lambda: len(first.end) == 4)
            with running(topic.reader()) as second:
                wait(lambda: len(second.end) == 2)
                for partition in range(4):
                    topic.send(*numbered(10, start=10 * partition), partition=partition)
                wait(lambda: len(first.values) == len(second.values) == 20)
            for partition in range(4):
                topic.send(*numbered(10, start=100 + 10 * partition), partition=partition)
            wait(lambda: len(first.values) == 60)
        assert sorted(first.values + second.values, key=int) == numbered(40) + numbered(40, start=100)

    def test_a_checkpoint_is_committed_before_a_partition_goes(self, make_topic: Callable[..., Topic]) -> None:
        """Who takes the partition over does not read again what was decided."""
        topic = make_topic(partitions=2)
        for partition in range(2):
            topic.send(*numbered(10), partition=partition)
        with running(topic.reader()) as first:
            wait(lambda: len(first.values) == 20)
            assert first.checkpoints == 0
            with running(topic.reader()) as second:
                wait(lambda: bool(second.end))
                assert first.checkpoints == 1
                assert list(second.end.values()) == [10]
                assert second.values == []

    def test_a_hold_inside_a_checkpoint_only_waits(self, make_topic: Callable[..., Topic]) -> None:
        """A sink that is slow when partitions go does not lock the source up."""
        topic = make_topic(partitions=2)
        with running(topic.reader()) as first:
            wait(lambda: len(first.end) == 2)
            first.source.checkpoint = lambda: first.source.hold(0.5)
            with running(topic.reader()) as second:
                wait(lambda: bool(second.end))

    def test_what_a_checkpoint_raises_ends_the_iteration(self, make_topic: Callable[..., Topic]) -> None:
        """Closing then does not wait for ever, and the partitions go."""
        topic = make_topic(partitions=2)

        def fail() -> None:
            raise SinkUnavailable("state", "the disk is full")

        with running(topic.reader()) as first:
            wait(lambda: len(first.end) == 2)
            first.source.checkpoint = fail
            with running(topic.reader()) as second:
                with pytest.raises(SinkUnavailable, match="the disk is full"):
                    first.finished()
                first.source.close()
                wait(lambda: len(second.end) == 2)

    def test_a_hold_keeps_the_place_in_the_group_and_loses_nothing(self, make_topic: Callable[..., Topic]) -> None:
        """It lasts longer than a member may go without a poll; what arrives meanwhile comes afterwards."""
        topic = make_topic(partitions=2)
        topic.send(*numbered(10))
        reader = topic.reader(max_poll_interval_ms=1000, max_poll_records=5)
        read(reader, 5)
        topic.send(*numbered(10), partition=1)
        with capture_logs() as logs:
            reader.source.hold(2.5)
            read(reader, 20)
        assert sorted(reader.values, key=int) == sorted(numbered(10) * 2, key=int)
        assert "partitions lost" not in [entry["event"] for entry in logs]
        reader.commit()

    def test_partitions_that_come_during_a_hold_wait_too(self, make_topic: Callable[..., Topic]) -> None:
        """Their records come when it is over."""
        topic = make_topic(partitions=2)
        for partition in range(2):
            topic.send(*numbered(10), partition=partition)
        first = topic.reader()
        first.source.hold(1)
        assert first.values == []
        assert len(read(first, 20)) == 20

    def test_a_member_that_was_thrown_out_commits_nothing_and_comes_back(
        self, make_topic: Callable[..., Topic]
    ) -> None:
        """Its partitions may be with others: no checkpoint, no claim, and nothing is lost."""
        topic = make_topic()
        topic.send(*numbered(10))
        reader = topic.reader(max_poll_interval_ms=1000, max_poll_records=5)
        read(reader, 5)
        reader.source.checkpoint = lambda: pytest.fail("partitions that are lost are not to be committed")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "stable" in reader.source._consumer.group_metadata().state:
            assert time.monotonic() < deadline
        with capture_logs() as logs:
            reader.commit()
            assert read(reader, 10) == numbered(10)
        told = [entry["event"] for entry in logs]
        assert told.index("kafka trouble, going on") < told.index("partitions lost")
        reader.commit()
        reader.source.close()
        topic.send(b"next")
        assert read(topic.reader(), 1) == [b"next"]

    def test_a_lost_partition_is_claimed_no_more(self, make_topic: Callable[..., Topic]) -> None:
        """Else the leader gives it to nobody, waiting for this member to give it up."""
        topic = make_topic()
        reader = topic.reader()
        until(lambda: reader.end, reader)
        member = reader.source._member
        assert member._assignor.metadata([topic.name]).owned_partitions
        with suppress(StopIteration):  # it is the client that awaits it
            member.on_partitions_lost(member.consumer.assignment()).send(None)
        assert not member._assignor.metadata([topic.name]).owned_partitions

    def test_records_that_the_client_drops_in_an_error_are_read_again(self, make_topic: Callable[..., Topic]) -> None:
        """A leader of whom it has not heard makes it fail after it has counted the records as handed over."""
        topic = make_topic()
        topic.send(*numbered(10))
        reader = topic.reader(max_poll_records=5)
        read(reader, 5)
        fetcher = reader.source._consumer._fetcher

        def fail() -> None:
            raise UnknownBrokerIdError(7)

        fetcher.send_fetches = fail
        assert read(reader, 10) == numbered(10)
        assert reader.source._consumer._fetcher is not fetcher

    def test_a_partition_that_stalls_is_joined_anew(self, make_topic: Callable[..., Topic]) -> None:
        """A client that forgets a partition is replaced; what was read is not read again."""
        topic = make_topic()
        topic.send(*numbered(10))
        reader = topic.reader(max_poll_records=5, stall_seconds=1)
        read(reader, 5)
        reader.source._consumer.pause(TopicPartition(topic.name, 0))
        with capture_logs() as logs:
            assert read(reader, 10) == numbered(10)
        assert {"event": "partitions stalled, joining the group anew", "lag": {topic.stream(): 5}}.items() <= next(
            entry for entry in logs if "stalled" in entry["event"]
        ).items()


@pytest.mark.services
class TestEnding:
    def test_stop_ends_the_iteration_after_the_batch_in_hand(self, make_topic: Callable[..., Topic]) -> None:
        """The commit of that batch still works."""
        topic = make_topic()
        topic.send(*numbered(10))
        first = topic.reader(max_poll_records=5)
        read(first, 5)
        first.source.stop()
        assert list(first.batches) == []
        first.commit()
        first.source.close()
        assert read(topic.reader(), 5) == numbered(5, start=5)

    def test_stop_ends_a_hold(self, make_topic: Callable[..., Topic]) -> None:
        """A process can end while a sink is away."""
        reader = make_topic().reader()
        reader.step()
        reader.source.stop()
        start = time.monotonic()
        reader.source.hold(60)
        assert time.monotonic() - start < 5

    def test_closing_leaves_no_thread_and_may_be_repeated(self, make_topic: Callable[..., Topic]) -> None:
        """The client's network thread and the helper thread end with it."""
        topic = make_topic()
        threads = threading.active_count()
        reader = topic.reader()
        reader.step()
        reader.source.close()
        assert threading.active_count() == threads
        reader.source.close()
