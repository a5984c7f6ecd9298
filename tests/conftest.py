"""Fixtures that every test may use."""

import pytest

from tests.services.services import Services, ensure


@pytest.fixture(scope="session")
def services() -> Services:
    """The real Kafka broker and Elasticsearch server, started once a run."""
    return ensure()
