"""Runs a real Kafka broker and a real Elasticsearch server for the tests, without containers.

`python -m tests.services.services up|down|status`; tests call `ensure`.
"""

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("pom.xml")
STATE = ROOT / ".services"
HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 20
ELASTICSEARCH_USER = "detector-es"  # Elasticsearch refuses to run as root
INSTALL = "apt-get update && apt-get install -y --no-install-recommends default-jre-headless maven"

KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{inner_port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{inner_port}
log.dirs={directory}/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# One broker cannot hold three replicas, and fifty partitions for each internal topic only cost time.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
"""

ELASTICSEARCH_YML = """\
cluster.name: detector
discovery.type: single-node
network.host: {host}
http.port: {port}
transport.port: {inner_port}
path.data: {directory}/data
path.logs: {directory}/logs
xpack.security.enabled: false
# A developer's nearly full disk must not turn indices read-only.
cluster.routing.allocation.disk.threshold_enabled: false
"""


class ServicesError(Exception):
    """The servers cannot be installed or started; the message says why."""


@dataclass(frozen=True)
class Services:
    """Where the running servers are reached."""

    kafka_bootstrap: str
    elasticsearch_url: str


def ensure() -> Services:
    """Bring up what is not up, and say where it is."""
    state = _up()
    return Services(kafka_bootstrap=state["kafka"]["bootstrap"], elasticsearch_url=state["elasticsearch"]["url"])


def _home() -> Path:
    """The directory of everything that is installed and stored."""
    if os.geteuid() != 0 or all(directory.stat().st_mode & stat.S_IXOTH for directory in (ROOT, *ROOT.parents)):
        return STATE
    # Below a directory such as /root, Elasticsearch's own user cannot reach even its program. Not in /var/tmp, where
    # anyone can create the directory before root uses it.
    return Path("/var/lib") / f"detector-services-{hashlib.sha256(bytes(ROOT)).hexdigest()[:12]}"


def _artefacts() -> Path:
    """The directory of the servers' programs; it exists only when it is complete, and each pom.xml has its own."""
    return _home() / "artefacts" / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]


def _java_home() -> Path | None:
    """The home of the Java on the PATH; None when it, or the Maven that is still to be used, is missing or too old."""
    if not shutil.which("java") or not (_artefacts().exists() or shutil.which("mvn")):
        return None
    java = subprocess.run(["java", "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=True)
    settings = dict(re.findall(r"^ +(java\S+) = (.*)$", java.stderr, re.MULTILINE))
    return Path(settings["java.home"]) if float(settings["java.specification.version"]) >= 17 else None


def _install() -> Path:
    """Install what is missing; returns Java's home."""
    if not _java_home() and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(INSTALL, shell=True, check=False, stdout=sys.stderr)  # noqa: S602 - a constant
    java_home = _java_home()
    if java_home is None:
        raise ServicesError(f"Java 17 or newer and Maven are needed: {INSTALL}")
    if not _artefacts().exists():
        partial = _artefacts().with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run(
            ["mvn", "-B", "-ntp", "-q", "-f", str(POM), "process-resources", f"-Dservices.home={partial}"],
            "Maven could not fetch Kafka and Elasticsearch: it needs a repository that it can reach (its settings.xml "
            f"names them), and Java 17 or newer: {INSTALL}",
        )
        partial.rename(_artefacts())
    return java_home


def _run(command: list[str], problem: str) -> None:
    # The umask lets Elasticsearch's own user read what root installs.
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, umask=0o022
    )
    if done.returncode:
        raise ServicesError(f"{_tail(done.stdout)}\n{problem}")


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-30:])


class _Launch(NamedTuple):
    command: list[str]
    environment: dict[str, str]
    user: str | None  # None for this process's own


def _configure_kafka(directory: Path, port: int, inner_port: int, java_home: Path) -> _Launch:
    properties = directory / "server.properties"
    properties.write_text(KAFKA_PROPERTIES.format(host=HOST, port=port, inner_port=inner_port, directory=directory))
    java = [f"{java_home}/bin/java", "-Xms384m", "-Xmx384m", "-Dlog4j2.level=INFO", "-cp", f"{_artefacts()}/kafka/*"]
    # A hand-written meta.properties would do for a start, but leave out the features that this writes beside it:
    # transactions and consumer groups would then speak an older protocol than a real broker's.
    _run(
        [*java, "kafka.tools.StorageTool", "format", "--cluster-id", "detector", "--config", str(properties)],
        "Kafka's storage could not be formatted.",
    )
    return _Launch([*java, "kafka.Kafka", str(properties)], {}, None)


def _kafka_answers(port: int) -> bool:
    """Whether the cluster's metadata lists the broker, which it does once the broker takes requests."""
    request = struct.pack(">hhihi", 3, 1, 0, -1, -1)  # Metadata, version 1, no client id, all topics
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(12, socket.MSG_WAITALL)  # size, correlation id, number of brokers
        return answer[8:] == struct.pack(">i", 1)
    return False


def _configure_elasticsearch(directory: Path, port: int, inner_port: int, java_home: Path) -> _Launch:
    (program,) = _artefacts().glob("elasticsearch-*")
    shutil.copytree(program / "config", directory / "config")
    yml = ELASTICSEARCH_YML.format(host=HOST, port=port, inner_port=inner_port, directory=directory)
    (directory / "config" / "elasticsearch.yml").write_text(yml)
    # Not the directory itself: it refuses to start when its configuration is inside what its modules may write to.
    (directory / "tmp").mkdir()
    environment = {
        "ES_JAVA_HOME": str(java_home),  # this distribution brings no Java
        "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
        "ES_PATH_CONF": str(directory / "config"),
        "ES_TMPDIR": str(directory / "tmp"),
    }
    command = [str(program / "bin" / "elasticsearch")]
    if os.geteuid() != 0:
        return _Launch(command, environment, None)
    if ELASTICSEARCH_USER not in {user.pw_name for user in pwd.getpwall()}:
        add = ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", ELASTICSEARCH_USER]
        _run(add, f"Elasticsearch needs a user of its own, {ELASTICSEARCH_USER}, which could not be created.")
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, ELASTICSEARCH_USER, ELASTICSEARCH_USER)
    return _Launch(command, environment, ELASTICSEARCH_USER)


def _elasticsearch_answers(port: int) -> bool:
    """Whether the cluster is formed and has done all that it queued meanwhile; `GET /` this distribution lacks."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/_cluster/health?wait_for_status=yellow&wait_for_events=languid&timeout=2s")
        return connection.getresponse().status == 200
    return False


class _Server(NamedTuple):
    configure: Callable[[Path, int, int, Path], _Launch]  # of its directory, its two ports and Java's home
    answers: Callable[[int], bool]
    address: tuple[str, str]  # its key in services.json, and what precedes the host


SERVERS = {
    "kafka": _Server(_configure_kafka, _kafka_answers, ("bootstrap", "")),
    "elasticsearch": _Server(_configure_elasticsearch, _elasticsearch_answers, ("url", "http://")),
}


def _read() -> dict[str, Any]:
    """What was started: by its name, each server's address and pid."""
    with contextlib.suppress(FileNotFoundError):
        return dict(json.loads((STATE / "services.json").read_text()))
    return {}


def _running() -> dict[str, Any]:
    def answers(name: str, address: str) -> bool:
        return SERVERS[name].answers(int(address.rpartition(":")[2]))

    return {
        name: entry
        for name, entry in _read().items()
        if _is_ours(entry["pid"]) and answers(name, entry[SERVERS[name].address[0]])
    }


def _is_ours(pid: int) -> bool:
    """Whether the process is still the server that was started, not a later one that got its id."""
    try:
        return bytes(_home()) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keeps two commands or test runs from starting the same servers at once."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _up() -> dict[str, Any]:
    with _locked():
        state, running = _read(), _running()
        missing = [name for name in SERVERS if name not in running]
        if not missing:
            return running
        _home().mkdir(exist_ok=True)
        _home().chmod(0o755)
        java_home = _install()
        started = []
        for name in missing:
            if name in state:
                _stop(state[name]["pid"])  # it may hang rather than have ended
            port, process = _start(name, java_home)
            started.append((name, port, process))
            key, prefix = SERVERS[name].address
            state[name] = {key: f"{prefix}{HOST}:{port}", "pid": process.pid}
            # At once, so that nothing is left behind that `down` does not know.
            (STATE / "services.json").write_text(json.dumps(state, indent=2) + "\n")
        for name, port, process in started:
            _wait(name, port, process)
        return state


def _start(name: str, java_home: Path) -> tuple[int, subprocess.Popen[bytes]]:
    # Every start begins empty: what a killed server left half-written cannot fail the next run.
    directory = _home() / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    with socket.socket() as one, socket.socket() as other:
        one.bind((HOST, 0))
        other.bind((HOST, 0))
        port, inner_port = one.getsockname()[1], other.getsockname()[1]
    launch = SERVERS[name].configure(directory, port, inner_port, java_home)
    with _log(name).open("wb") as log:
        process = subprocess.Popen(
            launch.command,
            cwd=directory,
            env={"PATH": os.environ["PATH"], **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=launch.user,
            group=launch.user,
            extra_groups=[] if launch.user else None,
        )
    return port, process


def _log(name: str) -> Path:
    return _home() / f"{name}.log"


def _wait(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not SERVERS[name].answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(process.pid)
            tail = _tail(_log(name).read_text(errors="replace"))
            raise ServicesError(f"{name} did not start; {_log(name)} ends with:\n{tail}")
        time.sleep(0.1)
    process.returncode = 0  # it outlives this process on purpose, of which Popen would warn


def _stop(pid: int) -> None:
    sent, deadline = signal.SIGTERM, time.monotonic()
    while _is_ours(pid):
        if time.monotonic() >= deadline:
            # To the group: Elasticsearch's process is a launcher, its server a child of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, sent)
            sent, deadline = signal.SIGKILL, deadline + STOP_SECONDS
        time.sleep(0.05)


def _down() -> None:
    with _locked():
        for entry in _read().values():
            _stop(entry["pid"])
        (STATE / "services.json").unlink(missing_ok=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.services.services", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    command = parser.parse_args().command
    try:
        if command == "down":
            _down()
            return
        state = _up() if command == "up" else _running()
    except ServicesError as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps(state, indent=2) + "\n")
    sys.exit(0 if len(state) == len(SERVERS) else 1)


if __name__ == "__main__":
    main()
