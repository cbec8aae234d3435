"""The composite encoder against PyTorch's own where there is one modality, and against what it is said to ignore."""

import pytest
import torch
from torch import nn

from mmaffect.attention import CompositeEncoder, sinusoidal_positions

NAMES = ("a", "b", "c")


def batch(dim, lengths=(4, 3, 5), samples=3):
    generator = torch.Generator().manual_seed(0)
    x = {n: torch.randn(samples, t, dim, generator=generator).double() for n, t in zip(NAMES, lengths, strict=True)}
    masks = {n: torch.arange(t.shape[1]) < torch.tensor([[t.shape[1]], [1], [2]]) for n, t in x.items()}
    return x, masks


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_counts_parameters_as_published(layers):
    encoder = CompositeEncoder(32, layers, 8, NAMES)
    assert sum(p.numel() for p in encoder.parameters()) == layers * 32_480 + 64


def as_torchs(ours):
    """PyTorch's encoder with the same weights, for an encoder that attends over one sequence."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "relu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False).double().eval()
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        attention = mine.attention
        other.self_attn.in_proj_weight.data = attention.project.weight.data
        other.self_attn.in_proj_bias.data = attention.project.bias.data
        # Three maps in a row are the one after PyTorch's attention.
        identity = torch.eye(8, dtype=torch.float64)

        def chain(x, attention=attention):
            return attention.out(attention.modalities[0](attention.subsets[0](x)))

        shift = chain(torch.zeros(8, dtype=torch.float64)).detach()
        other.self_attn.out_proj.weight.data = (chain(identity).detach() - shift).T.contiguous()
        other.self_attn.out_proj.bias.data = shift
        for name in ("linear1.expand", "linear2.contract", "norm1.attention_norm", "norm2.feed_forward_norm"):
            there, here = name.split(".")
            getattr(other, there).load_state_dict(getattr(mine, here).state_dict())
    theirs.norm.load_state_dict(ours.norm.state_dict())
    return theirs


def test_one_modality_is_torchs_encoder_with_positions():
    torch.manual_seed(0)
    ours = CompositeEncoder(8, 2, 2, ("a",), hidden=16).double().eval()
    theirs = as_torchs(ours)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
    expected = theirs(x + sinusoidal_positions(5, 8), src_key_padding_mask=~mask)
    torch.testing.assert_close(ours({"a": x}, {"a": mask}).y["a"][mask], expected[mask])


def test_without_subsets_it_is_torchs_encoder_over_all_modalities():
    torch.manual_seed(0)
    ours = CompositeEncoder(8, 2, 2, NAMES, hidden=16, subsets=False).double().eval()
    x, masks = batch(8)
    positions = torch.cat([sinusoidal_positions(x[n].shape[1], 8) for n in NAMES])
    mask = torch.cat([masks[n] for n in NAMES], 1)
    expected = as_torchs(ours)(torch.cat([x[n] for n in NAMES], 1) + positions, src_key_padding_mask=~mask)
    y, scores = ours(x, masks)
    torch.testing.assert_close(torch.cat([y[n] for n in NAMES], 1)[mask], expected[mask])
    assert scores.shape == (3, 2, 12, 12)


@pytest.mark.parametrize("subsets", [True, False])
def test_a_step_that_asks_is_as_a_source_that_no_one_looks_at(subsets):
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 2, 2, NAMES, subsets=subsets).double().eval()
    x, masks = batch(8)
    queries = {n: torch.ones_like(m) for n, m in masks.items()}
    y, scores = encoder(x, masks, queries=queries)
    plain = encoder(x, masks)
    for name in NAMES:
        torch.testing.assert_close(y[name][masks[name]], plain.y[name][masks[name]])
        # What it holds is its own: another value there changes its own state and no other.
        other = {n: torch.where(masks[n].unsqueeze(-1) | (n != name), t, 1 - t) for n, t in x.items()}
        changed = encoder(other, masks, queries=queries).y
        torch.testing.assert_close(changed[name][masks[name]], y[name][masks[name]])
        assert (changed[name] != y[name])[~masks[name]].any(-1).all()
    mask = torch.cat([masks[n] for n in NAMES], 1)
    assert (scores.abs().sum(1) > 0).equal(mask.unsqueeze(1).expand(-1, 12, -1))


def test_scores_are_those_of_the_last_layer():
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 3, 2, NAMES).double().eval()
    x, masks = batch(8)
    seen = []
    encoder.layers[-1].attention_norm.register_forward_hook(lambda module, given, out: seen.append(out))
    y, scores = encoder(x, masks)
    parts = dict(zip(NAMES, seen[0].split([4, 3, 5], 1), strict=True))
    torch.testing.assert_close(scores, encoder.layers[-1].attention(parts, masks).scores)
    without = encoder(x, masks, return_scores=False)
    assert without.scores is None
    assert all(torch.equal(without.y[n], y[n]) for n in NAMES)


def test_steps_have_an_order_and_samples_have_none():
    # The published positions are those of the sample in the batch: the other way round in both.
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 1, 2, NAMES).double().eval()
    x, masks = batch(8)
    y = encoder(x, masks).y
    moved = encoder({n: t.flip(0) for n, t in x.items()}, {n: m.flip(0) for n, m in masks.items()}).y
    other = encoder({n: t.flip(1) if n == "a" else t for n, t in x.items()}).y
    plain = encoder(x).y
    for name in NAMES:
        torch.testing.assert_close(moved[name].flip(0), y[name])
    assert not torch.allclose(other["a"].flip(1), plain["a"], atol=1e-3)


def test_padding_of_one_modality_does_not_move_the_steps_of_the_next():
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 2, 2, NAMES).double().eval()
    x, masks = batch(8)
    longer = x | {"a": torch.cat([x["a"], torch.full((3, 6, 8), torch.nan, dtype=torch.float64)], 1)}
    more = masks | {"a": torch.cat([masks["a"], torch.zeros(3, 6, dtype=torch.bool)], 1)}
    y, padded = encoder(x, masks).y, encoder(longer, more).y
    for name in NAMES:
        torch.testing.assert_close(padded[name][:, : x[name].shape[1]], y[name])
        assert (padded[name][~more[name]] == 0).all()


@pytest.mark.parametrize("option", ["attention_dropout", "dropout", "embedding_dropout"])
def test_each_dropout_acts_in_training_alone(option):
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 1, 2, NAMES, **({"dropout": 0.0} | {option: 0.5})).double()
    exact = CompositeEncoder(8, 1, 2, NAMES, dropout=0.0).double()
    exact.load_state_dict(encoder.state_dict())
    x, masks = batch(8)
    expected = exact(x, masks).y["b"]
    assert not torch.allclose(encoder(x, masks).y["b"], expected)
    assert torch.equal(encoder.eval()(x, masks).y["b"], expected)


def test_without_its_branches_a_layer_is_the_identity():
    torch.manual_seed(0)
    encoder = CompositeEncoder(8, 2, 2, NAMES, dropout=1.0).double()
    x, _ = batch(8)
    y = encoder(x).y
    for name in NAMES:
        torch.testing.assert_close(y[name], encoder.norm(x[name] + sinusoidal_positions(x[name].shape[1], 8)))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="layers: expected a value > 0, got 0"):
        CompositeEncoder(8, 0, 2, NAMES)
    with pytest.raises(ValueError, match="hidden: expected a value > 0, got 0"):
        CompositeEncoder(8, 1, 2, NAMES, hidden=0)
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 3, got 8"):
        CompositeEncoder(8, 1, 3, NAMES)
    with pytest.raises(ValueError, match=r"x\['a'\]: expected shape \(B, T, D\) with B = 3, D = 8"):
        CompositeEncoder(8, 1, 2, NAMES)({n: torch.zeros(3, 2, 4) for n in NAMES})
