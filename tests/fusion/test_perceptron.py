"""The fusion by a perceptron, term by term."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.fusion import PerceptronFusion


def test_equals_its_equation_in_the_order_of_the_constructor():
    torch.manual_seed(0)
    fusion = PerceptronFusion({"a": 2, "b": 3}, 4, hidden=6)
    first, norm, _, _, second = fusion.layers
    a, b = torch.randn(5, 2), torch.randn(5, 3)
    inner = F.layer_norm(F.linear(torch.cat([a, b], 1), first.weight, first.bias), (6,), norm.weight, norm.bias)
    torch.testing.assert_close(fusion({"b": b, "a": a}), F.linear(F.gelu(inner), second.weight, second.bias))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="widths: expected at least one modality, got none"):
        PerceptronFusion({}, 4)
    with pytest.raises(ValueError, match="hidden: expected a value > 0, got 0"):
        PerceptronFusion({"a": 2}, 4, hidden=0)
    with pytest.raises(ValueError, match=r"hidden: expected the modalities \('a',\), got \('b',\)"):
        PerceptronFusion({"a": 2}, 4)({"b": torch.zeros(1, 2)})
