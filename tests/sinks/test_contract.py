"""What every sink promises: each part is tested on all of them."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from elasticsearch import Elasticsearch

from detector.alert import Alert
from detector.sinks import Sink
from detector.sinks.elasticsearch import Config, ElasticsearchSink
from detector.sinks.ndjson import NdjsonSink
from tests.sinks.factory import alert

ODD_STRINGS = [
    "",
    " ",
    "аdmin",  # noqa: RUF001 - the first letter is Cyrillic
    "e\u0301 is not \u00e9",
    'line\nfeed, \r, tab\t, quote" and back\\slash',
    "\u0000 \u001b[31m \u0085 \u2028 \u202e \ufeff \ufffd",
    "\U0001f9d1\u200d\U0001f680",
    '{"not": "an object"}',
    "x" * 40_000,  # more than a keyword can hold
]


class Case(NamedTuple):
    """A way to open a sink on the same storage again and again, and to read what stands there, by id."""

    open: Callable[[], Sink]
    read: Callable[[], dict[str, Any]]


@pytest.fixture
def ndjson(tmp_path: Path) -> Case:
    """A file to which each sink appends."""
    path = tmp_path / "alerts.ndjson"

    def read() -> dict[str, Any]:
        documents = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        return {document["event"]["id"]: document for document in documents}

    return Case(lambda: NdjsonSink(path, append=True), read)


@pytest.fixture
def elasticsearch(config: Config, server: Elasticsearch, index: str) -> Case:
    """A fresh index."""

    def read() -> dict[str, Any]:
        server.indices.refresh(index=f"{index}*")
        return {hit["_id"]: hit["_source"] for hit in server.search(index=f"{index}*")["hits"]["hits"]}

    return Case(lambda: ElasticsearchSink(config), read)


@pytest.fixture(params=["ndjson", pytest.param("elasticsearch", marks=pytest.mark.services)])
def case(request: pytest.FixtureRequest) -> Case:
    """Every sink."""
    chosen: Case = request.getfixturevalue(request.param)
    return chosen


def write(case: Case, *batches: list[Alert]) -> None:
    """Write batches as one process does."""
    with closing(case.open()) as sink:
        for batch in batches:
            sink.write(batch)


def test_writing_the_same_alerts_again_changes_nothing(case: Case) -> None:
    """Neither in one process nor in the next."""
    alerts = [alert(1), alert(2, complete=True)]
    write(case, alerts)
    before = case.read()
    write(case, alerts, alerts)
    assert case.read() == before == {one.id: one.document.to_json() for one in alerts}


def test_writing_nothing_is_no_error(case: Case) -> None:
    """An empty batch leaves what stands there alone."""
    write(case, [], [alert(1)], [])
    assert len(case.read()) == 1


def test_the_last_version_is_the_alert(case: Case) -> None:
    """Open, risen and complete, in one batch or in several."""
    final = [alert(number, complete=True, event_count=9) for number in (1, 2)]
    write(case, [alert(1), alert(2)], [alert(1, severity=73), final[0]], [final[1]])
    assert case.read() == {one.id: one.document.to_json() for one in final}


@pytest.mark.parametrize("text", ODD_STRINGS, ids=range(len(ODD_STRINGS)))
def test_any_text_is_kept_as_it_is(case: Case, text: str) -> None:
    """Names that a client chose neither break a document nor change in it."""
    odd = alert(1, user=text, message=text)
    write(case, [odd])
    assert case.read() == {odd.id: odd.document.to_json()}
