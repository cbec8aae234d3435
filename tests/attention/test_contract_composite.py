"""Attention within every subset of the modalities, put through the library's contract."""

import torch

from mmaffect.attention import CompositeAttention, CompositeEncoder, subset_attention
from mmaffect.ops import keep
from mmaffect.testing import Case, check_all

X = {
    name: torch.randn(4, steps, 8, generator=torch.Generator().manual_seed(steps))
    for name, steps in (("a", 3), ("b", 4), ("c", 2))
}
# Padding behind and in between; the first sample lacks b and c, the second a.
MASKS = {
    "a": torch.tensor([[True, True, False], [False] * 3, [True] * 3, [True, False, True]]),
    "b": torch.tensor([[False] * 4, [True] * 4, [True, True, True, False], [False, True, True, False]]),
    "c": torch.tensor([[False] * 2, [True, False], [True, True], [True, False]]),
}


def check(build):
    aligned = {f"y.{n}": f"masks.{n}" for n in X}
    given = {"build": build, "inputs": {"x": X, "masks": MASKS}, "masks": {"x": "masks"}, "aligned": aligned}
    check_all(Case(**given, exempt={"padding": "scores have axes that grow; see below"}))
    check_all(Case(**given, call=lambda layer, x, masks: {"y": layer(x, masks).y}), only=["padding"])


def test_composite_attention():
    check(lambda: CompositeAttention(8, 2, tuple(X), dropout=0.3))


def test_composite_encoder():
    check(lambda: CompositeEncoder(8, 1, 2, tuple(X), hidden=8, attention_dropout=0.2, embedding_dropout=0.1))


def with_holes(layer, x, masks):
    """Every step up to a modality's last one asks."""
    queries = {n: m.flip(1).cumsum(1).flip(1) > 0 for n, m in masks.items()}
    return {"y": layer({n: keep(t, masks[n]) for n, t in x.items()}, masks, queries=queries).y}


def test_composite_encoder_with_steps_that_only_ask():
    check_all(
        Case(
            build=lambda: CompositeEncoder(8, 1, 2, tuple(X), hidden=8, subsets=False),
            inputs={"x": X, "masks": MASKS},
            masks={"x": "masks"},
            aligned={f"y.{n}": f"masks.{n}" for n in X},
            call=with_holes,
        ),
        only=["padding", "batch_order", "absent_values", "gradients"],
    )


def by_step(query, key, value, mask):
    parts = (p.unflatten(-1, (2, 4)).transpose(1, 2) for p in (query, key, value))
    return subset_attention(*parts, mask, (2, 3)).permute(0, 3, 2, 1, 4)


def test_subset_attention():
    seed = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 5, 8, generator=seed) for _ in range(3))
    mask = torch.tensor([[True, True, False, True, False], [False, False, True, True, False], [True] * 5])
    check_all(
        Case(
            build=lambda: by_step,
            inputs={"query": query, "key": key, "value": value, "mask": mask},
            masks={"key": "mask", "value": "mask"},
            exempt={"padding": "queries and the lengths of the modalities would have to grow with it"},
        )
    )
