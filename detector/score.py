"""Window: what one identity did in a span of event time; Score: how strange that was, and why."""

from dataclasses import dataclass
from typing import Final

import msgspec

from detector.baseline import Baselines
from detector.habits import DIMENSIONS, PeerGroup, Tokens
from detector.identity import IdentityKind
from detector.request import Request

WINDOW_SECONDS: Final = 3600
NOVEL_KEPT: Final = 1000  # requests that an alert can rest on


class Window(msgspec.Struct):
    """The requests of one identity in one hour, as counts and tokens; requests are kept only where they are new."""

    name: str
    kind: IdentityKind
    namespace: str
    peer_group: PeerGroup
    start_seconds: float
    first: Request
    """Stands for the window where nothing in it is new, as when only its rate is strange."""
    requests: int = 0
    refused: int = 0
    missing: int = 0
    writes: int = 0
    seen: dict[str, set[str]] = msgspec.field(default_factory=lambda: {dimension: set() for dimension in DIMENSIONS})
    novel: list[tuple[Request, Tokens]] = []
    """Requests with a token that is no habit of the identity's own, in order of time."""
    alerted: bool = False
    changes: int = 0

    def count(self, code: int | None, *, write: bool) -> None:
        """Count a request and its answer."""
        self.requests += 1
        if code is not None and code >= 400:
            self.refused += code in (401, 403)
            self.missing += code == 404
        self.writes += write

    def take(self, found: Tokens) -> bool:
        """Take a request's tokens; true if one of them is fresh in this window."""
        fresh = False
        for dimension, token in zip(DIMENSIONS, found, strict=True):
            tokens = self.seen[dimension]
            if token not in tokens:
                tokens.add(token)
                fresh = True
        return fresh


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a window is strange, by one feature."""

    feature: str
    value: str
    usual: str
    peers: str
    contribution: float
    """Share of the whole strangeness, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Score:
    """How strange a window is: 0 to 1, higher is stranger."""

    window: Window
    value: float
    threshold: float
    model: str
    reasons: tuple[Reason, ...]
    young: bool
    """The identity is known for too short a time to have habits of its own."""
    complete: bool
    """True once the window has closed."""


class BehaviourState(msgspec.Struct):
    """All that scoring must remember over a restart."""

    model: str = ""
    """Name, version and hash of the model that the baselines began with."""
    baselines: Baselines = msgspec.field(default_factory=Baselines)
    windows: dict[float, dict[str, Window]] = {}
    """By start, then by identity."""
    closed_before_seconds: float = 0.0
    """Windows before this time are over for good; what comes later for them is too late."""
    started: dict[bytes, None] = {}
    """Requests of which a first stage was counted, oldest first."""
