"""Running moments against NumPy's of everything seen at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.recovery import RunningStandardisation
from mmaffect.testing import Case, check_all


def batches(seed, count, dim=3, scale=2.0, shift=30.0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        batch, steps = (int(torch.randint(1, 6, (), generator=generator)) for _ in range(2))
        x = shift + scale * torch.randn(batch, steps, dim, generator=generator, dtype=torch.float64)
        mask = torch.rand(batch, steps, generator=generator) < 0.6
        made.append((torch.where(mask.unsqueeze(-1), x, torch.nan), mask))
    return made


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_moments_against_numpy(seed, count):
    layer = RunningStandardisation(3).double()
    given_batches = batches(seed, count)
    for x, mask in given_batches:
        layer.update(x, mask)
    seen = np.concatenate([x[mask].numpy() for x, mask in given_batches])
    assert layer.steps.item() == len(seen)
    if len(seen):
        np.testing.assert_allclose(layer.mean, seen.mean(0), rtol=1e-12)
        np.testing.assert_allclose(layer.var, seen.var(0), rtol=1e-9, atol=1e-12)
    else:
        assert layer.mean.tolist() == [0, 0, 0]
        assert layer.var.tolist() == [1, 1, 1]


def test_float32_holds_far_from_zero():
    layer = RunningStandardisation(3)
    given_batches = batches(0, 200, shift=1000.0)
    for x, mask in given_batches:
        layer.update(x.float(), mask)
    seen = np.concatenate([x[mask].numpy() for x, mask in given_batches])
    np.testing.assert_allclose(layer.var, seen.var(0), rtol=1e-3)


def test_resumed_from_its_state():
    first, second, whole = (RunningStandardisation(3).double() for _ in range(3))
    given_batches = batches(1, 6)
    for x, mask in given_batches[:3]:
        first.update(x, mask)
    second.load_state_dict(first.state_dict())
    for x, mask in given_batches[3:]:
        second.update(x, mask)
    for x, mask in given_batches:
        whole.update(x, mask)
    assert all(torch.equal(a, b) for a, b in zip(second.buffers(), whole.buffers(), strict=True))


def test_beyond_the_horizon_the_past_counts_as_that_many_steps():
    layer = RunningStandardisation(1, horizon=30).double()
    rows = torch.arange(100.0, dtype=torch.float64).view(10, 10, 1)
    mean, var, steps = 0.0, 1.0, 0
    for row in rows:
        layer.update(row.unsqueeze(0))
        # A population of `steps` with the moments so far, and ten more.
        values = row.numpy().ravel()
        total = steps + 10
        second = (steps * (var + mean**2) + (values**2).sum()) / total
        mean = (steps * mean + values.sum()) / total
        var, steps = second - mean**2, min(total, 30)
    assert layer.steps.item() == 30
    assert layer.mean.item() == pytest.approx(mean)
    assert layer.var.item() == pytest.approx(var)


def test_there_and_back_and_constant_features():
    layer = RunningStandardisation(3)
    x = torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-6, 5.0, 0.0])
    x = x + torch.tensor([0.0, -7.0, 0.1])
    layer.update(x)
    z = layer(x)
    assert z[..., :2].flatten(0, 1).mean(0).abs().max() < 1e-5
    assert (z[..., :2].flatten(0, 1).std(0, correction=0) - 1).abs().max() < 1e-5
    assert z[..., 2].abs().max() < 1e-6
    torch.testing.assert_close(layer.undo(z), x)
    # Whatever a sampler makes of a feature that never varied, what comes back is its value.
    torch.testing.assert_close(layer.undo(torch.randn_like(x))[..., 2], x[..., 2])


def test_moments_are_constants_for_the_gradient_and_may_move_before_the_backward():
    layer = RunningStandardisation(2)
    x = torch.randn(4, 5, 2, requires_grad=True)
    layer.update(x)
    scale = layer.var.sqrt().clone()
    out = layer(x).sum()
    layer.update(3 * x)
    out.backward()
    torch.testing.assert_close(x.grad, (1 / scale).expand(4, 5, 2))
    assert not layer.mean.requires_grad


def test_half_precision_data_are_summed_in_full():
    layer = RunningStandardisation(1)
    x = torch.full((100, 100, 1), 300.0, dtype=torch.float16)
    x[::2] = 100.0
    layer.update(x)
    assert (layer.mean.item(), layer.var.item()) == (200.0, 10000.0)
    assert layer(x).dtype == torch.float16


class Fed(torch.nn.Module):
    """A layer that has seen something, and something else in training."""

    def __init__(self):
        super().__init__()
        self.layer = RunningStandardisation(3)
        self.layer.update(5 + 3 * torch.randn(4, 6, 3))

    def extra_repr(self):
        return ""

    def forward(self, x, mask):
        if self.training:
            self.layer.update(x, mask)
        z = self.layer(x, mask)
        return {"z": z, "back": self.layer.undo(z)}


def test_contract():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False], [False, True, True, True, False]])
    x = torch.randn(3, 5, 3, generator=generator)
    check_all(Case(build=Fed, inputs={"x": x, "mask": mask}, masks={"x": "mask"}, aligned={"back": "mask"}))


def test_refusals():
    with pytest.raises(ValueError, match="horizon: expected a value > 0, got 0"):
        RunningStandardisation(3, horizon=0)
    layer = RunningStandardisation(3)
    for call in (layer, layer.update):
        with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 3, got \(2, 5, 4\)"):
            call(torch.zeros(2, 5, 4))
        with pytest.raises(ValueError, match="mask: expected bool"):
            call(torch.zeros(2, 5, 3), torch.ones(2, 5))
