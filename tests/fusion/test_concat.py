"""Residual concatenation (CARN eq. 10-11)."""

import pytest
import torch

from mmaffect.fusion import ConcatFusion


def test_equations_10_and_11():
    torch.manual_seed(0)
    fusion = ConcatFusion({"b": 2, "a": 3})
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    joint = torch.cat([b, a], -1)
    first, _, _, second, _ = fusion.refine
    expected = joint + torch.relu(second(torch.relu(first(joint))))
    torch.testing.assert_close(fusion({"a": a, "b": b}), expected)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="widths: expected at least one modality"):
        ConcatFusion({})
    with pytest.raises(ValueError, match=r"hidden: expected the modalities \('a',\), got \('b',\)"):
        ConcatFusion({"a": 2})({"b": torch.zeros(1, 2)})
