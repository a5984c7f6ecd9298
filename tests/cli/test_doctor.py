"""`detector doctor` on a sample of logs and on an audit policy."""

from pathlib import Path

import pytest

from tests.cli import called
from tests.health.streams import POD, line_at

POLICY = Path(__file__).parents[2] / "deploy" / "audit-policy.yaml"
SHALLOW = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"


def test_a_sample_that_blinds_a_rule_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a rule, no service asked; with the body it is content."""
    write = line_at(0, verb="create", objectRef=POD, responseStatus={"code": 201})
    (tmp_path / "audit.log").write_bytes(write + b"\n")
    assert called(monkeypatch, "doctor", "--sample", "audit.log", cwd=tmp_path) == 1
    told = capsys.readouterr().out
    assert "FAIL  sample: Privileged Container is blind: no body logged of pods (1 writes)" in told
    assert "source:" not in told
    deep = line_at(0, verb="create", objectRef=POD, responseStatus={"code": 201}, requestObject={"kind": "Pod"})
    (tmp_path / "audit.log").write_bytes(deep + b"\n")
    assert called(monkeypatch, "doctor", "--sample", "audit.log", cwd=tmp_path) == 0


def test_records_that_cannot_be_used_fail_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may be what a rule needs."""
    (tmp_path / "audit.log").write_bytes(line_at(0) + b'\n{"a": 1}\n')
    assert called(monkeypatch, "doctor", "--sample", "audit.log", cwd=tmp_path) == 1
    assert "FAIL  sample: 1 records cannot be used" in capsys.readouterr().out


def test_a_sample_that_is_not_there_is_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, as for every path."""
    assert called(monkeypatch, "doctor", "--sample", "nosuch.log", cwd=tmp_path) == 2


def test_the_recommended_policy_blinds_no_rule_and_a_shallow_one_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 or 1."""
    assert called(monkeypatch, "doctor", "--policy", str(POLICY), cwd=tmp_path) == 0
    assert "FAIL" not in capsys.readouterr().out
    (tmp_path / "policy.yaml").write_text(SHALLOW)
    assert called(monkeypatch, "doctor", "--policy", "policy.yaml", cwd=tmp_path) == 1
    assert "FAIL  policy: Privileged Container is blind on create of pods, " in capsys.readouterr().out


def test_a_policy_that_no_api_server_takes_ends_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place is told."""
    (tmp_path / "policy.yaml").write_text(SHALLOW.replace("Metadata", "Everything"))
    assert called(monkeypatch, "doctor", "--policy", "policy.yaml", cwd=tmp_path) == 3
    assert "policy.yaml: rules[0].level: must be one of None, Metadata" in capsys.readouterr().err
