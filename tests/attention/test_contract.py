"""The layers that look across time, put through the library's contract."""

import pytest
import torch

from mmaffect.attention import CausalEntmaxAttention, TransformerEncoder
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])


def sequence(width, seed=0):
    return torch.randn(3, 5, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": 2, "include_self": False},
        {"alpha": 2.0},
        {"alpha": 1.3, "heads": 2},
        {"alpha": 3.0},
        {"alpha": "learned", "heads": 2},
        {"alpha": 1},
        {"alpha": 1, "causal": False},
    ],
)
def test_causal_entmax_attention(options):
    check_all(
        Case(
            build=lambda: CausalEntmaxAttention(4, **options),
            inputs={"x": sequence(4), "mask": MASK},
            masks={"x": "mask"},
            aligned={"y": "mask", "weights": ("mask", 2)},
            exempt={"padding": "weights have a source axis that grows; see below"},
        )
    )
    check_all(
        Case(
            build=lambda: CausalEntmaxAttention(4, **options),
            inputs={"x": sequence(4), "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
            call=lambda layer, x, mask: layer(x, mask).y,
        ),
        only=["padding"],
    )


@pytest.mark.parametrize("alpha", [1, 1.5])
def test_causal_entmax_attention_with_steps_that_only_ask(alpha):
    queries = MASK | torch.tensor([[True] * 5, [True, True, True, True, False], [True] * 5])
    check_all(
        Case(
            build=lambda: CausalEntmaxAttention(4, alpha=alpha),
            inputs={"x": sequence(4), "queries": queries},
            masks={"x": "queries"},
            aligned={"output": "queries"},
            exempt={"export": "the call makes an argument of its own: every second step is no source"},
            call=lambda layer, x, queries: layer(x, queries & (torch.arange(x.shape[1]) % 2 == 0), queries=queries).y,
        )
    )


@pytest.mark.parametrize("options", [{}, {"alpha": 1, "causal": False}])
def test_causal_entmax_attention_without_weights(options):
    check_all(
        Case(
            build=lambda: CausalEntmaxAttention(4, **options),
            inputs={"x": sequence(4), "mask": MASK, "return_weights": False},
            masks={"x": "mask"},
            aligned={"y": "mask"},
        )
    )


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"positions": "distance"}, {"positions": "none"}])
def test_transformer_encoder(options):
    check_all(
        Case(
            build=lambda: TransformerEncoder(8, 1, 2, hidden=8, **options),
            inputs={"x": sequence(8), "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )
