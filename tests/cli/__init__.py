"""The command line as a user has it: a process of its own, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from detector.cli import main

DETECTOR = Path(sys.executable).with_name("detector")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")} | {
    "COLUMNS": "120"
}
PATIENCE_SECONDS = 60.0
# Root may read and write anything; without these capabilities it is bound by a file's mode as everybody is.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def detector(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; whatever happens, nobody gets to see a stack trace."""
    done = subprocess.run(
        [*UNPRIVILEGED, DETECTOR, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in stdout + stderr, stderr
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


class Run(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str, cwd: Path) -> int:
    """The exit code of a command run in this process, which is quicker where the process is not what matters."""
    monkeypatch.setattr(sys, "argv", ["detector", *arguments])
    monkeypatch.chdir(cwd)
    with pytest.raises(SystemExit) as caught:
        main()
    structlog.reset_defaults()  # its log went to a stderr that ends with the test
    code = caught.value.code
    assert isinstance(code, int)
    return code
