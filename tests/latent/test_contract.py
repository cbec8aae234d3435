"""The bottleneck, put through the library's contract."""

import pytest
import torch
from torch import nn

from mmaffect.latent import GaussianBottleneck, KLController, RecallController, free_bits_kl
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 4, [True, True, False, False], [True, False, True, False]])


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_bottleneck_over_steps():
    check_all(
        Case(
            build=lambda: GaussianBottleneck(5, latent=2, free_bits=0.05, max_log_var=0.5),
            inputs={"h": tensor(3, 4, 5), "mask": MASK},
            masks={"h": "mask"},
        )
    )


def test_bottleneck_over_steps_with_noise():
    check_all(
        Case(
            build=lambda: GaussianBottleneck(5),
            inputs={"h": tensor(3, 4, 5), "mask": MASK, "noise": tensor(3, 4, 5, seed=1)},
            masks={"h": "mask", "noise": "mask"},
        )
    )


def test_bottleneck_over_samples():
    check_all(
        Case(
            build=lambda: GaussianBottleneck(5, 3),
            inputs={"h": tensor(3, 5), "mask": torch.tensor([True, False, True])},
            present={"h": "mask"},
        )
    )


@pytest.mark.parametrize("free_bits", [0.0, 0.4])
def test_free_bits_kl(free_bits):
    check_all(
        Case(
            build=lambda: free_bits_kl,
            inputs={"mean": tensor(3, 4, 2), "log_var": tensor(3, 4, 2, seed=1), "free_bits": free_bits, "mask": MASK},
            masks={"mean": "mask", "log_var": "mask"},
        )
    )


class Weighed(nn.Module):
    """A bottleneck with a controller behind it: what the loss of a system has of both."""

    def __init__(self, controller):
        super().__init__()
        self.bottleneck, self.controller = GaussianBottleneck(5, 3), controller

    def forward(self, h, mask):
        return self.controller(self.bottleneck(h, mask).kl)

    def extra_repr(self):
        return "5, 3"


@pytest.mark.parametrize("controller", [lambda: KLController(0.3, min_beta=0.5), RecallController])
def test_what_a_controller_weighs(controller):
    check_all(
        Case(build=lambda: Weighed(controller()), inputs={"h": tensor(3, 4, 5), "mask": MASK}, masks={"h": "mask"})
    )
