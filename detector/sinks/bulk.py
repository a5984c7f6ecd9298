"""Bulk: how alerts are stored by an Elasticsearch that refuses all of them or some; knows no client and no index.

What failed is told by HTTP status and `error.type` alone. The server's `reason` quotes field values, which anybody who
can send a request to the cluster chooses: it must not be able to pass for another error, nor reach a log.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import structlog

from detector.errors import SinkUnavailable

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 10.0
_HELD_SECONDS: Final = 10.0  # until it is worth looking whether a person has mended what no retry mends

_HINTS: Final = (
    ((0,), "TlsError", "no trusted TLS connection: set `ca_certs` to the CA of the server's certificate"),
    ((0,), "UnsupportedProductError", "what answers is not Elasticsearch: check `url`"),
    ((400,), "index_closed_exception", "the index is closed: open it"),
    ((400,), "media_type_header_exception", "Elasticsearch 8 or 9 is needed, this server is of another version"),
    ((401,), "", "the user name, password or API key is not accepted"),
    ((403, 429), "cluster_block_exception", "writing is blocked: free disk space, or lift the index's read-only block"),
    (
        (403,),
        "",
        "the account lacks a privilege: to write, `monitor` on the cluster, and `create_index`, `index` and "
        "`view_index_metadata` on the index; for `detector es setup`, `manage_index_templates` and `manage`",
    ),
    ((404,), "index_not_found_exception", "the index is gone and no write may create it: run `detector es setup`"),
    ((406,), "", "Elasticsearch 8 or 9 is needed, this server is of another version"),
)
"""Of failures that no retry mends: HTTP statuses, `error.type` (empty for any), and what a person has to do."""

log = structlog.get_logger(__name__)


class Action(NamedTuple):
    """One alert as it stands in a bulk request."""

    id: str
    lines: tuple[bytes, bytes]
    """What to do, and the document: one line of JSON each."""

    @property
    def size_bytes(self) -> int:
        """With the two line feeds."""
        return len(self.lines[0]) + len(self.lines[1]) + 2


class Failure(NamedTuple):
    """Why a request, or one item of it, failed."""

    status: int
    """HTTP status; 0 where there was no answer."""
    type: str
    """The answer's `error.type`, empty if it has none, or the name of the connection error."""

    def __str__(self) -> str:
        """`400 strict_dynamic_mapping_exception`, as it stands in dead letters and messages."""
        return f"{self.status or ''} {self.type}".strip()

    @property
    def hint(self) -> str | None:
        """What a person has to do about a failure that no retry mends; None for any other."""
        fitting = (hint for statuses, kind, hint in _HINTS if self.status in statuses and kind in ("", self.type))
        return next(fitting, None)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return not self.hint and (self.status in (0, 408, 429) or self.status >= 500)

    @property
    def divides(self) -> bool:
        """Whether a request that failed so may hold alerts that would be taken in a request of their own."""
        # A 400 without a type is not Elasticsearch's: a proxy that refuses everything must not cost a single alert.
        return not self.hint and (self.status == 413 or (self.status == 400 and self.type != ""))


Reply: TypeAlias = "Failure | list[Failure | None]"
"""The failure of a whole request, or one for each of its items in their order, None for what was stored."""

_ALREADY_STORED: Final = Failure(409, "version_conflict_engine_exception")


def unavailable(where: str, failure: Failure) -> SinkUnavailable:
    """The error that holds a batch, in one line: what is the matter and, where that is known, what to do."""
    trouble = failure.hint or ("cannot be reached" if failure.status == 0 else "cannot take alerts now")
    return SinkUnavailable("elasticsearch", f"{where}: {trouble} ({failure})", _HELD_SECONDS if failure.hint else 1.0)


class Bulk:
    """The requests of one `write` call: retries what may pass, parts what is refused, within a bounded time."""

    def __init__(
        self,
        send: Callable[[Sequence[Action]], Reply],
        where: str,
        retry_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._send = send
        self._where = where
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + retry_seconds
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self.rejected: list[tuple[str, str]] = []
        """Pairs of id and reason, of the alerts that are refused for good."""

    def store(self, actions: Sequence[Action]) -> None:
        """Store these in one request if it can be done, else in as many as it takes, in their order.

        A request refused for one alert's sake (400) is searched for it by halves, some log2(n) requests; all others
        then go in one. A request that is too large (413) is halved until it passes.

        Raises:
            SinkUnavailable: some are not stored, and the time for retries is used up or retrying is pointless.
        """
        pending, most, suspects = list(actions), len(actions), 0  # the culprit is among the first `suspects`
        while pending:
            count = min(most, (suspects + 1) // 2 if suspects > 1 else suspects or most)
            head, tail = pending[:count], pending[count:]
            reply = self._send(head)
            if isinstance(reply, Failure) and reply.divides:
                if count == 1:
                    self.rejected.append((head[0].id, str(reply)))
                    pending, suspects = tail, 0
                elif reply.status == 413:
                    most = count // 2
                else:
                    suspects = count
                continue
            again = self._unstored(head, reply)
            pending = again + tail
            suspects = 0 if again else max(0, suspects - count)

    def _unstored(self, actions: list[Action], reply: Reply) -> list[Action]:
        """Return the actions to send again, after waiting for their sake."""
        if isinstance(reply, Failure):
            if not reply.passing:
                raise unavailable(self._where, reply)
            self._wait(reply)
            return actions
        again, latest = [], None
        for action, failure in zip(actions, reply, strict=True):
            if failure is None or failure == _ALREADY_STORED:
                continue
            if failure.hint:
                raise unavailable(self._where, failure)
            if failure.passing:
                again.append(action)
                latest = failure
            else:
                self.rejected.append((action.id, str(failure)))
        if latest is None:
            self._wait_seconds = _FIRST_WAIT_SECONDS
        else:
            self._wait(latest)
        return again

    def _wait(self, failure: Failure) -> None:
        """Sleep, longer each time, and never exactly as long as another writer that failed at the same moment."""
        seconds = self._wait_seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        if self._clock() + seconds > self._end:
            raise unavailable(self._where, failure)
        log.info("retrying", sink="elasticsearch", failure=str(failure), wait_seconds=round(seconds, 2))
        self._sleep(seconds)
        self._wait_seconds = min(2 * self._wait_seconds, _LONGEST_WAIT_SECONDS)
