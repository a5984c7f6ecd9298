"""Weigh: how usual what a rule saw is for its identity and for its peers; an alert's level moves with it.

An engineer on call who opens a shell each day is no news; a build account that never did is. What is critical stays so,
and only what was learned can excuse: a match of level medium or above does not teach by itself.
"""

from collections.abc import Sequence
from typing import Final

from detector.baseline import View
from detector.habits import SIGNAL, Tokens
from detector.identity import IdentityKind
from detector.score import Reason, Weight, Window

_NOBODY: Final = (IdentityKind.ANONYMOUS, IdentityKind.UNAUTHENTICATED)  # everybody's habits excuse nobody
_KNOWN_SECONDS: Final = 3 * 86_400.0  # after which habits excuse something, or the lack of one accuses
_HABIT_WINDOWS: Final = 3.0  # once is an accident, twice chance
_DEEP_HABIT_WINDOWS: Final = 10.0  # what is done that often is its job
_RARE_SHARE: Final = 0.05  # of the peers: what fewer ever did is not done


def weigh(window: Window, view: View) -> list[Weight]:
    """The weight of each alert that rests on a window; none where too little is known of the identity."""
    if view.known_seconds < _KNOWN_SECONDS or window.kind in _NOBODY:
        return []
    return [
        Weight(window.name, key, window.start_seconds, _shift(rule, acts, view), _reason(rule, view))
        for key, by_rule in window.matched.items()
        for rule, acts in by_rule.items()
    ]


def _shift(rule: str, acts: Sequence[Tokens], view: View) -> int:
    habit_windows = min(_habit_windows(rule, act, view) for act in acts)
    if habit_windows >= _HABIT_WINDOWS:
        return -2 if habit_windows >= _DEEP_HABIT_WINDOWS else -1
    return int(view.is_new(SIGNAL, rule) and view.peers_share(SIGNAL, rule) < _RARE_SHARE and _is_unheard(acts, view))


def _habit_windows(rule: str, act: Tokens, view: View) -> float:
    """In how many hours the identity did this there, seen by this rule; from a network not its own in none."""
    if view.is_new("network", act.network):
        return 0.0
    return min(view.own(*habit) for habit in ((SIGNAL, rule), ("action", act.action), ("place", act.place)))


def _is_unheard(acts: Sequence[Tokens], view: View) -> bool:
    """Neither the identity nor hardly any of its peers ever asked for such a thing."""
    return any(
        view.is_new("action", act.action) and view.peers_share("action", act.action) < _RARE_SHARE for act in acts
    )


def _reason(rule: str, view: View) -> Reason:
    usual = f"in {view.own(SIGNAL, rule):.0f} of {view.windows:.0f} hours of work"
    return Reason(SIGNAL, rule, usual, f"{view.peers_share(SIGNAL, rule):.0%} of its peers ever", 1.0)
