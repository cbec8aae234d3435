"""The class-mean hinge, against a loop over all pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.losses import class_mean_hinge


def brute_force(latents, labels, classes, margin):
    rows = []
    for n, own in enumerate(labels):
        if own < 0:
            continue
        scores = {}
        for c in range(classes):
            products = [latents[n] @ latents[i] for i in range(len(labels)) if labels[i] == c and i != n]
            if products:
                scores[c] = np.mean(products)
            elif c == own:
                scores[c] = 0.0
        best = max(scores, key=lambda c: scores[c])
        rows.append(max(0.0, margin * (best != own) + scores[best] - scores[own]))
    return rows


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 4), st.floats(0.1, 3))
def test_against_a_loop(seed, count, classes, margin):
    rng = np.random.default_rng(seed)
    latents, labels = rng.normal(size=(count, 3)), rng.integers(0, classes, count)
    labels[rng.random(count) < 0.2] = -100
    x = torch.from_numpy(np.where(labels[:, None] >= 0, latents, np.nan))
    expected = brute_force(latents, labels, classes, margin)
    for reduction, combined in (("sum", sum(expected)), ("mean", np.mean(expected) if expected else 0.0)):
        found = class_mean_hinge(x, torch.from_numpy(labels), classes, margin=margin, reduction=reduction)
        assert found.item() == pytest.approx(combined, abs=1e-9)


def test_autocast_makes_it_no_coarser():
    """Latents far from zero, whose products differ in their last digits."""
    generator = torch.Generator().manual_seed(0)
    latents, labels = 2 + 0.25 * torch.randn(500, 8, generator=generator), torch.arange(500) % 4
    expected = class_mean_hinge(latents, labels, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(class_mean_hinge(latents, labels, 4), expected)


def test_gathers_classes():
    torch.manual_seed(0)
    latents = torch.randn(30, 4, requires_grad=True)
    labels = torch.arange(30) % 3
    adam = torch.optim.Adam([latents], lr=0.05)
    for _ in range(100):
        loss = class_mean_hinge(latents, labels, 3)
        adam.zero_grad()
        loss.backward()
        adam.step()
    means = torch.stack([latents[labels == c].mean(0) for c in range(3)])
    assert loss.item() == 0
    assert torch.equal((latents @ means.T).argmax(1), labels)


def test_refuses():
    latents, labels = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="labels: expected shape"):
        class_mean_hinge(latents, labels[:2], 2)
    with pytest.raises(ValueError, match="int64"):
        class_mean_hinge(latents, labels.float(), 2)
    with pytest.raises(ValueError, match="margin"):
        class_mean_hinge(latents, labels, 2, margin=0)
    with pytest.raises(ValueError, match="classes"):
        class_mean_hinge(latents, labels, 0)
    with pytest.raises(ValueError, match="reduction"):
        class_mean_hinge(latents, labels, 2, reduction="none")
