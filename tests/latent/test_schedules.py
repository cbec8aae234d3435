"""Schedules against numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.latent import ConstantWeight, CyclicalWarmup, LinearWarmup

epochs = st.floats(0, 500)


def test_constant():
    assert [ConstantWeight()(0), ConstantWeight(0.2)(99.5)] == [1.0, 0.2]


@pytest.mark.parametrize(
    ("ramp", "epoch", "weight"),
    [
        # Affect-Diff's curriculum: the KL term over epochs 0 to 30, the diffusion term over 9 to 29.
        (LinearWarmup(0, 30), 0, 0.0),
        (LinearWarmup(0, 30), 15, 0.5),
        (LinearWarmup(0, 30), 30, 1.0),
        (LinearWarmup(0, 30), 99, 1.0),
        (LinearWarmup(9, 29), 8, 0.0),
        (LinearWarmup(9, 29), 14, 0.25),
        (LinearWarmup(9, 29), 29, 1.0),
        (LinearWarmup(2, 6, 0.1), 5, 0.075),
        (LinearWarmup(0, 4), 0.5, 0.125),
    ],
)
def test_linear_warmup(ramp, epoch, weight):
    assert ramp(epoch) == pytest.approx(weight, abs=1e-12)


def test_cyclical_warmup():
    # Ten epochs a cycle, four of them rising.
    cyclical = CyclicalWarmup(10, rise=0.4, value=2.0)
    rising = [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert [cyclical(e) for e in range(30)] == pytest.approx(rising * 3)
    assert [CyclicalWarmup(4, rise=1.0)(e) for e in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.0]


@given(epochs, st.floats(0.5, 50), st.floats(0.05, 1))
def test_a_cycle_repeats_and_stays_within_its_bounds(epoch, period, rise):
    cyclical = CyclicalWarmup(period, rise=rise)
    assert 0 <= cyclical(epoch) <= 1
    assert cyclical(epoch % period) == cyclical(epoch)


@given(epochs, epochs)
def test_a_warmup_never_falls(one, other):
    ramp = LinearWarmup(9, 29)
    assert ramp(min(one, other)) <= ramp(max(one, other))


def test_options_are_checked():
    with pytest.raises(ValueError, match="begin, end: expected begin < end, got 3 and 3"):
        LinearWarmup(3, 3)
    with pytest.raises(ValueError, match="period: expected a value > 0, got 0"):
        CyclicalWarmup(0)
    for rise in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"rise: expected a part of the cycle in \(0, 1\], got {rise}"):
            CyclicalWarmup(4, rise=rise)
