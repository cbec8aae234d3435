"""Which pairs may exchange information, against the definition written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.attention import attention_mask, attention_weights


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans())
def test_mask_equals_its_definition(seed, causal, include_self, with_queries):
    generator = torch.Generator().manual_seed(seed)
    sources = torch.rand(2, 5, generator=generator) > 0.4
    queries = torch.rand(2, 5, generator=generator) > 0.4 if with_queries else None
    allowed = attention_mask(sources, queries, causal=causal, include_self=include_self)
    asks = sources if queries is None else queries
    for b in range(2):
        for i in range(5):
            for j in range(5):
                wanted = asks[b, i] and sources[b, j] and (not causal or j <= i) and (include_self or i != j)
                assert bool(allowed[b, i, j]) == bool(wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_mask_of_two_sequences_equals_its_definition(steps, sources, offset, include_self):
    asked, asks = torch.ones(1, sources, dtype=torch.bool), torch.ones(1, steps, dtype=torch.bool)
    allowed = attention_mask(asked, asks, causal=True, include_self=include_self, offset=offset)
    assert allowed.shape == (1, steps, sources)
    for i in range(steps):
        for j in range(sources):
            assert bool(allowed[0, i, j]) == (j <= i + offset and (include_self or i != j))


@pytest.mark.parametrize("alpha", [1, 1.5])
def test_rows_sum_to_one_or_to_zero(alpha):
    scores = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    allowed = attention_mask(torch.ones(2, 5, dtype=torch.bool), causal=True, include_self=False)
    sums = attention_weights(scores, allowed, alpha).sum(-1)
    torch.testing.assert_close(sums[..., 1:], torch.ones(2, 3, 4))
    assert (sums[..., 0] == 0).all()
