"""Guidance: two estimates made into one, for the price of one call."""

import pytest
import torch

from mmaffect.diffusion import VPSDE, CosineVP, Denoiser, UNet1d, classifier_free_guidance, ddim


class Counted:
    """A denoiser that counts its calls and the samples it is given."""

    def __init__(self, denoise):
        self.denoise, self.sizes = denoise, []

    def __call__(self, x, t, **cond):
        self.sizes.append(len(x))
        return self.denoise(x, t, **cond)


def case():
    torch.manual_seed(0)
    network = UNet1d(2, width=4, multipliers=(1, 2), condition=3, context=2, heads=2).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    given = {"condition": torch.randn(3, 3).double()}
    null = {"condition": torch.randn(3, 3).double()}
    shared = {
        "context": torch.randn(3, 4, 2).double(),
        "context_mask": torch.rand(3, 4) > 0.5,
        "mask": torch.tensor([[True] * 5, [True, False, True, True, False], [True] + [False] * 4]),
    }
    return Denoiser(network, VPSDE()), torch.randn(3, 5, 2).double(), torch.rand(3).double(), given, null, shared


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
def test_both_estimates_come_from_one_doubled_batch(scale):
    denoiser, x, t, given, null, shared = case()
    counted = Counted(denoiser)
    guided = classifier_free_guidance(counted, scale, given, null, **shared)(x, t)
    assert counted.sizes == [6]
    with_condition, without = denoiser(x, t, **given, **shared), denoiser(x, t, **null, **shared)
    torch.testing.assert_close(guided, without + scale * (with_condition - without))


@pytest.mark.parametrize("scale", [0, 1.0])
def test_one_estimate_is_not_doubled(scale):
    denoiser, x, t, given, null, shared = case()
    counted = Counted(denoiser)
    alone = denoiser(x, t, **(given if scale else null), **shared)
    assert torch.equal(classifier_free_guidance(counted, scale, given, null, **shared)(x, t), alone)
    assert counted.sizes == [3]


def test_guiding_the_data_is_guiding_the_noise():
    """Ho and Salimans, eq. 6, in their terms: (1 + w) eps(c) - w eps(null), with w = scale - 1."""
    process, x, t = VPSDE(), torch.randn(4, 2).double(), torch.rand(4).double() * 0.9 + 0.05
    denoiser = Denoiser(lambda x, t, shift: torch.sin(x + shift), process)
    shift, null = torch.randn(4, 2).double(), torch.zeros(2).double()
    guided = classifier_free_guidance(denoiser, 2.5, {"shift": shift}, {"shift": null})(x, t)
    noise = 2.5 * torch.sin(x + shift) - 1.5 * torch.sin(x)
    alpha, std = process.alpha(t).unsqueeze(1), process.std(t).unsqueeze(1)
    torch.testing.assert_close(guided, (x - std * noise) / alpha)


def test_each_sample_has_its_own_null():
    null = torch.tensor([[1.0], [2.0]])
    guided = classifier_free_guidance(lambda x, t, c: x + c, 0.5, {"c": torch.zeros(2, 1)}, {"c": null})
    assert guided(torch.zeros(2, 1), torch.ones(2)).flatten().tolist() == [0.5, 1.0]


def test_what_is_shared_may_have_any_name_and_be_none():
    """A guided context beside a condition that stays; a mask that there may be none of."""

    def denoise(x, t, context, condition, mask):
        assert mask is None
        return x + context + condition

    context, condition = torch.randn(3, 2), torch.randn(3, 2)
    for scale in (0, 1, 3.0):
        guided = classifier_free_guidance(
            denoise, scale, {"context": context}, {"context": torch.zeros(2)}, condition=condition, mask=None
        )
        torch.testing.assert_close(guided(torch.zeros(3, 2), torch.ones(3)), scale * context + condition)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 2, 2), (2, 0)])
def test_a_null_that_does_not_fit_is_refused_by_name(shape):
    with pytest.raises(
        ValueError, match=r"null\['c'\]: expected what broadcasts to the shape of its condition, \(2, 2\)"
    ):
        classifier_free_guidance(lambda x, t, c: x, 2.0, {"c": torch.zeros(2, 2)}, {"c": torch.zeros(shape)})


def test_samplers_take_it():
    denoiser, x, _, given, null, shared = case()
    counted = Counted(denoiser)
    with torch.no_grad():
        sample = ddim(classifier_free_guidance(counted, 2.0, given, null, **shared), CosineVP(), x, 5)
    assert counted.sizes == [6] * 5
    assert sample.shape == x.shape
    assert sample.isfinite().all()


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"null: expected the names of condition, \['a'\], got \['b'\]"):
        classifier_free_guidance(lambda x, t: x, 2.0, {"a": torch.zeros(1)}, {"b": torch.zeros(1)})
