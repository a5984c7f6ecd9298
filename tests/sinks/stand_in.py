"""A stand-in for Elasticsearch that fails on command, and time that passes without waiting."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeAlias

from detector.sinks.template import index_template, mappings

HANG_UP = "hang up"
Answer: TypeAlias = "int | str | list[int] | tuple[int, str]"
"""To one bulk request: a status, or a status with an `error.type`; HANG_UP; or a status for each item."""


class FakeTime:
    """A clock that only `sleep` moves on."""

    def __init__(self) -> None:
        self.now_seconds = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        """The time."""
        return self.now_seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.slept.append(seconds)
        self.now_seconds += seconds


@dataclass
class StandIn:
    """What it answers, and what it was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    """For the bulk requests, in order; when they are used up, everything is stored."""
    admin_status: int = 200
    """For all other requests."""
    product: str = "Elasticsearch"
    requests: list[list[str]] = field(default_factory=list)
    """Ids in each bulk request."""
    stored: list[str] = field(default_factory=list)
    """Ids in the order in which they were stored."""


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Run a stand-in on a free port."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if state.admin_status != 200:
                self.answer(state.admin_status, _error("security_exception"))
            elif self.path.startswith("/_index_template/"):
                self.answer(200, {"index_templates": [{"name": "x", "index_template": index_template()}]})
            elif self.path.startswith("/_cluster/health"):
                self.answer(200, {"status": "green"})
            else:
                self.answer(200, {self.path.split("/")[1]: {"mappings": mappings()}})

        def do_PUT(self) -> None:
            lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
            ids = [json.loads(line)["index"]["_id"] for line in lines[::2]]
            state.requests.append(ids)
            answer = state.answers.pop(0) if state.answers else [201] * len(ids)
            if answer == HANG_UP:
                self.close_connection = True
            elif isinstance(answer, list):
                state.stored += [one for one, status in zip(ids, answer, strict=True) if status == 201]
                self.answer(200, {"items": [{"index": _item(status)} for status in answer]})
            elif isinstance(answer, tuple):
                self.answer(answer[0], _error(answer[1]))
            else:
                self.answer(int(answer), _error("some_exception"))

        do_POST = do_PUT  # noqa: N815 - the name is given

        def answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("X-Elastic-Product", state.product)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def _error(kind: str) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": "the value hunter2 is at fault"}}


def _item(status: int) -> dict[str, Any]:
    kind = "version_conflict_engine_exception" if status == 409 else "some_exception"
    return {"status": status} if status == 201 else {"status": status, **_error(kind)}
