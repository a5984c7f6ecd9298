"""Compare: two models side by side, by what they were trained on and by what they say of the same archive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from detector.model.judge import Judge
from detector.model.store import Model
from detector.model.trees import Values

_ABOUT: Final = ("first_time", "last_time", "days", "requests", "windows", "identities", "seed", "scikit_learn")
_RATES: Final = (10.0, 1.0, 0.1)  # windows a day whose raw scores are told
_SHIFT_SPANS: Final = 0.25  # a quarter of the span between the 5th and 95th percentile
_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """A window that is an alert under at least one of the models."""

    start: datetime
    identity: str
    scores: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """With the scores under both."""
        return {"start": self.start.isoformat(), "identity": self.identity, "scores": list(self.scores)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both models say of one archive, each at the same number of expected alerts a day."""

    windows: int
    rank_correlation: float | None
    """Spearman's, over the windows' scores; None where one model scores all alike."""
    both: tuple[Verdict, ...]
    only_first: tuple[Verdict, ...]
    only_second: tuple[Verdict, ...]

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "windows": self.windows,
            "rank_correlation": self.rank_correlation,
            "both": [one.as_json() for one in self.both],
            "only_first": [one.as_json() for one in self.only_first],
            "only_second": [one.as_json() for one in self.only_second],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models."""

    labels: tuple[str, str]
    about: dict[str, tuple[str, str]]
    raw_at: dict[float, tuple[float, float]]
    """Windows a day -> the raw score that so many reach in training, under either."""
    shifts: dict[str, float]
    """Features whose median moved from the first to the second, in spans of the first, greatest first."""
    only_first: tuple[str, ...]
    """Identities."""
    only_second: tuple[str, ...]
    agreement: Agreement | None = None
    """On an archive, if one was given."""

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "models": list(self.labels),
            "about": {name: list(values) for name, values in self.about.items()},
            "raw_score_at_windows_a_day": {str(rate): list(raw) for rate, raw in self.raw_at.items()},
            "feature_shifts": {name: round(shift, 4) for name, shift in self.shifts.items()},
            "identities_only_first": list(self.only_first),
            "identities_only_second": list(self.only_second),
            "archive": self.agreement.as_json() if self.agreement else None,
        }

    def as_text(self) -> str:
        """The figures for a person."""
        rows = [("", *self.labels), *((name.replace("_", " "), *values) for name, values in self.about.items())]
        rows += [
            (f"raw score at {rate:g} windows a day", f"{a:.4f}", f"{b:.4f}") for rate, (a, b) in self.raw_at.items()
        ]
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [f"{name:{first}}  {a:{second}}  {b}".rstrip() for name, a, b in rows]
        lines += [f"  {name}: median {shift:+.2f} spans" for name, shift in self.shifts.items()]
        for label, names in zip(self.labels, (self.only_first, self.only_second), strict=True):
            lines.append(f"identities only in {label}: {len(names):,}{_listed(names)}")
        if self.agreement:
            lines += self._agreement_lines(self.agreement)
        return "\n".join(lines)

    def _agreement_lines(self, agreement: Agreement) -> list[str]:
        alike = "unknown" if agreement.rank_correlation is None else f"{agreement.rank_correlation:.3f}"
        lines = [f"{agreement.windows:,} windows scored by both, rank correlation {alike}"]
        only = (f"only by {label}" for label in self.labels)
        groups = (agreement.both, agreement.only_first, agreement.only_second)
        for name, found in zip(("by both", *only), groups, strict=True):
            lines.append(f"alerts {name}: {len(found)}")
            lines += [
                f"  {one.start:%Y-%m-%d %H:%M}  {one.scores[0]:.3f}  {one.scores[1]:.3f}  {one.identity}"
                for one in found[:_LISTED]
            ]
            lines += [f"  and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
        return lines


def compare(first: Model, second: Model) -> Comparison:
    """Put two models side by side; call it before they judge anything, for they learn while they do."""
    scalings = first.forest.scaling, second.forest.scaling
    moved = (scalings[1].centre - scalings[0].centre) / scalings[0].span
    shifts = {name: float(shift) for name, shift in zip(first.manifest.features, moved, strict=True)}
    known = set(first.baselines.identities), set(second.baselines.identities)
    return Comparison(
        labels=(first.label, second.label),
        about={name: (_shown(first, name), _shown(second, name)) for name in _ABOUT},
        raw_at={rate: (_raw_at(first, rate), _raw_at(second, rate)) for rate in _RATES},
        shifts=dict(
            sorted(
                ((name, shift) for name, shift in shifts.items() if abs(shift) >= _SHIFT_SPANS),
                key=lambda item: -abs(item[1]),
            )
        ),
        only_first=tuple(sorted(known[0] - known[1])),
        only_second=tuple(sorted(known[1] - known[0])),
    )


def agree(first: Judge, second: Judge) -> Agreement:
    """Compare what two models said of the same archive."""
    keys = sorted(first.scores.keys() & second.scores.keys())
    scores = tuple(np.array([judge.scores[key] for key in keys]) for judge in (first, second))
    verdicts = [
        Verdict(datetime.fromtimestamp(start, UTC), name, (float(scores[0][index]), float(scores[1][index])))
        for index, (start, name) in enumerate(keys)
    ]
    alerts = [(one.scores[0] >= first.threshold, one.scores[1] >= second.threshold, one) for one in verdicts]
    return Agreement(
        windows=len(keys),
        rank_correlation=correlation(ranks(scores[0]), ranks(scores[1])) if keys else None,
        both=_strangest(one for a, b, one in alerts if a and b),
        only_first=_strangest(one for a, b, one in alerts if a and not b),
        only_second=_strangest(one for a, b, one in alerts if b and not a),
    )


def _strangest(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    return tuple(sorted(verdicts, key=lambda one: (-max(one.scores), one.start, one.identity)))


def _shown(model: Model, name: str) -> str:
    value = getattr(model.manifest, name)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _raw_at(model: Model, alerts_a_day: float) -> float:
    """The lowest raw score that so few alerts a day reach, to a ten-thousandth."""
    raw = np.linspace(0.0, 1.0, 10_001)
    return float(raw[np.argmax(model.forest.calibration.alerts_a_day(raw) <= alerts_a_day)])


def ranks(values: Values) -> Values:
    """Ranks, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse])


def correlation(one: Values, other: Values) -> float | None:
    """Pearson's; None where one of the two is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return round(float(one @ other) / scale, 4) if scale else None


def _listed(names: Sequence[str], count: int = 5) -> str:
    shown = ", ".join(names[:count])
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return f" ({shown}{more})" if shown else ""
