from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mmaffect.data.structural_model import StructuralModel, structural_model

DEFAULTS: dict[str, Any] = {
    "class_shares": (0.5, 0.3, 0.2),
    "affect": 2,
    "loading": 1.0,
    "noise": 1.0,
    "sharpness": 3.0,
    "edges": {},
    "label_from": None,
    "confounder_prior": (0.6, 0.4),
    "confounder_shift": 0.5,
    "confounder_strength": 1.0,
    "confounded": None,
}
THREE = {"a": 2, "b": 3, "c": 1}


def build(modalities: dict[str, int] | None = None, seed: int = 0, **changes: Any) -> StructuralModel:
    return structural_model(modalities or THREE, **{**DEFAULTS, **changes}, generator=Generator().manual_seed(seed))


def simulate(model: StructuralModel, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    c = torch.multinomial(model.prior, size, replacement=True, generator=generator)
    affect, noise = (torch.randn(size, d, dtype=torch.float64, generator=generator) for d in (2, len(model.noise)))
    return model.features(affect, c, noise), c


def test_features_solve_the_structural_equations() -> None:
    model = build(edges={("b", "a"): 0.7, ("c", "b"): -1.2}, noise={"a": 0.5, "b": 1.0, "c": 2.0})
    generator = Generator().manual_seed(1)
    affect, noise = torch.randn(4, 2, generator=generator).double(), torch.randn(4, 6, generator=generator).double()
    c = torch.tensor([0, 1, 0, 1])
    x = model.features(affect, c, noise)
    sigma = torch.tensor([0.5, 0.5, 1, 1, 1, 2], dtype=torch.float64)
    right = affect @ model.loadings.T + x @ model.coupling.T + model.shifts[c] + sigma * noise
    assert torch.allclose(x, right)
    assert torch.allclose(model.logits(x, c), x @ model.readout.T + model.offsets[c] + model.bias)


def test_moments_are_those_of_draws() -> None:
    model = build(edges={("a", "b"): 0.8, ("b", "c"): 1.0})
    x, c = simulate(model, 200_000)
    for value in (0, 1):
        part = x[c == value]
        assert torch.allclose(part.mean(0), model.means[value], atol=0.03)
        assert torch.allclose(part.T.cov(), model.covariance, atol=0.06)


def test_scales_are_what_the_arguments_say() -> None:
    model = build(loading=0.7, confounder_shift=0.4, confounder_strength=1.5, confounded="b", sharpness=2.5)
    assert torch.allclose(model.loadings.norm(dim=1), torch.full((6,), 0.7, dtype=torch.float64))
    prior = model.prior
    assert torch.allclose(prior @ model.shifts, torch.zeros(6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(prior @ model.offsets, torch.zeros(3, dtype=torch.float64), atol=1e-12)
    moved = model.shifts[:, model.columns(["b"])]
    assert float((prior @ moved.square()).mean().sqrt()) == pytest.approx(0.4)
    assert float((prior @ model.offsets.square()).mean().sqrt()) == pytest.approx(1.5)
    x, _ = simulate(model, 100_000)
    assert float((x @ model.readout.T).var(0).mean().sqrt()) == pytest.approx(2.5, rel=0.02)
    parts = [x[:, i] @ model.readout[:, i].T for i in map(model.columns, (["a"], ["b"], ["c"]))]
    assert [float(p.var(0).mean().sqrt() / parts[0].var(0).mean().sqrt()) for p in parts] == pytest.approx(
        [1, 1, 1], rel=0.03
    )


def test_an_edge_weighs_what_it_says() -> None:
    model = build({"a": 4, "b": 400}, edges={("a", "b"): 0.5}, loading=0.0, confounder_shift=0.0)
    pushed = model.covariance[4:, 4:].diag() - 1
    assert float(pushed.mean().sqrt()) == pytest.approx(0.5, rel=0.05)


def test_graph_says_who_acts_on_whom() -> None:
    model = build(edges={("b", "a"): 0.7}, label_from=("c",), confounded="b")
    names, adjacency = model.graph
    arrows = {(names[i], names[j]) for i, j in adjacency.nonzero().tolist()}
    assert arrows == {
        ("affect", "a"),
        ("affect", "b"),
        ("affect", "c"),
        ("b", "a"),
        ("confounder", "b"),
        ("confounder", "label"),
        ("c", "label"),
    }
    bare = build(loading=0.0, confounder_shift=0.0, confounder_strength=0.0, label_from=("a",)).graph
    assert [(bare.names[i], bare.names[j]) for i, j in bare.adjacency.nonzero().tolist()] == [("a", "label")]


def test_cut_leaves_nothing_acting_on_a_modality() -> None:
    model = build(edges={("a", "b"): 0.7, ("b", "c"): 0.5}, confounded="b")
    names, adjacency = model.cut("b").graph
    arrows = {(names[i], names[j]) for i, j in adjacency.nonzero().tolist()}
    before = {(names[i], names[j]) for i, j in model.graph.adjacency.nonzero().tolist()}
    assert before - arrows == {("affect", "b"), ("a", "b"), ("confounder", "b")}
    assert model.cut("b").covariance[2:5].abs().max() == 0


def test_columns_in_the_order_asked() -> None:
    model = build()
    assert model.columns(["c", "a"]).tolist() == [5, 0, 1]
    assert model.columns([]).tolist() == []


def test_an_effect_switched_off_leaves_the_other_draws_as_they_are() -> None:
    model, other = build(), build(label_from=("a",), confounder_strength=0.0)
    assert torch.equal(model.loadings, other.loadings)
    assert torch.equal(model.shifts, other.shifts)
    assert not other.readout[:, 2:].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": {"label": 2}}, "modalities: expected names other than .* got 'label'"),
        ({"affect": 0}, "affect: expected a value > 0, got 0"),
        ({"sharpness": 0.0}, "sharpness: expected a value > 0, got 0.0"),
        ({"sharpness": float("inf")}, "sharpness: expected a finite value of at least 0, got inf"),
        ({"noise": float("inf")}, r"noise\['a'\]: expected a finite value of at least 0, got inf"),
        ({"noise": 0.0}, r"noise\['a'\]: expected a value > 0, got 0.0"),
        ({"noise": {"a": 1.0, "b": 1.0}}, "noise: expected a value for each of .* got .'a', 'b'"),
        ({"noise": {"a": 1.0, "b": 1.0, "d": 1.0}}, "noise: 'd' is unknown"),
        ({"loading": -1.0}, "loading: expected a finite value of at least 0, got -1.0"),
        ({"confounder_shift": float("inf")}, "confounder_shift: expected a finite value"),
        ({"confounder_strength": float("nan")}, "confounder_strength: expected a finite value of at least 0, got nan"),
        ({"class_shares": (0.5, 0.6)}, "class_shares: expected at least 2 positive numbers of sum 1, got .0.5, 0.6"),
        ({"class_shares": (1.0, 0.0)}, "class_shares: expected at least 2 positive numbers"),
        ({"confounder_prior": (1.0,)}, "confounder_prior: expected at least 2 positive numbers of sum 1, got .1.0"),
        ({"confounded": "d"}, "confounded: 'd' is unknown"),
        ({"label_from": ("a", "d")}, "label_from: 'd' is unknown"),
        ({"label_from": ()}, "label_from: expected at least one modality"),
        ({"edges": {("a", "d"): 1.0}}, "edges: 'd' is unknown"),
        ({"edges": {("d", "a"): 1.0}}, "edges: 'd' is unknown"),
        ({"edges": {("a", "a"): 1.0}}, "edges: expected no cycle, got a → a"),
        ({"edges": {("a", "b"): 1.0, ("b", "c"): 1.0, ("c", "a"): 1.0}}, "edges: expected no cycle, got . → . → . → ."),
        ({"edges": {("a", "b"): float("nan")}}, r"edges\['a', 'b'\]: expected a finite number, got nan"),
        ({"sharpness": 40.0}, "at most 12 along every contrast of the logits.*lower the sharpness"),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)
