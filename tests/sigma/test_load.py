"""Rule files: what cannot be read as Sigma means it is refused with its place, and what SigmaHQ ships is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.errors import RuleError, RuleProblem
from detector.match import Level
from detector.sigma.load import CompiledRule, load
from tests.sigma.build import Event, activity, compile_selection, event, rule_id, write

RULE = """\
title: a rule
id: 00000000-0000-4000-8000-000000000001
level: low
logsource:
  product: kubernetes
  service: audit
detection:
  selection:
    verb: get
  condition: selection
"""


def _problems(path: Path) -> list[RuleProblem]:
    with pytest.raises(RuleError) as refused:
        load(path)
    assert str(refused.value).splitlines() == [str(problem) for problem in refused.value.problems]
    return refused.value.problems


def _written(folder: Path, content: str | bytes, name: str = "rule.yml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _without(key: str) -> str:
    return "".join(line for line in RULE.splitlines(keepends=True) if not line.startswith(f"{key}:"))


def _in_place_of(old: str, new: str) -> str:
    assert RULE.count(old) == 1
    return RULE.replace(old, new)


def test_a_rule_is_loaded_with_all_that_an_alert_says_of_it(tmp_path: Path) -> None:
    """Metadata, tags split into tactics and techniques, the version of the file and the folder as the rule set."""
    more = """\
description: what it means
references: [https://example.test/a, https://example.test/b]
tags: [attack.t1552.007, attack.credential-access, attack.g0001, attack.s0002, cve.2024-1]
date: 2026-11-23
detector:
  group_by: [objectRef.namespace]
  fold_seconds: 60
  message: "{user} read {name}"
"""
    (rule,) = load(_written(tmp_path / "ours", RULE + more))
    metadata = rule.metadata
    assert (metadata.name, metadata.id, metadata.level) == ("a rule", rule_id(1), Level.LOW)
    assert (metadata.description, metadata.reference) == ("what it means", "https://example.test/a")
    assert (metadata.techniques, metadata.tactics) == (("T1552.007",), ("credential-access",))
    assert (metadata.group_by, metadata.fold_seconds) == (("objectRef.namespace",), 60)
    assert (metadata.message, metadata.ruleset, len(metadata.version)) == ("{user} read {name}", "ours", 12)


def test_the_version_of_a_rule_changes_with_its_file(tmp_path: Path) -> None:
    """Two alerts of one version were made by the same rule, to the letter."""
    versions = [load(_written(tmp_path, content))[0].metadata.version for content in (RULE, RULE, RULE + "# x\n")]
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (_in_place_of("verb: get", "verbs: get"), 9, "no audit event has a field 'verbs'"),
        (_in_place_of("verb: get", "verbs|contains: get"), 9, "no audit event has a field 'verbs'"),
        (_in_place_of("verb: get", "requestObject: get"), 9, "no audit event has a field 'requestObject'"),
        (_in_place_of("verb: get", "user.name: get"), 9, "no audit event has a field 'user.name'"),
        (_in_place_of("verb: get", "verb|fieldref: verbs"), 9, "no audit event has a field 'verbs'"),
        (_in_place_of("verb: get", "verb|like: get"), 9, "Unknown modifier 'like'"),
        (_in_place_of("verb: get", "level: x\n    verb|like: get"), 10, "Unknown modifier 'like'"),
        (_in_place_of("verb: get", "verb: x\n    verb|re: a(?=b)"), 10, "RE2 cannot run it"),
        (_in_place_of("verb: get", "verb|re: a("), 9, "RE2 cannot run it: missing )"),
        (_in_place_of("verb: get", r"verb|re: (a)\1"), 9, "RE2 cannot run it"),
        (_in_place_of("verb: get", "verb|re: 5"), 9, "must be a text"),
        (_in_place_of("verb: get", "verb|re: [a, null]"), 9, "must be a text"),
        (_in_place_of("verb: get", "verb|re|contains: 5"), 9, "must be a text"),
        (_in_place_of("verb: get", "verb|re|startswith: a"), 9, "write `^` or `$`"),
        (_in_place_of("verb: get", "verb|re|endswith: a"), 9, "write `^` or `$`"),
        (_in_place_of("verb: get", "verb|expand: '%verbs%'"), 9, "placeholders"),
        (_in_place_of("verb: get", "verb|re|expand: '%verbs%'"), 9, "placeholders"),
        (_in_place_of("verb: get", "verb|expand|base64: '%verbs%'"), 9, "placeholders"),
        (_in_place_of("verb: get", "verb|cased|windash: -A"), 9, "write it last"),
        (_in_place_of("verb: get", "verb|cased|base64: A"), 9, "write it last"),
        (_in_place_of("verb: get", "verb|cased|fieldref: stage"), 9, "write it last"),
        (_in_place_of("verb: get", "stageTimestamp|hour: 3"), 9, "parts of a time"),
        (_in_place_of("verb: get", "stageTimestamp|year: 2026"), 9, "parts of a time"),
        (_in_place_of("verb: get", "verb|gt: many"), 9, "incompatible"),
        (_in_place_of("verb: get", "verb|gt: .nan"), 9, "Invalid number"),
        (_in_place_of("verb: get", "verb|exists: 1"), 9, "incompatible"),
        (_in_place_of("verb: get", "verb|contains: null"), 9, "incompatible"),
        (_in_place_of("verb: get", "sourceIPs|cidr: 10.0.0.1/8"), 9, "Invalid CIDR"),
        (_in_place_of("verb: get", "verb|base64: a*"), 9, "wildcards"),
        (_in_place_of("verb: get", "verb: {a: b}"), 9, "Unsupported type"),
        (_in_place_of("  selection:\n    verb: get", "  selection: [get, list]"), 7, "words without a field"),
        (_in_place_of("  selection:\n    verb: get", "  selection: get"), 7, "words without a field"),
        (_in_place_of("verb: get", "'|all': [get, list]"), 7, "words without a field"),
        (_in_place_of("  selection:\n    verb: get", "  selection: {}"), 7, "Detection is empty"),
        (_in_place_of("condition: selection", "condition: other"), 10, "'other' not defined"),
        (_in_place_of("condition: selection", "condition: 1 of other*"), 10, "doesn't match any detection"),
        (_in_place_of("condition: selection", "condition: selection and"), 10, "not valid Sigma"),
        (_in_place_of("condition: selection", "condition: selection | count() > 5"), 10, "pipe syntax"),
        (_in_place_of("condition: selection", "condition: [selection, selection]"), 10, "one text"),
        (_in_place_of("condition: selection", "condition: 1"), 10, "one text"),
        (_in_place_of("condition: selection", f"condition: {'not ' * 5000}selection"), 10, "too deeply"),
        (_in_place_of("  condition: selection\n", ""), 7, "there is no condition"),
        (_in_place_of("condition: selection", "timeframe: 5m\n  condition: selection"), 10, "timeframe"),
        (_in_place_of("service: audit", "service: apiserver"), 4, "logsource must be product: kubernetes"),
        (_in_place_of("product: kubernetes", "product: windows"), 4, "logsource must be product: kubernetes"),
        (_in_place_of("logsource:\n  product: kubernetes\n  service: audit\n", ""), 1, "not valid Sigma"),
        (_without("title"), 1, "must have a title"),
        (_without("id"), 1, "needs an id and a level"),
        (_without("level"), 1, "needs an id and a level"),
        (_in_place_of("level: low", "level: urgent"), 3, "not a valid Sigma rule level"),
        (_in_place_of("id: 0", "id: x"), 2, "must be an UUID"),
        (_in_place_of("id: 00000000-0000-4000-8000-000000000001", "id: 5"), 2, "the id must be a UUID"),
        (RULE + "tags: [attack]\n", 11, "not valid Sigma"),
        (RULE + "tags: attack.t1552\n", 11, "must be a list"),
        (RULE + "name: 5\n", 11, "must be a string"),
        (RULE + "date: yesterday\n", 11, "not valid Sigma"),
        ("title: a\ncorrelation:\n  type: event_count\n", 2, "correlation.rules: Field required"),
        ("title: a\nfilter:\n  rules: any\n", 2, "filter documents are not supported"),
        (RULE + "detector: 5\n", 11, "detector: Input should be a valid dictionary"),
        (RULE + "detector:\n", 11, "detector: Input should be a valid dictionary"),
        (RULE + "detector:\n  fold: 60\n", 11, "detector.fold: Extra inputs are not permitted"),
        (RULE + "detector:\n  fold_seconds: 59\n", 11, "detector.fold_seconds: Input should be greater than or equal"),
        (RULE + "detector:\n  fold_seconds: 604801\n", 11, "detector.fold_seconds: Input should be less than or equal"),
        (RULE + "detector:\n  fold_seconds: an hour\n", 11, "detector.fold_seconds"),
        (RULE + "detector:\n  message: '{user.__class__}'\n", 11, "{user.__class__} is no placeholder"),
        (RULE + "detector:\n  message: '{user[0]}'\n", 11, "{user[0]} is no placeholder"),
        (RULE + "detector:\n  message: '{user!r}'\n", 11, "is no placeholder"),
        (RULE + "detector:\n  message: '{user:>99999999}'\n", 11, "is no placeholder"),
        (RULE + "detector:\n  message: '{0}'\n", 11, "is no placeholder"),
        (RULE + "detector:\n  message: '{user'\n", 11, "detector.message"),
        (RULE + "detector:\n  group_by: [user.name]\n", 12, "no audit event has a field 'user.name'; known are"),
        (RULE + "detector:\n  tests: [{name: a, match: perhaps, event: {}}]\n", 11, "detector.tests.0.match"),
        (
            RULE + "detector:\n  tests: [{name: a, match: true}]\n",
            11,
            "detector.tests.0: Value error, a case needs an event, or events",
        ),
        (
            RULE + "detector:\n  tests:\n  - {name: a, match: true, event: {requestObject: {on: 1}}}\n",
            13,
            "put it in quotes",
        ),
        (_in_place_of("    verb: get\n", "    verb: get\n    verb: list\n"), 10, "'verb' stands here twice"),
        (RULE + "level: high\n", 11, "'level' stands here twice"),
        (_in_place_of("verb: get", "5: get"), 9, "the key '5' is not text"),
        (_in_place_of("verb: get", "[a]: get"), 9, "is not text"),
        (_in_place_of("verb: get", "<<: {verb: get}"), 9, "the key '<<' is not text"),
        (_in_place_of("verb: get", "verb: &a get\n    level: *a"), 10, "aliases"),
        (_in_place_of("verb: get", "verb: !!python/object/apply:os.system [id]"), 9, "tags are not allowed"),
        (_in_place_of("verb: get", "verb: !!binary aWQ="), 9, "tags are not allowed"),
        (_in_place_of("verb: get", "verb: !!timestamp get"), 9, "tags are not allowed"),
        (_in_place_of("verb: get", "verb: [get"), 10, "not valid YAML"),
        (_in_place_of("    verb: get", "\tverb: get"), 9, "not valid YAML"),
        (RULE + "x: " + "[" * 70 + "]" * 70, 11, "deeper than 64 levels"),
        (RULE + "x: " + "[" * 250_000, 11, "deeper than 64 levels"),
        (RULE + "x: [" + "a, " * 20_000 + "]", 11, "larger than 10,000 nodes"),
        (RULE.encode() + b"description: \xe9\n", 1, "not valid YAML"),
        (RULE.encode() + b"description: \x00\n", 1, "not valid YAML"),
        (RULE + "#" * 300 * 1024, 1, "262,144 bytes"),
        ("- a rule\n", 1, "a rule is a YAML mapping"),
        ("a rule\n", 1, "a rule is a YAML mapping"),
        ("", 1, "holds no rule"),
        ("# disabled\n", 1, "holds no rule"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    """Nothing is approximated or left out in silence: the file, the line and what is the matter are told."""
    path = _written(tmp_path, content)
    problems = _problems(path)
    assert {(problem.path, problem.line) for problem in problems} == {(path, line)}
    assert message in problems[0].message
    assert "\n" not in problems[0].message


def test_a_refusal_writes_nothing_but_its_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """RE2 must not log to stderr by itself."""
    _problems(_written(tmp_path, _in_place_of("verb: get", "verb|re: a(?=b)")))
    assert capfd.readouterr() == ("", "")


def test_a_place_is_that_of_the_detection_and_not_of_a_case_below_it(tmp_path: Path) -> None:
    """The cases of a rule hold the same names as its detection."""
    cases = "detector:\n  tests:\n  - {name: a, match: true, event: {verb: get, stageTimestamp: a}}\n"
    (problem,) = _problems(_written(tmp_path, _in_place_of("verb: get", "stageTimestamp|hour: 3") + cases))
    assert problem.line == 9


def test_a_documents_lines_are_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    """A file may hold several rules."""
    second = _in_place_of("verb: get", "verbs: get").replace("0001", "0002")
    (problem,) = _problems(_written(tmp_path, f"{RULE}---\n{second}"))
    assert problem.line == 20


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    """Nobody mends one file, starts again, and learns of the next."""
    _written(tmp_path, _in_place_of("verb: get", "verbs: get"), "a.yml")
    _written(tmp_path, RULE + "detector: {fold: 5, merge: 6}\n", "b/b.yaml")
    _written(tmp_path, "[", "c.yml")
    _written(tmp_path, RULE, "d.yml")
    problems = _problems(tmp_path)
    assert [problem.path.name for problem in problems] == ["a.yml", "b.yaml", "b.yaml", "c.yml"]


def test_an_id_is_used_once_in_all_files(tmp_path: Path) -> None:
    """Alerts are known by the id of their rule, in whatever case it is written."""
    head = _in_place_of("0001", "00ab")
    _written(tmp_path, head, "a.yml")
    _written(tmp_path, head.replace("00ab", "00AB"), "b.yml")
    (problem,) = _problems(tmp_path)
    assert (problem.path.name, problem.line) == ("b.yml", 2)
    assert "already used by" in problem.message
    assert "a.yml" in problem.message


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder, "no rule files"),
        (lambda folder: folder / "missing", "no such file or folder"),
        (lambda folder: _written(folder, RULE, "rule.txt").parent, "no rule files"),
        (lambda folder: _written(folder, RULE, "rule.yml/rule.txt").parents[1], "cannot be read"),
    ],
    ids=["empty folder", "missing path", "no rule files", "folder with a file's name"],
)
def test_a_path_without_rules_is_refused(tmp_path: Path, prepare: Callable[[Path], Path], message: str) -> None:
    """A detector without rules would watch in silence."""
    (problem,) = _problems(prepare(tmp_path))
    assert message in problem.message


def test_a_mounted_config_map_is_loaded_once(tmp_path: Path) -> None:
    """Kubernetes mounts each file as a link into a hidden folder below, which must not count a second time."""
    _written(tmp_path, RULE, "..2026_11_23/rule.yml")
    (tmp_path / "..data").symlink_to("..2026_11_23")
    (tmp_path / "rule.yml").symlink_to("..data/rule.yml")
    assert [rule.path.name for rule in load(tmp_path)] == ["rule.yml"]


def test_a_time_in_a_rule_stays_the_text_that_events_hold(tmp_path: Path) -> None:
    """YAML's own reading of times would make a case's event, and a rule's value, something that no event holds."""
    cases = "detector: {tests: [{name: a, match: true, event: {stageTimestamp: 2026-11-23T09:15:02Z}}]}\n"
    (rule,) = load(_written(tmp_path, _in_place_of("verb: get", "stageTimestamp: 2026-11-23T09:15:02Z") + cases))
    assert rule.cases[0].event == {"stageTimestamp": "2026-11-23T09:15:02Z"}
    assert rule.node.evaluate(activity(event(stageTimestamp="2026-11-23T09:15:02Z"))) is True


# What the Kubernetes rules of SigmaHQ ask for, field by field, in rules of our own.
_WRITES = ["create", "delete", "patch", "replace", "update"]
_PRIVILEGED = {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}
_SIGMAHQ_SHAPES: dict[str, tuple[dict[str, Any], Event, Event]] = {
    "admission webhooks": (
        {
            "objectRef.apiGroup": "admissionregistration.k8s.io",
            "objectRef.resource": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "verb": _WRITES,
        },
        event(
            verb="patch",
            objectRef={"apiGroup": "admissionregistration.k8s.io", "resource": "validatingwebhookconfigurations"},
        ),
        event(verb="patch", objectRef={"apiGroup": "batch", "resource": "validatingwebhookconfigurations"}),
    ),
    "cron jobs": (
        {"objectRef.apiGroup": "batch", "objectRef.resource": ["cronjobs", "jobs"], "verb": _WRITES},
        event(verb="create", objectRef={"apiGroup": "batch", "resource": "jobs"}),
        event(verb="get", objectRef={"apiGroup": "batch", "resource": "jobs"}),
    ),
    "bindings": (
        {
            "objectRef.apiGroup": "rbac.authorization.k8s.io",
            "objectRef.resource": ["clusterrolebindings", "rolebindings"],
            "verb": _WRITES,
        },
        event(verb="update", objectRef={"apiGroup": "rbac.authorization.k8s.io", "resource": "rolebindings"}),
        event(verb="update", objectRef={"apiGroup": "rbac.authorization.k8s.io", "resource": "roles"}),
    ),
    "deletion": (
        {"verb": "delete", "objectRef.resource": "deployments"},
        event(verb="delete", objectRef={"apiGroup": "apps", "resource": "deployments"}),
        event(verb="deletecollection", objectRef={"apiGroup": "apps", "resource": "deployments"}),
    ),
    "a subresource": (
        {"verb": "create", "objectRef.resource": "pods", "objectRef.subresource": "exec"},
        event(verb="create", objectRef={"resource": "pods", "subresource": "exec"}),
        event(verb="create", objectRef={"resource": "pods"}),
    ),
    "a namespace": (
        {"verb": "create", "objectRef.resource": "pods", "objectRef.namespace": "kube-system"},
        write(objectRef={"resource": "pods", "namespace": "kube-system"}),
        write(),
    ),
    "any hostPath": (
        {"verb": "create", "objectRef.resource": "pods", "hostPath": "*"},
        write(requestObject={"spec": {"volumes": [{"emptyDir": {}}, {"hostPath": {"path": "/data"}}]}}),
        write(requestObject={"spec": {"volumes": [{"emptyDir": {}}]}}),
    ),
    "any capabilities": (
        {"verb": "create", "objectRef.resource": "pods", "capabilities": "*"},
        write(requestObject={"spec": {"containers": [{"name": "a"}, _PRIVILEGED]}}),
        write(requestObject={"spec": {"containers": [{"securityContext": {"capabilities": {"drop": ["ALL"]}}}]}}),
    ),
    "the alias apiGroup": (
        {"verb": "patch", "apiGroup": "apps", "objectRef.resource": "deployments"},
        event(verb="patch", objectRef={"apiGroup": "apps", "resource": "deployments"}),
        event(verb="patch", objectRef={"resource": "deployments"}),
    ),
    "status codes": (
        {"responseStatus.code": [401, 403]},
        event(responseStatus={"code": 403}),
        event(responseStatus={"code": 200}),
    ),
}


@pytest.mark.parametrize("shape", _SIGMAHQ_SHAPES)
def test_what_sigmahq_asks_for_fires_on_native_events(shape: str) -> None:
    """Lists of verbs, aliases and codes are read as their authors meant them."""
    selection, hit, miss = _SIGMAHQ_SHAPES[shape]
    rule = compile_selection(selection)
    assert rule.node.evaluate(activity(hit)) is True
    assert rule.node.evaluate(activity(miss)) is False


def _enumeration(tmp_path: Path, status: str) -> CompiledRule:
    detection = f"""\
detection:
  selection_status:
    responseStatus.code: {status}
  selection_request_uri:
    requestURI|contains: ['%2fbin%2fbash', /bin/bash, /usr/bin/curl]
  selection_request_user_agent:
    userAgent|contains: [access_matrix, azurehound]
  condition: selection_status and 1 of selection_request_*
"""
    return load(_written(tmp_path, RULE.partition("detection:")[0] + detection))[0]


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        ({"requestURI": "/api/v1/namespaces/a/pods/b/exec?command=%2Fbin%2Fbash"}, True),
        ({"requestURI": "/api/v1/namespaces/a/pods/b/exec?command=/usr/bin/curl"}, True),
        ({"userAgent": "AzureHound/v2"}, True),
        ({"userAgent": "kubectl/v1.35.1"}, False),
        ({"userAgent": "AzureHound/v2", "responseStatus": {"code": 404}}, False),
    ],
)
def test_one_of_several_selections_beside_another_fires(tmp_path: Path, changes: Event, matches: bool) -> None:
    """SigmaHQ's condition `a and 1 of b_*`, with percent signs that are no wildcards."""
    assert _enumeration(tmp_path, "200").node.evaluate(activity(event(**changes))) is matches


def test_a_status_that_no_api_server_writes_loads_and_never_fires(tmp_path: Path) -> None:
    """One rule of SigmaHQ asks for the code `ALLOW`, a word of another product's log."""
    rule = _enumeration(tmp_path, "ALLOW")
    assert rule.node.evaluate(activity(event(userAgent="azurehound"))) is False


@pytest.mark.parametrize("end", ["", '  message: "a\n  tests:\n    b"\n'])
def test_a_rule_loaded_without_its_cases_differs_in_nothing_else(tmp_path: Path, end: str) -> None:
    """A replay needs no cases; a text that only looks like them is read as the text it is."""
    cases = end or "  tests:\n  - name: a\n\n    match: true\n    event: {verb: get}\n"
    path = _written(tmp_path, RULE + "detector:\n  fold_seconds: 60\n" + cases)
    (whole,), (bare,) = load(path), load(path, cases=False)
    assert (whole.metadata, whole.lines.first) == (bare.metadata, bare.lines.first)
    assert (len(whole.cases), len(bare.cases)) == (0 if end else 1, 0)


def test_rules_of_one_detection_share_its_tree(tmp_path: Path) -> None:
    """So the engine asks it once; a text and a number that print alike are two questions."""
    other = _in_place_of("0001", "0002")
    number, text = (_in_place_of("verb: get", f"verb: {value}") for value in ("5", "'5'"))
    for index, content in enumerate((RULE, other, number.replace("0001", "0003"), text.replace("0001", "0004"))):
        _written(tmp_path, content, f"{index}.yml")
    nodes = [rule.node for rule in load(tmp_path)]
    assert nodes[0] is nodes[1]
    assert len({id(node) for node in nodes}) == 3
