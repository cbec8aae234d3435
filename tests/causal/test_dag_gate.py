"""The gate against loops and closed forms, its samples against their law, and what absence must leave untouched."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.causal import DAGGate, gumbel_sigmoid


def gate_of(dim=4, seed=0, **options):
    torch.manual_seed(seed)
    return DAGGate(dim, **options).double()


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_gate_equals_loops_over_edges(samples, modalities, seed):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(samples, modalities, generator=generator) < 0.7
    nodes = 2 * normal(samples, modalities, 4, seed=seed)
    gate = gate_of(l1=0.3, seed=seed)
    found = gate(torch.where(present[:, :, None], nodes, torch.nan), present)
    penalty = 0.0
    for b in range(samples):
        edges = np.zeros((modalities, modalities))
        for i in range(modalities):
            for j in range(modalities):
                if i != j and present[b, i] and present[b, j]:
                    score = (gate.query.weight @ nodes[b, i]) @ (gate.key.weight @ nodes[b, j]) / math.sqrt(4)
                    edges[i, j] = 1 / (1 + math.exp(-score.item()))
        weights = edges.sum(0) / edges.sum() if edges.sum() else present[b].double().numpy()
        np.testing.assert_allclose(found.adjacency[b].detach(), edges, atol=1e-12)
        np.testing.assert_allclose(found.weights[b].detach(), weights, atol=1e-12)
        penalty += np.trace(scipy.linalg.expm(edges * edges)) - modalities + 0.3 * edges.sum()
    assert found.penalty.item() == pytest.approx(penalty / samples, abs=1e-10)


@pytest.mark.parametrize("method", ["expm", "poly", "logdet"])
def test_scores_of_zero_have_a_closed_form(method):
    gate = gate_of(method=method, l1=0.0)
    torch.nn.init.zeros_(gate.query.weight)
    weights, adjacency, penalty = gate(normal(2, 3, 4))
    torch.testing.assert_close(weights, torch.full((2, 3), 1 / 3).double())
    torch.testing.assert_close(adjacency[0], (0.5 - 0.5 * torch.eye(3)).double())
    # A∘A = (J - I) / 4 has the eigenvalues 1/2, -1/4, -1/4.
    values = np.array([0.5, -0.25, -0.25])
    expected = {
        "expm": np.exp(values).sum() - 3,
        "poly": ((1 + values / 3) ** 3).sum() - 3,
        "logdet": -np.log(3 - values).sum() + 3 * math.log(3),
    }[method]
    assert penalty.item() == pytest.approx(expected, abs=1e-12)


def test_absent_modalities_leave_the_gate_of_the_others():
    gate, nodes = gate_of(), normal(3, 4, 4)
    for left in ([0, 1, 3], [1, 2], [3]):
        present = torch.zeros(3, 4, dtype=torch.bool)
        present[:, left] = True
        whole, part = gate(nodes, present), gate(nodes[:, left])
        torch.testing.assert_close(whole.weights[:, left], part.weights)
        torch.testing.assert_close(whole.adjacency[:, left][:, :, left], part.adjacency)
        torch.testing.assert_close(whole.penalty, part.penalty)
        assert (whole.weights[~present] == 0).all()
        torch.testing.assert_close(whole.adjacency.sum(), part.adjacency.sum())


@pytest.mark.parametrize("kind", ["notears", "gumbel", "none"])
def test_one_modality_has_weight_one_and_none_has_none(kind):
    gate = gate_of(kind=kind)
    present = torch.tensor([[False, True, False], [False, False, False]])
    nodes = normal(2, 3, 4).requires_grad_()
    weights, adjacency, penalty = gate(nodes, present)
    assert weights.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert (adjacency == 0).all()
    assert penalty.item() == 0
    if kind != "none":
        (weights * normal(2, 3)).sum().add(penalty).backward()
        assert (nodes.grad == 0).all()


def test_a_sample_without_edges_adds_nothing_to_the_mean_penalty():
    gate, nodes = gate_of(), normal(2, 3, 4)
    present = torch.tensor([[True, True, True], [True, False, False]])
    torch.testing.assert_close(gate(nodes, present).penalty, gate(nodes[:1]).penalty / 2)


@pytest.mark.parametrize("kind", ["notears", "gumbel", "none"])
def test_a_batch_without_samples_costs_nothing(kind):
    weights, adjacency, penalty = gate_of(kind=kind)(normal(0, 3, 4))
    assert (weights.shape, adjacency.shape) == ((0, 3), (0, 3, 3))
    assert penalty.item() == 0


def test_half_precision_keeps_the_digits_of_a_score():
    # -7 * 10.1875 = -71.3125, which bfloat16 rounds to -71.5: a fifth less of an edge.
    gate = DAGGate(1)
    for projection in (gate.query, gate.key):
        torch.nn.init.ones_(projection.weight)
    adjacency = gate.bfloat16()(torch.tensor([[[-7.0], [10.1875]]]).bfloat16()).adjacency
    assert adjacency[0, 0, 1].item() == pytest.approx(math.exp(-71.3125), rel=0.01, abs=0)


def test_modalities_in_another_order_keep_their_weights():
    gate, nodes, order = gate_of(), normal(2, 4, 4), [2, 0, 3, 1]
    there, moved = gate(nodes), gate(nodes[:, order])
    torch.testing.assert_close(moved.weights, there.weights[:, order])
    torch.testing.assert_close(moved.adjacency, there.adjacency[:, order][:, :, order])
    torch.testing.assert_close(moved.penalty, there.penalty)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_outlive_edges_that_underflow(dtype):
    # All edges are about exp(-300) and below: their sums are zero in float32, their shares are not.
    gate = DAGGate(1)
    for projection in (gate.query, gate.key):
        torch.nn.init.ones_(projection.weight)
    gate = gate.to(dtype)
    nodes = torch.tensor([[[-20.0], [15.0], [20.0]]], dtype=dtype).requires_grad_()
    # E is -300 between the first and the second, -400 between the first and the third, 300 between the others.
    present = torch.tensor([[True, True, True]])
    low = gate(torch.stack([nodes[0, 0], nodes[0, 1]]).unsqueeze(0))
    assert (low.adjacency == 0).all()
    torch.testing.assert_close(low.weights.float(), torch.full((1, 2), 0.5))
    weights = gate(nodes, present).weights
    weights[0, 0].backward()
    assert nodes.grad.isfinite().all()
    torch.testing.assert_close(weights.float(), torch.tensor([[0.0, 0.5, 0.5]]), atol=1e-6, rtol=0)


def test_samples_are_hard_and_their_gradient_is_the_relaxations():
    scores, noise = normal(50).requires_grad_(), normal(50, seed=1)
    hard = gumbel_sigmoid(scores, noise, 0.7)
    assert set(hard.tolist()) == {0.0, 1.0}
    assert torch.equal(hard, (scores + noise > 0).double())
    (gradient,) = torch.autograd.grad((hard * normal(50, seed=2)).sum(), scores)
    step = 1e-6

    def soft(values):
        return torch.special.expit((values + noise) / 0.7)

    slope = (soft(scores.detach() + step) - soft(scores.detach() - step)) / (2 * step)
    torch.testing.assert_close(gradient, slope * normal(50, seed=2), rtol=1e-6, atol=1e-9)


def test_edges_are_drawn_with_the_probability_of_their_scores():
    gate, nodes = gate_of(kind="gumbel").train(), normal(1, 3, 4).expand(20_000, 3, 4)
    probability = gate_of(kind="notears")(nodes[:1]).adjacency[0]
    drawn = gate(nodes, generator=torch.Generator().manual_seed(0)).adjacency
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), probability, atol=0.015, rtol=0)
    again = gate(nodes, generator=torch.Generator().manual_seed(0)).adjacency
    assert torch.equal(drawn, again)


def test_outside_training_the_likelier_edges_are_taken():
    gate, nodes = gate_of(kind="gumbel", l1=0.5).eval(), normal(2, 3, 4)
    weights, adjacency, penalty = gate(nodes)
    likely = (gate_of(kind="notears")(nodes).adjacency > 0.5).double()
    assert torch.equal(adjacency, likely)
    torch.testing.assert_close(weights, likely.sum(1) / likely.sum((1, 2))[:, None])
    assert penalty.item() == pytest.approx(0.5 * likely.sum().item() / 2)


def test_without_any_edge_drawn_the_weights_are_equal_and_their_gradient_is_finite():
    gate = gate_of(kind="gumbel").eval()
    with torch.no_grad():
        gate.key.weight.copy_(-gate.query.weight)
    nodes = normal(1, 1, 4).expand(1, 3, 4).clone().requires_grad_()
    weights, adjacency, _ = gate(nodes, torch.tensor([[True, False, True]]))
    assert (adjacency == 0).all()
    assert weights.tolist() == [[0.5, 0, 0.5]]
    weights[0, 0].backward()
    assert nodes.grad.isfinite().all()


def test_the_kind_without_a_graph_has_no_parameters_and_equal_weights():
    gate = gate_of(kind="none")
    assert not list(gate.parameters())
    weights, adjacency, penalty = gate(normal(1, 3, 4), torch.tensor([[True, False, True]]))
    assert weights.tolist() == [[0.5, 0, 0.5]]
    assert (adjacency == 0).all()
    assert penalty.item() == 0


def test_training_on_the_penalty_removes_cycles():
    gate, nodes = gate_of(l1=0.0), normal(1, 3, 4)
    optimiser = torch.optim.Adam(gate.parameters(), lr=0.2)
    before = gate(nodes).penalty.item()
    for _ in range(60):
        optimiser.zero_grad()
        gate(nodes).penalty.backward()
        optimiser.step()
    _, adjacency, penalty = gate(nodes)
    assert penalty.item() < 1e-2 * before
    both = adjacency[0] * adjacency[0].T
    assert both.max() < 0.05


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="kind: 'notear' is unknown; did you mean 'notears'"):
        DAGGate(4, kind="notear")
    with pytest.raises(ValueError, match="method: 'exp' is unknown"):
        DAGGate(4, method="exp")
    with pytest.raises(ValueError, match="dim: expected a value > 0, got 0"):
        DAGGate(0)
    with pytest.raises(ValueError, match=r"temperature: expected a value > 0, got 0\.0"):
        DAGGate(4, temperature=0.0)
    with pytest.raises(ValueError, match="l1: expected a value of at least 0, got -1"):
        DAGGate(4, l1=-1)
    with pytest.raises(ValueError, match=r"nodes: expected shape \(B, M, D\) with D = 4, got \(2, 3, 5\)"):
        DAGGate(4)(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"present: expected shape \(B, M\) with B = 2, M = 3, got \(2, 2\)"):
        DAGGate(4)(torch.zeros(2, 3, 4), torch.ones(2, 2, dtype=torch.bool))
