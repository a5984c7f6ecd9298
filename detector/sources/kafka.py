"""Kafka: reads topics as a member of a consumer group; the start of the line in `detector run`.

No record is passed over: an offset is committed only once the pipeline says that all before it is decided. Reading
starts at the group's offset and leaves out what the restored state already holds, so that nothing is counted twice.

kafka-python calls a rebalance listener on its network thread, where waiting would stop the heartbeats and where it
refuses to commit. So each poll runs on a helper thread, and a revoke waits until the iterating thread, the only one
that the pipeline sees, has dealt with it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.future import Future as KafkaFuture
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata

from detector.errors import SourceUnavailable
from detector.record import Batch, Position, Positions
from detector.sources.kafka_settings import Config, client_settings

__all__ = ["Config", "KafkaSource", "check"]

log = structlog.get_logger(__name__)

_Partition: TypeAlias = Any  # a TopicPartition; kafka-python has no types
_Polled: TypeAlias = Mapping[_Partition, Sequence[Any]]  # its ConsumerRecords, in the order of their offsets

_POLL_SECONDS: Final = 0.5  # the longest that `stop` takes, and how often an idle pipeline can do timed work
_RETRY_SECONDS: Final = 0.2
_ANSWER_MS: Final = 5_000  # for a commit or a look at offsets; what fails is tried again later
_TOPIC_TRIES: Final = 3  # a metadata request of the client's own may overtake ours, and it shows no topics
_OFFSET_ERRORS: Final = (
    kafka_errors.NoOffsetForPartitionError,
    kafka_errors.OffsetOutOfRangeError,
    kafka_errors.LogTruncationError,
)
_PASSING_ERRORS: Final = (
    kafka_errors.RetriableError,
    kafka_errors.UnknownBrokerIdError,  # a partition's new leader, which the metadata do not name yet
    kafka_errors.CommitFailedError,  # the group has thrown this process out; the next poll joins it again
    kafka_errors.RebalanceInProgressError,
)
_HINTS: Final = (
    (kafka_errors.SaslAuthenticationFailedError, "check source.sasl_username and source.sasl_password"),
    (kafka_errors.UnsupportedSaslMechanismError, "set source.sasl_mechanism to one that the brokers offer"),
    (kafka_errors.IllegalSaslStateError, "this listener takes no login: check source.security_protocol and the port"),
    (kafka_errors.TopicAuthorizationFailedError, "grant the user Read and Describe on the topic"),
    (kafka_errors.GroupAuthorizationFailedError, "grant the user Read on the group"),
    (kafka_errors.FencedInstanceIdError, "another process has this source.group_instance_id: give each its own"),
    (kafka_errors.InconsistentGroupProtocolError, "the group has members of another kind: choose a source.group_id"),
    (kafka_errors.UnsupportedCodecError, "set another compression.type for the producer or the topic"),
    (kafka_errors.CorruptRecordError, "start again; if it stays, the brokers' copy is damaged"),
)
_HINT: Final = "check source.bootstrap_servers, .security_protocol, .ssl_* and .sasl_*, and that the brokers run"


class KafkaSource:
    """Reads the partitions that the group gives to this process.

    Args:
        config: the settings.
        resume: the positions of the restored state. Where the group is ahead of them, another process has decided
            the records between, and they are not read again.

    Raises:
        ConfigError: a certificate or key that cannot be read.
        SourceUnavailable: no broker in time, a topic that does not exist, access refused.
    """

    def __init__(self, config: Config, resume: Positions = MappingProxyType({})) -> None:
        self.checkpoint: Callable[[], None] = lambda: None
        self._config = config
        self._positions = dict(resume)
        self._committed: dict[str, int] = {}
        self._lagging: dict[str, int] = {}
        self._troubles: dict[str, type[Exception] | None] = {}
        self._holding = False
        self._stopped = False
        self._join()

    def __iter__(self) -> Iterator[Batch]:
        """Yield a batch of each partition that gave records, an empty one twice a second when none can come.

        A tombstone is an empty value. `behind` goes by what the brokers have told so far; a partition just assigned is
        behind until they have. `end` also holds streams that moved without a record, past the marks of a transaction.
        """
        while not self._stopped:
            yield from self._batches(self._poll(_POLL_SECONDS))
            self._watch_for_stalls()

    def commit(self, positions: Positions) -> None:
        """Commit what is new, of the partitions that this process still has; a failure that passes is only logged.

        Raises:
            SourceUnavailable: the brokers refuse it for good.
        """
        owned = {_stream(partition): partition for partition in self._member.owned()}
        # A stream that gave nothing since it came is not in _committed: its position may be long out of date.
        news = {s: offset for s, offset in positions.items() if s in owned and self._committed.get(s, offset) != offset}
        offsets = {owned[stream]: OffsetAndMetadata(offset, "", -1) for stream, offset in news.items()}
        if not news:
            return
        failed = self._ask("commit", lambda: self._consumer.commit(offsets, timeout_ms=_ANSWER_MS), otherwise=news)
        if not failed:
            self._committed |= news

    def hold(self, seconds: float) -> None:
        """Keep the place in the group with every partition paused; inside a checkpoint only wait."""
        deadline = time.monotonic() + seconds
        self._holding = True
        self._consumer.pause(*self._consumer.assignment())
        try:
            while not self._stopped and (rest := deadline - time.monotonic()) > 0:
                if self._member.leaving:
                    time.sleep(min(rest, _RETRY_SECONDS))
                else:
                    self._poll(min(rest, _POLL_SECONDS))
        finally:
            self._holding = False
            self._consumer.resume(*self._consumer.paused())
            self._lagging = {}

    def stop(self) -> None:
        """End the iteration within half a second; only sets a flag."""
        self._stopped = True

    def close(self) -> None:
        """Leave the group, without a commit and without a checkpoint."""
        self._member.close()

    def _join(self) -> None:
        self._member = _Member(self._config, self._place, lambda: self.checkpoint())  # noqa: PLW0108 is set later
        self._consumer = self._member.consumer
        self._lagging = {}
        self._next_look = time.monotonic() + self._config.stall_seconds

    def _place(self, partitions: Collection[_Partition]) -> None:
        for partition in partitions:
            self._committed.pop(_stream(partition), None)
        if self._holding:
            self._consumer.pause(*partitions)

    def _poll(self, seconds: float) -> _Polled:
        polled: _Polled = self._ask("poll", lambda: self._member.poll(seconds), otherwise={})
        if self._troubles.get("poll") is kafka_errors.UnknownBrokerIdError:
            self._start_over()  # the client raises this when it has already counted records as handed over
        self._tell("brokers", None if polled or self._member.is_connected() else ConnectionError)
        return polled

    def _batches(self, polled: _Polled) -> Iterator[Batch]:
        moved, behind = self._look(polled)
        waiting = {_stream(partition): records for partition, records in polled.items()}
        if not waiting:
            yield self._batch((), moved, behind)
        while waiting and not self._stopped:
            stream, records = waiting.popitem()
            known = self._positions.get(stream, 0)
            end = moved | {stream: max(known, records[-1].offset + 1)}
            yield self._batch([record for record in records if record.offset >= known], end, behind | waiting.keys())

    def _batch(self, records: Sequence[Any], end: dict[str, int], behind: Collection[str]) -> Batch:
        self._positions |= end
        self._committed = dict.fromkeys(end, -1) | self._committed
        present = frozenset(map(_stream, self._consumer.assignment()))
        values = [record.value or b"" for record in records]
        return Batch(values, _Offsets(records), end, frozenset(behind), present=present)

    def _look(self, polled: _Polled) -> tuple[dict[str, int], set[str]]:
        """The streams that moved without a record, and those that have more to read."""
        moved: dict[str, int] = {}
        behind: set[str] = set()
        for partition in self._consumer.assignment():
            stream, told = _stream(partition), self._consumer.highwater(partition)
            place = polled[partition][-1].offset + 1 if partition in polled else self._positions.get(stream, -1)
            if told is not None and place < told and partition not in polled:
                position = self._ask(
                    "position", partial(self._consumer.position, partition, timeout_ms=0), otherwise=-1
                )
                if position is not None and position > place:
                    moved[stream] = place = position
            if told is None or place < told:
                behind.add(stream)
        return moved, behind

    def _watch_for_stalls(self) -> None:
        """Join anew if a partition stands where it stood an interval ago, although there was more to read.

        kafka-python before 3.0.9 lost single partitions and did not notice, so it is the brokers that are asked.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._config.stall_seconds
        partitions = list(self._consumer.assignment())
        found = self._ask("ends", lambda: self._consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS), otherwise={})
        ends = {_stream(partition): offset for partition, offset in found.items()}
        lagging = {s: position for s, end in ends.items() if (position := self._positions.get(s, 0)) < end}
        stalled = {stream: ends[stream] - position for stream, position in lagging.items() & self._lagging.items()}
        self._lagging = lagging
        if stalled:
            log.warning("partitions stalled, joining the group anew", lag=stalled)
            self._start_over()

    def _start_over(self) -> None:
        """Go on with a new client from what is committed; what was read since is left out when it comes again."""
        self.checkpoint()
        self.close()
        self._join()

    def _ask(self, what: str, call: Callable[[], Any], otherwise: Any) -> Any:
        """Call the client; a trouble that passes is told once and answered with `otherwise`.

        Raises:
            SourceUnavailable: a trouble that no waiting mends.
        """
        try:
            try:
                answer = call()
            except _OFFSET_ERRORS as error:
                self._restart(error)
                answer = otherwise
        except _PASSING_ERRORS as error:
            self._tell(what, type(error))
            time.sleep(_RETRY_SECONDS)
            return otherwise
        except kafka_errors.KafkaError as error:
            raise _unavailable(self._config, error) from error
        self._tell(what, None)
        return answer

    def _restart(self, error: Any) -> None:
        """Seek where the client has no record to go on with, and never skip or repeat without a word."""
        known: dict[_Partition, int] = {}
        if isinstance(error, kafka_errors.NoOffsetForPartitionError):
            gone = dict.fromkeys(error.args[0])
            known = {p: self._positions[_stream(p)] for p in gone if _stream(p) in self._positions}
        elif isinstance(error, kafka_errors.LogTruncationError):
            gone = dict.fromkeys(error.divergent_offsets)
            known = {p: place.offset for p, place in error.divergent_offsets.items() if place is not None}
        else:
            gone = error.args[0]
        latest = self._config.auto_offset_reset == "latest"
        find = self._consumer.end_offsets if latest else self._consumer.beginning_offsets
        for partition, offset in (known | find([p for p in gone if p not in known], timeout_ms=_ANSWER_MS)).items():
            self._consumer.seek(partition, offset)
            before = self._positions.pop(_stream(partition), gone[partition])
            tell = log.info if before in (None, offset) else log.warning
            tell("reading starts", stream=_stream(partition), at=offset, before=before, reason=type(error).__name__)

    def _tell(self, what: str, trouble: type[Exception] | None) -> None:
        """Log a trouble when it begins and when it is over, not each time."""
        if self._troubles.get(what) is not trouble:
            self._troubles[what] = trouble
            if trouble:
                log.warning("kafka trouble, going on", what=what, trouble=trouble.__name__)
            else:
                log.info("kafka trouble is over", what=what)


class _Revoke(NamedTuple):
    partitions: frozenset[_Partition]
    done: Any


class _Member(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # it has no types
    """A member of the group; it joins at the first poll.

    `on_assigned` is called on the network thread, while the polling one waits; `on_revoked` by `poll`, before the
    partitions in `leaving` go.
    """

    def __init__(
        self, config: Config, on_assigned: Callable[[Collection[_Partition]], None], on_revoked: Callable[[], None]
    ) -> None:
        self._assignor = CooperativeStickyAssignor()
        self.consumer, self._client = _connect(config, partition_assignment_strategy=(self._assignor,))
        self.leaving: frozenset[_Partition] = frozenset()
        self._group_id = config.group_id
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._thread = ThreadPoolExecutor(1, "kafka-poll")
        self._polling: Future[_Polled] | None = None
        self._inbox: SimpleQueue[Future[_Polled] | _Revoke] = SimpleQueue()
        self._closing = False
        self.consumer.subscribe(list(config.topics), listener=self)

    def poll(self, seconds: float) -> _Polled:
        """Wait so long for records, longer while partitions are revoked.

        What `on_revoked` raises goes to the caller; the next poll then goes on with this one.
        """
        if self._polling is None:
            self._polling = self._thread.submit(self.consumer.poll, timeout_ms=int(seconds * 1000))
            self._polling.add_done_callback(self._inbox.put)
        return self._finish_poll(self._on_revoked)

    def _finish_poll(self, on_revoked: Callable[[], None]) -> _Polled:
        while isinstance(message := self._inbox.get(), _Revoke):
            self.leaving = message.partitions
            try:
                on_revoked()
            finally:
                self.leaving = frozenset()
                message.done.success(None)
                self._client.wakeup()
        self._polling = None
        return message.result()

    def owned(self) -> set[_Partition]:
        """The partitions to commit for: the client's assignment already lacks those that are leaving."""
        return set(self.consumer.assignment()) | self.leaving

    def is_connected(self) -> bool:
        """Whether any broker is connected, be it as the group's coordinator only."""
        cluster = self._client.cluster
        nodes = [broker.node_id for broker in cluster.brokers()]
        return any(self._client.connected(node) for node in [*nodes, cluster.get_coordinator(self._group_id)])

    def close(self) -> None:
        """Leave the group; `on_revoked` is called no more."""
        self._closing = True
        if self._polling is not None:
            with suppress(kafka_errors.KafkaError):
                self._finish_poll(lambda: None)
        self._thread.shutdown()
        self.consumer.close(autocommit=False, timeout_ms=_ANSWER_MS)

    async def on_partitions_assigned(self, assigned: Collection[_Partition]) -> None:
        """Pass them on."""
        self._on_assigned(assigned)

    async def on_partitions_revoked(self, revoked: Collection[_Partition]) -> None:
        """Hand them to the polling thread and wait; the heartbeats go on."""
        if not self._closing:
            revoke = _Revoke(frozenset(revoked), KafkaFuture())
            self._inbox.put(revoke)
            await revoke.done

    async def on_partitions_lost(self, lost: Collection[_Partition]) -> None:
        """Commit nothing, for others may have them; nor claim any when joining again.

        The assignor of kafka-python 3.0.12 would claim them still, and what nobody gives up is given to nobody.
        """
        self._assignor.member_assignment = None
        log.warning("partitions lost", streams=sorted(map(_stream, lost)))


class _Offsets(Sequence[Position]):
    """The positions of records, made when one is asked for."""

    def __init__(self, records: Sequence[Any]) -> None:
        self._records = records

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._records)

    def __getitem__(self, index: int) -> Position:  # type: ignore[override]  # slices are never asked for
        """The position of the record at `index`."""
        record = self._records[index]
        return Position(_stream(record), record.offset)


def check(config: Config) -> list[str]:
    """Look at the brokers, the topics and what the group has yet to read; a line each, for `detector doctor`.

    Raises:
        ConfigError: a certificate or key that cannot be read.
        SourceUnavailable: `detector run` would fail with it too.
    """
    consumer, _ = _connect(config)
    try:
        return [f"Kafka answers at {config.servers}", *(_describe(consumer, config, topic) for topic in config.topics)]
    except kafka_errors.KafkaError as error:
        raise _unavailable(config, error) from error
    finally:
        consumer.close(autocommit=False)


def _describe(consumer: Any, config: Config, topic: str) -> str:
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    ends = consumer.end_offsets(partitions, timeout_ms=_ANSWER_MS)
    committed = {partition: consumer.committed(partition, timeout_ms=_ANSWER_MS) for partition in partitions}
    lag = sum(ends[partition] - offset for partition, offset in committed.items() if offset is not None)
    fresh = sum(offset is None for offset in committed.values())
    unread = f"; {fresh} of them not read so far, which start at {config.auto_offset_reset}" if fresh else ""
    return f"topic {topic}: {len(partitions)} partitions, group {config.group_id} {lag:,} records behind{unread}"


def _connect(config: Config, **settings: Any) -> tuple[Any, Any]:
    """A consumer that has found a broker and every topic, and its network client."""
    clients: list[Any] = []

    def open_client(**arguments: Any) -> Any:
        clients.append(KafkaNetClient(**arguments))
        return clients[-1]

    settings |= client_settings(config)
    with _causes() as causes:
        try:
            consumer = KafkaConsumer(**settings, kafka_client=open_client)
        except kafka_errors.KafkaError as error:
            for client in clients:  # a consumer that fails to start leaves its thread running
                client.close()
            telling = [cause for cause in causes if not isinstance(cause, kafka_errors.RetriableError)] or causes
            raise _unavailable(config, telling[-1] if telling else error) from error
    try:
        _check_topics(consumer, config)
    except SourceUnavailable:
        consumer.close(autocommit=False)
        raise
    return consumer, clients[0]


def _check_topics(consumer: Any, config: Config) -> None:
    """Look before subscribing, which may create what is missing: the client does not pass on that it must not."""
    missing: set[str] = set()
    for _ in range(_TOPIC_TRIES):
        try:
            missing = set(config.topics) - consumer.topics()
        except kafka_errors.KafkaError as error:
            raise _unavailable(config, error) from error
        if not missing:
            return
        time.sleep(_RETRY_SECONDS)
    names = ", ".join(sorted(missing))
    raise SourceUnavailable(
        f"Kafka at {config.servers} shows no topic {names}; create it, grant the user Describe on it, or mend "
        "source.topics"
    )


@contextmanager
def _causes() -> Iterator[list[Exception]]:
    """Gather why the client fails to start: it only logs that, and in the end reports a timeout."""
    causes: list[Exception] = []

    class Gather(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors = (arg for arg in record.args or () if isinstance(arg, Exception))
            causes.extend(error for error in errors if not isinstance(error, kafka_errors.KafkaTimeoutError))

    logger = logging.getLogger("kafka.net")
    handler, level, propagate = Gather(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield causes
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _unavailable(config: Config, error: Exception) -> SourceUnavailable:
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), _HINT)
    return SourceUnavailable(f"Kafka at {config.servers}: {' '.join(str(error).split())}; {hint}")


def _stream(partition: _Partition) -> str:
    """The stream's name; takes a record too."""
    return f"{partition.topic}[{partition.partition}]"
