"""Rules and exceptions that change on disk take the place of those in use; what is broken does not."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from detector.errors import RuleError, RuleProblem
from detector.exceptions import Exceptions
from detector.exceptions.edit import as_yaml
from detector.exceptions.load import known_rules, load
from detector.reload import Detections, Reloader
from detector.sigma.load import load as load_rules
from tests.events import EXEC, line
from tests.exceptions.build import entry
from tests.pipelines import Kept, Memory, pipeline

RULE = """
title: Exec
id: 6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d
level: high
logsource: {product: kubernetes, service: audit}
detection:
  selection: {objectRef.subresource: exec}
  condition: selection
"""
BURST = """
title: Burst
id: 7f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d
level: high
correlation:
  type: event_count
  rules: refused
  group-by: user.username
  timespan: 5m
  condition: {gte: 3}
---
title: Refused
name: refused
id: 8f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d
level: low
logsource: {product: kubernetes, service: audit}
detection:
  selection: {responseStatus.code: 403}
  condition: selection
"""
RULE_ID = "6f1c0c5e-2a57-4b0e-9d3f-0a6c1a2b3c4d"


class Files:
    """A folder of rules and a file of exceptions, a clock, and what watches them."""

    def __init__(self, folder: Path) -> None:
        self.rules, self.exceptions, self.now, self.loads = folder / "rules", folder / "exceptions.yml", 0.0, 0
        self.rules.mkdir()
        self.write(self.rules / "exec.yml", RULE)
        self.write(self.exceptions, "[]\n")
        self.reloader = Reloader([self.rules, self.exceptions], self.load, lambda: self.now)

    def load(self) -> Detections:
        """Load as `run` does."""
        self.loads += 1
        rules = load_rules(self.rules)
        return Detections(rules, Exceptions(load(self.exceptions, known_rules(rules), shipped=False)))

    def write(self, path: Path, content: str) -> None:
        """Write a file; its time of change is one that no earlier write had."""
        path.write_text(content, encoding="utf-8")
        self.touch(path)

    def touch(self, path: Path) -> None:
        """Move the time of change, which two writes within one tick of the file system's clock would share."""
        self._written = getattr(self, "_written", 0) + 1
        os.utime(path, ns=(self._written, self._written))

    def look(self, seconds: float = 10) -> Detections | None:
        """What a poll gives after some time."""
        self.now += seconds
        return self.reloader.poll()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A set that can be used."""
    return Files(tmp_path)


def failed() -> float | None:
    """The metric."""
    return REGISTRY.get_sample_value("detector_reload_failed")


def test_a_change_is_taken_once_it_has_stood_still(files: Files) -> None:
    """From one look to the next; nothing else makes a set anew."""
    assert files.look() is None
    files.write(files.exceptions, as_yaml(entry(rule=RULE_ID)))
    assert files.look() is None
    files.write(files.exceptions, as_yaml(entry(rule=RULE_ID, id="last")))
    assert files.look() is None
    taken = files.look()
    assert taken is not None
    assert [each.id for each in taken.exceptions.entries] == ["last"]
    assert files.look() is None
    assert files.loads == 1


def test_the_files_are_looked_at_every_few_seconds_only(files: Files) -> None:
    """A batch may take a millisecond."""
    files.write(files.exceptions, as_yaml(entry(rule=RULE_ID)))
    assert [files.look(1) for _ in range(9)] == [None] * 9
    assert files.look(1) is not None


def test_a_touched_file_is_not_loaded_anew(files: Files) -> None:
    """Its content is what counts."""
    files.touch(files.exceptions)
    assert files.look() is None
    assert files.look() is None
    assert files.loads == 0


def test_a_request_loads_at_once(files: Files) -> None:
    """Changed or not."""
    files.reloader.request()
    assert files.look(0) is not None
    assert files.look(0) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.write(files.rules / "more.yml", RULE.replace("6f1c", "6f2c")),
        lambda files: files.write(files.rules / "exec.yml", RULE + "description: more\n"),
        lambda files: (files.rules / "exec.yml").rename(files.rules / "renamed.yml"),
    ],
    ids=["added", "changed", "renamed"],
)
def test_rules_are_watched_too(files: Files, change: Callable[[Files], None]) -> None:
    """A file that comes, changes or gets another name."""
    change(files)
    files.look()
    assert files.look() is not None


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As the folder of a mounted ConfigMap, whose files are links through a link."""
    files = Files(tmp_path)
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    files.write(tmp_path / "1" / "exceptions.yml", "[]\n")
    files.write(tmp_path / "2" / "exceptions.yml", as_yaml(entry(rule=RULE_ID)))
    data = tmp_path / "..data"
    data.symlink_to("1")
    files.exceptions = tmp_path / "mounted.yml"
    files.exceptions.symlink_to("..data/exceptions.yml")
    files.reloader = Reloader([files.exceptions], files.load, lambda: files.now)
    (tmp_path / "..data_new").symlink_to("2")
    (tmp_path / "..data_new").replace(data)
    assert files.look() is None
    taken = files.look()
    assert taken is not None
    assert len(taken.exceptions.entries) == 1


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda files: files.write(files.exceptions, "- id: a\n  rule: [\n"), r"exceptions\.yml:3"),
        (lambda files: files.write(files.exceptions, as_yaml(entry())), r"exceptions\.yml:2"),
        (lambda files: files.exceptions.unlink(), r"exceptions\.yml:1"),
        (lambda files: files.write(files.rules / "more.yml", "title: [\n"), r"more\.yml:2"),
        (lambda files: (files.rules / "exec.yml").unlink(), r"rules:1"),
    ],
    ids=["no YAML", "unknown rule", "no exceptions", "broken rule", "no rules"],
)
def test_what_is_broken_is_told_and_changes_nothing(files: Files, change: Callable[[Files], None], place: str) -> None:
    """The log has file and line, a metric stays at 1 until the files can be used again."""
    change(files)
    with capture_logs() as logs:
        assert files.look() is None
        assert files.look() is None
        assert files.look() is None
    (told,) = logs
    assert re.search(place, told["problem"])
    assert (files.loads, failed()) == (1, 1)
    files.write(files.rules / "exec.yml", RULE)
    (files.rules / "more.yml").unlink(missing_ok=True)
    files.write(files.exceptions, "")
    files.look()
    assert files.look() is not None
    assert failed() == 0


def test_a_run_goes_on_with_the_new_set_from_the_next_batch(files: Files) -> None:
    """Its hits go on as well; a broken set leaves the run as it was."""
    users = ["ana", "bo", "cy", "di"]
    changes: list[Callable[[], None]] = [
        lambda: None,
        lambda: files.write(files.exceptions, as_yaml(entry(rule=RULE_ID, identity=["bo", "cy"]))),
        lambda: files.write(files.exceptions, "broken: ["),
        lambda: files.write(files.exceptions, as_yaml(entry(rule=RULE_ID, identity=["cy", "di"]))),
    ]
    upcoming = iter(changes)

    def reload() -> Detections | None:
        next(upcoming)()
        files.reloader.request()
        return files.reloader.poll()

    sink = Kept()
    run = pipeline(Memory([[line(**EXEC, user={"username": user})] for user in users]), sink, rules=[])
    run.reload = reload
    run.run()
    assert {alert.document.user.name for alert in sink.stored.values()} == {"ana"}
    assert run.snapshot.exception_hits == {"an-entry": 3}


def test_an_error_of_the_system_is_told_too(files: Files) -> None:
    """A disk that fails must not end a run that needs nothing from it now."""

    def fail() -> Detections:
        raise OSError(5, "Input/output error")

    reloader = Reloader([files.exceptions], fail)
    reloader.request()
    with capture_logs() as logs:
        assert reloader.poll() is None
    assert "Input/output error" in logs[0]["problem"]
    assert failed() == 1


def test_every_problem_is_a_line_of_its_own(files: Files) -> None:
    """As at the start."""
    problems = [RuleProblem(Path("a.yml"), 1, "first"), RuleProblem(Path("b.yml"), 2, "second")]

    def fail() -> Detections:
        raise RuleError(problems)

    reloader = Reloader([files.exceptions], fail)
    reloader.request()
    with capture_logs() as logs:
        assert reloader.poll() is None
    assert [each["problem"] for each in logs] == ["a.yml:1: first", "b.yml:2: second"]


def test_rules_that_remember_go_on_with_what_they_remembered(files: Files) -> None:
    """Two of three refusals came before the new set, and one after it: together they are enough."""
    files.write(files.rules / "burst.yml", BURST)

    def reload() -> Detections | None:
        files.reloader.request()
        return files.reloader.poll()

    sink = Kept()
    refused = [[line(responseStatus={"code": 403}, requestURI=f"/api/v1/pods/{number}")] for number in range(3)]
    run = pipeline(Memory(refused), sink, rules=load_rules(files.rules))
    run.reload = reload
    run.run()
    assert [alert.document.rule.name for alert in sink.stored.values()] == ["Burst"]
