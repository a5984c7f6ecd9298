"""The real servers store what they are given: with this red, no other test of them means anything."""

import uuid

import pytest
from elasticsearch import Elasticsearch
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.services.services import Services, ensure

pytestmark = pytest.mark.services


def test_the_broker_stores_and_returns_a_record(services: Services) -> None:
    """A record that was acknowledged is read back with its key, value and offset."""
    topic = f"test-{uuid.uuid4()}"
    admin = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap)
    producer = KafkaProducer(bootstrap_servers=services.kafka_bootstrap)
    consumer = KafkaConsumer(bootstrap_servers=services.kafka_bootstrap, auto_offset_reset="earliest")
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
        producer.send(topic, key=b"key", value=b"value").get(timeout=10)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        (record,) = consumer.poll(timeout_ms=10_000)[partition]
        assert (record.key, record.value, record.offset) == (b"key", b"value", 0)
    finally:
        admin.delete_topics([topic])
        consumer.close()
        producer.close()
        admin.close()


def test_the_server_stores_and_returns_a_document(services: Services) -> None:
    """A document that was indexed is found by a search on its field."""
    index = f"test-{uuid.uuid4()}"
    with Elasticsearch(services.elasticsearch_url) as client:
        client.index(index=index, document={"user": {"name": "alice"}}, refresh=True)
        try:
            found = client.search(index=index, query={"term": {"user.name.keyword": "alice"}})
            assert [hit["_source"] for hit in found["hits"]["hits"]] == [{"user": {"name": "alice"}}]
        finally:
            client.indices.delete(index=index)


def test_servers_that_run_are_not_started_again(services: Services) -> None:
    """Asking for the servers a second time names the same ones."""
    assert ensure() == services
