"""The real Kafka broker and Elasticsearch server that tests run against."""
