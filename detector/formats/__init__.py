"""Formats: bytes of a record to audit events. Each file is one envelope, named as in `--format`.

A file holds `unwrap(envelope)`, which gives the records inside an envelope, or None if the JSON object is not its kind
of envelope. Envelopes nest: what comes out is decoded again, until it is an audit event.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

import msgspec

from detector.errors import ConfigError, DecodeError
from detector.event import EVENT_KIND, AuditEvent, decode_native, from_mapping, is_audit_event
from detector.record import DeadLetter, Position

Envelope: TypeAlias = dict[str, msgspec.Raw]
Unwrap: TypeAlias = Callable[[Envelope], Sequence[bytes | msgspec.Raw] | None]

_S = TypeVar("_S")
_T = TypeVar("_T")

AUTO: Final = "auto"
NATIVE: Final = "apiserver"
_DEPTH_MAX: Final = 8  # the deepest real nesting is 4: a collector around a shipper around a list around an event
_RECORD_BYTES_MAX: Final = 16 * 1024 * 1024  # 400 events, as many as a webhook sends at once, of 40 kB each
_BAD_ITEMS_MAX: Final = 1000  # of one record, which else could fill the dead letters with a thousandfold of its size

_object_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_any_decoder: Final = msgspec.json.Decoder()


def names() -> list[str]:
    """Every name that `--format` takes."""
    return [AUTO, NATIVE, *(module.name for module in pkgutil.iter_modules(__path__))]


@dataclass(slots=True)
class Decoded:
    """What the records of one batch held."""

    events: list[AuditEvent] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    empty: int = 0
    """Records that hold nothing: tombstones, blank lines, lists without an item."""


class Format:
    """Decodes records of one format, or of any (`auto`)."""

    def __init__(self, name: str = AUTO) -> None:
        if name not in names():
            raise ConfigError(f"unknown format {name!r}; known are {', '.join(names())}")
        modules = [module.name for module in pkgutil.iter_modules(__path__) if name in (AUTO, module.name)]
        self._unwraps: list[Unwrap] = [
            importlib.import_module(f"{__name__}.{module}").unwrap for module in modules if name != NATIVE
        ]

    def decode(self, values: Sequence[bytes], positions: Sequence[Position]) -> Decoded:
        """Decode each record; one that cannot be decoded becomes a dead letter and costs no other."""
        try:
            events = list(map(decode_native, values))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            events = []
        small = max(map(len, values), default=0) <= _RECORD_BYTES_MAX
        if small and len(events) == len(values) and all([e.kind and e.audit_id and e.verb for e in events]):  # noqa: C419 faster
            return Decoded(events)
        decoded = Decoded()
        for index, value in enumerate(values):
            self._decode_one(value, positions[index], decoded)
        return decoded

    def _decode_one(self, value: bytes, position: Position, decoded: Decoded) -> None:
        if not value.strip():
            decoded.empty += 1
            return
        opened = Decoded()
        try:
            self._open(value.removeprefix(b"\xef\xbb\xbf"), 0, position, opened)
        except DecodeError as error:
            opened.dead_letters.append(DeadLetter(position, error.reason, error.detail, value))
        decoded.events += opened.events
        decoded.dead_letters += opened.dead_letters
        decoded.empty += opened.empty

    def _open(self, value: bytes | msgspec.Raw, depth: int, position: Position, opened: Decoded) -> None:
        """Add the events of one record, whatever it is wrapped in; raises DecodeError if it is none at all."""
        if depth > _DEPTH_MAX:
            raise DecodeError("too_deep", f"more than {_DEPTH_MAX} envelopes around one another")
        if len(bytes(value)) > _RECORD_BYTES_MAX:
            raise DecodeError("too_large", f"{len(bytes(value)):,} bytes; at most {_RECORD_BYTES_MAX:,} are read")
        content = _try_native(value) or self._content(value)
        if isinstance(content, AuditEvent):
            content.kind = content.kind or EVENT_KIND  # items of a webhook's list carry none
            opened.events.append(content)
            return
        if not content:
            opened.empty += 1
        for inner in content:
            if len(opened.dead_letters) >= _BAD_ITEMS_MAX:
                raise DecodeError("not_audit", f"{_BAD_ITEMS_MAX:,} of its items hold no event; the rest is not read")
            try:
                self._open(inner, depth + 1, position, opened)
            except DecodeError as error:  # one bad item of a list costs that item only
                opened.dead_letters.append(DeadLetter(position, error.reason, error.detail, bytes(inner)))

    def _content(self, value: bytes | msgspec.Raw) -> AuditEvent | Sequence[bytes | msgspec.Raw]:
        """The records inside an envelope, or the event itself where some of its fields have an odd type."""
        text = bytes(value).lstrip()
        if text[:1] == b"[":
            return _strict(_array_decoder.decode, value)
        if text[:1] != b"{":
            _strict(_any_decoder.decode, value)
            raise DecodeError("not_audit", "a JSON text, number or literal instead of an object")
        envelope = _strict(_object_decoder.decode, value)
        if "auditID" not in envelope:
            for unwrap in self._unwraps:
                records = _strict(unwrap, envelope)
                if records is not None:
                    return records
        return _strict(from_mapping, _strict(_any_decoder.decode, value))


def text_of(raw: msgspec.Raw | None) -> bytes | None:
    """The UTF-8 bytes of a JSON string that itself holds JSON, or None if `raw` is anything else."""
    if raw is None or bytes(raw)[:1] != b'"':
        return None
    text: str = _any_decoder.decode(raw)
    return text.encode("utf-8", "surrogatepass") if text.lstrip()[:1] in ("{", "[") else None


def _try_native(value: bytes | msgspec.Raw) -> AuditEvent | None:
    try:
        event = decode_native(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if is_audit_event(event) else None


def _strict(decode: Callable[[_S], _T], value: _S) -> _T:
    """Call a decoder and say in our words what is wrong; the message of msgspec tells the place, never the content."""
    try:
        return decode(value)
    except UnicodeDecodeError as error:
        raise DecodeError("invalid_utf8", f"at byte {error.start}") from error
    except RecursionError as error:
        raise DecodeError("too_deep", "nested too deeply to be read") from error
    except msgspec.DecodeError as error:
        raise DecodeError("malformed_json", str(error)) from error
