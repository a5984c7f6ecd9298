"""A small cluster with steady habits, to train on in a second."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from detector.activity import Activity
from detector.address import Locator
from detector.event import from_mapping
from detector.identity import from_event
from detector.model.forest import Forest
from detector.model.train import Training
from detector.score import BehaviourState
from detector.sigma.cases import BASE_EVENT, merge

START = datetime(2026, 10, 5, tzinfo=UTC)
DAYS = 4
_NAMESPACES = ("shop", "pay", "web")


def request(time: datetime, user: str, **difference: Any) -> dict[str, Any]:
    """An event of a user at a time."""
    text = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    times = {"requestReceivedTimestamp": text, "stageTimestamp": text, "auditID": f"{user}-{text}"}
    return merge(BASE_EVENT, merge({"user": {"username": user, "groups": ["devs"]}}, {**times, **difference}))


def activity(event: dict[str, Any]) -> Activity:
    """An activity of an event."""
    decoded = from_mapping(event)
    return Activity(decoded, from_event(decoded), Locator(()).locate(decoded.source_ips))


def usual(days: int = DAYS) -> Iterator[dict[str, Any]]:
    """Some days of usual work: people at home in one namespace, services that read their own secrets."""
    chance = random.Random(1)  # noqa: S311 not for secrets
    for minute in range(0, days * 1440, 20):
        time = START + timedelta(minutes=minute)
        for number, namespace in enumerate(_NAMESPACES):
            for resource in ("pods", "deployments"):
                if 7 <= time.hour < 18 and chance.random() < 0.4:
                    ref = {"resource": resource, "namespace": namespace}
                    at = time + timedelta(seconds=chance.random() * 600)
                    yield request(at, f"dev-{number}@corp.example", verb="list", objectRef=ref)
            for service in ("api", "worker"):
                ref = {"resource": "secrets", "namespace": namespace, "name": "db"}
                at = time + timedelta(seconds=chance.random() * 600)
                user = f"system:serviceaccount:{namespace}:{service}"
                address = {"sourceIPs": [f"10.0.{number}.7"], "userAgent": f"{service}/1.0"}
                yield request(at, user, verb="get", objectRef=ref, **address)


def ordered(events: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events in order of time."""
    return sorted(events, key=lambda event: str(event["stageTimestamp"]))


def train(days: int = DAYS, seed: int = 7) -> tuple[Forest, BehaviourState]:
    """Train on the usual work."""
    training = Training(seed)
    for event in ordered(usual(days)):
        one = activity(event)
        training.add([one], [], one.time)
    return training.finish()


@cache
def trained() -> tuple[Forest, bytes]:
    """The forest, and the state after training as bytes, so that each test begins with its own."""
    forest, state = train()
    return forest, msgspec.msgpack.encode(state)
