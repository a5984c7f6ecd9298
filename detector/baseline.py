"""Baseline: what is usual for an identity, for its peers and for the cluster; the one place that measures surprise.

A baseline counts windows in which a token was seen, not requests: a busy controller is as usual as a quiet person.
Old habits are forgotten with a half-life. Everything is bounded and can be merged and stored.
"""

from collections.abc import Iterable, Mapping
from math import log2
from typing import Final, NamedTuple, TypeAlias

import msgspec

from detector.habits import PeerGroup

HALF_LIFE_SECONDS: Final = 30 * 86_400.0
TOKENS_MAX: Final = (
    2_000  # a dimension and identity; the rarest go first. 100 bytes each: 1.6 MB an identity at the worst
)
IDENTITIES_MAX: Final = 100_000  # those that were silent for longest go first
_PEERS_WEIGHT: Final = 2.0  # windows that the peers' habits count for: as much as two windows of one's own
_CLUSTER_WEIGHT: Final = 2.0  # identities that the whole cluster's habits count for, within the peers'
_RARE: Final = 0.02  # identities that could have done what nobody did
_KNOWN: Final = 0.5  # windows from which on a token is an own habit: one, half forgotten


class Rhythm(msgspec.Struct):
    """Weighted sums of ln(1 + requests), of which mean and deviation can be told."""

    total: float = 0.0
    squares: float = 0.0

    def add(self, log_requests: float, weight: float) -> None:
        """Take one window's value."""
        self.total += weight * log_requests
        self.squares += weight * log_requests * log_requests

    def spread(self, windows: float) -> tuple[float, float]:
        """Mean and deviation, over windows of a weight in all."""
        mean = self.total / windows
        return mean, float(max(self.squares / windows - mean * mean, 0.0) ** 0.5)


class Habit(msgspec.Struct):
    """One identity's baseline. Weights are windows, inflated by the half-life so that old ones need no touch."""

    peer_group: PeerGroup
    windows: float = 0.0
    last_seconds: float = 0.0
    tokens: dict[str, dict[str, float]] = {}
    rate: Rhythm = msgspec.field(default_factory=Rhythm)
    peak: Rhythm = msgspec.field(default_factory=Rhythm)


class Crowd(msgspec.Struct):
    """How many identities ever had a token: a peer group, or the cluster."""

    members: int = 0
    tokens: dict[str, dict[str, int]] = {}


class Baselines(msgspec.Struct):
    """The baselines of a cluster."""

    epoch_seconds: float = 0.0
    """Time that weights are relative to."""
    identities: dict[str, Habit] = {}
    groups: dict[PeerGroup, Crowd] = {}
    cluster: Crowd = msgspec.field(default_factory=Crowd)
    rules: set[str] = set()
    """Names of the rules whose matches were learned: those of others would be news of everybody."""

    def view(self, name: str, group: PeerGroup, seconds: float, recent: "Recent | None" = None) -> "View":
        """What is known of an identity at a time; of one never seen, what its peers do."""
        habit = self.identities.get(name) or Habit(group)
        return View(self, habit, group, self._inflation(seconds), recent or {})

    def teach(
        self, name: str, group: PeerGroup, seen: dict[str, set[str]], rates: tuple[float, float], seconds: float
    ) -> None:
        """Learn a window of an identity: its tokens in each dimension, and ln(1 + requests) in all and in a minute."""
        habit = self.identities.get(name)
        if habit is None:
            self._make_room()
            habit = self.identities[name] = Habit(group)
            self.groups.setdefault(group, Crowd()).members += 1
            self.cluster.members += 1
        weight = self._inflation(seconds)
        habit.windows += weight
        habit.last_seconds = max(habit.last_seconds, seconds)
        habit.rate.add(rates[0], weight)
        habit.peak.add(rates[1], weight)
        crowds = (self.groups[habit.peer_group], self.cluster)
        for dimension, found in seen.items():
            weights = habit.tokens.setdefault(dimension, {})
            for token in found:
                known = weights.get(token)
                weights[token] = (known or 0.0) + weight
                if known is None:
                    for crowd in crowds:
                        counts = crowd.tokens.setdefault(dimension, {})
                        counts[token] = counts.get(token, 0) + 1
            if len(weights) > TOKENS_MAX:
                self._forget_rarest(habit, dimension)

    def _inflation(self, seconds: float) -> float:
        return float(2.0 ** ((seconds - self.epoch_seconds) / HALF_LIFE_SECONDS))

    def _forget_rarest(self, habit: Habit, dimension: str) -> None:
        weights = habit.tokens[dimension]
        for token in sorted(weights, key=lambda token: (weights[token], token))[: TOKENS_MAX // 10]:
            del weights[token]
            self._lose(habit.peer_group, dimension, token)

    def _make_room(self) -> None:
        if len(self.identities) < IDENTITIES_MAX:
            return
        silent = sorted(self.identities, key=lambda name: (self.identities[name].last_seconds, name))
        for name in silent[: IDENTITIES_MAX // 100]:
            habit = self.identities.pop(name)
            self.groups[habit.peer_group].members -= 1
            self.cluster.members -= 1
            for dimension, weights in habit.tokens.items():
                for token in weights:
                    self._lose(habit.peer_group, dimension, token)

    def _lose(self, group: PeerGroup, dimension: str, token: str) -> None:
        for crowd in (self.groups[group], self.cluster):
            crowd.tokens[dimension][token] -= 1


Recent: TypeAlias = Mapping[str, Mapping[str, float]]
"""The news of the day before a window: by dimension and token, how surprising it was in bits."""

_NOBODY: Final = Crowd()
_NOTHING: Final[dict[str, float]] = {}


class News(NamedTuple):
    """What is new in one dimension of a window."""

    highest_bits: float
    """Surprise of the most surprising token."""
    new_bits: float
    """Sum of the surprise of the tokens that are no habit of the identity's own."""
    new_tokens: tuple[tuple[str, float], ...]
    """These, each with its surprise in bits."""


class View:
    """One identity against the background of its peers, at one time."""

    def __init__(
        self, baselines: Baselines, habit: Habit, group: PeerGroup, inflation: float, recent: "Recent"
    ) -> None:
        self.habit, self._inflation, self.recent = habit, inflation, recent
        self._peers, self._cluster = baselines.groups.get(group, _NOBODY), baselines.cluster
        self._news: dict[str, News] = {}

    @property
    def windows(self) -> float:
        """How many windows the identity is known for, the forgotten ones discounted."""
        return self.habit.windows / self._inflation

    @property
    def usual_rate(self) -> tuple[float, float] | None:
        """Mean and deviation of ln(1 + requests) a window; None for an identity never seen."""
        return self.habit.rate.spread(self.habit.windows) if self.habit.windows else None

    @property
    def usual_peak(self) -> tuple[float, float] | None:
        """The same of the busiest minute of each window."""
        return self.habit.peak.spread(self.habit.windows) if self.habit.windows else None

    def own(self, dimension: str, token: str) -> float:
        """In how many windows the identity had a token."""
        return self.habit.tokens.get(dimension, {}).get(token, 0.0) / self._inflation

    def is_new(self, dimension: str, token: str) -> bool:
        """Whether a token is no habit of the identity's own."""
        return self.own(dimension, token) < _KNOWN

    def has_news(self, found: Iterable[tuple[str, str]]) -> bool:
        """Whether any of some tokens, each with its dimension, is no habit of the identity's own."""
        known, least = self.habit.tokens, _KNOWN * self._inflation
        return any([known.get(dimension, _NOTHING).get(token, 0.0) < least for dimension, token in found])  # noqa: C419

    def surprise_bits(self, dimension: str, token: str) -> float:
        """Minus log2 of the probability of a token in a window, under own habits blended with the peers' and all's."""
        weight = self.habit.tokens.get(dimension, {}).get(token)
        mine = weight is not None
        member = self.habit.windows > 0
        # The peers may be others than those that the token was counted among: a person's groups can change.
        everybody = max(self._cluster.tokens.get(dimension, {}).get(token, 0) - mine, 0)
        peers = max(self._peers.tokens.get(dimension, {}).get(token, 0) - mine, 0)
        cluster = (everybody + _RARE) / (self._cluster.members - member + 2)
        peer = (peers + _CLUSTER_WEIGHT * cluster) / (max(self._peers.members - member, 0) + _CLUSTER_WEIGHT)
        own = weight / self._inflation if weight is not None else 0.0
        probability = (own + _PEERS_WEIGHT * peer) / (self.windows + _PEERS_WEIGHT)
        return -log2(min(max(probability, 1e-6), 1.0))

    def news(self, dimension: str, seen: Iterable[str]) -> News:
        """What is new among a window's tokens; worked out once a dimension, for several features ask."""
        known = self._news.get(dimension)
        if known is None:
            surprise = [(token, self.surprise_bits(dimension, token)) for token in sorted(seen)]  # sums depend on order
            new = tuple((token, bits) for token, bits in surprise if self.is_new(dimension, token))
            highest = max((bits for _, bits in surprise), default=0.0)
            known = self._news[dimension] = News(highest, sum(bits for _, bits in new), new)
        return known

    def usual(self, dimension: str, count: int = 3) -> list[str]:
        """The identity's most usual tokens."""
        weights = self.habit.tokens.get(dimension, {})
        return sorted(weights, key=lambda token: (-weights[token], token))[:count]

    def peers_usual(self, dimension: str, count: int = 3) -> list[str]:
        """The tokens that most peers have."""
        counts = self._peers.tokens.get(dimension, {})
        return sorted(counts, key=lambda token: (-counts[token], token))[:count]
