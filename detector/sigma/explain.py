"""Explain: why a rule did or did not match an event, as the tree of its condition with every verdict in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from detector.activity import Activity
from detector.printable import printable
from detector.request import shown
from detector.sigma.compile import And, Leaf, Node, Not, Or, Reference, Verdict
from detector.sigma.fields import HIDDEN, Field, Values
from detector.sigma.load import CompiledRule
from detector.sigma.values import text_of

_FOUND_SHOWN: Final = 5
_TEXT_SHOWN: Final = 80
_ASKS_SHOWN: Final = 160
_COSTS: Final = {
    **dict.fromkeys(("verb", "objectRef.resource", "objectRef.subresource", "objectRef.apiGroup"), 5),
    **dict.fromkeys(("user.", "impersonatedUser.", "detector.identity."), 3),
}
"""How far away a rule is that a test of this field keeps from matching: one on another request is about something else,
one on another identity is nearer, and any other is 1 away."""
_FAR: Final = max(_COSTS.values())
_SECRET_ROOTS: Final = ("requestObject.data", "requestObject.stringData", "responseObject.data")


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a condition, judged."""

    kind: Literal["all of", "any of", "not", "test"]
    verdict: Verdict
    """None where a body that was not logged would decide."""
    parts: tuple["Step", ...] = ()
    field: str = ""
    asks: str = ""
    found: tuple[str, ...] = ()
    """The field's values, cut and without what looks like a secret."""

    def as_json(self) -> dict[str, Any]:
        """The step and those below it."""
        step: dict[str, Any] = {"kind": self.kind, "verdict": WORDS[self.verdict]}
        if self.kind == "test":
            return step | {"field": self.field, "asks": self.asks, "found": list(self.found)}
        return step | {"parts": [part.as_json() for part in self.parts]}


WORDS: Final = {True: "true", False: "false", None: "undecided"}


def explain(rule: CompiledRule, activity: Activity) -> Step:
    """Judge every node of a rule's condition, also those that the evaluator need not ask."""
    return _step(rule.node, activity)


def distance(node: Node, activity: Activity) -> int:
    """What the tests weigh that would have to come out otherwise; 0 where the condition holds or is undecided."""
    return _cost(node, activity, wanted=True)


def nearest_misses(rules: Sequence[CompiledRule], activity: Activity, count: int) -> list[tuple[CompiledRule, int]]:
    """The rules that did not match but came closest, nearest first.

    Those that remember come last: they look at so much that they are near to most requests, and one decides little.
    """
    far = [(rule, distance(rule.node, activity)) for rule in rules]
    missed = [pair for pair in far if 0 < pair[1] < _FAR]
    missed.sort(key=lambda pair: (pair[0].remembers, pair[1], pair[0].metadata.name))
    return missed[:count]


def decisive(step: Step) -> Iterator[Step]:
    """The tests that made the verdict what it is."""
    if step.kind == "test":
        yield step
        return
    wanted = step.verdict if step.kind != "not" or step.verdict is None else not step.verdict
    for part in step.parts:
        if part.verdict is wanted:
            yield from decisive(part)


def as_lines(step: Step, indent: int = 0) -> Iterator[str]:
    """The tree for a terminal, one node a line."""
    mark = {True: "+", False: "-", None: "?"}[step.verdict]
    start = f"{'  ' * indent}{mark} "
    if step.kind == "test":
        asks = step.asks if len(step.asks) <= _ASKS_SHOWN else f"{step.asks[:_ASKS_SHOWN]}…"
        yield f"{start}{step.field} {asks}; found {', '.join(step.found) or '(nothing)'}"
        return
    yield f"{start}{step.kind}"
    for part in step.parts:
        yield from as_lines(part, indent + 1)


def _step(node: Node, activity: Activity) -> Step:
    verdict = node.evaluate(activity)
    match node:
        case And():
            return Step("all of", verdict, tuple(_step(part, activity) for part in node.nodes))
        case Or():
            parts = _merged([_step(part, activity) for part in node.nodes])
            return parts[0] if len(parts) == 1 else Step("any of", verdict, parts)
        case Not():
            return Step("not", verdict, (_step(node.node, activity),))
        case Leaf() | Reference():
            return Step("test", verdict, (), node.field.path, node.asks, _found(node.field, activity))


def _merged(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Alternatives, with the tests of one field that came out alike as one."""
    merged: dict[object, Step] = {}
    for number, step in enumerate(steps):
        key: object = (step.field, step.verdict) if step.kind == "test" else number
        earlier = merged.get(key)
        merged[key] = replace(earlier, asks=f"{earlier.asks} or {step.asks}") if earlier else step
    return tuple(merged.values())


def _found(field: Field, activity: Activity) -> tuple[str, ...]:
    values: Values = field.read(activity)
    if values is HIDDEN:
        return ("a body that was not logged",)
    if field.path.startswith(_SECRET_ROOTS):
        return ("(not shown: it may be a secret)",) if values else ()
    texts = [_text(value) for value in values[:_FOUND_SHOWN]]
    return (*texts, f"and {len(values) - _FOUND_SHOWN} more") if len(values) > _FOUND_SHOWN else tuple(texts)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return "(an object)"
    text = printable(shown(text_of(value)))
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"


def _cost(node: Node, activity: Activity, *, wanted: bool) -> int:
    """The least weight of tests that must change for a node to come out as wanted."""
    if node.evaluate(activity) in (wanted, None):
        return 0
    match node:
        case Not():
            return _cost(node.node, activity, wanted=not wanted)
        case And() | Or():
            costs = [_cost(part, activity, wanted=wanted) for part in node.nodes]
            return sum(costs) if isinstance(node, And) is wanted else min(costs)
        case Leaf() | Reference():
            return next((cost for start, cost in _COSTS.items() if node.field.path.startswith(start)), 1)
