"""A slow, obvious reading of a Sigma rule, by which the compiled one is judged; it shares no code with it.

A rule is the plain mapping of its YAML, an event the plain mapping of its JSON. A verdict is True, False, or None where
a body that was kept from us decides.

Source: SigmaHQ/sigma-specification v2, Sigma rules specification and modifiers appendix.
"""

import base64
import ipaddress
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote_plus

from detector.identity import classify

Verdict: TypeAlias = bool | None
Event: TypeAlias = Mapping[str, Any]


def evaluate(rule: Mapping[str, Any], event: Event) -> Verdict:
    """Read a rule against an event, part by part."""
    detection = rule["detection"]
    verdicts = {name: _selection(part, event) for name, part in detection.items() if name != "condition"}
    return _Condition(detection["condition"], verdicts).verdict()


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Conjunction in three values."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Disjunction in three values."""
    found = list(verdicts)
    return True if True in found else None if None in found else False


def negated(verdict: Verdict) -> Verdict:
    """Negation in three values."""
    return None if verdict is None else not verdict


class _Condition:
    """A recursive descent through a condition: `or` binds least, then `and`, then `not`."""

    def __init__(self, text: str, verdicts: Mapping[str, Verdict]) -> None:
        self._words = re.findall(r"[()]|[^\s()]+", text)
        self._verdicts = verdicts

    def verdict(self) -> Verdict:
        result = self._or()
        assert not self._words, self._words
        return result

    def _next_is(self, word: str) -> bool:
        if self._words[:1] != [word]:
            return False
        self._words.pop(0)
        return True

    def _or(self) -> Verdict:
        parts = [self._and()]
        while self._next_is("or"):
            parts.append(self._and())
        return any_of(parts)

    def _and(self) -> Verdict:
        parts = [self._not()]
        while self._next_is("and"):
            parts.append(self._not())
        return every(parts)

    def _not(self) -> Verdict:
        return negated(self._not()) if self._next_is("not") else self._operand()

    def _operand(self) -> Verdict:
        if self._next_is("("):
            result = self._or()
            assert self._next_is(")")
            return result
        word = self._words.pop(0)
        if word in ("1", "any", "all") and self._next_is("of"):
            return (every if word == "all" else any_of)(self._named(self._words.pop(0)))
        return self._verdicts[word]

    def _named(self, pattern: str) -> list[Verdict]:
        tokens = [ANY if character == "*" else character for character in ("*" if pattern == "them" else pattern)]
        return [
            verdict
            for name, verdict in self._verdicts.items()
            if _glob(tokens, name) and (pattern.startswith("_") or not name.startswith("_"))
        ]


def _selection(part: Any, event: Event) -> Verdict:
    if isinstance(part, list):
        return any_of(_selection(each, event) for each in part)
    return every(_field_test(key, value, event) for key, value in part.items())


def _field_test(key: str, wanted: Any, event: Event) -> Verdict:
    name, *modifiers = key.split("|")
    found = read(name, event)
    values = wanted if isinstance(wanted, list) else [wanted]
    link = every if "all" in modifiers else any_of
    verdict = link(_one_value(name, modifiers, value, found, event) for value in values or [None])
    return negated(verdict) if "neq" in modifiers else verdict


def _one_value(name: str, modifiers: Sequence[str], wanted: Any, found: "Found", event: Event) -> Verdict:
    if "fieldref" in modifiers:
        return _fields_agree(modifiers, found, read(wanted, event))
    if "exists" in modifiers:
        return found.verdict(lambda _: True) if wanted else negated(found.verdict(lambda _: True))
    as_it_is = not set(modifiers) - {"cased", "all", "neq"}
    if wanted is None or (wanted == "" and as_it_is and not _in_a_body(name)):
        return negated(found.verdict(lambda value: value is not None))
    return found.verdict(lambda value: value is not None and _passes(modifiers, wanted, value))


def _passes(modifiers: Sequence[str], wanted: Any, value: Any) -> bool:
    """Tell whether one value of the event is what one value of the rule asks for."""
    for name, compare in _COMPARISONS.items():
        if name in modifiers:
            number = _number(value)
            return number is not None and compare(number, wanted)
    if "cidr" in modifiers:
        return _lies_in(value, wanted)
    if "re" in modifiers:
        flags = sum({"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}.get(letter, 0) for letter in modifiers)
        return not isinstance(value, dict) and re.search(wanted, text_of(value), flags) is not None
    if isinstance(wanted, bool):
        return value is wanted or (isinstance(value, str) and value.lower() == text_of(wanted))
    if isinstance(wanted, int | float):
        return not isinstance(value, bool) and (value == wanted or value == text_of(wanted))
    return any(_text_passes(modifiers, text, value) for text in _written(modifiers, wanted))


_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
}


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _lies_in(value: Any, network: str) -> bool:
    try:
        return isinstance(value, str) and ipaddress.ip_address(value) in ipaddress.ip_network(network)
    except ValueError:
        return False


def text_of(value: Any) -> str:
    """A value as JSON writes it; an object is no text."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, dict) or value is None else json.dumps(value)


ANY: Final = object()
ONE: Final = object()
"""The wildcards, so that no character can be taken for one."""


def _written(modifiers: Sequence[str], wanted: str) -> list[list[Any]]:
    """The texts that a text of a rule stands for, as characters and wildcards."""
    tokens = _tokens(wanted)
    if "base64" in modifiers:
        return [list(base64.b64encode("".join(tokens).encode()).decode())]
    if "windash" in modifiers:
        places = [match.start() for match in re.finditer(r"\B[-/]\b", wanted)]
        dashes = itertools.product("-/\N{EN DASH}\N{EM DASH}\N{HORIZONTAL BAR}", repeat=len(places))
        return [[chosen.get(i, token) for i, token in enumerate(tokens)] for chosen in _choices(places, dashes)]
    return [tokens]


def _choices(places: Sequence[int], dashes: Iterable[tuple[str, ...]]) -> list[dict[int, str]]:
    return [dict(zip(places, chosen, strict=True)) for chosen in dashes]


def _tokens(text: str) -> list[Any]:
    tokens: list[Any] = []
    rest = list(text)
    while rest:
        character = rest.pop(0)
        if character == "\\" and rest[:1] in (["*"], ["?"], ["\\"]):
            tokens.append(rest.pop(0))
        else:
            tokens.append({"*": ANY, "?": ONE}.get(character, character))
    return tokens


def _text_passes(modifiers: Sequence[str], tokens: list[Any], value: Any) -> bool:
    if "contains" in modifiers:
        tokens = [ANY, *tokens, ANY]
    elif "startswith" in modifiers:
        tokens = [*tokens, ANY]
    elif "endswith" in modifiers:
        tokens = [ANY, *tokens]
    if all(token is ANY for token in tokens) and tokens:
        return True  # whatever it is
    text = text_of(value)
    if isinstance(value, dict):
        return False
    if "cased" not in modifiers:
        text, tokens = text.lower(), [token.lower() if isinstance(token, str) else token for token in tokens]
    return _glob(tokens, text)


def _glob(tokens: Sequence[Any], text: str) -> bool:
    """Match character by character, trying every length for `*`."""
    if not tokens:
        return not text
    first, *rest = tokens
    if first is ANY:
        return any(_glob(rest, text[start:]) for start in range(len(text) + 1))
    return bool(text) and (first is ONE or first == text[0]) and _glob(rest, text[1:])


def _fields_agree(modifiers: Sequence[str], mine: "Found", other: "Found") -> Verdict:
    if mine.hidden or other.hidden:
        return None if (mine.hidden or mine.texts()) and (other.hidden or other.texts()) else False
    for one, another in itertools.product(mine.texts(), other.texts()):
        if "contains" in modifiers:
            agree = another in one
        elif "startswith" in modifiers:
            agree = one.startswith(another)
        elif "endswith" in modifiers:
            agree = one.endswith(another)
        else:
            agree = one == another
        if agree:
            return True
    return False


class Found(NamedTuple):
    """What an event holds under a name."""

    values: list[Any]
    """None among them stands for `null` and for an empty list."""
    hidden: bool = False

    def verdict(self, passes: Callable[[Any], bool]) -> Verdict:
        """True if any value passes."""
        return None if self.hidden else any(passes(value) for value in self.values)

    def texts(self) -> list[str]:
        """The texts that another field can equal."""
        return [text_of(value).lower() for value in self.values if text_of(value)]


_ALIASES: Final = {
    "apiGroup": "objectRef.apiGroup",
    "hostPath": "detector.pod.volumes.hostPath.path",
    "capabilities": "detector.containers.securityContext.capabilities.add",
}
_PODS: Final = ("spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec", "template.spec")
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")


def _in_a_body(name: str) -> bool:
    name = _ALIASES.get(name, name)
    return name.startswith(("requestObject.", "responseObject.", "detector.pod.", "detector.containers."))


def read(name: str, event: Event) -> Found:
    """Every value that an event holds under a name that a rule may use."""
    name = _ALIASES.get(name, name)
    root, _, rest = name.partition(".")
    if root == "requestObject":
        return _in_body(event, root, ("Metadata",), lambda body: find(body, rest))
    if root == "responseObject":
        return _in_body(event, root, ("Metadata", "Request"), lambda body: find(body, rest))
    if name.startswith("detector.pod."):
        paths = [name.removeprefix("detector.pod.")]
        return _in_body(event, "requestObject", ("Metadata",), lambda body: _in_pods(body, paths))
    if name.startswith("detector.containers."):
        paths = [f"{kind}.{name.removeprefix('detector.containers.')}" for kind in _CONTAINERS]
        return _in_body(event, "requestObject", ("Metadata",), lambda body: _in_pods(body, paths))
    values = _derived(name, event) if root == "detector" else find(event, name)
    return Found([value for value in values if value not in ("", None)])


def _in_body(event: Event, name: str, hiding: Sequence[str], look: Callable[[Any], list[Any]]) -> Found:
    body = event.get(name)
    if body is not None:
        parts = [_patched(operation) for operation in body] if _is_json_patch(body) else [body]
        return Found([value for part in parts for value in look(part)])
    annotations = event.get("annotations", {})
    not_logged = event.get("level") in hiding or annotations.get("audit.k8s.io/truncated") == "true"
    refused = event.get("responseStatus", {}).get("code") in (401, 403, 429)
    never_read = refused and annotations.get("authorization.k8s.io/decision") != "allow"
    return Found([], hidden=event.get("verb") in ("create", "update", "patch") and not_logged and not never_read)


def _in_pods(body: Any, paths: Sequence[str]) -> list[Any]:
    hits: list[Any] = []
    for pod in _PODS:
        spec = body
        for step in pod.split("."):
            spec = spec.get(step) if isinstance(spec, dict) else None
        if isinstance(spec, dict):
            hits += [value for path in paths for value in find(spec, path)]
    return hits


def find(value: Any, path: str) -> list[Any]:
    """Every value that a path leads to, through each element of a list and through keys that hold dots."""
    if isinstance(value, list):
        return [hit for element in value for hit in find(element, path)] or ([] if path or value else [None])
    if not path:
        return [value]
    hits: list[Any] = []
    for key, below in value.items() if isinstance(value, dict) else ():
        if path == key:
            hits += find(below, "")
        elif path.startswith(f"{key}."):
            hits += find(below, path[len(key) + 1 :])
    return hits


def _is_json_patch(body: Any) -> bool:
    return isinstance(body, list) and bool(body) and all(isinstance(each, dict) and "op" in each for each in body)


def _patched(operation: Mapping[str, Any]) -> Any:
    """What one operation sets, as an object of its own; a rule's path finds its way through several of them."""
    if operation["op"] not in ("add", "replace"):
        return {}
    value = operation.get("value")
    for step in reversed(operation["path"].split("/")[1:]):
        step = step.replace("~1", "/").replace("~0", "~")  # noqa: PLW2901 the step as it is meant
        value = [value] if re.fullmatch("-|[+-]?[0-9]+", step) else {step: value}
    return value


def _derived(name: str, event: Event) -> list[Any]:
    username = event.get("user", {}).get("username", "")
    kind = classify(username).value
    if name == "detector.identity.kind":
        return [kind]
    if name == "detector.identity.namespace":
        return [username.split(":")[2]] if kind == "service_account" else []
    if name == "detector.source.ip":
        return [_address(text) for text in event.get("sourceIPs", [])[-1:]]
    assert name == "detector.command"
    return [_command(event)]


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _command(event: Event) -> str:
    if event.get("objectRef", {}).get("subresource") not in ("exec", "attach"):
        return ""
    pairs = [pair.split("=", 1) for pair in event.get("requestURI", "").partition("?")[2].split("&")]
    words = [unquote_plus(pair[-1]) for pair in pairs if pair[0] == "command"]
    body = event.get("requestObject")
    if not words and isinstance(body, dict) and isinstance(body.get("command"), list):
        words = [word for word in body["command"] if isinstance(word, str)]
    return " ".join(words)
