"""Files of exceptions: what would cover too much, or binds nobody, is refused with its place."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from detector.errors import RuleError, RuleProblem
from detector.exceptions.entry import Entry, State
from detector.exceptions.load import SHIPPED, KnownRule, known_rules, load
from detector.match import Level
from detector.score_alert import RULE_ID
from tests.exceptions.build import DOCUMENT, RULE, entry
from tests.pipelines import bundled_rules

KNOWN = {RULE: KnownRule("Binding to cluster-admin", Level.MEDIUM), **known_rules([])}
FILE = """\
- id: argocd-reads-its-secrets
  rule: 00000000-0000-4000-8000-000000000001
  identity: [system:serviceaccount:argocd:argocd-application-controller, "system:node:*"]
  scope:
    objectRef.namespace: [shop, web]
    responseStatus.code: 200
    detector.dry_run: true
    detector.source.ip|cidr: 10.0.0.0/8
  owner: platform-team@example.com
  reason: it compares what runs with what should
  expires: 2026-12-31
"""


def _written(folder: Path, content: str) -> Path:
    path = folder / "exceptions.yml"
    path.write_text(content, encoding="utf-8")
    return path


def _problems(path: Path) -> list[RuleProblem]:
    with pytest.raises(RuleError) as refused:
        load(path, KNOWN)
    return refused.value.problems


def _refusal(folder: Path, **differences: Any) -> str:
    """Why an exception with these differences is refused; JSON is YAML too."""
    document = {key: value for key, value in {**DOCUMENT, **differences}.items() if value is not None}
    return "\n".join(problem.message for problem in _problems(_written(folder, json.dumps([document]))))


def test_one_value_and_a_list_of_them_are_read_alike(tmp_path: Path) -> None:
    """A number and a boolean are compared as the text that JSON has for them."""
    (loaded,) = load(_written(tmp_path, FILE), KNOWN, shipped=False)
    assert loaded.rule == (RULE,)
    assert loaded.identity[1] == "system:node:*"
    assert loaded.scope["objectRef.namespace"] == ("shop", "web")
    assert loaded.scope["responseStatus.code"] == ("200",)
    assert loaded.scope["detector.dry_run"] == ("true",)
    assert str(loaded.expires) == "2026-12-31"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("  owner: platform-team@example.com\n", "", 1, "owner: must be set"),
        ("platform-team@example.com", '"  "', 9, "owner: "),
        ("  reason: it compares what runs with what should\n", "", 1, "reason: must be set"),
        ("  expires: 2026-12-31\n", "", 1, "expires: must be set"),
        ("2026-12-31", "2026-02-30", 11, "is no day"),
        ("2026-12-31", "0", 11, "is no day"),
        ("0000-4000", "0000-4001", 2, f"did you mean {RULE} (Binding to cluster-admin)"),
        ("00000000-0000-4000-8000-000000000001", "binding to cluster admin", 2, f"did you mean {RULE}"),
        ("00000000-0000-4000-8000-000000000001", '"*"', 2, "matches everything"),
        ("objectRef.namespace", "objectRef.namspace", 4, "no audit event has a field"),
        ("  owner", "  ownr: me\n  owner", 9, "ownr: no such key; did you mean owner?"),
        ("argocd-reads-its-secrets", "Argo CD", 1, "id: "),
        ("platform-team@example.com", "*s", 9, "aliases are not allowed"),
        ("argocd-reads-its-secrets", "!!str a", 1, "tags are not allowed"),
        ("  owner:", "  owner: a\n  owner:", 10, "stands here twice"),
        (FILE, "exceptions: []\n", 1, "must be one YAML list"),
        (FILE, "[]\n---\n[]\n", 3, "must be one YAML list"),
        ("- id: argocd-reads-its-secrets", "- a text\n- id: b", 1, "an entry is a YAML mapping"),
    ],
)
def test_a_faulty_file_is_refused_with_the_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    """A person finds the place, and what is meant."""
    assert FILE.count(old) == 1
    path = _written(tmp_path, FILE.replace(old, new))
    (problem,) = _problems(path)
    assert (problem.path, problem.line) == (path, line), problem
    assert message in problem.message


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Two entries with a fault each, and a third that takes the id of the first."""
    faulty = FILE.replace("2026-12-31", "never") + FILE.replace("cidr: 10.0.0.0/8", "cidr: 10.0.0.0/33") + FILE + FILE
    problems = _problems(_written(tmp_path, faulty))
    assert [problem.line for problem in problems] == [11, 15, 34]
    assert "id argocd-reads-its-secrets is used already" in problems[2].message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the option and the setting that name it."""
    (problem,) = _problems(tmp_path / "none.yml")
    assert "exceptions.path" in problem.message


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "system:*",
        "system:serviceaccount:*",
        "system:serviceaccount:*:default",
        "system:serviceaccount:argo*:server",
        "system:serviceaccount:argocd:argo*",
        "system:serviceaccount:argocd*",
        "system:serviceaccount:a:b:*",
        "system:node:worker-*",
        "kubernetes-*",
        "*@example.test",
    ],
)
def test_a_star_is_refused_where_a_name_could_be_chosen_to_fit(tmp_path: Path, name: str) -> None:
    """Substring lists elsewhere let `kubernetes-attacker@...` through."""
    assert "would cover whoever chooses a fitting name" in _refusal(tmp_path, identity=name)
    assert "would cover whoever chooses a fitting name" in _refusal(tmp_path, identity=["ana@example.test", name])


@pytest.mark.parametrize("name", ["system:node:*", "system:serviceaccount:argocd:*"])
def test_a_star_does_not_reach_alerts_of_high_severity(tmp_path: Path, name: str) -> None:
    """Of these each is to be looked at by name; an alert on behaviour may be one."""
    path = _written(tmp_path, json.dumps([{**DOCUMENT, "identity": name}]))
    assert len(load(path, KNOWN)) == 1
    with pytest.raises(RuleError, match="is too wide for 'Exec'"):
        load(path, {RULE: KnownRule("Exec", Level.HIGH)})
    assert "name each" in _refusal(tmp_path, rule=RULE_ID, identity=name)


@pytest.mark.parametrize("name", ["system:anonymous", "(unauthenticated)"])
def test_who_is_nobody_must_be_bound_by_a_scope(tmp_path: Path, name: str) -> None:
    """Anybody without a credential has that name."""
    assert "bind it with a scope" in _refusal(tmp_path, identity=name)
    assert entry(identity=name, scope={"detector.path": "/healthz"}).identity == (name,)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("userAgent", "kubectl", "a text that the client sends"),
        ("auditID", "5b0c3f0e", "a header that the client may send"),
        ("sourceIPs", "10.0.0.1", "X-Forwarded-For"),
        ("sourceIPs|cidr", "10.0.0.0/8", "X-Forwarded-For"),
        ("detector.client.scope", "private", "what the client claims"),
        ("objectRef.namespace|startswith", "shop", "values are exact"),
        ("objectRef.namespace|re", ".", "values are exact"),
        ("objectRef.name|cidr", "10.0.0.0/8", "values are exact"),
        ("objectRef.namespace", "shop-*", "values are exact"),
        ("objectRef.namespace", "", "at least 1 character"),
        ("objectRef.namespace", [], "at least 1 item"),
        ("objectRef.namespace", None, "valid string"),
        ("detector.source.ip|cidr", "0.0.0.0/0", "is every address"),
        ("detector.source.ip|cidr", "::/0", "is every address"),
        ("detector.source.ip|cidr", "10.0.0.1/8", "host bits"),
    ],
)
def test_a_scope_that_binds_nobody_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    """What a client chooses is no reason to trust it, and nothing may fit by chance."""
    assert message in _refusal(tmp_path, scope={field: value})


def test_an_alert_on_behaviour_takes_no_scope(tmp_path: Path) -> None:
    """It rests on an hour of requests; a scope that holds for one of them says nothing of the others."""
    assert "it takes no scope" in _refusal(tmp_path, rule=[RULE, RULE_ID], scope={"objectRef.namespace": "shop"})


@pytest.mark.parametrize(
    ("expires", "state"),
    [
        ("2026-11-22", State.EXPIRED),
        ("2026-11-23", State.SOON),
        ("2026-12-07", State.SOON),
        ("2026-12-08", State.ACTIVE),
    ],
)
def test_an_entry_holds_to_the_end_of_its_last_day(expires: str, state: State) -> None:
    """And for the last fourteen days it is said to end soon."""
    assert entry(expires=expires).state(date(2026, 11, 23)) is state


def test_the_example_of_the_readme_is_one(tmp_path: Path) -> None:
    """With a rule that is there."""
    example = SHIPPED.with_name("README.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    (loaded,) = load(_written(tmp_path, example), known_rules(bundled_rules()), shipped=False)
    assert loaded.scope["objectRef.namespace"] == ("shop", "web")


def test_an_entry_of_ours_takes_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    """And a shipped one whose rule is not loaded is left out."""
    shipped = load(None, None)
    assert len(shipped) >= 5
    assert load(None, KNOWN) == []
    ours = Entry.model_validate({**DOCUMENT, "id": shipped[0].id})
    path = _written(tmp_path, json.dumps([{**DOCUMENT, "id": shipped[0].id}]))
    assert load(path, None) == [ours, *shipped[1:]]
