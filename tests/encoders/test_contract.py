"""The encoders, put through the library's contract."""

import pytest
import torch

from mmaffect.encoders import CausalCueGate, RecurrentEncoder, StreamInput, TemporalConvolution
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"alpha": 1, "causal": False}])
def test_causal_cue_gate(options):
    check_all(
        Case(
            build=lambda: CausalCueGate(4, **options),
            inputs={"x": X, "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
            call=lambda layer, x, mask: layer(x, mask).gated,
            exempt={"export": "a program is exported from the layer's own call, below"},
        )
    )
    own = Case(build=lambda: CausalCueGate(4, **options), inputs={"x": X, "mask": MASK}, masks={"x": "mask"})
    check_all(own, only=["export"])


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "layers": 2}])
def test_recurrent_encoder(options):
    check_all(
        Case(
            build=lambda: RecurrentEncoder(4, 3, **options),
            inputs={"x": X, "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
            fullgraph=False,
        )
    )


def test_stream_input():
    speaker = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 0]])
    check_all(
        Case(
            build=lambda: StreamInput(4, 6, speakers=2),
            inputs={"x": X, "mask": MASK, "speaker": speaker},
            masks={"x": "mask"},
            along={"speaker": ("mask", (1,))},
            aligned={"output": "mask"},
        )
    )


@pytest.mark.parametrize("options", [{"kernel": 3, "groups": 2}, {"kernel": 7, "groups": 6}])
def test_temporal_convolution(options):
    check_all(
        Case(
            build=lambda: TemporalConvolution(4, 6, **options),
            inputs={"x": X, "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )
