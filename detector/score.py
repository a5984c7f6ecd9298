"""Window: what one identity did in an hour; Episode: its strange hours of a day; Score: what is told of an episode."""

from dataclasses import dataclass
from typing import Final

import msgspec

from detector.baseline import Baselines
from detector.habits import DIMENSIONS, Act, PeerGroup, Tokens
from detector.identity import IdentityKind
from detector.request import Request

WINDOW_SECONDS: Final = 3600
EPISODE_SECONDS: Final = 86_400
"""Strange hours of one identity within a day are one alert: a person looks at them once."""
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
    minutes: dict[str, int] = {}
    """Requests in each minute, by the two digits of the minute."""
    seen: dict[str, set[str]] = msgspec.field(default_factory=lambda: {dimension: set() for dimension in DIMENSIONS})
    novel: list[tuple[Request, Act]] = []
    """Requests with a token that is no habit of the identity's own, in order of arrival."""
    matched: dict[str, dict[str, list[Tokens]]] = {}
    """The acts that rules matched, by the rule's id and the alert's group."""
    guarded: dict[str, set[str]] = {}
    """Tokens of acts that a rule of level medium or above matched: they do not become habits by themselves."""
    shown: bool = False
    """Told before its end."""

    def count(self, code: int | None, minute: str, *, write: bool) -> None:
        """Count a request and its answer."""
        self.requests += 1
        if code is not None and code >= 400:
            self.refused += code in (401, 403)
            self.missing += code == 404
        self.writes += write
        self.minutes[minute] = self.minutes.get(minute, 0) + 1

    def take(self, found: Tokens) -> bool:
        """Take a request's tokens; true if one of them is fresh in this window."""
        fresh = False
        for dimension, token in zip(Tokens._fields, found, strict=True):
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


class Verdict(msgspec.Struct, frozen=True):
    """What the model says of one window."""

    value: float
    """How strange it is: 0 to 1, higher is stranger."""
    reasons: tuple[Reason, ...]
    young: bool
    """The identity is known for too short a time to have habits of its own."""


class Episode(msgspec.Struct):
    """The strange hours of one identity on one day; one alert."""

    name: str
    kind: IdentityKind
    namespace: str
    start_seconds: float
    requests: list[Request] = []
    more_requests: int = 0
    """Beyond those that are kept."""
    strangest: Verdict | None = None
    """Of the hours that are over."""
    peeked: Verdict | None = None
    """Of an hour that was told before its end; it may turn out not to be strange."""
    peeked_requests: list[Request] = []
    told: int = 0
    """How often the alert was given."""


@dataclass(frozen=True, slots=True)
class Score:
    """One version of an episode, on its way to become an alert."""

    episode: Episode
    threshold: float
    model: str
    complete: bool
    """True once the day is over."""

    @property
    def verdict(self) -> Verdict:
        """Of the strangest hour."""
        episode = self.episode
        found = [episode.strangest, None if self.complete and episode.strangest else episode.peeked]
        return max((verdict for verdict in found if verdict), key=lambda verdict: verdict.value)

    @property
    def requests(self) -> list[Request]:
        """Those that it rests on, in order of time."""
        episode = self.episode
        peeked = [] if self.complete and episode.strangest else episode.peeked_requests
        return sorted({*episode.requests, *peeked})

    @property
    def confirmed(self) -> bool:
        """False where a window looked strange before its end, and was not in the end."""
        return not self.complete or self.episode.strangest is not None


class BehaviourState(msgspec.Struct):
    """All that scoring must remember over a restart."""

    model: str = ""
    """Name, version and hash of the model that the baselines began with."""
    baselines: Baselines = msgspec.field(default_factory=Baselines)
    windows: dict[float, dict[str, Window]] = {}
    """By start, then by identity."""
    recent: dict[str, dict[float, dict[str, dict[str, float]]]] = {}
    """The news of the last day: by identity, window, dimension and token its surprise in bits."""
    episodes: dict[float, dict[str, Episode]] = {}
    """By day, then by identity."""
    closed_before_seconds: float = 0.0
    """Windows before this time are over for good; what comes later for them is too late."""
    started: dict[bytes, None] = {}
    """Requests of which a first stage was counted, oldest first."""
