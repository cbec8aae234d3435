"""The network, the denoiser around it and its average, put through the library's contract."""

import pytest
import torch

from mmaffect.diffusion import (
    EMA,
    VESDE,
    VPSDE,
    CosineVP,
    CrossModalUNet1d,
    Denoiser,
    UNet1d,
    classifier_free_guidance,
)
from mmaffect.diffusion.unet_blocks import ContextAttention
from mmaffect.ops import keep
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
SOURCES = torch.tensor([[True] * 4, [False] * 4, [False, True, False, True]])
TIME = torch.tensor([0.2, 0.5, 0.9])
PROCESSES = [VESDE(), VPSDE(), CosineVP()]


SLOW = ["compile", "export", "gradients"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class StepNetwork(torch.nn.Module):
    """A small network for what is wrapped around one."""

    def __init__(self, condition=None):
        super().__init__()
        self.steps, self.time = torch.nn.Linear(3, 3), torch.nn.Linear(1, 3)
        self.condition = torch.nn.Linear(condition, 3) if condition else None

    def forward(self, x, t, condition=None, *, mask=None):
        told = self.time(t.unsqueeze(1).to(x.dtype))
        told = told if self.condition is None else told + self.condition(condition)
        return torch.tanh(self.steps(keep(x, mask)) + told.unsqueeze(1))


def network(**options):
    return UNet1d(3, width=4, multipliers=(1, 2), heads=2, **options)


@pytest.mark.parametrize(
    ("options", "inputs", "masks", "slow"),
    [
        ({}, {}, {}, SLOW),
        ({"time": "fourier"}, {}, {}, SLOW),
        ({"condition": 2}, {"condition": draw(3, 2, seed=1)}, {}, SLOW),
        ({"condition": 2}, {"condition": draw(3, 5, 2, seed=1)}, {"condition": "mask"}, ["gradients"]),
        (
            {"context": 6},
            {"context": draw(3, 4, 6, seed=2), "context_mask": SOURCES},
            {"context": "context_mask"},
            SLOW,
        ),
        (
            {"condition": 2, "context": 6},
            {"condition": draw(3, 5, 2, seed=1), "context": draw(3, 4, 6, seed=2), "context_mask": SOURCES},
            {"condition": "mask", "context": "context_mask"},
            ["compile", "export"],
        ),
    ],
)
def test_unet1d(options, inputs, masks, slow):
    check_all(
        Case(
            build=lambda: network(**options),
            inputs={"x": draw(3, 5, 3), "t": TIME, "mask": MASK, **inputs},
            masks={"x": "mask", **masks},
            aligned={"output": "mask"},
            exempt=dict.fromkeys(slow, "left to another of these cases"),
        )
    )


class Prepared(torch.nn.Module):
    """A network that is given its condition prepared."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def extra_repr(self):
        return "prepared"

    def forward(self, x, t, mask, context, context_mask):
        return self.network(x, t, prepared=self.network.prepare(context, context_mask), mask=mask)


@pytest.mark.parametrize(("attention", "slow"), [("none", SLOW), ("bottom", ["gradients"])])
def test_unet1d_beside_its_context(attention, slow):
    check_all(
        Case(
            build=lambda: Prepared(network(context=6, attention=attention, aligned=True)),
            inputs={
                "x": draw(3, 5, 3),
                "t": TIME,
                "mask": MASK,
                "context": draw(3, 4, 6, seed=2),
                "context_mask": SOURCES,
            },
            masks={"x": "mask", "context": "context_mask"},
            aligned={"output": "mask"},
            exempt=dict.fromkeys(slow, "left to another of these cases"),
        )
    )


@pytest.mark.parametrize(
    ("options", "around", "slow"),
    [({}, lambda network: network, ["compile", "export"]), ({"causal": True, "context": 6}, Prepared, ["gradients"])],
)
def test_cross_modal_unet1d(options, around, slow):
    options = {"widths": (4, 4), "layers": 1, "heads": 2, "groups": (2, 4), "time_features": 4, **options}
    check_all(
        Case(
            build=lambda: around(CrossModalUNet1d(4, **options)),
            inputs={
                "x": draw(3, 5, 4),
                "t": TIME,
                "mask": MASK,
                "context": draw(3, 4, options.get("context", 4), seed=2),
                "context_mask": SOURCES,
            },
            masks={"x": "mask", "context": "context_mask"},
            aligned={"output": "mask"},
            exempt=dict.fromkeys(slow, "left to another of these cases"),
        )
    )


class Attention(torch.nn.Module):
    """Attention to a context that is prepared for it."""

    def __init__(self):
        super().__init__()
        self.gather = ContextAttention(4, 6, 2)

    def forward(self, x, context, attended):
        return self.gather(x, self.gather.prepare(context), attended)


def test_attention_to_the_context():
    check_all(
        Case(
            build=Attention,
            inputs={"x": draw(3, 5, 4), "context": draw(3, 4, 6, seed=2), "attended": SOURCES.unsqueeze(1)},
        ),
        only=SLOW,
    )


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("preconditioning", ["none", "karras"])
def test_denoiser(process, preconditioning):
    check_all(
        Case(
            build=lambda: Denoiser(StepNetwork(), process, "v", preconditioning=preconditioning),
            inputs={"x": draw(3, 5, 3), "t": TIME, "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )


class Loss(torch.nn.Module):
    """The loss of a denoiser in the place of its forward."""

    def __init__(self, **options):
        super().__init__()
        self.denoiser = Denoiser(StepNetwork(), CosineVP(), **options)

    def extra_repr(self):
        return ""

    def forward(self, **inputs):
        return self.denoiser.loss(**inputs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prediction": "x0", "weighting": "min_snr"},
        {"prediction": "v", "weighting": "karras"},
        {"prediction": "score", "weighting": "std2"},
        {"preconditioning": "karras"},
    ],
)
def test_loss_with_given_noise(options):
    noise = draw(3, 5, 3, seed=3)
    check_all(
        Case(
            build=lambda: Loss(**options),
            inputs={"x0": draw(3, 5, 3), "t": TIME, "mask": MASK, "noise": noise},
            masks={"x0": "mask", "noise": "mask"},
        )
    )


@pytest.mark.parametrize("times", ["uniform", "stratified", "lognormal"])
def test_loss_with_drawn_noise(times):
    check_all(
        Case(
            build=lambda: Loss(times=times),
            inputs={"x0": draw(3, 5, 3), "mask": MASK},
            masks={"x0": "mask"},
            stochastic=True,
            exempt={"batch_order": "times go by the place in the batch"} if times == "stratified" else {},
        )
    )


def test_average():
    check_all(
        Case(
            build=lambda: EMA(StepNetwork()),
            inputs={"x": draw(3, 5, 3), "t": TIME, "mask": MASK},
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )


class Guided(torch.nn.Module):
    """A guided denoiser with its condition as an argument."""

    def __init__(self, scale):
        super().__init__()
        self.denoiser, self.scale = Denoiser(StepNetwork(condition=2), VPSDE()), scale

    def extra_repr(self):
        return f"{self.scale}"

    def forward(self, x, t, mask, condition, null):
        named = {"condition": condition}, {"condition": null}
        return classifier_free_guidance(self.denoiser, self.scale, *named, mask=mask)(x, t)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_guidance(scale):
    check_all(
        Case(
            build=lambda: Guided(scale),
            inputs={
                "x": draw(3, 5, 3),
                "t": TIME,
                "mask": MASK,
                "condition": draw(3, 2, seed=1),
                "null": draw(3, 2, seed=4),
            },
            masks={"x": "mask"},
            aligned={"output": "mask"},
        )
    )
