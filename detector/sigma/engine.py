"""Engine: matches activities against every rule, asking only those that the index leaves.

The index is a memory of specialised rules: for each combination of verb, resource, code and the like, and then for each
actor, it holds what is left to ask of the rules that can still match, so that an event which no rule could match costs
two look-ups, however many rules there are.

Rules are asked by their conditions, each once: copies of a rule share it, and so do a correlation and its base rules.
What rules remember is shared likewise (`correlate.py`, `first_seen.py`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from detector.activity import Activity
from detector.match import Match
from detector.sigma.compile import Known, Node
from detector.sigma.correlate import Chain, CorrelationRule, Fired, RankedMatch, chains
from detector.sigma.fields import HIDDEN
from detector.sigma.first_seen import Newness, NewnessRule, Watches
from detector.sigma.keys import Actor, Key, actor_of, key_of, known_of_actor, known_of_key, known_of_resource
from detector.sigma.load import CompiledRule
from detector.sigma.memory import Memory, to_micros
from detector.sigma.steady import Steady
from detector.sigma.values import text_of

_KEYS_KEPT: Final = 50_000  # a large cluster has a few thousand; a client that invents resources could make any number
_USER_AGENT_CHARACTERS: Final = 512  # of one that is kept; it is free to choose, so the memory must be bounded


class Asked(NamedTuple):
    """What hangs on the verdict of one condition: copies of a rule differ in what they say of themselves only."""

    ranks: tuple[int, ...]
    """The rules that it is all of, by their places among all rules."""
    watches: Watches
    """Of rules that fire on what is new among the requests that it fires on."""
    steps: tuple[tuple[Chain, int], ...]
    """The correlations of which it is a base rule, and its place there."""


Candidate: TypeAlias = tuple[Node | bool, Asked]
"""What is left to ask of a condition."""


class _Left(NamedTuple):
    """What is left to ask of an actor's requests."""

    steady: Steady | None
    candidates: list[Candidate]


class _Entry(NamedTuple):
    """The rules that can match under one key, and those of them that can match a certain actor."""

    candidates: list[Candidate]
    by_actor: dict[Actor, _Left]


class Engine:
    """All rules, indexed.

    Args:
        rules: what to match.
        memory: what an earlier run, or an earlier set of rules, remembered.
    """

    def __init__(self, rules: Sequence[CompiledRule], memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self.memory.keep_only(rule.metadata.id for rule in rules)
        self._newness = Newness(self.memory)
        self._chains = chains(_correlations(rules), self.memory)
        self._rules = tuple(rules)
        self._candidates = self._by_question()
        self._by_resource: dict[tuple[str, str, str], list[Candidate]] = {}
        self._by_key: dict[tuple[object, ...], _Entry] = {}
        self._steady: dict[tuple[tuple[Node | bool, Watches], ...], Steady] = {}
        self._actors_known = 0

    def match(self, activities: Sequence[Activity]) -> list[Match]:
        """Every rule that fires on every activity, in their order."""
        if activities:
            self._newness.begin(activities[0].received_micros)
        matches: list[Match] = []
        by_key = self._by_key
        for activity in activities:
            key = key_of(activity)
            entry = by_key.get(key) or self._index(Key(*key))
            if not entry.candidates:
                continue
            actor = actor_of(activity)
            left = entry.by_actor.get(actor)
            if left is None:
                left = self._index_actor(entry, actor, activity)
            steady, candidates = left
            new = steady.see(activity) if steady is not None else ()
            if candidates or new:
                matches += self._ask(candidates, new, activity)
        return matches

    def _ask(self, candidates: Sequence[Candidate], new: Sequence[int], activity: Activity) -> list[Match]:
        """Put to an activity what the index could not decide; `new` are the rules that it is known to be new to."""
        fired = [(rank, False) for rank in new]
        steps: list[tuple[Chain, Fired]] = []
        for node, asked in candidates:
            verdict = node if isinstance(node, bool) else node.evaluate(activity)
            if verdict is False:
                continue
            ranks, watches, bases = asked
            for watch in watches:
                if watch.look(activity):
                    ranks += watch.ranks
            if ranks:
                fired += [(rank, verdict is None) for rank in ranks]
            if bases:
                steps += [(chain, (base, verdict is True)) for chain, base in bases]
        matches: list[RankedMatch] = []
        if steps:
            matches += _seen_by_chains(steps, activity)
        if fired:
            matches += self._alone(fired, activity)
        matches.sort(key=itemgetter(0))
        return [match for _, match in matches]

    def _alone(self, fired: Sequence[tuple[int, bool]], activity: Activity) -> Iterator[RankedMatch]:
        """The matches of rules that ask of one request only, given by rank and whether a hidden body decides."""
        groups: dict[tuple[str, ...], tuple[str, ...]] = {}  # fields are read once for all rules that group by them
        for rank, degraded in fired:
            rule = self._rules[rank]
            names = rule.metadata.group_by
            group = groups.get(names)
            if group is None:
                group = groups[names] = group_values(rule, activity)
            yield rank, Match(rule.metadata, activity, group, degraded)

    def advance(self, now: datetime) -> None:
        """Move event time on; what is too old to matter is forgotten."""
        self.memory.now_micros = max(self.memory.now_micros, to_micros(now))
        for chain in self._chains:
            chain.advance()
        self._newness.advance()

    def _by_question(self) -> list[Candidate]:
        """The rules by what they ask: rules of one detection share its compiled condition, see load.py.

        A correlation is asked by its base rules, which other rules have as well, or are.
        """
        nodes: dict[int, Node] = {}
        alone: dict[int, list[int]] = {}
        new: dict[int, list[NewnessRule]] = {}
        steps: dict[int, list[tuple[Chain, int]]] = {}
        for rank, rule in enumerate(self._rules):
            if rule.correlation is None:
                nodes[id(rule.node)] = rule.node
                if rule.first_seen is None:
                    alone.setdefault(id(rule.node), []).append(rank)
                else:
                    new.setdefault(id(rule.node), []).append(NewnessRule(rank, rule.metadata, rule.first_seen))
        for chain in self._chains:
            for place, base in enumerate(chain.correlation.bases):
                nodes[id(base.node)] = base.node
                steps.setdefault(id(base.node), []).append((chain, place))
        return [
            (
                node,
                Asked(tuple(alone.get(key, ())), self._newness.watches(new.get(key, ())), tuple(steps.get(key, ()))),
            )
            for key, node in nodes.items()
        ]

    def _index(self, key: Key) -> _Entry:
        """Specialise the rules to a key, in two steps: of many rules, few are left after the first."""
        self._forget()
        resource = key[:3]
        related = self._by_resource.get(resource)
        if related is None:
            related = self._by_resource[resource] = _specialise(self._candidates, known_of_resource(key))
        entry = self._by_key[key] = _Entry(_specialise(related, known_of_key(key)), {})
        return entry

    def _index_actor(self, entry: _Entry, actor: Actor, activity: Activity) -> _Left:
        candidates = _specialise(entry.candidates, known_of_actor(activity))
        left = self._left(candidates)
        if len(activity.event.user_agent) <= _USER_AGENT_CHARACTERS:
            self._forget()
            self._actors_known += 1
            entry.by_actor[actor] = left
        return left

    def _left(self, candidates: Sequence[Candidate]) -> _Left:
        """Part what goes by the actor and its token alone from what must be asked of each request."""
        watched: list[tuple[Node | bool, Watches]] = []
        others: list[Candidate] = []
        for node, asked in candidates:
            rest = asked
            if Steady.fits(node, asked.watches):
                watched.append((node, asked.watches))
                rest = asked._replace(watches=())
            if rest is asked or rest.ranks or rest.steps:
                others.append((node, rest))
        key = tuple(watched)
        steady = self._steady.setdefault(key, Steady(key)) if key else None  # one for all resources: fewer to learn
        return _Left(steady, others)

    def _forget(self) -> None:
        if len(self._by_key) + self._actors_known >= _KEYS_KEPT:
            self._by_key.clear()
            self._by_resource.clear()
            self._steady.clear()
            self._actors_known = 0


def _correlations(rules: Sequence[CompiledRule]) -> Iterator[CorrelationRule]:
    for rank, rule in enumerate(rules):
        if rule.correlation is not None:
            yield CorrelationRule(rank, rule.metadata, rule.correlation)


def _seen_by_chains(steps: Sequence[tuple[Chain, Fired]], activity: Activity) -> Iterator[RankedMatch]:
    """Give each correlation the base rules of it that fired, all at once: a request is one sighting."""
    if len(steps) == 1:
        ((chain, fired),) = steps
        yield from chain.see(activity, (fired,))
        return
    by_chain: dict[Chain, list[Fired]] = {}
    for chain, fired in steps:
        by_chain.setdefault(chain, []).append(fired)
    for chain, all_fired in by_chain.items():
        yield from chain.see(activity, sorted(all_fired))


def _specialise(candidates: Sequence[Candidate], known: Known) -> list[Candidate]:
    left: list[Candidate] = []
    for node, asked in candidates:
        rest = node if isinstance(node, bool) else node.specialise(known)
        if rest is not False:
            left.append((rest, asked))
    return left


def group_values(rule: CompiledRule, activity: Activity) -> tuple[str, ...]:
    """The first value of each field that keeps a rule's alerts apart; empty where there is none."""
    values: list[str] = []
    for field in rule.group_fields:
        found = field.read(activity)
        first = next((value for value in found if value is not None), "") if found is not HIDDEN else ""
        values.append(text_of(first))
    return tuple(values)
