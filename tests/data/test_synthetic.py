from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mmaffect.data import DataSpec, SyntheticAffect, synthetic_affect
from mmaffect.data.structural_model import StructuralModel
from mmaffect.data.synthetic import Steps, draw_steps

TWO = {"face": 2, "voice": 1}
EDGE = {("voice", "face"): 0.6}


def small(**changes: Any) -> SyntheticAffect:
    arguments: dict[str, Any] = {"sizes": (20, 5, 5), "edges": EDGE, "affect": 2}
    return synthetic_affect(TWO, **(arguments | changes))


def walk(model: StructuralModel, samples: int, steps: int, inertia: float, speakers: int = 1, seed: int = 0) -> Steps:
    generator = Generator().manual_seed(seed)
    return draw_steps(model, samples, steps, inertia=inertia, speakers=speakers, generator=generator)


def covary(x: Tensor, y: Tensor, expected: Tensor) -> bool:
    """Whether the rows of x and y (of mean 0) covary as expected, up to 5 standard errors of the estimate."""
    products = x[:, :, None] * y[:, None, :]
    return bool(((products.mean(0) - expected).abs() < 5 * products.std(0) / len(x) ** 0.5).all())


def laws(model: StructuralModel) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of a step; what of it the affect carries; what of it the confounder carries."""
    between = model.means.T @ (model.prior[:, None] * model.means)
    mixed = model.total @ model.loadings
    return model.covariance + between, mixed @ mixed.T, between


def test_every_step_has_the_law_of_the_model() -> None:
    truth = small(class_shares=(0.6, 0.3, 0.1)).truth
    drawn = walk(truth.model, 30_000, 6, inertia=0.8, speakers=2)
    full, _, _ = laws(truth.model)
    for t in (0, 2, 5):
        x = drawn.features[:, t]
        assert x.mean(0).abs().max() < 0.03
        assert covary(x, x, full)
        found = drawn.labels[:, t].bincount(minlength=3) / len(x)
        assert found.tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


@pytest.mark.parametrize("inertia", [0.0, 0.5, 0.9])
def test_the_affect_is_a_stationary_autoregression(inertia: float) -> None:
    """Between two steps d apart, features covary by inertia^d of what the affect carries, plus the confounder."""
    model = small().truth.model
    x = walk(model, 30_000, 7, inertia=inertia).features
    _, carried, between = laws(model)
    for start, lag in ((0, 1), (3, 1), (0, 3), (3, 3), (0, 6)):
        assert covary(x[:, start], x[:, start + lag], inertia**lag * carried + between)


def test_speakers_have_an_affect_of_their_own() -> None:
    model = small().truth.model
    drawn = walk(model, 30_000, 3, inertia=0.9, speakers=2)
    _, carried, between = laws(model)
    same = drawn.speaker[:, 0] == drawn.speaker[:, 2]
    x = drawn.features
    assert covary(x[same, 0], x[same, 2], 0.81 * carried + between)
    assert covary(x[~same, 0], x[~same, 2], between)


def test_turns_pass_to_the_next_speaker_and_begin_with_the_first() -> None:
    speaker = walk(small().truth.model, 5000, 12, inertia=0.5, speakers=3).speaker
    assert not speaker[:, 0].any()
    step = (speaker[:, 1:] - speaker[:, :-1]) % 3
    assert sorted(step.unique().tolist()) == [0, 1]
    assert float(step.double().mean()) == pytest.approx(0.5, abs=0.01)


def test_labels_follow_the_softmax_of_their_step() -> None:
    truth = small(class_shares=(0.6, 0.3, 0.1)).truth
    drawn = walk(truth.model, 20_000, 3, inertia=0.8)
    c = drawn.confounder[:, None].expand(-1, 3).flatten()
    x = drawn.features.flatten(0, 1)
    p = truth.posterior({n: x[:, truth.model.columns([n])] for n in TWO}, c)
    assert torch.allclose(p, truth.model.logits(x, c).softmax(1), atol=1e-12)
    hot = torch.nn.functional.one_hot(drawn.labels.flatten(), 3).double()
    # Residuals are uncorrelated with everything the labels could have leaned on.
    assert ((hot - p).T @ torch.cat([x, torch.ones(len(x), 1)], dim=1) / len(x)).abs().max() < 0.012
    assert drawn.confounder.bincount().div(20_000).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


@pytest.mark.parametrize("shares", [(0.4, 0.3, 0.2, 0.1), (0.5, 0.5), (0.3, 0.2, 0.2, 0.1, 0.1, 0.1)])
def test_class_shares_are_those_asked_for(shares: tuple[float, ...]) -> None:
    data = synthetic_affect(sizes=(3000, 1, 1), class_shares=shares, inertia=0.0, confounder_strength=0.5)
    found = data.train.targets.bincount(minlength=len(shares)) / len(data.train.targets)
    assert found.tolist() == pytest.approx(shares, abs=0.015)
    assert data.truth.class_shares.tolist() == pytest.approx(shares, abs=1e-8)


def test_dialogues() -> None:
    data = small(lengths=(3, 5))
    classes, shares = ("class_0", "class_1", "class_2", "class_3"), (0.4, 0.3, 0.2, 0.1)
    wanted = DataSpec(TWO, "class", classes, "dialogue", speakers=2, confounders=3, class_shares=shares)
    assert data.spec == data.train.spec == wanted
    assert [len(d) for d in (data.train, data.valid, data.test)] == [20, 5, 5]
    batch = data.train.batch()
    assert batch.steps is not None
    assert batch.speaker is not None
    assert batch.confounder is not None
    lengths = batch.steps.sum(1)
    assert sorted(set(lengths.tolist())) == [3, 4, 5]
    assert batch.inputs["face"].shape == (20, 5, 2)
    assert batch.inputs["face"].dtype == torch.float32
    assert all(torch.equal(mask, batch.steps) for mask in batch.masks.values())
    assert torch.equal(batch.targets >= 0, batch.steps)
    assert batch.id[:2] == ("train-0", "train-1")
    assert data.test.step_ids(0)[1] == "test-0-1"
    for b, length in enumerate(lengths.tolist()):
        assert len(set(batch.confounder[b, :length].tolist())) == 1


def test_a_speaker_alone_is_not_told() -> None:
    data = small(speakers=1)
    assert data.spec.speakers == 0
    assert data.train[0].speaker is None


def test_windows_are_dialogues_with_the_last_label() -> None:
    windows, dialogues = (small(sequence=kind, lengths=(2, 6)) for kind in ("window", "dialogue"))
    assert windows.spec.sequence == "window"
    assert windows.train.targets.shape == (20,)
    for i in range(20):
        w, d = windows.train[i], dialogues.train[i]
        assert all(torch.equal(w.inputs[n], d.inputs[n]) for n in TWO)
        assert w.target == d.target[-1]
        assert w.confounder is not None
        assert d.confounder is not None
        assert w.confounder == d.confounder[0]
    assert small(sequence="window").train.max_steps == 8


def test_single_is_one_step() -> None:
    data = small(sequence="single")
    assert data.spec.speakers == 0
    batch = data.train.batch()
    assert batch.steps is None
    assert batch.speaker is None
    assert batch.inputs["face"].shape == (20, 1, 2)
    assert batch.targets.shape == (20,)
    assert batch.confounder is not None
    assert batch.confounder.shape == (20,)


def test_frames_average_to_the_step() -> None:
    vectors, frames = small(sequence="single").train, small(sequence="single", lengths=(1, 7), frame_noise=2.0).train
    assert frames.lengths["face"].tolist() != frames.lengths["voice"].tolist()
    spread = []
    for i in range(20):
        assert frames[i].target == vectors[i].target
        for name in TWO:
            x = frames[i].inputs[name]
            assert torch.allclose(x.mean(0), vectors[i].inputs[name][0], atol=1e-5)
            spread += x.var(0).tolist() if len(x) > 3 else []
    assert sum(spread) / len(spread) == pytest.approx(4.0, rel=0.35)


def fingerprints(data: SyntheticAffect) -> list[str]:
    return [data.train.fingerprint, data.valid.fingerprint, data.test.fingerprint]


@pytest.mark.parametrize("kind", ["dialogue", "window", "single"])
def test_the_seed_decides(kind: str) -> None:
    first = small(sequence=kind, seed=3, lengths=(1, 4))
    again = small(sequence=kind, seed=3, lengths=(1, 4))
    other = small(sequence=kind, seed=4, lengths=(1, 4))
    assert fingerprints(first) == fingerprints(again)
    assert torch.equal(first.truth.model.loadings, again.truth.model.loadings)
    assert not set(fingerprints(first)) & set(fingerprints(other))
    assert not torch.equal(first.truth.model.loadings, other.truth.model.loadings)
    assert not torch.equal(first.valid.values["face"][:1], first.test.values["face"][:1])


def test_a_generator_stands_for_the_seed_and_nothing_global_is_touched() -> None:
    state = torch.get_rng_state()
    one = small(generator=Generator().manual_seed(3), seed=99)
    assert fingerprints(one) == fingerprints(small(seed=3))
    shared = Generator().manual_seed(3)
    assert fingerprints(small(generator=shared)) != fingerprints(small(generator=shared))
    assert torch.equal(state, torch.get_rng_state())


def test_one_size_does_not_change_the_rest() -> None:
    first, other = small(), small(sizes=(33, 5, 5))
    assert torch.equal(first.truth.model.readout, other.truth.model.readout)
    assert fingerprints(first)[1:] == fingerprints(other)[1:]
    assert fingerprints(first)[0] != fingerprints(other)[0]


def test_nothing_is_missing_and_any_number_of_modalities_goes() -> None:
    for count in (1, 5):
        data = synthetic_affect({f"m{i}": i + 1 for i in range(count)}, sizes=(4, 2, 2))
        assert data.train.batch().present.all()
        assert data.spec.names == data.truth.model.names
        assert data.truth.posterior({"m0": torch.zeros(2, 1)}).shape == (2, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence": "dialog"}, "sequence: 'dialog' is unknown; did you mean 'dialogue'"),
        ({"lengths": 0}, "lengths: expected 1 <= least <= most, got 0"),
        ({"lengths": (5, 3)}, r"lengths: expected 1 <= least <= most, got \(5, 3\)"),
        ({"inertia": 1.0}, r"inertia: expected a value in \[0, 1\), got 1.0"),
        ({"inertia": -0.1}, r"inertia: expected a value in \[0, 1\), got -0.1"),
        ({"frame_noise": -1.0}, "frame_noise: expected a finite value of at least 0, got -1.0"),
        ({"speakers": 0}, "speakers: expected a value > 0, got 0"),
        ({"sizes": (5, 0, 5)}, r"sizes\[1\]: expected a value > 0, got 0"),
        ({"sizes": (5, 5)}, r"sizes: expected three numbers of samples, got \(5, 5\)"),
        ({"edges": {("face", "voice"): 1.0, ("voice", "face"): 1.0}}, "edges: expected no cycle, got "),
        ({"confounded": "text"}, "confounded: 'text' is unknown"),
        ({"class_shares": (1.0,)}, "classes: expected at least 2 for 'class'"),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_modalities_are_needed() -> None:
    with pytest.raises(ValueError, match="modalities: expected at least one, got none"):
        synthetic_affect({})
