"""Preparing Elasticsearch for alerts (`detector es setup`) and looking whether it is ready (`check`, `doctor`)."""

from collections.abc import Iterator
from contextlib import closing
from typing import Final, NamedTuple

from detector.errors import ConfigError, SinkUnavailable
from detector.sinks.elasticsearch import Config, Server
from detector.sinks.template import INDEX_PREFIX, TEMPLATE_NAME, gaps, mappings

_INDICES: Final = f"{INDEX_PREFIX}*"


class Check(NamedTuple):
    """One thing that was looked at."""

    ok: bool
    line: str
    """What was found and, if it is not well, what to do."""


def setup(config: Config) -> list[str]:
    """Install the index template and bring existing indices up to it; returns a line for each thing done.

    Doing it again is harmless.

    Raises:
        SinkUnavailable: Elasticsearch is out of reach or does not allow it.
        ConfigError: something that is there already is in the way: another template, or fields of other types.
    """
    with closing(Server(config)) as server:
        if failure := server.put_template():
            raise ConfigError(
                f"index template {TEMPLATE_NAME} is refused ({failure}): "
                f"another template has the same priority for {_INDICES}, change it"
            )
        lines = [f"index template {TEMPLATE_NAME} is installed, version {mappings()['_meta']['version']}"]
        faults = []
        for index, stored in sorted(server.mappings(_INDICES).items()):
            if not gaps(stored):
                continue
            failure = server.add_fields(index)
            if failure is None:
                lines.append(f"index {index} is brought up to it")
            else:
                faults.append(f"index {index} has fields of other types ({failure}): move its documents, delete it")
    if faults:
        raise ConfigError("\n".join(faults))
    return lines


def check(config: Config) -> list[Check]:
    """Look whether alerts can be written: the server, the template, the indices and what is in them."""
    checks: list[Check] = []
    with closing(Server(config)) as server:
        try:
            checks.extend(_checks(server))
        except SinkUnavailable as error:
            checks.append(Check(ok=False, line=str(error)))
    return checks


def _checks(server: Server) -> Iterator[Check]:
    status = server.status()
    yield Check(status != "red", f"{server.where} answers, cluster status is {status}")
    missing = server.template_gaps()
    what = "lacks " + ", ".join(missing[:3]) + ": run `detector es setup`" if missing else "is installed"
    yield Check(not missing, f"index template {TEMPLATE_NAME} {what}")
    found = server.mappings(_INDICES)
    for index, stored in sorted(found.items()):
        if missing := gaps(stored):
            yield Check(ok=False, line=f"index {index} lacks {', '.join(missing[:3])}: run `detector es setup`")
    yield Check(ok=True, line=f"{server.count(_INDICES)} alerts in {len(found)} indices {_INDICES}")
