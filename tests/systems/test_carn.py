"""CARN's losses and ablations against its equations."""

import pytest
import torch
import torch.nn.functional as F

from examples.systems import carn
from mmaffect.data import DataSpec
from mmaffect.testing import random_batch
from mmaffect.training import Progress

SPEC = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", speakers=2)
COMPLETE, MISSING = Progress("complete", 0, 1, 0.0), Progress("missing", 0, 1, 0.0)


@pytest.fixture
def complete():
    return random_batch(SPEC, (6, 4, 5), unlabelled=0.2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def observed(complete):
    return complete.drop(torch.tensor([[True, False], [False, True], [True, True]]))


def system(**changes):
    torch.manual_seed(0)
    return carn.System(carn.Config(hidden=8, heads=2, **changes), SPEC).eval()


def test_stage_1_is_equations_18_to_20(complete):
    model = system(balanced=False, supervision_weight=0.5)
    terms = model.loss(complete, complete, COMPLETE)
    assert set(terms) == {"task/a", "supervision/a", "task/b", "supervision/b"}
    hidden, cues = model.streams(complete)
    for name in SPEC.names:
        mask = complete.masks[name]
        logits = model.unimodal_heads[name](hidden[name])
        expected = F.cross_entropy(logits[mask], complete.targets[mask])
        torch.testing.assert_close(terms[f"task/{name}"], expected)
        css = model.supervision[name](complete.inputs[name], cues[name].parents, mask)
        torch.testing.assert_close(terms[f"supervision/{name}"], 0.5 * css)


def test_stage_2_is_equations_21_to_23(complete, observed):
    model = system(balanced=False)
    terms = model.loss(observed, complete, MISSING)
    assert set(terms) == {"task", "reconstruction"}
    there = observed.observed("dialogue")
    torch.testing.assert_close(terms["task"], F.cross_entropy(model(observed)[there], observed.targets[there]))
    rebuilt = model.reconstruct(observed)
    expected = sum(F.mse_loss(rebuilt[n][m], complete.inputs[n][m]) for n, m in complete.masks.items())
    torch.testing.assert_close(terms["reconstruction"], expected)


def test_truly_missing_rebuilds_only_what_is_observed(observed):
    model = system()
    terms = model.loss(observed, None, MISSING)
    rebuilt = model.reconstruct(observed)
    expected = sum(F.mse_loss(rebuilt[n][m], observed.inputs[n][m]) for n, m in observed.masks.items())
    torch.testing.assert_close(terms["reconstruction"], expected)


def test_class_weights_follow_the_shares(complete):
    spec = DataSpec(SPEC.modalities, "class", SPEC.classes, "dialogue", 2, class_shares=(0.6, 0.3, 0.1))
    torch.manual_seed(0)
    model = carn.System(carn.Config(hidden=8, heads=2), spec).eval()
    there = complete.observed("dialogue")
    weight = torch.tensor(spec.class_weights)
    rows = F.cross_entropy(model(complete)[there], complete.targets[there], weight=weight, reduction="sum")
    expected = rows / (there & (complete.targets != -100)).sum()
    torch.testing.assert_close(model.loss(complete, complete, MISSING)["task"], expected)


def test_attention_is_sparse_and_causal_or_vanilla(complete):
    causal = system().attention(complete)
    vanilla = system(**carn.ABLATIONS["w/ vanilla attention"]).attention(complete)
    mask = complete.masks["a"][0]
    assert (causal["a"].triu(1) == 0).all()
    pairs = mask[:, None] & mask[None, :]
    assert (vanilla["a"][0, 0][pairs] > 0).all()
    assert (vanilla["a"][0, 0][~pairs] == 0).all()


def test_ablations_take_their_part_away(complete):
    assert not system(**carn.ABLATIONS["w/o CCE"]).cues
    assert set(system(**carn.ABLATIONS["w/o CCE"]).loss(complete, complete, COMPLETE)) == {"task/a", "task/b"}
    assert set(system(**carn.ABLATIONS["w/o CSS"]).loss(complete, complete, COMPLETE)) == {"task/a", "task/b"}
    mse = system(**carn.ABLATIONS["w/ MSE"])
    assert all(loss.kind == "mse" for loss in mse.supervision.values())
    assert not system(**carn.ABLATIONS["w/ vanilla attention"]).cues["a"].attention.causal


def test_parents_are_the_strict_past_unless_the_paper_is_asked_for(complete):
    strict = system().streams(complete)[1]["a"].parents
    printed = system(self_parent=True).streams(complete)[1]["a"].parents
    assert (strict.diagonal(dim1=-2, dim2=-1) == 0).all()
    assert (printed.diagonal(dim1=-2, dim2=-1) > 0).any()


@pytest.mark.parametrize("sequence", ["window", "single"])
def test_other_sequences_are_rebuilt_too(sequence):
    spec = DataSpec({"a": 5, "b": 3}, "score", ("s",), sequence)
    torch.manual_seed(0)
    model = carn.System(carn.Config(hidden=8, heads=2), spec).eval()
    batch = random_batch(spec, (4, 3), generator=torch.Generator().manual_seed(0))
    assert model(batch).shape == (2,)
    rebuilt, truth = model.reconstruct(batch), batch.pooled()
    for name in spec.names:
        assert rebuilt[name].shape == truth.inputs[name].shape


def test_reconstruction_passes_the_transformer_of_equation_13(complete):
    model = system()
    fused, steps = model.fuse(model.streams(complete)[0], complete)
    expected = model.to_features(model.decoder(fused, steps))
    torch.testing.assert_close(torch.cat(list(model.reconstruct(complete).values()), -1), expected)


def test_weights_and_masks_of_the_config_are_heeded(complete, observed):
    single, double = (system(reconstruction_weight=w).loss(observed, complete, MISSING) for w in (1.0, 2.0))
    torch.testing.assert_close(double["reconstruction"], 2 * single["reconstruction"])
    strict = system(include_self=False).attention(complete)["a"]
    assert (strict.diagonal(dim1=-2, dim2=-1) == 0).all()
    cold, warm = (system(temperature=t).loss(complete, complete, COMPLETE)["supervision/a"] for t in (0.1, 1.0))
    assert not torch.allclose(cold, warm)
