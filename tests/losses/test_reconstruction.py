"""Masked reconstruction against a loop over modalities."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.losses import masked_reconstruction


@pytest.mark.parametrize("kind", ["mse", "smooth_l1"])
def test_equals_the_error_over_admitted_steps(kind):
    generator = torch.Generator().manual_seed(0)
    guess = {n: 2 * torch.randn(3, 4, d, generator=generator) for n, d in (("a", 2), ("b", 5))}
    truth = {n: torch.randn(3, 4, d, generator=generator) for n, d in (("a", 2), ("b", 5))}
    masks = {n: torch.rand(3, 4, generator=generator) > 0.4 for n in guess}
    error = F.mse_loss if kind == "mse" else F.smooth_l1_loss
    expected = sum(error(guess[n][masks[n]], truth[n][masks[n]]) for n in guess)
    poisoned = {n: torch.where(masks[n][..., None], x, torch.nan) for n, x in truth.items()}
    torch.testing.assert_close(masked_reconstruction(guess, poisoned, masks, kind=kind), expected)


def test_nothing_admitted_is_zero_with_zero_gradient():
    guess = torch.zeros(1, 2, 3, requires_grad=True)
    nothing = {"a": torch.zeros(1, 2, dtype=torch.bool)}
    loss = masked_reconstruction({"a": guess}, {"a": torch.full((1, 2, 3), torch.nan)}, nothing)
    loss.backward()
    assert loss.item() == 0
    assert (guess.grad == 0).all()


def test_errors_name_the_argument():
    x = {"a": torch.zeros(1, 2, 3)}
    mask = {"a": torch.ones(1, 2, dtype=torch.bool)}
    with pytest.raises(ValueError, match="kind: 'l2' is unknown"):
        masked_reconstruction(x, x, mask, kind="l2")
    with pytest.raises(ValueError, match=r"truth\['a'\]: expected shape"):
        masked_reconstruction(x, {"a": torch.zeros(1, 2, 4)}, mask)
    with pytest.raises(ValueError, match=r"masks\['a'\]: expected shape \(B, T\)"):
        masked_reconstruction(x, x, {"a": torch.ones(1, 1, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"reconstructed: \('a',\) must be in truth \('b',\)"):
        masked_reconstruction(x, {"b": x["a"]}, mask)


def test_float16_does_not_overflow():
    guess, truth = torch.full((16, 300, 4), 5.0).half(), torch.zeros(16, 300, 4).half()
    assert masked_reconstruction({"a": guess}, {"a": truth}, {"a": torch.ones(16, 300).bool()}).item() == 25
