"""The gate, put through the library's contract."""

import pytest
import torch

from mmaffect.causal import DAGGate
from mmaffect.testing import Case, check_all

PRESENT = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, True, True]])


@pytest.mark.parametrize(
    ("options", "only"),
    [
        ({}, None),
        ({"method": "poly"}, ["gradients", "dtypes", "nothing_left"]),
        ({"method": "logdet"}, ["gradients", "dtypes", "nothing_left"]),
        ({"kind": "gumbel"}, None),
        ({"kind": "none"}, None),
    ],
)
def test_dag_gate(options, only):
    drawn = {"gradients": "straight-through on purpose; tested by hand"}
    check_all(
        Case(
            build=lambda: DAGGate(4, **options),
            inputs={"nodes": torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0)), "present": PRESENT},
            present={"nodes": "present"},
            exempt=drawn if options.get("kind") == "gumbel" else {},
        ),
        only,
    )
