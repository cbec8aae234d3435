"""The Gaussian's conditional law, against NumPy pattern by pattern and against the truth of a world."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.data import synthetic_affect
from mmaffect.recovery import GaussianImputation

WIDTHS = {"a": 2, "b": 3, "c": 1}


def gaussian(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    layer = GaussianImputation(WIDTHS).double()
    layer.mean.copy_(torch.from_numpy(rng.normal(size=6)))
    layer.covariance.copy_(torch.from_numpy(root @ root.T + 0.1 * np.eye(6)))
    return layer


def split(x):
    return dict(zip(WIDTHS, x.split(list(WIDTHS.values()), dim=-1), strict=True))


def entries(pattern):
    return np.repeat(np.array(pattern), list(WIDTHS.values()))


def by_numpy(layer, x, there):
    """Mean and covariance of all features given those that are there, row by row."""
    mu, sigma = layer.mean.numpy(), layer.covariance.numpy()
    mean, covariance = mu.copy(), np.zeros_like(sigma)
    mean[there] = x[there]
    gain = sigma[np.ix_(~there, there)] @ np.linalg.pinv(sigma[np.ix_(there, there)])
    mean[~there] = mu[~there] + gain @ (x[there] - mu[there])
    covariance[np.ix_(~there, ~there)] = sigma[np.ix_(~there, ~there)] - gain @ sigma[np.ix_(there, ~there)]
    return mean, covariance


def test_autocast_makes_it_no_coarser():
    """Features nearly in line, whose large coefficients cancel."""
    noise = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    mixing = torch.eye(6) + torch.tensor([[0.0, 3.0, 0.0, 1.0, 0.0, 2.0]] + [[0.0] * 6] * 5)
    values = split(100 + noise * torch.tensor([1.0, 0.1, 1.0, 0.1, 1.0, 0.1]) @ mixing)
    there = {n: torch.ones(200, dtype=torch.bool) for n in WIDTHS}
    layer = GaussianImputation(WIDTHS)
    layer.fit(values, there)
    observed, wanted = {**there, "b": ~there["b"]}, {n: there[n] if n == "b" else ~there[n] for n in WIDTHS}

    def found():
        drawn = layer.recover(values, observed, wanted, noise=noise)
        return layer(values, observed, wanted)["b"], drawn["b"], *layer.conditional(values, observed)

    expected = found()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(found(), expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_every_subset_in_one_batch(seed):
    layer, patterns = gaussian(seed), list(product([False, True], repeat=3))
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(patterns), 6)))
    masks = dict(zip(WIDTHS, torch.tensor(patterns).T, strict=True))
    poisoned = {n: torch.where(masks[n][:, None], v, torch.nan) for n, v in split(x).items()}
    mean, covariance = layer.conditional(poisoned, masks)
    filled = layer(poisoned, masks, {n: ~m for n, m in masks.items()})
    for row, pattern in enumerate(patterns):
        expected = by_numpy(layer, x[row].numpy(), entries(pattern))
        np.testing.assert_allclose(mean[row], expected[0], atol=1e-6)
        np.testing.assert_allclose(covariance[row], expected[1], atol=1e-6)
        np.testing.assert_allclose(torch.cat([filled[n][row] for n in WIDTHS]), expected[0], atol=1e-6)


def test_draws_have_the_conditional_moments():
    layer = gaussian()
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 6)))
    masks = {"a": torch.tensor([True, False]), "b": torch.tensor([False, False]), "c": torch.tensor([True, True])}
    wanted = {n: ~m for n, m in masks.items()}
    drawn = layer.recover(split(x), masks, wanted, draws=40_000, generator=torch.Generator().manual_seed(0))
    values = torch.cat([drawn[n] for n in WIDTHS], dim=-1).numpy()
    for row in range(2):
        there = np.concatenate([np.full(w, masks[n][row].item()) for n, w in WIDTHS.items()])
        mean, covariance = by_numpy(layer, x[row].numpy(), there)
        spread = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(values[:, row].mean(0), mean, atol=4 * spread.max() / 200)
        np.testing.assert_allclose(np.cov(values[:, row].T), covariance, atol=0.05 * spread.max() ** 2)


def test_one_draw_is_the_first_of_several_under_the_same_noise():
    layer = gaussian()
    x = split(torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    masks = {n: torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) < 0.5 for n in WIDTHS}
    wanted = {n: ~m for n, m in masks.items()}
    noise = torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    several = layer.recover(x, masks, wanted, draws=5, noise=noise)
    for draw in range(5):
        one = layer.recover(x, masks, wanted, noise=noise[draw])
        torch.testing.assert_close(one, {n: v[draw] for n, v in several.items()})


def test_the_optimum_where_the_world_is_gaussian():
    widths = {"face": 4, "voice": 3}
    data = synthetic_affect(widths, sequence="window", sizes=(3000, 4, 100), confounder_shift=0.0)
    layer = GaussianImputation(widths).double()
    train, test = data.train.values, data.test.values
    there = torch.ones(len(train["face"]), dtype=torch.bool)
    layer.fit(train, {"face": there, "voice": there})
    x = {n: v.double() for n, v in test.items()}
    seen = {
        "face": torch.ones(len(x["face"]), dtype=torch.bool),
        "voice": torch.zeros(len(x["face"]), dtype=torch.bool),
    }
    given = layer.conditional(x, seen)
    truth = data.truth.conditional_moments({"face": x["face"]}, ["voice"])
    error = (given.mean[:, 4:] - truth.mean).square().mean() / truth.within.diagonal().mean()
    assert error < 0.002
    torch.testing.assert_close(given.covariance[0, 4:, 4:], truth.within, atol=0.05, rtol=0.05)


def test_fit_with_modalities_absent_finds_the_same_law():
    widths = {"face": 4, "voice": 3}
    data = synthetic_affect(widths, sequence="window", sizes=(3000, 4, 4), confounder_shift=0.0)
    values, truth = data.train.values, data.truth.model.covariance
    generator = torch.Generator().manual_seed(0)
    face = torch.rand(len(values["face"]), generator=generator) < 0.6
    voice = (torch.rand(len(face), generator=generator) < 0.6) | ~face
    layer = GaussianImputation(widths)
    poisoned = {"face": values["face"].where(face[:, None], torch.nan), "voice": values["voice"].clone()}
    poisoned["voice"][~voice] = torch.nan
    assert layer.fit(poisoned, {"face": face, "voice": voice}) > 2
    torch.testing.assert_close(layer.covariance.double(), truth, atol=0.15, rtol=0.05)


def test_features_that_never_vary_tell_nothing():
    layer = GaussianImputation({"a": 2, "b": 1})
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 2.0
    there = torch.ones(50, dtype=torch.bool)
    layer.fit({"a": x[:, :2], "b": x[:, 2:]}, {"a": there, "b": there})
    masks = {"a": there[:1], "b": ~there[:1]}
    wanted = {n: ~m for n, m in masks.items()}
    for odd in (2.0, 7.0):
        filled = layer({"a": torch.tensor([[1.0, odd]]), "b": torch.zeros(1, 1)}, masks, wanted)
        slope = layer.covariance[0, 2] / layer.covariance[0, 0]
        torch.testing.assert_close(filled["b"], (layer.mean[2] + slope * (1 - layer.mean[0])).view(1, 1))
    drawn = layer.recover({"a": torch.zeros(1, 2), "b": torch.zeros(1, 1)}, {n: ~there[:1] for n in "ab"}, masks)
    assert drawn["a"][0, 1] == 2.0


def test_what_is_wanted_is_not_read_though_it_is_there():
    layer, x = gaussian(), split(torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    there = {n: torch.ones(3, dtype=torch.bool) for n in WIDTHS}
    wanted = {n: torch.full((3,), n == "b") for n in WIDTHS}
    filled = layer(x | {"b": torch.full_like(x["b"], torch.nan)}, there, wanted)
    torch.testing.assert_close(filled, layer(x, {n: ~w for n, w in wanted.items()}, wanted))


def test_refuses():
    with pytest.raises(ValueError, match="at least one modality"):
        GaussianImputation({})
    with pytest.raises(ValueError, match="shrinkage"):
        GaussianImputation(WIDTHS, shrinkage=1.5)
    layer = GaussianImputation(WIDTHS)
    few = split(torch.randn(4, 6))
    there = {n: torch.ones(4, dtype=torch.bool) for n in WIDTHS}
    with pytest.raises(ValueError, match="see shrinkage"):
        layer.fit(few, there)
    GaussianImputation(WIDTHS, shrinkage=0.1).fit(few, there)
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, 4, 6\)"):
        layer.recover(few, there, there, draws=2, noise=torch.randn(4, 6))
    with pytest.raises(ValueError, match=r"values\['a'\]"):
        layer(few | {"a": torch.ones(4, 5)}, there, there)
