"""`kind: EventList`, what the API server posts to an audit webhook: up to 400 items, which carry no `kind`.

Source: kubernetes/apiserver plugin/pkg/audit/webhook; seen on kube-apiserver 1.35.4.
"""

from collections.abc import Sequence

import msgspec

from detector.formats import Envelope

_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def unwrap(envelope: Envelope) -> Sequence[msgspec.Raw] | None:
    """Give the items of a list."""
    items = envelope.get("items")
    if items is None or bytes(items)[:1] != b"[":
        return None
    return _items_decoder.decode(items)
