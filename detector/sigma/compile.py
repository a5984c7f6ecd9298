"""Compile: a Sigma condition to a tree that is evaluated in three values.

True and False are what they seem; None means that a body which was not logged would decide. The same evaluation, run
on the few fields that an index key holds, tells which rules can match at all and what is left to ask of them.

Source: SigmaHQ/sigma-specification v2, Sigma rules specification and modifiers appendix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, TypeAlias

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.types import (
    SigmaCasedString,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaString,
    SigmaType,
)

from detector.activity import Activity
from detector.sigma.fields import HIDDEN, Field, Partial, Values, nearest, resolve
from detector.sigma.parse import UnsupportedError
from detector.sigma.values import Test, compile_value, is_value, text_of
from detector.sigma.wording import wording

Verdict: TypeAlias = bool | None

Known: TypeAlias = Mapping[str, Values]
"""Values of some fields, by path; the values of a root (`impersonatedUser`) stand for every field below it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A test of one field: true if any of its values passes."""

    field: Field
    test: Test
    exact: str | None = None
    """The one text, in lower case, that passes the test, if that is all the test asks."""
    asks: str = dataclass_field(default="", compare=False)
    """The test as the rule writes it, for people: `|endswith "/token"`."""

    def evaluate(self, activity: Activity) -> Verdict:
        """Test the values of an activity."""
        values = self.field.read(activity)
        if values is HIDDEN:
            return None
        return self._judge(values) or (None if type(values) is Partial else False)

    def specialise(self, known: Known) -> "Node | bool":
        """Decide the test if its field is known."""
        values = known.get(self.field.path, known.get(self.field.root))
        return self if values is None else self._judge(values)

    def _judge(self, values: Values) -> bool:
        test = self.test
        for value in values:  # noqa: SIM110 a loop costs half of `any`: there is one value as a rule
            if test(value):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Reference:
    """A comparison of two fields of one event (`fieldref`): true if any value of the one matches one of the other."""

    field: Field
    other: Field
    compare: Callable[[str, str], bool]
    asks: str = dataclass_field(default="", compare=False)
    """The comparison as the rule writes it."""

    def evaluate(self, activity: Activity) -> Verdict:
        """Compare the values of an activity."""
        mine, theirs = _texts(self.field.read(activity)), _texts(self.other.read(activity))
        if mine and theirs and (mine is HIDDEN or theirs is HIDDEN):
            return None
        if any(self.compare(one, other) for one in mine for other in theirs):
            return True
        return None if Partial in (type(mine), type(theirs)) else False

    def specialise(self, known: Known) -> "Node | bool":
        """Leave it as it is: what is known never holds both fields."""
        del known
        return self


@dataclass(frozen=True, slots=True)
class Not:
    """Negation; what is undecided stays so."""

    node: "Node"

    def evaluate(self, activity: Activity) -> Verdict:
        """Turn the verdict round."""
        verdict = self.node.evaluate(activity)
        return None if verdict is None else not verdict

    def specialise(self, known: Known) -> "Node | bool":
        """Negate what is left."""
        node = self.node.specialise(known)
        return not node if isinstance(node, bool) else Not(node)


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction: false as soon as one part is, undecided if none is false and one undecided."""

    nodes: tuple["Node", ...]

    def evaluate(self, activity: Activity) -> Verdict:
        """Ask each part until one says no."""
        verdict: Verdict = True
        for node in self.nodes:
            part = node.evaluate(activity)
            if part is False:
                return False
            if part is None:
                verdict = None
        return verdict

    def specialise(self, known: Known) -> "Node | bool":
        """Drop the parts that are true."""
        return _specialise_parts(self.nodes, known, decisive=False)


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction: true as soon as one part is, undecided if none is true and one undecided."""

    nodes: tuple["Node", ...]

    def evaluate(self, activity: Activity) -> Verdict:
        """Ask each part until one says yes."""
        verdict: Verdict = False
        for node in self.nodes:
            part = node.evaluate(activity)
            if part is True:
                return True
            if part is None:
                verdict = None
        return verdict

    def specialise(self, known: Known) -> "Node | bool":
        """Drop the parts that are false."""
        return _specialise_parts(self.nodes, known, decisive=True)


Node: TypeAlias = Leaf | Reference | Not | And | Or


def _specialise_parts(nodes: Sequence[Node], known: Known, *, decisive: bool) -> Node | bool:
    left: list[Node] = []
    for node in nodes:
        part = node.specialise(known)
        if isinstance(part, bool):
            if part is decisive:
                return decisive
        else:
            left.append(part)
    if not left:
        return not decisive
    if len(left) == 1:
        return left[0]
    return Or(tuple(left)) if decisive else And(tuple(left))


def compile_condition(condition: Any) -> Node:
    """Compile pySigma's parsed condition.

    Raises:
        UnsupportedError: for a part that we would have to approximate.
    """
    if isinstance(condition, ConditionAND):
        return And(tuple(compile_condition(part) for part in condition.args))
    if isinstance(condition, ConditionOR):
        return _join(compile_condition(part) for part in condition.args)
    if isinstance(condition, ConditionNOT):
        return Not(compile_condition(condition.args[0]))
    if isinstance(condition, ConditionFieldEqualsValueExpression):
        return _compile_test(condition.field, condition.value)
    raise UnsupportedError("a search for words without a field is not supported; name the field")


def _join(parts: Iterable[Node]) -> Node:
    """Disjoin; the tests of one field become one, so that it is read once, and exact texts a look-up in a set."""
    joined: list[Node] = []
    tests: dict[Field, list[Leaf]] = {}
    for part in parts:
        if isinstance(part, Leaf):
            tests.setdefault(part.field, []).append(part)
        else:
            joined.append(part)
    joined += [_joined_tests(field, leaves) for field, leaves in tests.items()]
    return joined[0] if len(joined) == 1 else Or(tuple(joined))


def _joined_tests(field: Field, leaves: Sequence[Leaf]) -> Leaf:
    if len(leaves) == 1:
        return leaves[0]
    texts = frozenset(leaf.exact for leaf in leaves if leaf.exact is not None)
    rest = [leaf.test for leaf in leaves if leaf.exact is None]
    asks = " or ".join(leaf.asks for leaf in leaves)
    if not rest:
        return replace(_exact(field, texts), asks=asks)
    tests = (_exact(field, texts).test, *rest) if texts else tuple(rest)
    return Leaf(field, lambda value: any(test(value) for test in tests), asks=asks)


def _exact(field: Field, texts: frozenset[str]) -> Leaf:
    def test(value: Any) -> bool:
        return (value if isinstance(value, str) else text_of(value)).lower() in texts

    return Leaf(field, test, exact=next(iter(texts)) if len(texts) == 1 else None)


def _compile_test(name: str, value: SigmaType) -> Node:
    if isinstance(value, SigmaExpansion):
        return _join(_compile_test(name, part) for part in value.values)
    return _worded(_compile_one(name, value), wording(value))


def _worded(node: Node, asks: str) -> Node:
    if isinstance(node, Not):  # null, an empty text, or `exists: false`
        return Not(_worded(node.node, "is there"))
    return replace(node, asks=asks) if isinstance(node, Leaf | Reference) else node


def _compile_one(name: str, value: SigmaType) -> Node:  # noqa: PLR0911 one return a type
    field = _field(name)
    match value:
        case SigmaNull():
            return Not(Leaf(field, is_value))
        case SigmaExists():
            exists = Leaf(field, _always)
            return exists if value.exists else Not(exists)
        case SigmaFieldReference():
            return Reference(field, _field(value.field, name), _reference_comparison(value))
        case SigmaString(s=[]) if field.in_body:
            return Leaf(field, lambda found: found == "")
        case SigmaString(s=[]):  # outside the bodies an empty text and an absent field are the same, see event.py
            return Not(Leaf(field, is_value))
        case SigmaString(s=[str(text)]) if not isinstance(value, SigmaCasedString):
            return _exact(field, frozenset((text.lower(),)))
        case _:
            return Leaf(field, compile_value(name, value))


def _field(name: str, key: str = "") -> Field:
    field = resolve(name)
    if field is None:
        close = nearest(name)
        hint = f"; did you mean {close}?" if close else "; detector/rules/README.md tells the names"
        raise UnsupportedError(f"no audit event has a field {name!r}{hint}", key or name)
    return field


def fields_of(node: Node) -> Iterator[Field]:
    """Every field that a condition reads, as often as it does."""
    match node:
        case Leaf():
            yield node.field
        case Reference():
            yield from (node.field, node.other)
        case Not():
            yield from fields_of(node.node)
        case And() | Or():
            for part in node.nodes:
                yield from fields_of(part)


def _always(_: Any) -> bool:
    return True


def _texts(values: Values) -> Values:
    """The texts that a comparison of fields sees: in lower case, and none that is empty, for it equals nothing."""
    return values if values is HIDDEN else type(values)(text.lower() for text in map(text_of, values) if text)


def _reference_comparison(value: SigmaFieldReference) -> Callable[[str, str], bool]:
    if value.starts_with and value.ends_with:
        return str.__contains__
    if value.starts_with:
        return str.startswith
    return str.endswith if value.ends_with else str.__eq__
