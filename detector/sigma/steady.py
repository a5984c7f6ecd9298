"""Steady: first-seen conditions that go by what an identity's requests have in common for hours.

Of most requests they are all that is left to ask, so they are asked in the cheapest way.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from detector.activity import Activity
from detector.sigma.compile import Node, fields_of
from detector.sigma.first_seen import Place, Watch, Watches

_SIGNATURES_KEPT: Final = 100_000
_USER_AGENT_CHARACTERS: Final = 512  # of one that is kept: it is for the client to choose
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
_NODE: Final = "authentication.kubernetes.io/node-name"
_STEADY_PATHS: Final = frozenset(
    {
        "detector.client.program",
        "detector.source.network",
        "detector.source.ip",
        "userAgent",
        "user.username",
        f"user.extra.{_CREDENTIAL}",
        f"user.extra.{_NODE}",
    }
)
"""Fields that an identity's requests have in common for hours."""
_Signature: TypeAlias = tuple[object, ...]


class Steady:
    """Watches, and what is left of the detections that they hang on; neither reads more than the signature holds.

    So where a request belongs is remembered by its signature, and no field is read again.

    Args:
        watched: what is left of the detections, and the watches that hang on each.
    """

    def __init__(self, watched: Sequence[tuple[Node | bool, Watches]]) -> None:
        self._watched = tuple(watched)
        self._places: dict[_Signature, list[tuple[Watch, Place | None]]] = {}

    @staticmethod
    def fits(node: Node | bool, watches: Watches) -> bool:
        """Tell whether a detection and all watches on it read nothing but what the signature holds."""
        paths = set() if isinstance(node, bool) else {field.path for field in fields_of(node)}
        return bool(watches) and paths.union(*(watch.paths for watch in watches)) <= _STEADY_PATHS

    def see(self, activity: Activity) -> list[int]:
        """Take a request; the ranks of the rules that it is new to come back."""
        signature = _signature(activity)
        places = self._places.get(signature)
        if places is None:
            places = self._find(activity)
            self._remember(signature, places, activity)
        new: list[int] = []
        for watch, place in places:
            if (place is None or not watch.is_repeat(place, activity.received_micros)) and watch.see(activity):
                new += watch.ranks
        return new

    def _remember(self, signature: _Signature, places: list[tuple[Watch, Place | None]], activity: Activity) -> None:
        if len(activity.event.user_agent) > _USER_AGENT_CHARACTERS:
            return
        if len(self._places) >= _SIGNATURES_KEPT:
            self._places.clear()
        self._places[signature] = places

    def _find(self, activity: Activity) -> list[tuple[Watch, Place | None]]:
        found = [watches for node, watches in self._watched if node is True or (node and node.evaluate(activity))]
        return [(watch, watch.place(activity)) for watches in found for watch in watches]


def _signature(activity: Activity) -> _Signature:
    """All that the fields of a steady condition read."""
    event = activity.event
    extra = event.user.extra
    credential, node = extra.get(_CREDENTIAL), extra.get(_NODE)
    return (
        activity.identity.name,
        activity.addresses.source_ip,
        event.user_agent,
        credential and tuple(credential),
        node and tuple(node),
    )
