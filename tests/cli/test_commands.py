"""Every other command: help, exit codes, and lists for people and for programs."""

import csv
import io
import json
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from detector.cli import app
from detector.cli.options import OutputFormat
from detector.cli.output import print_rows
from tests.cli import called, detector

GOOD_RULE = """
title: Exec
id: 6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d
description: For tests.
level: medium
tags: [attack.t1609]
logsource: {product: kubernetes, service: audit}
detection:
  selection: {objectRef.subresource: exec}
  condition: selection
detector:
  tests:
    - {name: an exec, match: true, event: {objectRef: {subresource: exec}}}
    - {name: a get, match: false, event: {}}
"""
BAD_RULES = {
    "broken.yml": "title: x\nlogsource: [\n",
    "unknown.yml": GOOD_RULE.replace("objectRef.subresource", "objectRef.subresorce").replace("6f1c", "6f2c"),
}


def commands() -> list[str]:
    """The names of all commands, `rules list` and the like in two words."""

    def below(group: object, words: tuple[str, ...]) -> Iterator[str]:
        inner = getattr(group, "commands", None)
        if inner is None:
            yield " ".join(words)
        for name, command in (inner or {}).items():
            yield from below(command, (*words, name))

    return list(below(typer.main.get_command(app), ()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good rule and one with bad ones."""
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "exec.yml").write_text(GOOD_RULE, encoding="utf-8")
    (tmp_path / "bad").mkdir()
    for name, content in BAD_RULES.items():
        (tmp_path / "bad" / name).write_text(content, encoding="utf-8")
    return tmp_path


def helped(command: str, width: int) -> str:
    """The help of a command on a terminal of this width."""
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": str(width), "TERMINAL_WIDTH": ""})
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= width
    return result.output


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("command", commands())
def test_help_has_an_example_and_the_common_options_at_any_width(command: str, width: int) -> None:
    """No option's name is cut, and no text is taken for markup."""
    text = helped(command, width)
    flat = " ".join(text.split())
    assert f"Example: detector {command}" in flat
    for option in ("--config", "--quiet", "-q", "--verbose", "-v", "--log-format", "--no-progress"):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", flat), option
    assert not re.search(r"--[\w-]*…", flat)
    assert " that of ." not in flat


def test_the_names_of_the_contract_are_there() -> None:
    """Others' scripts use them."""
    assert {
        "run", "replay", "doctor", "rules list", "rules lint", "rules test", "es setup", "es check",
        "exception add", "exception list", "exception check",
        "rules show", "rules backtest", "rules coverage", "rules tune", "explain",
        "config init", "config schema", "config validate", "config show",
    } <= set(commands())  # fmt: skip
    text = " ".join(helped("replay", 200).split())
    for option in (
        "--format", "--model", "--rules", "--exceptions", "--trusted-proxy", "--since", "--until", "--output",
        "--report", "--fail-on-alert", "--to-elasticsearch",
    ):  # fmt: skip
        assert option in text


def test_help_comes_at_once(tmp_path: Path) -> None:
    """It takes some 0.2 s of a processor; a busy machine may need more."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = detector("--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "replay" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6


def test_help_imports_nothing_that_only_the_work_needs() -> None:
    """Each of these takes longer to import than all else together."""
    program = "import sys, detector.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"elasticsearch", "kafka", "sigma", "jinja2", "sklearn", "detector.pipeline"} & set(loaded)


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["rules", "nosuch"], ["run", "--nosuch"], ["rules", "list", "a", "b"]]
)
def test_bad_usage_ends_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """With a word on what is known, on stderr."""
    assert called(monkeypatch, *arguments, cwd=tmp_path) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Error" in printed.err


def rules_list(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What `rules list` writes about the good rule."""
    assert called(monkeypatch, "rules", "list", "good", *options, cwd=folder) == 0
    return capsys.readouterr().out


def test_rules_are_listed_for_people_and_programs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As NDJSON in a pipe, else in the form asked for; all forms tell the same."""
    row = {
        "level": "medium",
        "name": "Exec",
        "techniques": ["T1609"],
        "id": "6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d",
        "file": "exec.yml",
    }
    assert json.loads(rules_list(folder, monkeypatch, capsys)) == row
    assert json.loads(rules_list(folder, monkeypatch, capsys, "--output-format", "ndjson")) == row
    assert json.loads(rules_list(folder, monkeypatch, capsys, "--output-format", "json")) == [row]
    table = rules_list(folder, monkeypatch, capsys, "--output-format", "table")
    assert [set(text.split()) for text in table.splitlines()] == [
        set(row),
        {"medium", "Exec", "T1609", row["id"], "exec.yml"},
    ]
    text = rules_list(folder, monkeypatch, capsys, "--output-format", "csv")
    assert list(csv.DictReader(io.StringIO(text))) == [{**row, "techniques": "T1609"}]


def test_the_bundled_rules_are_listed_whole(tmp_path: Path) -> None:
    """In a process of its own, whose stdout is a pipe."""
    done = detector("rules", "list", cwd=tmp_path)
    assert done.returncode == 0
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert len(rows) >= 18
    assert len({row["id"] for row in rows}) == len(rows)


def test_no_cell_of_a_csv_is_taken_for_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet would run it."""
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "x=1", ""]
    print_rows([{"cell": cell} for cell in cells], ["cell"], OutputFormat.CSV)
    read = [row["cell"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))]
    assert read == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "x=1", ""]


def test_good_rules_pass_lint_and_their_cases(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and how many there were on stderr."""
    assert called(monkeypatch, "rules", "lint", "good", cwd=folder) == 0
    assert capsys.readouterr().err == "1 rules, 0 problems\n"
    assert called(monkeypatch, "rules", "test", "good", cwd=folder) == 0
    assert capsys.readouterr().err == "1 rules, 1 cases that must match, 1 that must not; 0 failed\n"
    assert called(monkeypatch, "rules", "test", "good", "-q", cwd=folder) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["lint", "test", "list"])
def test_bad_rules_are_told_all_at_once_with_file_and_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Exit code 2: none of them is loaded."""
    assert called(monkeypatch, "rules", command, "bad", cwd=folder) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    told = printed.err.splitlines()
    assert any(re.match(r"error: bad/broken\.yml:3: not valid YAML", text) for text in told)
    assert any(re.match(r"error: bad/unknown\.yml:9: ", text) for text in told)


def test_what_lint_finds_is_told_with_file_and_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1: the rule can be used, but should be better."""
    (folder / "good" / "exec.yml").write_text(GOOD_RULE.replace("tags: [attack.t1609]\n", ""), encoding="utf-8")
    assert called(monkeypatch, "rules", "lint", "good", cwd=folder) == 1
    assert capsys.readouterr().out == "good/exec.yml:2: no ATT&CK technique\n"


def test_a_case_that_fails_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, on stdout what should be and what is."""
    (folder / "good" / "exec.yml").write_text(GOOD_RULE.replace("match: false", "match: true"), encoding="utf-8")
    assert called(monkeypatch, "rules", "test", "good", cwd=folder) == 1
    assert "good/exec.yml: 'a get' should be a match, is no match" in capsys.readouterr().out


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    """A line each, and exit code 1."""
    done = detector("doctor", cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [text.split()[:2] for text in lines[:2]] == [["ok", "settings:"], ["ok", "rules:"]]
    assert "FAIL  source: not set; `run` needs one: see `detector config init`" in lines
    assert "FAIL  sink: not set; `run` needs one: see `detector config init`" in lines


def test_doctor_is_content_with_a_file_to_follow_and_one_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0; a log that is not there is told."""
    settings = '[source]\ntype = "tail"\npath = "audit.log"\n[sink]\ntype = "ndjson"\npath = "alerts.ndjson"\n'
    (tmp_path / "detector.toml").write_text(settings)
    assert called(monkeypatch, "doctor", "--config", "detector.toml", cwd=tmp_path) == 1
    assert "FAIL  source: audit.log is no file; check source.path" in capsys.readouterr().out
    (tmp_path / "audit.log").touch()
    assert called(monkeypatch, "doctor", "--config", "detector.toml", cwd=tmp_path) == 0
    assert "FAIL" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "source: must be set"),
        (["es", "check"], "sink: must have type = elasticsearch"),
        (["es", "setup"], "sink: must have type = elasticsearch"),
        (["doctor", "--config", "nosuch.toml"], "nosuch.toml cannot be read"),
        (["rules", "list", "--config", "nosuch.toml"], "nosuch.toml cannot be read"),
    ],
)
def test_missing_settings_end_with_exit_code_3(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    """In one line that says what to set."""
    assert called(monkeypatch, *arguments, cwd=tmp_path) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_demo_outside_of_a_clone_says_where_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no folder is made."""
    assert called(monkeypatch, "demo", cwd=tmp_path) == 2
    assert "in a clone of the repository" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_are_written_checked_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `init` writes passes `validate`; an existing file is kept."""
    assert called(monkeypatch, "config", "init", cwd=tmp_path) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["source"]["type"] == "kafka"
    assert called(monkeypatch, "config", "init", "detector.toml", cwd=tmp_path) == 0
    assert (tmp_path / "detector.toml").read_text() == text
    assert called(monkeypatch, "config", "init", "detector.toml", cwd=tmp_path) == 2
    assert called(monkeypatch, "config", "init", "nosuch/detector.toml", cwd=tmp_path) == 2
    capsys.readouterr()
    assert called(monkeypatch, "config", "validate", "--config", "detector.toml", cwd=tmp_path) == 0
    assert capsys.readouterr() == ("", "detector.toml: fine\n")
    assert called(monkeypatch, "config", "show", "--config", "detector.toml", cwd=tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["sink"]["url"] == "https://elasticsearch:9200"
    assert called(monkeypatch, "config", "schema", cwd=tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Settings"


def test_settings_are_shown_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They come from the environment here; and wrong ones end with exit code 3, all in one go."""
    monkeypatch.setenv("DETECTOR_SINK__TYPE", "elasticsearch")
    monkeypatch.setenv("DETECTOR_SINK__URL", "https://elasticsearch:9200")
    monkeypatch.setenv("DETECTOR_SINK__API_KEY", "hunter2")
    assert called(monkeypatch, "config", "show", cwd=tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["sink"]["api_key"] == "**********"
    monkeypatch.setenv("DETECTOR_SINK__USERNAME", "x")
    monkeypatch.setenv("DETECTOR_METRICS__PORT", "many")
    monkeypatch.setenv("DETECTOR_METRIC__PORT", "1")
    assert called(monkeypatch, "config", "show", cwd=tmp_path) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 3
    assert "hunter2" not in printed.err
