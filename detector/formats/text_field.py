"""An event as text in the field `log` (Fluent Bit, Fluentd) or `message` (Filebeat, Vector, Logstash) of a log record.

Everything beside it is about the collector, such as its own pod under `kubernetes`, and is dropped.
"""

from collections.abc import Sequence

from detector.formats import Envelope, text_of


def unwrap(envelope: Envelope) -> Sequence[bytes] | None:
    """Give the text, if it looks like JSON."""
    for name in ("log", "message"):
        text = text_of(envelope.get(name))
        if text is not None:
            return [text]
    return None
