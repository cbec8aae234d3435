import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from mmaffect.data.gaussian_softmax import balancing_bias, gaussian_nodes, softmax_expectation


def covariance(classes: int, spread: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(classes, classes, dtype=torch.float64, generator=generator)
    drawn = drawn - drawn.mean(0)
    full = drawn @ drawn.T
    return full * spread**2 / torch.linalg.eigvalsh(full)[-1]


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 8.0])
def test_two_classes_against_scipy_quad(spread: float) -> None:
    matrix = covariance(2, spread)
    mean = torch.tensor([[0.7, -0.4], [0.0, 3.0], [-9.0, 1.0]])
    contrast = torch.tensor([1.0, -1.0], dtype=torch.float64)
    sd = float(contrast @ matrix @ contrast) ** 0.5
    found = softmax_expectation(mean, matrix)[:, 0]
    for m, p in zip((mean[:, 0] - mean[:, 1]).double().tolist(), found.tolist(), strict=True):
        # Breaks around the sigmoid's step keep the adaptive rule from missing it.
        step = -m / sd
        exact, _ = quad(
            lambda g, m=m: norm.pdf(g) / (1 + np.exp(-(m + sd * g))),
            -10,
            10,
            points=[max(-9.9, min(9.9, step))],
            epsabs=1e-12,
            limit=500,
        )
        assert p == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    ("classes", "spread", "tolerance"), [(3, 4.0, 1e-3), (4, 4.0, 1e-3), (4, 8.0, 1.5e-3), (6, 4.0, 2e-3)]
)
def test_against_monte_carlo(classes: int, spread: float, tolerance: float) -> None:
    matrix = covariance(classes, spread)
    mean = torch.tensor(np.random.default_rng(1).normal(size=(3, classes)) * 2)
    draws = np.random.default_rng(2).multivariate_normal(np.zeros(classes), matrix.numpy(), size=200_000)
    for row, p in zip(mean, softmax_expectation(mean, matrix), strict=True):
        simulated = (row + torch.from_numpy(draws)).softmax(1)
        error = simulated.std(0) / len(draws) ** 0.5
        assert ((p - simulated.mean(0)).abs() < 5 * error + 1e-4).all()
        assert (error < tolerance).all()


@pytest.mark.parametrize(("classes", "tolerance"), [(3, 1e-6), (4, 3e-5)])
def test_stated_accuracy_against_gauss_hermite(classes: int, tolerance: float) -> None:
    """A rule of another kind with far more nodes; at this spread it has itself converged to 1e-6."""
    matrix = covariance(classes, 2.5)
    x, w = np.polynomial.hermite_e.hermegauss(64)
    rank = classes - 1
    grid = torch.tensor(np.stack(np.meshgrid(*[x] * rank, indexing="ij"), -1).reshape(-1, rank))
    weights = torch.tensor(np.stack(np.meshgrid(*[w / w.sum()] * rank, indexing="ij"), -1).reshape(-1, rank)).prod(1)
    values, vectors = torch.linalg.eigh(matrix)
    points = grid @ (vectors[:, 1:] * values[1:].sqrt()).T
    for row in torch.randn(3, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2:
        expected = weights @ (row + points).softmax(1)
        assert softmax_expectation(row[None], matrix)[0].tolist() == pytest.approx(expected.tolist(), abs=tolerance)


def test_stated_accuracy_at_its_edge() -> None:
    """Four classes, all contrasts as wide as allowed for 3e-5, against a plain sum over a finer and larger grid."""
    line = torch.arange(-6.5, 6.51, 0.11, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([torch.ones(4, 1), torch.eye(4)[:, :3]], dim=1).double()).Q[:, 1:]
    plane = torch.cartesian_prod(line, line)
    row = torch.tensor([[3.0, -2.0, 0.5, 0.0]], dtype=torch.float64)
    expected, mass = torch.zeros(4, dtype=torch.float64), 0.0
    for z in line:
        g = torch.cat([z.expand(len(plane), 1), plane], dim=1)
        weight = (-g.square().sum(1) / 2).exp()
        expected, mass = expected + weight @ (row + 8 * g @ basis.T).softmax(1), mass + float(weight.sum())
    found = softmax_expectation(row, 64 * (basis @ basis.T))[0]
    assert found.tolist() == pytest.approx((expected / mass).tolist(), abs=3e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_nodes_have_the_asked_moments(classes: int) -> None:
    matrix = covariance(classes, 2.0)
    nodes, weights = gaussian_nodes(matrix)
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights @ nodes).abs().max() < 1e-3
    assert (nodes.T @ (weights[:, None] * nodes) - matrix).abs().max() < 5e-3


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 4), seed=st.integers(0, 1000), offset=st.floats(-50, 50))
def test_only_contrasts_count(classes: int, seed: int, offset: float) -> None:
    matrix = covariance(classes, 1.5, seed)
    mean = torch.randn(5, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    out = softmax_expectation(mean, matrix)
    moved = softmax_expectation(mean + offset, matrix + offset**2)
    assert torch.allclose(out, moved, atol=1e-9)
    assert torch.allclose(out.sum(1), torch.ones(5, dtype=torch.float64))
    order = torch.arange(classes).flip(0)
    assert torch.allclose(softmax_expectation(mean[:, order], matrix[order][:, order]), out[:, order], atol=1e-5)


def test_no_spread_is_the_softmax_itself_however_far() -> None:
    mean = torch.tensor([[0.3, -1.0, 2.0], [900.0, 0.0, -900.0]], dtype=torch.float64)
    assert torch.allclose(softmax_expectation(mean, torch.zeros(3, 3)), mean.softmax(1), atol=1e-15)
    far = softmax_expectation(mean * 1e4, covariance(3, 8.0))
    assert far.isfinite().all()
    assert far[1].tolist() == pytest.approx([1, 0, 0])


def test_rows_do_not_meet() -> None:
    """Rows are worked through in parts: a part boundary or a neighbour changes nothing."""
    matrix, mean = covariance(4, 5.0), torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    whole = softmax_expectation(mean, matrix)
    assert torch.allclose(whole[17:18], softmax_expectation(mean[17:18], matrix), atol=1e-14)


def test_too_wide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"covariance: expected a standard deviation of at most 12 .* got 13"):
        softmax_expectation(torch.zeros(1, 3), covariance(3, 13.0))
    with pytest.raises(ValueError, match="at most 12"):
        softmax_expectation(torch.zeros(1, 2), torch.full((2, 2), torch.nan))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 3), spread=st.floats(0, 6))
def test_bias_meets_the_shares(seed: int, classes: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(3, classes, dtype=torch.float64, generator=generator) * 3
    prior = torch.tensor([0.5, 0.3, 0.2])
    shares = torch.rand(classes, dtype=torch.float64, generator=generator) + 0.02
    shares = shares / shares.sum()
    matrix = covariance(classes, spread, seed)
    bias = balancing_bias(mean, matrix, prior, shares)
    assert float(bias.sum()) == pytest.approx(0, abs=1e-9)
    reached = prior.double() @ softmax_expectation(mean + bias, matrix)
    assert torch.allclose(reached, shares, atol=1e-6)


def test_bias_without_spread_is_the_log_of_the_shares() -> None:
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    bias = balancing_bias(torch.zeros(1, 3), torch.zeros(3, 3), torch.ones(1), shares)
    assert bias.tolist() == pytest.approx((shares.log() - shares.log().mean()).tolist())


def test_shares_that_cannot_be_met_are_refused() -> None:
    mean = torch.tensor([[0.0, 1e20], [1e20, 0.0]])
    with pytest.raises(ValueError, match="shares: expected what logits of means up to 1e\\+20 can meet"):
        balancing_bias(mean, torch.zeros(2, 2), torch.tensor([0.6, 0.4]), torch.tensor([0.5, 0.5]))
