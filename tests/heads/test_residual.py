"""The residual head against its equation, and its published size."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.heads import ResidualHead


def test_equals_its_equation():
    torch.manual_seed(0)
    head, h = ResidualHead(5, 3, dropout=0.5).eval(), torch.randn(2, 4, 5)
    inner = F.relu(h @ head.expand.weight.T + head.expand.bias) @ head.contract.weight.T + head.contract.bias
    last = head.predict.linear
    torch.testing.assert_close(head(h), (h + inner) @ last.weight.T + last.bias)


def test_size_is_the_published_one_and_a_single_score_has_no_axis():
    head = ResidualHead(192, 1, score=True)
    assert sum(p.numel() for p in head.parameters()) == 74_305
    assert head(torch.zeros(2, 192)).shape == (2,)


def test_dropout_is_of_the_inner_state_and_in_training_only():
    torch.manual_seed(0)
    head, h = ResidualHead(6, 2, dropout=0.9), torch.randn(64, 6)
    assert not torch.equal(head(h), head.eval()(h))
    always = ResidualHead(6, 2, dropout=1.0)
    always.load_state_dict(head.state_dict())
    torch.testing.assert_close(always(h), always.predict(h + always.contract.bias))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a value > 0, got 0"):
        ResidualHead(0, 1)
    with pytest.raises(ValueError, match="dropout: expected"):
        ResidualHead(2, 1, dropout=1.5)
    with pytest.raises(ValueError, match=r"hidden: expected shape \(..., D\) with D = 4, got \(3, 5\)"):
        ResidualHead(4, 2)(torch.zeros(3, 5))
