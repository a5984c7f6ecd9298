"""A histogram tells later values that are alike from those that are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.model.histogram import histogram

RANDOM = np.random.default_rng(5)
TRAINING = RANDOM.exponential(size=5000)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(np.array)


def test_values_from_the_same_source_have_not_drifted() -> None:
    """Other ones of the same distribution."""
    assert histogram(TRAINING).shift(RANDOM.exponential(size=2000)).stability_index < 0.05


@pytest.mark.parametrize(("factor", "rose"), [(3.0, True), (0.2, False)])
def test_a_drift_has_a_direction(factor: float, rose: bool) -> None:
    """Up or down."""
    shift = histogram(TRAINING).shift(RANDOM.exponential(size=2000) * factor)
    assert shift.stability_index > 0.1
    assert shift.rose == rose


def test_the_middle_may_move() -> None:
    """As it does while baselines grow up."""
    assert histogram(TRAINING).shift(np.where(TRAINING < 1.0, TRAINING / 5, TRAINING)).stability_index < 0.01


def test_a_steady_feature_may_creep_within_its_range() -> None:
    """The tail's percentiles lie close together there."""
    steady = np.append(3.0 + RANDOM.random(5000) * 0.1, [0.0, 10.0])
    assert histogram(steady).shift(steady + 0.2).stability_index < 0.01
    assert histogram(steady).shift(steady + 2.0).stability_index > 0.25


@given(VALUES)
def test_no_values_drift_from_themselves(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Whatever they are; and every one is counted."""
    one = histogram(values)
    assert sum(one.counts) == len(values)
    assert one.shift(values).stability_index == pytest.approx(0.0, abs=1e-9)
    assert one.constant == bool((values == values[0]).all())
