"""Fixtures of the sinks' tests."""

import uuid
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from detector.sinks.elasticsearch import Config
from detector.sinks.elasticsearch_setup import setup
from tests.services.services import Services


@pytest.fixture(scope="session")
def server(services: Services) -> Iterator[Elasticsearch]:
    """A client of the real server, on which our template is installed."""
    setup(Config(url=services.elasticsearch_url))
    with Elasticsearch(services.elasticsearch_url) as client:
        yield client


@pytest.fixture
def index(server: Elasticsearch) -> Iterator[str]:
    """A fresh value of the setting `index`; all indices whose names begin so are deleted afterwards."""
    name = f"logs-detector.alerts-{uuid.uuid4().hex[:12]}"
    yield name
    for created in server.indices.get(index=f"{name}*"):
        server.indices.delete(index=created)


@pytest.fixture
def config(services: Services, index: str) -> Config:
    """Settings for the real server and the fresh index."""
    return Config(url=services.elasticsearch_url, index=index)
