"""`detector es setup` and `check`, on a real server and on none."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from elasticsearch import Elasticsearch

from detector.errors import ConfigError, SinkUnavailable
from detector.sinks.elasticsearch import Config, ElasticsearchSink
from detector.sinks.elasticsearch_setup import check, setup
from detector.sinks.template import gaps, index_template, mappings
from tests.services.services import Services
from tests.sinks.factory import alert

NOWHERE = Config(url="http://127.0.0.1:1")  # a port that only root may use, and nobody does


@pytest.fixture
def template(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A template name, of which no index of another test knows; the pattern begins with it."""
    name = f"setup-{uuid.uuid4().hex[:12]}"
    for module in ("elasticsearch", "elasticsearch_setup"):
        monkeypatch.setattr(f"detector.sinks.{module}.TEMPLATE_NAME", name)
    monkeypatch.setattr("detector.sinks.elasticsearch_setup._INDICES", f"{name}-*")
    monkeypatch.setattr(
        "detector.sinks.elasticsearch.index_template", lambda: {**index_template(), "index_patterns": [f"{name}-*"]}
    )
    yield name
    with Elasticsearch(services.elasticsearch_url) as client:
        client.options(ignore_status=404).indices.delete_index_template(name=name)
        for created in client.indices.get(index=f"{name}*"):
            client.indices.delete(index=created)


@pytest.mark.services
def test_setup_makes_the_checks_pass_and_can_be_repeated(services: Services, template: str) -> None:
    """Before it, the check says what to run; after it, everything is well."""
    config = Config(url=services.elasticsearch_url)
    before = check(config)
    assert [item.ok for item in before] == [True, False, True]
    assert "run `detector es setup`" in before[1].line
    assert setup(config) == setup(config) == [f"index template {template} is installed, version {_version()}"]
    assert all(item.ok for item in check(config))


@pytest.mark.services
def test_setup_brings_an_older_index_up(services: Services, template: str) -> None:
    """An index of an older version gets the fields that it lacks, and keeps its own."""
    config = Config(url=services.elasticsearch_url)
    older = mappings()
    del older["properties"]["detector"]["properties"]["evidence"]
    older["properties"]["note"] = {"type": "keyword"}
    with Elasticsearch(services.elasticsearch_url) as client:
        client.indices.create(index=f"{template}-1", mappings=older)
        assert f"index {template}-1 lacks detector.evidence" in "\n".join(item.line for item in check(config))
        assert setup(config)[1:] == [f"index {template}-1 is brought up to it"]
        stored = client.indices.get_mapping(index=f"{template}-1")[f"{template}-1"]["mappings"]
    assert (gaps(stored), stored["properties"]["note"]) == ([], {"type": "keyword"})
    assert all(item.ok for item in check(config))


@pytest.mark.services
def test_setup_names_an_index_that_it_cannot_mend(services: Services, template: str) -> None:
    """Types cannot be changed in place; the template is installed all the same."""
    config = Config(url=services.elasticsearch_url)
    with Elasticsearch(services.elasticsearch_url) as client:
        client.indices.create(index=f"{template}-1", mappings={"properties": {"message": {"type": "long"}}})
        with pytest.raises(ConfigError, match=rf"{template}-1 has fields of other types .*delete it"):
            setup(config)
        assert client.indices.exists_index_template(name=template)


@pytest.mark.services
def test_setup_names_a_template_that_is_in_the_way(services: Services, template: str) -> None:
    """Elasticsearch takes no two templates of one priority for the same names."""
    with Elasticsearch(services.elasticsearch_url) as client:
        client.indices.put_index_template(name=f"{template}-other", index_patterns=[f"{template}-*"], priority=500)
        try:
            with pytest.raises(ConfigError, match="another template has the same priority"):
                setup(Config(url=services.elasticsearch_url))
        finally:
            client.indices.delete_index_template(name=f"{template}-other")


@pytest.mark.services
def test_the_check_counts_the_alerts(services: Services, server: Elasticsearch, index: str) -> None:
    """It looks at all indices of alerts."""
    with closing(ElasticsearchSink(Config(url=services.elasticsearch_url, index=index))) as sink:
        sink.write([alert(number) for number in range(3)])
    server.indices.refresh(index=f"{index}*")
    count = server.count(index="logs-detector.alerts-*")["count"]
    assert check(Config(url=services.elasticsearch_url))[-1].line.startswith(f"{count} alerts in ")


def test_a_server_that_is_away_is_one_failed_check() -> None:
    """`check` reports it, `setup` raises it."""
    (item,) = check(NOWHERE)
    assert not item.ok
    assert item.line == "elasticsearch: http://127.0.0.1:1: cannot be reached (ConnectionError)"
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        setup(NOWHERE)


def _version() -> str:
    return str(mappings()["_meta"]["version"])
