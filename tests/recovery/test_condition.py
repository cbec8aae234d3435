import pytest
import torch

from mmaffect.recovery import ObservedContext
from mmaffect.testing import Case, check_all


def scene():
    generator = torch.Generator().manual_seed(0)
    x, there = torch.randn(4, 5, 3, 2, generator=generator), torch.rand(4, 5, 3, generator=generator) < 0.5
    return x, there


def test_against_a_loop_over_steps_and_modalities():
    torch.manual_seed(0)
    layer, (x, there) = ObservedContext(3, 2).double(), scene()
    x = x.double()
    weight, bias = layer.fuse.weight.detach(), layer.fuse.bias.detach()
    fused = layer(torch.where(there.unsqueeze(-1), x, torch.nan), there)
    for b in range(4):
        for t in range(5):
            expected = bias.clone() if there[b, t].any() else torch.zeros(2).double()
            for m in range(3):
                if there[b, t, m]:
                    expected += weight[:, 3 * m : 3 * m + 2] @ x[b, t, m] + weight[:, 3 * m + 2]
            torch.testing.assert_close(fused[b, t], expected)


def test_zero_is_not_absent():
    layer, there = ObservedContext(2, 3), torch.tensor([[[True, True], [True, False]]])
    fused = layer(torch.zeros(1, 2, 2, 3), there)
    assert not torch.allclose(fused[0, 0], fused[0, 1])


class ByName(torch.nn.Module):
    """With a mapping of modalities, as the contract has them."""

    def __init__(self):
        super().__init__()
        self.layer = ObservedContext(2, 3)

    def extra_repr(self):
        return ""

    def forward(self, x, masks):
        return self.layer(torch.stack(list(x.values()), 2), torch.stack(list(masks.values()), 2))


def test_contract():
    generator = torch.Generator().manual_seed(1)
    x = {name: torch.randn(3, 4, 3, generator=generator) for name in "ab"}
    masks = {
        "a": torch.tensor([[True] * 4, [False] * 4, [True, False, True, False]]),
        "b": torch.tensor([[True, True, False, False], [True] * 4, [False, False, True, False]]),
    }
    check_all(
        Case(build=ByName, inputs={"x": x, "masks": masks}, masks={"x": "masks"}),
        only=["absent_values", "batch_order", "batch_mates", "dtypes", "autocast", "gradients", "compile", "export",
              "state_dict", "pickle", "reset", "inputs_kept", "determinism"],
    )  # fmt: skip


def test_refusals():
    layer, (x, there) = ObservedContext(3, 2), scene()
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, M, D\) with M = 3, D = 2, got \(4, 5, 3, 3\)"):
        layer(torch.zeros(4, 5, 3, 3), there)
    with pytest.raises(ValueError, match="observed: expected bool"):
        layer(x, there.float())
