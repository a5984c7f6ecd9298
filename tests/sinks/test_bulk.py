"""How a batch gets past a server that refuses some of it: properties, without any server."""

from collections.abc import Sequence, Set
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.sinks.bulk import Action, Bulk, Failure, Reply
from tests.sinks.stand_in import FakeTime

TOO_LONG = Failure(400, "action_request_validation_exception")
BUSY = Failure(429, "es_rejected_execution_exception")
WRONG = Failure(400, "strict_dynamic_mapping_exception")


class ServerOfRules:
    """Refuses a request for one of its alerts' sake, is too small for many, is busy now and then."""

    def __init__(
        self,
        culprits: Set[int] = frozenset(),
        wrong: Set[int] = frozenset(),
        busy: Sequence[Set[int]] = (),
        most: int = 1000,
    ) -> None:
        self.culprits, self.wrong, self.busy, self.most = culprits, wrong, list(busy), most
        self.stored: list[int] = []
        self.requests = 0

    def send(self, actions: Sequence[Action]) -> Reply:
        """Answer one bulk request."""
        self.requests += 1
        numbers = [int(action.id) for action in actions]
        if len(numbers) > self.most:
            return Failure(413, "")
        if not self.culprits.isdisjoint(numbers):
            return TOO_LONG
        busy: Set[int] = self.busy.pop() if self.busy else frozenset()
        replies = [BUSY if one in busy else WRONG if one in self.wrong else None for one in numbers]
        self.stored += [one for one, failure in zip(numbers, replies, strict=True) if failure is None]
        return replies


def store(server: ServerOfRules, count: int) -> list[int]:
    """Store that many alerts; returns those that were refused."""
    time = FakeTime()
    bulk = Bulk(server.send, "a server", 3600, time.clock, time.sleep)
    bulk.store([Action(str(number), (b"", b"")) for number in range(count)])
    return [int(refused) for refused, _ in bulk.rejected]


numbers = st.sets(st.integers(0, 59), max_size=6)


@given(culprits=numbers, wrong=numbers, busy=st.lists(numbers, max_size=4), most=st.integers(1, 70))
def test_every_alert_is_stored_once_or_refused_for_its_own_sake(
    culprits: set[int], wrong: set[int], busy: list[set[int]], most: int
) -> None:
    """Whatever goes wrong together, no alert is lost and none is given up for another's fault."""
    server = ServerOfRules(culprits, wrong, busy, most)
    refused = store(server, 60)
    assert sorted(refused) == sorted(culprits | wrong)
    assert sorted(server.stored) == sorted(set(range(60)) - culprits - wrong)


@given(count=st.integers(2, 500), data=st.data())
def test_a_culprit_costs_few_requests(count: int, data: st.DataObject) -> None:
    """It is found by halves: log2(n) requests, one to be sure of it, one for those that were held back."""
    server = ServerOfRules({data.draw(st.integers(0, count - 1))})
    store(server, count)
    assert server.requests <= 1 + ceil(log2(count)) + 2


@given(most=st.integers(1, 60))
def test_a_limit_of_size_is_found_once(most: int) -> None:
    """Requests are halved until they pass, and no further."""
    server = ServerOfRules(most=most)
    store(server, 60)
    assert server.stored == list(range(60))
    assert server.requests <= ceil(log2(60 / most)) + 2 * ceil(60 / most)


@pytest.mark.parametrize(
    ("failure", "passing"),
    [
        (Failure(429, "es_rejected_execution_exception"), True),
        (Failure(429, "cluster_block_exception"), False),
        (Failure(503, "cluster_block_exception"), True),
        (Failure(403, "cluster_block_exception"), False),
        (Failure(0, "ConnectionError"), True),
        (Failure(0, "TlsError"), False),
        (Failure(400, "version_conflict_engine_exception"), False),
        (Failure(500, "version_conflict_engine_exception"), True),
    ],
)
def test_failures_are_told_apart_by_status_and_type_together(failure: Failure, passing: bool) -> None:
    """Neither alone says whether a retry helps."""
    assert failure.passing is passing
