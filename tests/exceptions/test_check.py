"""The check tells what an exception silences, and every known attack in it."""

from detector.activity import Activity
from detector.evaluate import Label
from detector.exception_check import Check, Effect, Lost
from detector.exceptions import Exceptions
from tests.events import EXEC, activity
from tests.exceptions.build import entry
from tests.pipelines import bundled_rules

EXEC_POD = next(rule.metadata for rule in bundled_rules() if rule.path.stem.endswith("exec_pod"))
ATTACK = "5b0c3f0e-8a52-4bb1-9d56-00000000beef"
LABELS = {ATTACK: Label("campaign#0", "exec")}


def session(namespace: str, pod: str, audit_id: str) -> Activity:
    """A session in a pod."""
    ref = {"resource": "pods", "namespace": namespace, "name": pod, "subresource": "exec"}
    return activity(**EXEC | {"objectRef": ref, "auditID": audit_id})


def effects(*scopes: dict[str, str]) -> dict[str, Effect]:
    """What exceptions from one rule do to three sessions in `shop`, one of them an attack, and one in `web`."""
    entries = [entry(id=f"e-{number}", rule=EXEC_POD.id, scope=scope) for number, scope in enumerate(scopes)]
    check = Check(bundled_rules(), Exceptions(entries), LABELS)
    sessions = [("shop", "cart", "a"), ("shop", "cart", "b"), ("shop", "db", ATTACK), ("web", "cart", "c")]
    check.add([session(*each) for each in sessions], None)
    found = check.finish()
    assert check.labels_seen == {ATTACK}
    return found


def test_a_known_attack_that_is_silenced_is_named() -> None:
    """With its campaign, by entry."""
    found = effects({"objectRef.namespace": "shop"}, {"objectRef.namespace": "web"})
    lost = Lost("campaign#0", "exec", EXEC_POD.name, "ana@example.test")
    assert found["e-0"].lost == {lost: {ATTACK}}
    assert found["e-1"].lost == {}
    assert (found["e-0"].matches, found["e-1"].matches) == (3, 1)


def test_an_entry_that_another_one_covers_silences_nothing() -> None:
    """The first that fits counts the match."""
    found = effects({}, {"objectRef.namespace": "web"})
    assert (found["e-0"].matches, found["e-1"].matches) == (4, 0)


def test_an_alert_that_still_has_other_requests_is_not_gone() -> None:
    """Only repeats are taken away from it."""
    found = effects({"objectRef.namespace": "shop", "objectRef.name": "cart"})
    assert (found["e-0"].matches, found["e-0"].alerts) == (2, 0)
    assert effects({})["e-0"].alerts == 2
