"""Acyclicity against every small graph, against arithmetic of 60 digits, and against closed forms."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import acyclicity

METHODS = ("expm", "poly", "logdet")


def all_graphs(size, loops):
    """Every directed graph with so many nodes: bool ``(2^edges, M, M)``."""
    places = [(i, j) for i in range(size) for j in range(size) if loops or i != j]
    numbers = torch.arange(2 ** len(places))
    graphs = torch.zeros(len(numbers), size, size, dtype=torch.bool)
    for k, (i, j) in enumerate(places):
        graphs[:, i, j] = (numbers >> k) & 1 == 1
    return graphs


def without_cycle(graphs):
    """Kahn's algorithm, for many graphs at once: take away nodes that nothing left points at, until none goes."""
    left = torch.ones(graphs.shape[:2], dtype=torch.bool)
    for _ in range(graphs.shape[-1]):
        left = left & (graphs & left.unsqueeze(-1)).any(1)
    return ~left.any(1)


def weighted(graphs, seed=0, dtype=torch.float32):
    """Weights of either sign and a size in [0.3, 1.5] on the edges."""
    generator = torch.Generator().manual_seed(seed)
    size = 0.3 + 1.2 * torch.rand(graphs.shape, generator=generator, dtype=dtype)
    sign = torch.randint(0, 2, graphs.shape, generator=generator).to(dtype) * 2 - 1
    return torch.where(graphs, size * sign, torch.zeros((), dtype=dtype))


def exact(adjacency, method, s=None):
    """h and its gradient in 60 digits, as the papers print them."""
    with mpmath.workdps(60):
        size = adjacency.shape[0]
        A = mpmath.matrix(adjacency.tolist())
        B = A.apply(lambda a: a * a)
        one = mpmath.eye(size)
        if method == "expm":
            slope = mpmath.expm(B)
            h = sum(slope[i, i] for i in range(size)) - size
        elif method == "poly":
            slope = (one + B / size) ** (size - 1)
            power = slope * (one + B / size)
            h = sum(power[i, i] for i in range(size)) - size
        else:
            s = mpmath.mpf(s or size)
            h = size * mpmath.log(s) - mpmath.log(mpmath.det(s * one - B))
            slope = mpmath.inverse(s * one - B)
        gradient = [[slope[j, i] * 2 * A[i, j] for j in range(size)] for i in range(size)]
        return h, gradient


def relative(found, expected):
    """Largest relative error; what should be 0 must be."""
    with mpmath.workdps(60):
        return max(float(abs(f - e) / abs(e)) if e else float(f != 0) for f, e in zip(found, expected, strict=True))


def value_and_gradient(adjacency, method, s=None):
    adjacency = adjacency.clone().requires_grad_()
    h = acyclicity(adjacency, method, s=s)
    return h.detach(), torch.autograd.grad(h.sum(), adjacency)[0]


def test_kahn_itself_knows_a_chain_from_a_ring():
    chain, ring = torch.zeros(2, 3, 3, dtype=torch.bool)
    chain[[0, 1], [1, 2]] = True
    ring[[0, 1, 2], [1, 2, 0]] = True
    assert without_cycle(torch.stack([chain, ring])).tolist() == [True, False]
    # Labelled acyclic digraphs are counted by OEIS A003024.
    assert [int(without_cycle(all_graphs(n, loops=False)).sum()) for n in (1, 2, 3, 4)] == [1, 3, 25, 543]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_graph_of_up_to_four_nodes(size, method, dtype):
    graphs = all_graphs(size, loops=True)
    h = acyclicity(weighted(graphs, dtype=dtype), method, s=2.25 * size if method == "logdet" else None)
    assert (h[without_cycle(graphs)] == 0).all()
    assert (h[~without_cycle(graphs)] > 0).all()
    assert h.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_every_graph_of_five_nodes_without_loops(method):
    graphs = all_graphs(5, loops=False)
    if method != "expm":  # a million graphs for the default; for the others all without cycle and a sixteenth
        some = torch.rand(len(graphs), generator=torch.Generator().manual_seed(0)) < 1 / 16
        graphs = graphs[without_cycle(graphs) | some]
    assert int(without_cycle(graphs).sum()) == 29281  # OEIS A003024
    for part in graphs.split(2**16):
        h = acyclicity(weighted(part), method, s=12.0 if method == "logdet" else None)
        assert torch.equal(h == 0, without_cycle(part))
        assert (h >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_large_graph_without_cycle_is_zero_at_any_weight(method, dtype):
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(50, generator=generator)
    for scale in (1e-8, 1.0, 1e3, 1e15):
        triangle = scale * torch.randn(50, 50, generator=generator, dtype=dtype).triu(1)
        h, gradient = value_and_gradient(triangle[order][:, order], method)
        assert h == 0
        assert not math.copysign(1, h.item()) < 0
        assert not gradient.isnan().any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 5e-15)])
def test_value_and_gradient_at_every_scale_against_60_digits(method, size, dtype, tolerance):
    smallest = math.inf
    for step, scale in enumerate(10.0 ** torch.linspace(-6, 0.3, 12)):
        adjacency = scale * torch.randn(size, size, dtype=dtype, generator=torch.Generator().manual_seed(step))
        adjacency.fill_diagonal_(0)
        s = max(size, 2 * float(torch.linalg.eigvals(adjacency.square()).abs().max()))
        h, gradient = value_and_gradient(adjacency, method, s if method == "logdet" else None)
        expected, slope = exact(adjacency, method, s)
        smallest = min(smallest, float(expected))
        assert relative([h.item()], [expected]) < tolerance
        assert relative(gradient.flatten().tolist(), [g for row in slope for g in row]) < tolerance
    assert smallest < 1e-17


@settings(max_examples=25, deadline=None)
@given(
    graph=st.integers(1, 2**12 - 1),
    exponents=st.lists(st.integers(-25, 6), min_size=12, max_size=12),
    method=st.sampled_from(METHODS),
)
def test_weights_of_very_different_size_cost_no_digit(graph, exponents, method):
    # Powers of a half are exact, so the relative error is that of the computation alone.
    adjacency = torch.zeros(4, 4)
    for k, (i, j) in enumerate((i, j) for i in range(4) for j in range(4) if i != j):
        adjacency[i, j] = (graph >> k & 1) * 2.0 ** (exponents[k] / 4)
    h, gradient = value_and_gradient(adjacency, method, 50.0 if method == "logdet" else None)
    expected, slope = exact(adjacency, method, 50.0)
    if expected == 0 or float(expected) > 1e-17:
        # 4e-6: the condition of the exponential at a large radius, which reaches 3 * 2^3 here
        assert relative([h.item()], [expected]) < (4e-6 if expected > 100 else 1e-6)
        assert relative(gradient.flatten().tolist(), [g for row in slope for g in row]) < 4e-6


def ring(size, weight, dtype):
    adjacency = torch.zeros(size, size, dtype=dtype)
    for i, j in pairwise([*range(size), 0]):
        adjacency[i, j] = weight
    return adjacency


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("size", [2, 3, 10, 40])
def test_a_ring_has_a_closed_form(size, dtype, tolerance):
    for root in (0.25, 0.5, 1.0, 1.5, 2.0):
        weight = torch.tensor(root, dtype=dtype) * (math.factorial(size) ** (1 / size) / 2) ** 0.5
        adjacency = ring(size, weight, dtype)
        with mpmath.workdps(60):
            x = mpmath.mpf(weight.item()) ** 2
            closed = {
                "expm": size
                * mpmath.nsum(lambda m, x=x: x ** (m * size) / mpmath.factorial(m * size), [1, mpmath.inf]),
                "poly": size * (x / size) ** size,
                "logdet": -mpmath.log(1 - (x / (2 * x)) ** size),
            }
        for method, expected in closed.items():
            h = acyclicity(adjacency, method, s=2 * weight.item() ** 2 if method == "logdet" else None)
            if float(expected) > 1e-30:  # float32 ends at 1e-38
                assert relative([h.item()], [expected]) < tolerance, (method, root)


@pytest.mark.parametrize(
    ("dtype", "largest", "tolerance"), [(torch.float32, 85.0, 3e-5), (torch.float64, 700.0, 1e-12)]
)
def test_up_to_where_the_exponential_ends(dtype, largest, tolerance):
    for x in torch.linspace(1, largest, 9, dtype=torch.float64).tolist():
        adjacency = ring(2, x**0.5, dtype)
        x = adjacency[0, 1].item() * adjacency[1, 0].item()
        assert acyclicity(adjacency).item() == pytest.approx(2 * math.cosh(x) - 2, rel=tolerance)
    assert acyclicity(ring(2, (2 * largest) ** 0.5, dtype)) > 1e38


def test_large_dense_matrices_against_scipy():
    for size, scale in ((40, 1.0), (100, 0.7)):
        adjacency = scale * torch.rand(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
        h, gradient = value_and_gradient(adjacency, "expm")
        exponential = scipy.linalg.expm(adjacency.square().numpy())
        assert h.item() == pytest.approx(np.trace(exponential) - size, rel=1e-11)
        np.testing.assert_allclose(gradient.numpy(), exponential.T * 2 * adjacency.numpy(), rtol=1e-10)
        single, slope = value_and_gradient(adjacency.float(), "expm")
        assert single.item() == pytest.approx(h.item(), rel=2e-6)
        torch.testing.assert_close(slope.double(), gradient, rtol=2e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_first_and_second_derivatives_in_float64(method, size):
    adjacency = 0.4 * torch.randn(2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    adjacency.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: acyclicity(a, method), adjacency)
    assert torch.autograd.gradgradcheck(lambda a: acyclicity(a, method), adjacency)


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_s_and_what_lies_outside_it(method):
    adjacency = ring(2, 1.5, torch.float64)  # spectral radius of the squares: 2.25
    if method != "logdet":
        with pytest.raises(ValueError, match=f"s: expected None for method '{method}', got 3.0"):
            acyclicity(adjacency, method, s=3.0)
        return
    assert acyclicity(adjacency, method, s=3.0).item() == pytest.approx(-math.log(1 - 0.75**2))
    assert acyclicity(adjacency, method, s=2.25).isposinf()
    assert acyclicity(adjacency, method).isposinf()  # M = 2
    assert acyclicity(adjacency, method, s=0.1).isposinf()
    loop = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])  # an infinity that meets zeros
    assert acyclicity(loop, method, s=1.0).isposinf()
    for s in (0.0, -1.0):
        with pytest.raises(ValueError, match="s: expected a value > 0"):
            acyclicity(adjacency, method, s=s)


@pytest.mark.parametrize(("radius", "tolerance"), [(1.99, 3e-6), (1.999, 2e-5), (1.99999, 1e-3)])
def test_logdet_near_s_loses_no_more_than_it_says(radius, tolerance):
    h, gradient = value_and_gradient(ring(2, radius**0.5, torch.float32), "logdet")
    expected, _ = exact(ring(2, radius**0.5, torch.float32), "logdet")
    assert relative([h.item()], [expected]) < tolerance
    assert gradient.isfinite().all()


def test_a_cycle_below_the_smallest_number_is_lost():
    assert acyclicity(ring(5, 1e-5, torch.float32)) == 0
    assert acyclicity(ring(5, 1e-5, torch.float64)) > 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), s=st.floats(0.05, 5))
def test_logdet_is_finite_if_and_only_if_s_is_above_the_spectral_radius(seed, s):
    adjacency = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    radius = torch.linalg.eigvals(adjacency.square()).abs().max()
    h = acyclicity(adjacency, "logdet", s=s * radius.item())
    assert (h.isfinite() if s > 1 else h.isposinf()) or abs(s - 1) < 1e-9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (0,), (2, 0)])
def test_any_batch(method, shape):
    adjacency = torch.rand(*shape, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    h = acyclicity(adjacency, method)
    assert h.shape == shape
    h.sum().backward()
    assert adjacency.grad.shape == adjacency.shape
    for matrix, value in zip(adjacency.detach().reshape(-1, 4, 4), h.flatten(), strict=True):
        torch.testing.assert_close(acyclicity(matrix, method), value)


@pytest.mark.parametrize("method", METHODS)
def test_the_numbering_of_nodes_does_not_matter(method):
    adjacency = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(acyclicity(adjacency[order][:, order], method), acyclicity(adjacency, method))
    torch.testing.assert_close(acyclicity(-adjacency.T, method), acyclicity(adjacency, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(method, dtype):
    adjacency = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    h, gradient = value_and_gradient(adjacency, method)
    wide, slope = value_and_gradient(adjacency.float(), method)
    assert h.dtype == gradient.dtype == dtype
    torch.testing.assert_close(h, wide.to(dtype))
    torch.testing.assert_close(gradient, slope.to(dtype))


@pytest.mark.parametrize("method", METHODS)
def test_autocast_changes_nothing(method):
    adjacency = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = value_and_gradient(adjacency, method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(adjacency, method)
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_none_shows(method):
    adjacency = torch.zeros(2, 3, 3)
    adjacency[0, 0, 1] = torch.nan
    assert acyclicity(adjacency, method).isnan().tolist() == [True, False]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("error:There is a performance drop")
def test_vmap_and_functional_derivatives(method):
    adjacency = torch.rand(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def h(a):
        return acyclicity(a, method)

    value, gradient = value_and_gradient(adjacency, method)
    torch.testing.assert_close(torch.func.vmap(h)(adjacency), value)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(h))(adjacency), gradient)
    torch.testing.assert_close(
        torch.func.jacrev(torch.func.jacrev(h))(adjacency[0]), torch.autograd.functional.hessian(h, adjacency[0])
    )


class Measure(torch.nn.Module):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, adjacency):
        return acyclicity(adjacency, self.method)


@pytest.mark.parametrize("method", METHODS)
def test_compiles_whole_and_exports(method):
    generator = torch.Generator().manual_seed(0)
    example, other = (torch.rand(4, 3, 3, generator=generator) * scale for scale in (0.1, 1.0))
    torch.compiler.reset()
    compiled = torch.compile(Measure(method), fullgraph=True, backend="aot_eager")
    for adjacency in (example, other):
        given = adjacency.clone().requires_grad_()
        compiled(given).sum().backward()
        value, gradient = value_and_gradient(adjacency, method)
        torch.testing.assert_close(compiled(adjacency), value)
        torch.testing.assert_close(given.grad, gradient)
    torch.compiler.reset()
    program = torch.export.export(Measure(method), (example,), dynamic_shapes=({0: torch.export.Dim("B")},)).module()
    more = torch.rand(9, 3, 3, generator=generator)
    torch.testing.assert_close(program(more), acyclicity(more, method))


def test_refuses_what_is_no_adjacency():
    for shape in ((3,), (3, 4), (2, 3, 2)):
        with pytest.raises(ValueError, match=r"adjacency: expected shape \(\.\.\., M, M\), got \("):
            acyclicity(torch.zeros(shape))
    for shape in ((0, 0), (2, 0, 0)):
        with pytest.raises(ValueError, match=r"adjacency: expected shape .* with M of at least 1, got \("):
            acyclicity(torch.zeros(shape))
    with pytest.raises(ValueError, match="s: expected a finite value, got inf"):
        acyclicity(torch.zeros(3, 3), "logdet", s=math.inf)
    with pytest.raises(ValueError, match=r"adjacency: expected a floating dtype, got torch\.bool"):
        acyclicity(torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="method: 'exp' is unknown; did you mean 'expm'"):
        acyclicity(torch.zeros(3, 3), "exp")
