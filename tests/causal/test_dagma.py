"""DAGMA's barrier against the library's acyclicity, and its last minimum against the published objective."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.causal import acyclicity
from mmaffect.causal.dagma import SCALES, WEIGHTS, dagma, log_det_barrier
from tests.causal.graphs import linear_data, random_graph


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0.1, 4))
def test_the_barrier_is_acyclicity_by_log_determinant(seed, d, ratio):
    w = np.random.default_rng(seed).normal(size=(d, d))
    radius = np.abs(np.linalg.eigvals(w * w)).max()
    s = ratio * radius
    value, slope, curvature = log_det_barrier(w, s)
    assert np.isfinite(value) == (s > radius) or abs(ratio - 1) < 1e-6
    if s > 1.001 * radius:
        tensor = torch.from_numpy(w).requires_grad_()
        h = acyclicity(tensor, "logdet", s=s)
        np.testing.assert_allclose(value, h.item(), rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(slope, torch.autograd.grad(h, tensor)[0].numpy(), rtol=1e-7, atol=1e-9)
        hessian = torch.autograd.functional.hessian(lambda a: acyclicity(a, "logdet", s=s), tensor.detach())
        diagonal = hessian.reshape(d * d, d * d).diagonal().reshape(d, d)
        np.testing.assert_allclose(curvature, diagonal.numpy(), rtol=1e-6, atol=1e-9)


def test_a_singular_matrix_is_outside():
    assert np.isinf(log_det_barrier(np.array([[0.0, 1.0], [1.0, 0.0]]), 1.0).value)


def test_ends_at_a_minimum_of_the_published_objective():
    rng = np.random.default_rng(0)
    weights = random_graph(5, 8, rng)
    data = linear_data(weights, 500, rng)
    data -= data.mean(0)
    found = dagma(data.T @ data / 500, lambda1=0.05, tolerance=1e-15, max_iterations=20_000)
    x, w = torch.from_numpy(data), torch.from_numpy(found).requires_grad_()
    score = 0.5 / 500 * (x - x @ w).square().sum()
    h = 5 * np.log(SCALES[-1]) - torch.logdet(SCALES[-1] * torch.eye(5).double() - w * w)
    gradient = torch.autograd.grad(score + h / WEIGHTS[-1], w)[0].numpy()
    edge = found != 0
    assert edge.any()
    np.testing.assert_allclose(gradient[edge], -0.05 * np.sign(found[edge]), atol=2e-4)
    assert (np.abs(gradient[~edge & ~np.eye(5, dtype=bool)]) <= 0.05 + 2e-4).all()
    assert not found.diagonal().any()


def test_widens_a_domain_that_its_last_minimum_lies_outside(monkeypatch):
    # The score pulls two strongly tied columns towards a cycle; a narrow second domain excludes the first minimum.
    seen = []

    def recorded(w, s):
        seen.append((round(s, 6), bool(np.isfinite(log_det_barrier(w, s).value))))
        return log_det_barrier(w, s)

    monkeypatch.setattr("mmaffect.causal.dagma.SCALES", (1.0, 0.01, 0.8, 0.7, 0.6))
    monkeypatch.setattr("mmaffect.causal.dagma.log_det_barrier", recorded)
    found = dagma(np.array([[1.0, 0.9], [0.9, 1.0]]), lambda1=0.01, tolerance=1e-9, max_iterations=500)
    assert np.isfinite(found).all()
    assert found.any()
    # By tenths, and no further than needed: 0.01, 0.11, ... until the first that holds it.
    scales = list(dict.fromkeys(s for s, _ in seen if s < 0.6))
    assert len(scales) > 1
    assert scales == pytest.approx([0.01 + 0.1 * k for k in range(len(scales))])
    assert [next(inside for s, inside in seen if s == scale) for scale in scales] == [False] * (len(scales) - 1) + [
        True
    ]
