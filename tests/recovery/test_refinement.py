"""The refinement against the published layout, written with PyTorch's own layers."""

import pytest
import torch
from torch import nn

from mmaffect.recovery import Refinement, ResidualChannelAttention
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 6, [True, True, True, False, False, False], [False, True, False, True, True, False]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class PublishedBlock(nn.Module):
    """RCAB over channels first, with an average pool over whatever the length."""

    def __init__(self, dim, reduction):
        super().__init__()
        narrow = dim // reduction
        self.body = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU(), nn.Conv1d(dim, dim, 3, padding=1))
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool1d(1), nn.Conv1d(dim, narrow, 1), nn.ReLU(), nn.Conv1d(narrow, dim, 1), nn.Sigmoid()
        )

    def forward(self, x):
        residual = self.body(x)
        return x + residual * self.gate(residual)


class Published(nn.Module):
    def __init__(self, dim, hidden, blocks, reduction):
        super().__init__()
        self.enter, self.leave = nn.Conv1d(dim, hidden, 1), nn.Conv1d(hidden, dim, 1)
        self.body = nn.Sequential(
            *(PublishedBlock(hidden, reduction) for _ in range(blocks)), nn.Conv1d(hidden, hidden, 3, padding=1)
        )

    def forward(self, x):
        x = self.enter(x)
        return self.leave(x + self.body(x))


def copied(ours, theirs):
    """The weights of our layer in the published one: ours keep features last."""

    def fill(conv, layer):
        conv.weight.copy_(layer.weight.mT if layer.weight.dim() == 3 else layer.weight.unsqueeze(-1))
        conv.bias.copy_(layer.bias)

    with torch.no_grad():
        fill(theirs.enter, ours.enter)
        fill(theirs.leave, ours.leave)
        fill(theirs.body[-1], ours.last)
        for block, layer in zip(list(theirs.body)[:-1], ours.blocks, strict=True):
            for conv, part in zip(
                (block.body[0], block.body[2], block.gate[1], block.gate[3]),
                (layer.first, layer.second, layer.squeeze, layer.excite),
                strict=True,
            ):
                fill(conv, part)
    return theirs


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_against_the_published_layout(steps):
    torch.manual_seed(0)
    ours = Refinement(6, hidden=8, blocks=3, reduction=4).double()
    theirs = copied(ours, Published(6, 8, 3, 4).double())
    x = draw(3, steps, 6).double()
    torch.testing.assert_close(ours(x), theirs(x.mT).mT)


def test_parameters_are_as_many_as_published():
    ours, theirs = Refinement(32), Published(32, 64, 20, 16)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == 522_224


def test_a_padded_sample_is_refined_as_its_own_steps_alone():
    torch.manual_seed(0)
    refine = Refinement(4, hidden=8, blocks=2, reduction=2).double()
    x = draw(3, 6, 4).double()
    alone = refine(x[1:2, :3])
    torch.testing.assert_close(refine(x, MASK)[1:2, :3], alone)


@pytest.mark.parametrize(
    "build",
    [lambda: ResidualChannelAttention(4, reduction=2), lambda: Refinement(4, hidden=6, blocks=2, reduction=3)],
)
def test_contract(build):
    check_all(
        Case(
            build=build,
            inputs={"x": draw(3, 6, 4), "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )


def test_nothing_there_gives_zeros_without_gradient():
    refine = Refinement(4, hidden=6, blocks=2, reduction=3)
    x = torch.full((2, 5, 4), torch.nan, requires_grad=True)
    out = refine(x, torch.zeros(2, 5, dtype=torch.bool))
    assert (out == 0).all()
    out.sum().backward()
    assert (x.grad == 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="reduction: expected at most dim = 4, got 16"):
        ResidualChannelAttention(4)
    with pytest.raises(ValueError, match="blocks: expected a value > 0, got 0"):
        Refinement(4, blocks=0)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 4, got \(2, 5, 3\)"):
        Refinement(4)(torch.zeros(2, 5, 3))
