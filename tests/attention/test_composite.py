"""Composite attention against one explicit softmax for each subset of the modalities."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.attention import CompositeAttention, subset_attention, subsets_of

NAMES = ("a", "b", "c", "d")


def draw(shape, seed, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def subsets_by_hand(count):
    return [s for size in range(count, 0, -1) for s in combinations(range(count), size)]


def owners(lengths):
    return torch.cat([torch.full((steps,), number) for number, steps in enumerate(lengths)])


def one_softmax_a_subset(query, key, value, mask, lengths):
    """For each subset, the attention of all queries over its sources: slow, and with no step in common with ours."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    seen = []
    for subset in subsets_by_hand(len(lengths)):
        sources = mask & torch.isin(owners(lengths), torch.tensor(subset))
        allowed = sources[:, None, None].expand_as(scores)
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        seen.append(torch.where(allowed, weights, 0.0).nan_to_num() @ value)
    return seen


def by_query(seen, lengths):
    """Of the subsets, those that contain the query's own modality."""
    chosen = []
    for number in range(len(lengths)):
        own = [part for part, s in zip(seen, subsets_by_hand(len(lengths)), strict=True) if number in s]
        chosen.append(torch.stack(own, 2)[..., owners(lengths) == number, :])
    return torch.cat(chosen, 3)


def oracle(query, key, value, mask, lengths):
    return by_query(one_softmax_a_subset(query, key, value, mask, lengths), lengths)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 10_000), st.floats(0, 1), st.floats(0.1, 30.0)
)
def test_equals_a_softmax_for_each_subset(lengths, seed, share, scale):
    shape = (3, 2, sum(lengths), 3)
    query, key, value = (draw(shape, seed + i).requires_grad_() for i in range(3))
    mask = torch.rand(3, sum(lengths), generator=torch.Generator().manual_seed(seed)) < share
    ours, theirs = (f(scale * query, key, value, mask, lengths) for f in (subset_attention, oracle))
    assert ours.shape == (3, 2, 2 ** (len(lengths) - 1), sum(lengths), 3)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    weight = draw(ours.shape, seed + 3)
    for a, b in zip(
        *(torch.autograd.grad((y * weight).sum(), (query, key, value)) for y in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def far_apart(offsets, lengths):
    """Queries and keys whose scores have no rounding in float32, and lie ``1024 * offsets`` apart."""
    generator = torch.Generator().manual_seed(0)
    size = (2, 2, sum(lengths), 4)
    query, key = (torch.randint(-8, 9, size, generator=generator) / 4 for _ in range(2))
    query[..., 0] = 2048.0
    key[..., 0] = torch.tensor(offsets)[owners(lengths)]
    return query, key, torch.randn(size, generator=generator)


@pytest.mark.parametrize("subset", range(4))
@pytest.mark.parametrize("offsets", [(0, 0, 0), (1, 0, -1), (-1, -1, 1), (0, -1 / 16, 1 / 16), (-1, 1, 0)])
def test_float32_keeps_its_digits_however_far_apart_the_subsets_are(offsets, subset):
    lengths = (4, 3, 5)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 2], mask[1, 4], mask[1, 11] = False, False, False
    weight = draw((2, 2, 12, 4), 1)
    found = []
    for function, dtype in ((subset_attention, torch.float32), (oracle, torch.float64)):
        leaves = [t.to(dtype).requires_grad_() for t in far_apart([float(o) for o in offsets], lengths)]
        y = function(*leaves, mask, lengths)[:, :, subset]
        found.append([y, *torch.autograd.grad((y * weight.to(dtype)).sum(), leaves)])
    for ours, exact in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).abs().max() <= 1e-6 * exact.abs().max()


def test_padded_keys_never_set_the_maximum():
    # The score of the padded key lies 1000 above the others: as a maximum it would leave 0 / 0.
    key = torch.tensor([0.0, 1.0, 1000.0]).reshape(1, 1, 3, 1)
    value = torch.tensor([1.0, 2.0, torch.nan]).reshape(1, 1, 3, 1)
    y = subset_attention(torch.ones(1, 1, 3, 1), key, value, torch.tensor([[True, True, False]]), (3,))
    torch.testing.assert_close(y[0, 0, 0, 0].item(), (1 + 2 * math.e) / (1 + math.e))


def test_an_absent_modality_never_sets_the_maximum():
    key = torch.tensor([-1000.0, -1001.0, 0.0, 0.0]).reshape(1, 1, 4, 1)
    value = torch.tensor([2e-9, 1e-9, 5.0, 5.0]).reshape(1, 1, 4, 1)
    y = subset_attention(torch.ones(1, 1, 4, 1), key, value, torch.tensor([[True, True, False, False]]), (2, 2))
    torch.testing.assert_close(1e9 * y[0, 0, :, 0, 0], torch.full((2,), (1 + 2 * math.e) / (1 + math.e)))


def test_a_query_whose_subset_has_no_source_gets_zeros_with_zero_gradient():
    lengths = (2, 3)
    query, key, value = (draw((1, 1, 5, 2), i).requires_grad_() for i in range(3))
    mask = torch.tensor([[False, False, True, True, False]])
    y = subset_attention(query, key, value, mask, lengths)
    alone = subset_attention(query[:, :, 2:], key[:, :, 2:], value[:, :, 2:], mask[:, 2:], (3,))
    # The first modality is absent: its own subset is empty, that of both is the second modality.
    assert (y[:, :, 1, :2] == 0).all()
    torch.testing.assert_close(y[:, :, 0, 2:], alone[:, :, 0])
    torch.testing.assert_close(y[:, :, 1, 2:], alone[:, :, 0])
    grads = torch.autograd.grad(y[:, :, 1, :2].sum(), (query, key, value))
    assert all((g == 0).all() for g in grads)


def test_dropout_is_of_the_full_subset_alone():
    torch.manual_seed(0)
    lengths, mask = (3, 2), torch.ones(1, 5, dtype=torch.bool)
    given = [draw((1, 2, 5, 3), i) for i in range(3)]
    kept = subset_attention(*given, mask, lengths)
    drawn = torch.stack([subset_attention(*given, mask, lengths, dropout=0.5) for _ in range(500)])
    assert (drawn[:, :, :, 1:] == kept[:, :, 1:]).all()
    assert (drawn[0, :, :, 0] - kept[:, :, 0]).abs().min() > 1e-3
    torch.testing.assert_close(drawn[:, :, :, 0].mean(0), kept[:, :, 0], atol=0.2, rtol=0)


def test_gradients_of_both_orders_in_float64():
    mask = torch.tensor([[True, False, True, True, True], [False, False, True, True, False]])
    given = [draw((2, 1, 5, 2), i).requires_grad_() for i in range(3)]

    def function(*tensors):
        return subset_attention(*tensors, mask, (2, 2, 1))

    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


def test_vmap_is_a_loop():
    mask = torch.rand(4, 2, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    given = [draw((4, 2, 1, 5, 2), i) for i in range(3)]

    def function(query, key, value, mask):
        return subset_attention(query, key, value, mask, (2, 3))

    looped = torch.stack([function(*(t[i] for t in given), mask[i]) for i in range(4)])
    torch.testing.assert_close(torch.func.vmap(function)(*given, mask), looped)


def batch(lengths, dim, seed=0, dtype=torch.float64):
    names = NAMES[: len(lengths)]
    x = {n: draw((4, steps, dim), seed + i, dtype) for i, (n, steps) in enumerate(zip(names, lengths, strict=True))}
    generator = torch.Generator().manual_seed(seed)
    masks = {n: torch.rand(4, x[n].shape[1], generator=generator) < 0.7 for n in names}
    masks[names[0]][0] = False
    masks[names[-1]][0] = True
    masks[names[-1]][1] = len(lengths) == 1
    return x, masks


def map_by_map(layer, x, masks, queries=None):
    """The published chain: a map for each subset, concatenation, a map for each modality, a last one."""
    some = torch.cat(list(masks.values()), 1).any(1, keepdim=True)
    queries = masks if queries is None else {n: (queries[n] | m) & some for n, m in masks.items()}
    names = layer.names
    lengths = [x[n].shape[1] for n in names]
    joined, mask = torch.cat([x[n] for n in names], 1), torch.cat([masks[n] for n in names], 1)
    query, key, value = (
        p.reshape(*p.shape[:2], layer.heads, -1).transpose(1, 2) for p in layer.project(joined).chunk(3, -1)
    )
    seen = one_softmax_a_subset(query, key, value, mask, lengths)
    seen = [m(s.transpose(1, 2).flatten(2)) for m, s in zip(layer.subsets, seen, strict=True)]
    y = {}
    for number, name in enumerate(names):
        own = [s for s, subset in zip(seen, subsets_by_hand(len(names)), strict=True) if number in subset]
        mixed = layer.out(layer.modalities[number](torch.cat(own, -1)[:, owners(lengths) == number]))
        y[name] = mixed * queries[name].unsqueeze(-1)
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    asks = torch.cat([queries[n] for n in names], 1)
    return y, scores * (asks.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(1)


@pytest.mark.parametrize("lengths", [(5,), (3, 6), (4, 2, 5), (3, 1, 2, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_equals_the_published_chain_of_maps(lengths, dtype, tolerance):
    torch.manual_seed(0)
    layer = CompositeAttention(16, 4, NAMES[: len(lengths)]).to(dtype)
    x, masks = batch(lengths, 16, dtype=dtype)
    y, scores = layer(x, masks)
    expected, raw = map_by_map(layer.double(), {n: t.double() for n, t in x.items()}, masks)
    assert list(y) == list(NAMES[: len(lengths)])
    for name in y:
        torch.testing.assert_close(y[name].double(), expected[name], atol=tolerance, rtol=0)
    torch.testing.assert_close(scores.double(), raw, atol=tolerance, rtol=0)


def test_steps_that_are_no_source_may_ask():
    torch.manual_seed(0)
    layer = CompositeAttention(16, 4, NAMES[:3]).double()
    x, masks = batch((4, 2, 5), 16)
    masks = {n: torch.cat([m, torch.zeros_like(m[:1])]) for n, m in masks.items()}  # the last sample has no source
    x = {n: torch.cat([t, t[:1]]) for n, t in x.items()}
    queries = {n: draw(m.shape, i) < 0.5 for i, (n, m) in enumerate(masks.items())}
    assert any((queries[n] & ~masks[n])[:4].any() for n in x)
    y, scores = layer(x, masks, queries=queries)
    expected, raw = map_by_map(layer, x, masks, queries)
    for name in y:
        torch.testing.assert_close(y[name], expected[name], atol=1e-12, rtol=0)
        assert (y[name][4] == 0).all()
    torch.testing.assert_close(scores, raw, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match=r"queries: expected \('a', 'b', 'c'\) .*, got \('a',\)"):
        layer(x, masks, queries={"a": masks["a"]})


def test_counts_parameters_as_published():
    assert sum(p.numel() for p in CompositeAttention(32, 8, NAMES[:3]).parameters()) == 24_000
    assert subsets_of(3) == ((0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,))


def test_a_modality_alone_is_as_if_the_others_did_not_exist():
    torch.manual_seed(0)
    layer = CompositeAttention(8, 2, NAMES[:3]).double()
    x, masks = batch((4, 3, 5), 8)
    masks = {n: torch.full_like(m, n == "b") for n, m in masks.items()}
    y = layer(x, masks).y
    assert (y["a"] == 0).all()
    assert (y["c"] == 0).all()
    query, key, value = (p.unflatten(-1, (2, -1)).transpose(1, 2) for p in layer.project(x["b"]).chunk(3, -1))
    seen = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    own = torch.cat([layer.subsets[i](seen) for i, s in enumerate(subsets_by_hand(3)) if 1 in s], -1)
    torch.testing.assert_close(y["b"], layer.out(layer.modalities[1](own)))


def test_order_of_the_mapping_does_not_matter_and_scores_are_optional():
    torch.manual_seed(0)
    layer = CompositeAttention(8, 2, NAMES[:3]).double()
    x, masks = batch((4, 3, 5), 8)
    y, scores = layer(x, masks)
    other = layer(dict(reversed(x.items())), dict(reversed(masks.items())), return_scores=False)
    assert list(other.y) == list(y)
    assert all(torch.equal(other.y[n], y[n]) for n in y)
    assert scores is not None
    assert other.scores is None
    everywhere = {n: torch.ones_like(m) for n, m in masks.items()}
    assert all(torch.equal(a, b) for a, b in zip(layer(x).y.values(), layer(x, everywhere).y.values(), strict=True))


def test_training_drops_weights_and_evaluation_does_not():
    torch.manual_seed(0)
    layer, exact = (CompositeAttention(8, 2, NAMES[:2], dropout=rate).double() for rate in (0.5, 0.0))
    exact.load_state_dict(layer.state_dict())
    x, masks = batch((4, 3), 8)
    expected = exact(x, masks).y["a"]
    assert not torch.allclose(layer(x, masks).y["a"], expected)
    assert torch.equal(layer.eval()(x, masks).y["a"], expected)


def test_errors_name_the_argument():
    layer = CompositeAttention(4, 2, ("a", "b"))
    x = {"a": torch.zeros(2, 3, 4), "b": torch.zeros(2, 1, 4)}
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 3, got 4"):
        CompositeAttention(4, 3, ("a",))
    with pytest.raises(
        ValueError, match=r"names: expected a list of modalities, at least one and each once, got \('a', 'a'\)"
    ):
        CompositeAttention(4, 2, ("a", "a"))
    with pytest.raises(ValueError, match=r"names: expected a list of modalities, at least one and each once, got \(\)"):
        CompositeAttention(4, 2, ())
    with pytest.raises(ValueError, match=r"x: expected \('a', 'b'\) \(a mask of False for the absent\), got \('a',\)"):
        layer({"a": x["a"]})
    with pytest.raises(ValueError, match=r"masks: expected \('a', 'b'\) .*, got \('a', 'c'\)"):
        layer(x, {"a": None, "c": None})
    with pytest.raises(ValueError, match=r"x\['b'\]: expected shape \(B, T, D\) with B = 2, D = 4, got \(1, 1, 4\)"):
        layer({"a": x["a"], "b": torch.zeros(1, 1, 4)})
    with pytest.raises(ValueError, match=r"masks\['a'\]: expected shape \(B, T\) with B = 2, T = 3"):
        layer(x, {"a": torch.ones(2, 1, dtype=torch.bool), "b": None})
    with pytest.raises(ValueError, match="count: expected a value > 0, got 0"):
        subsets_of(0)
