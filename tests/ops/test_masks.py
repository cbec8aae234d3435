"""Masks against loops written out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import keep, last_step, lengths_to_mask, masked_mean, read_out, reverse_steps, sources_and_queries


def masked_batch(seed, batch=4, steps=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, 3, generator=generator), torch.rand(batch, steps, generator=generator) > 0.4


def test_keep_drops_nan_and_its_gradient():
    x = torch.tensor([[1.0, 2.0], [torch.nan, torch.inf]], requires_grad=True)
    kept = keep(x, torch.tensor([True, False]))
    kept.square().sum().backward()
    assert kept.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert x.grad.tolist() == [[2.0, 4.0], [0.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_mean_and_last_step_equal_a_loop(seed):
    x, mask = masked_batch(seed)
    for row in range(4):
        real = x[row][mask[row]]
        mean = real.mean(0) if len(real) else torch.zeros(3)
        last = real[-1] if len(real) else torch.zeros(3)
        torch.testing.assert_close(masked_mean(x, mask)[row], mean)
        torch.testing.assert_close(last_step(x, mask)[row], last)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 1000))
def test_reversal_mirrors_the_real_span_and_undoes_itself(lengths, seed):
    x = torch.randn(len(lengths), 6, 2, generator=torch.Generator().manual_seed(seed))
    mask = lengths_to_mask(torch.tensor(lengths), 6)
    back = reverse_steps(x, mask)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(back[row, :length], x[row, :length].flip(0))
        torch.testing.assert_close(back[row, length:], x[row, length:])
    torch.testing.assert_close(reverse_steps(back, mask), x)


def test_read_out_by_kind():
    x, mask = masked_batch(0)
    assert read_out(x, mask, "dialogue") is x
    torch.testing.assert_close(read_out(x, mask, "window"), last_step(x, mask))
    torch.testing.assert_close(read_out(x, mask, "single"), masked_mean(x, mask))
    with pytest.raises(ValueError, match="sequence: 'dialog' is unknown; did you mean 'dialogue'"):
        read_out(x, mask, "dialog")


def test_half_precision_means_do_not_overflow():
    x = torch.full((1, 3000, 1), 40.0).half()
    assert masked_mean(x, torch.ones(1, 3000, dtype=torch.bool)).item() == 40


def test_sources_always_ask():
    mask, queries = torch.tensor([[True, False, False]]), torch.tensor([[False, True, False]])
    assert sources_and_queries(torch.zeros(1, 3, 2), mask, queries)[1].tolist() == [[True, True, False]]
    assert sources_and_queries(torch.zeros(1, 3, 2), None)[0].all()
