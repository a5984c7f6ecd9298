"""Every exception of the project; what the pipeline does on each stands in the class's first sentence."""

from dataclasses import dataclass
from pathlib import Path


class DetectorError(Exception):
    """Any error that a person can act on: shown in one line, never as a stack trace."""

    exit_code = 1


class ConfigError(DetectorError):
    """Settings that cannot work: stops with exit code 3 before anything is touched."""

    exit_code = 3


class UsageError(DetectorError):
    """A path or an option that cannot be used as given: stops with exit code 2."""

    exit_code = 2


@dataclass(frozen=True)
class RuleProblem:
    """One thing wrong with one file of rules or exceptions."""

    path: Path
    line: int
    """1-based; 1 where the place is not known."""
    message: str

    def __str__(self) -> str:
        """`rules/x.yml:12: message`, the form that editors and CI systems link."""
        return f"{self.path}:{self.line}: {self.message}"


class RuleError(DetectorError):
    """Rules or exceptions that cannot be loaded: all problems are listed, exit code 2."""

    exit_code = 2

    def __init__(self, problems: list[RuleProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class DecodeError(DetectorError):
    """A record that holds no audit event: goes to the dead letters, its neighbours go on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """A word of a closed set, the label of the `detector_dead_letters_total` metric."""
        self.detail = detail


class SourceUnavailable(DetectorError):
    """A source that stays out of reach: stops with exit code 4, nothing is committed."""

    exit_code = 4


class SinkUnavailable(DetectorError):
    """A sink that cannot take alerts now: the batch is held and tried again, nothing is committed."""

    exit_code = 4

    def __init__(self, sink: str, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(f"{sink}: {message}")
        self.sink = sink
        self.retry_after_seconds = retry_after_seconds


class SinkRejected(DetectorError):
    """Alerts that a sink refuses for good: each goes to the dead letters, its neighbours stand.

    Raised after every other alert of the batch was stored.
    """

    def __init__(self, sink: str, rejected: list[tuple[str, str]]) -> None:
        super().__init__(f"{sink} refused {len(rejected)} alert(s): {', '.join(f'{i}: {r}' for i, r in rejected[:3])}")
        self.sink = sink
        self.rejected = rejected
        """Pairs of alert id and reason; the reason never quotes a field's value."""


class ModelError(DetectorError):
    """A behaviour model that cannot be used or made: exit code 3; `run` goes on with rules only."""

    exit_code = 3
