"""Drift: how far the windows of later logs are from those that a model was trained on, and what to do about it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detector.errors import ModelError
from detector.model.forest import threshold_for
from detector.model.histogram import Shift
from detector.model.judge import Judge

_WINDOWS_MIN: Final = 100  # of fewer, an index of 0.1 is nothing but chance
_MODERATE: Final = 0.1  # the usual reading of a population stability index
_GREAT: Final = 0.25
_TAIL: Final = 0.99
_TAIL_TIMES: Final = 5.0  # as many windows above training's 99 % score as nobody would look at
_NEW_MANY: Final = 0.2
_GROWING: Final = frozenset({"age"})  # rises while a model is in use


@dataclass(frozen=True, slots=True)
class Drift:
    """The figures."""

    model: str
    windows: int
    features: dict[str, Shift]
    """Greatest first."""
    above_tail: float
    """Share of windows that score above the strangest of 99 % of the training's identities and days."""
    identities: int
    new_identities: tuple[str, ...]

    @property
    def greatest(self) -> float:
        """The index of the feature that rose most, but not by itself; what fell makes nothing look strange."""
        rose = [shift.stability_index for name, shift in self.features.items() if shift.rose and name not in _GROWING]
        return max(rose, default=0.0)

    @property
    def new_share(self) -> float:
        """Share of the identities that training did not know."""
        return len(self.new_identities) / max(self.identities, 1)

    @property
    def advice(self) -> str:
        """What to do."""
        if self.new_share > _NEW_MANY:
            return (
                "many identities are new: if this is another cluster, train a model for it; if tenants came, train "
                "anew with a week of their logs"
            )
        if self.above_tail > _TAIL_TIMES * (1 - _TAIL):
            return "far more windows are strange than in training: look at their alerts before anything of it teaches"
        if self.greatest > _GREAT:
            return "usage has changed: once you know that no attack is in these logs, train anew with them"
        if self.greatest > _MODERATE:
            return "usage is changing: look at the features above, and compare again in a week"
        return "nothing to do: these logs are like those of the training"

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "model": self.model,
            "windows": self.windows,
            "greatest_stability_index": round(self.greatest, 4),
            "features": {
                name: {"stability_index": round(shift.stability_index, 4), "rose": shift.rose}
                for name, shift in self.features.items()
            },
            "share_above_training_99_percent": round(self.above_tail, 4),
            "identities": self.identities,
            "new_identities": list(self.new_identities),
            "advice": self.advice,
        }

    def as_text(self) -> str:
        """The figures for a person."""
        lines = [f"{self.windows:,} windows of {self.identities:,} identities against {self.model}"]
        drifted = {name: shift for name, shift in self.features.items() if shift.stability_index > _MODERATE}
        lines.append(f"features that drifted: {len(drifted)} of {len(self.features)}")
        for name, shift in drifted.items():
            how = "greatly" if shift.stability_index > _GREAT else "moderately"
            lines.append(f"  {name:24} {shift.stability_index:6.3f}  {how}, {_meaning(name, rose=shift.rose)}")
        lines.append(
            f"windows stranger than 99 % of the training's identity-days: {self.above_tail:.1%} (training: at most 1 %)"
        )
        shown = ", ".join(self.new_identities[:5])
        more = f" and {len(self.new_identities) - 5:,} more" if len(self.new_identities) > 5 else ""
        lines.append(f"new identities: {self.new_share:.0%}" + (f" ({shown}{more})" if shown else ""))
        return "\n".join([*lines, self.advice])


def drift(judge: Judge) -> Drift:
    """Measure how far the windows that a model judged are from its training.

    Raises:
        ModelError: there are too few windows to tell, with their number.
    """
    if len(judge.scores) < _WINDOWS_MIN:
        raise ModelError(
            f"too little to tell drift from chance: {len(judge.scores)} windows, at least {_WINDOWS_MIN} are needed; "
            "give more hours of logs"
        )
    vectors, model = judge.vectors, judge.model
    shifts = {
        name: histogram.shift(vectors[:, column])
        for column, (name, histogram) in enumerate(zip(model.manifest.features, model.histograms, strict=True))
    }
    calibration = model.forest.calibration
    tail = threshold_for(float(calibration.alerts_a_day(np.quantile(calibration.raw, [_TAIL]))[0]))
    identities = {name for _, name in judge.scores}
    return Drift(
        model=model.label,
        windows=len(judge.scores),
        features=dict(sorted(shifts.items(), key=lambda item: (-item[1].stability_index, item[0]))),
        above_tail=float(np.mean(judge.values > tail)),
        identities=len(identities),
        new_identities=tuple(sorted(identities - judge.known)),
    )


def _meaning(name: str, *, rose: bool) -> str:
    if not rose:
        return "less of it than in training"
    return "as it does while a model is in use" if name in _GROWING else "more of it than in training"
