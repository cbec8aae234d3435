"""The aligner against PyTorch's attention, CIDer's size, and words that get nothing."""

import pytest
import torch
from torch import nn

from mmaffect.attention import WordAligner

WORD_MASK = torch.tensor([[True] * 5, [True, True, True, True, False]])
ASKING = torch.tensor([[False, True, True, True, False], [False, True, True, False, True]])
FRAME_MASK = torch.tensor([[True] * 7, [True, False, True, True, False, False, False]])


def pair():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(2, n, 8, generator=generator, dtype=torch.float64) for n in (5, 7))


@pytest.mark.parametrize("heads", [1, 2])
def test_equals_pytorchs_attention_where_words_ask(heads):
    torch.manual_seed(0)
    aligner = WordAligner(8, heads).double()
    theirs = nn.MultiheadAttention(8, heads, batch_first=True).double()
    theirs.in_proj_weight.data = torch.cat([aligner.query.weight, aligner.key_value.weight])
    theirs.in_proj_bias.data = torch.cat([aligner.query.bias, aligner.key_value.bias])
    theirs.out_proj.load_state_dict(aligner.out.state_dict())
    words, frames = pair()
    out = aligner(words, frames, WORD_MASK, FRAME_MASK, queries=ASKING)
    y, weights = theirs(words, frames, frames, key_padding_mask=~FRAME_MASK, average_attn_weights=False)
    asks = WORD_MASK & ASKING
    torch.testing.assert_close(out.y[asks], y[asks], atol=1e-10, rtol=0)
    torch.testing.assert_close(out.weights.transpose(1, 2)[asks], weights.transpose(1, 2)[asks], atol=1e-10, rtol=0)
    assert (out.y[~asks] == 0).all()
    assert (out.weights.transpose(1, 2)[~asks] == 0).all()


def test_size_is_that_of_cider():
    aligners = nn.ModuleDict({"voice": WordAligner(32), "face": WordAligner(32)})
    assert sum(p.numel() for p in aligners["voice"].parameters()) == 4_224
    assert sum(p.numel() for p in aligners.parameters()) == 8_448


def test_the_output_bias_marks_no_word_that_does_not_ask():
    aligner = WordAligner(8)
    nn.init.ones_(aligner.out.bias)
    words, frames = (x.float() for x in pair())
    y = aligner(words, frames, queries=ASKING).y
    assert (y[~ASKING] == 0).all()  # published: the bias
    assert (y[ASKING] != 0).any()


def test_a_sample_without_frames_gets_zeros_and_gives_no_gradient():
    torch.manual_seed(0)
    aligner = WordAligner(8).double()
    words, frames = pair()
    frames[1] = torch.nan
    words.requires_grad_()
    frames.requires_grad_()
    mask = torch.tensor([[True] * 7, [False] * 7])
    out = aligner(words, frames, None, mask)
    assert (out.y[1] == 0).all()
    assert (out.weights[1] == 0).all()
    out.y.square().sum().backward()
    assert (words.grad[1] == 0).all()
    assert (frames.grad[1] == 0).all()
    assert words.grad[0].abs().min() > 0
    assert all(p.grad.isfinite().all() for p in aligner.parameters())


def test_a_word_that_is_not_real_cannot_ask():
    aligner = WordAligner(8).double()
    words, frames = pair()
    everyone = torch.ones(2, 5, dtype=torch.bool)
    y = aligner(words, frames, WORD_MASK, queries=everyone).y
    assert torch.equal(y, aligner(words, frames, WORD_MASK).y)
    assert (y[~WORD_MASK] == 0).all()


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 3, got 8"):
        WordAligner(8, 3)
    with pytest.raises(ValueError, match="heads: expected a value > 0"):
        WordAligner(8, 0)
    aligner, x, mask = WordAligner(8), torch.zeros(2, 3, 8), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="words: expected shape"):
        aligner(x[..., :4], x)
    with pytest.raises(ValueError, match="frames: expected shape"):
        aligner(x, x[:1])
    for name in ("word_mask", "frame_mask", "queries"):
        with pytest.raises(ValueError, match=f"{name}: expected shape"):
            aligner(x, x, **{name: mask})
