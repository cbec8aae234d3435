"""The masked encoder against PyTorch's own, and on rows with nothing to attend to."""

import pytest
import torch
from torch import nn

from mmaffect.attention import TransformerEncoder


def test_equals_torchs_encoder_with_the_same_weights():
    torch.manual_seed(0)
    ours = TransformerEncoder(8, 2, 2, hidden=16, positions="none").double().eval()
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False).double().eval()
    pairs = {
        "self_attn.in_proj_weight": "project.weight",
        "self_attn.in_proj_bias": "project.bias",
        "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias",
        "linear1.weight": "feed_forward.0.weight",
        "linear1.bias": "feed_forward.0.bias",
        "linear2.weight": "feed_forward.3.weight",
        "linear2.bias": "feed_forward.3.bias",
        "norm1.weight": "attention_norm.weight",
        "norm1.bias": "attention_norm.bias",
        "norm2.weight": "feed_forward_norm.weight",
        "norm2.bias": "feed_forward_norm.bias",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {f"layers.{n}.{a}": state[f"layers.{n}.{b}"] for n in range(2) for a, b in pairs.items()}
        | {f"norm.{k}": state[f"norm.{k}"] for k in ("weight", "bias")}
    )
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
    expected = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, mask)[mask], expected[mask])


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "distance"])
def test_positions_tell_order_or_do_not(positions):
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, 1, 2, positions=positions).eval()
    x = torch.randn(1, 6, 8)
    order = torch.tensor([3, 1, 0, 2, 5, 4])
    same = torch.allclose(encoder(x)[:, order], encoder(x[:, order]), atol=1e-5)
    assert same == (positions == "none")


def test_causal_never_sees_the_future():
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, 2, 2, causal=True).eval()
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(encoder(x)[:, :4], encoder(changed)[:, :4])


def test_nothing_to_attend_to_is_finite_with_finite_gradients():
    encoder = TransformerEncoder(8, 1, 2, positions="distance")
    x = torch.full((1, 3, 8), torch.nan)
    out = encoder(x, torch.zeros(1, 3, dtype=torch.bool))
    assert (out == 0).all()
    real = torch.ones(1, 3, dtype=torch.bool)
    out = encoder(torch.randn(1, 3, 8), torch.zeros(1, 3, dtype=torch.bool), queries=real)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 3, got 8"):
        TransformerEncoder(8, 1, 3)
    with pytest.raises(ValueError, match="positions: 'distanc' is unknown; did you mean 'distance'"):
        TransformerEncoder(8, 1, 2, positions="distanc")
    with pytest.raises(ValueError, match="layers: expected a value > 0"):
        TransformerEncoder(8, 0, 2)
