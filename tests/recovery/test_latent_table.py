"""Latents without an encoder: against least squares, and what fitting them may touch."""

import numpy as np
import pytest
import torch

from mmaffect.recovery import LatentTable, MultiViewDecoder, fit_latents, view_error

WIDTHS = {"a.1": 4, "b": 3}


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def decoder(**options):
    torch.manual_seed(0)
    return MultiViewDecoder(2, WIDTHS, **options).double()


VALUES = {name: normal(5, width, seed=width) for name, width in WIDTHS.items()}
MASKS = {"a.1": torch.tensor([True, True, False, False, True]), "b": torch.tensor([True, False, True, False, True])}


def test_table_looks_up_and_learns_where_it_was_asked():
    table = LatentTable(6, 3)
    table(torch.tensor([4, 1, 4])).sum().backward()
    assert table.latents.grad[:, 0].tolist() == [0, 1, 0, 0, 2, 0]
    large = LatentTable(2000, 16).latents
    assert large.square().sum(1).mean().item() == pytest.approx(1, rel=0.05)


def test_published_count():
    """CPM-Net's decoders and table at 128: 0.33 M and 128 a sample."""
    views = MultiViewDecoder(128, {"a": 512, "t": 1024, "v": 1024})
    assert round(sum(p.numel() for p in views.parameters()) / 1e6, 2) == 0.33
    assert sum(p.numel() for p in LatentTable(10, 128).parameters()) == 1280


def test_view_error_by_brute_force():
    decoded = {n: -v for n, v in VALUES.items()}
    poisoned = {n: torch.where(MASKS[n][:, None], v, torch.nan) for n, v in VALUES.items()}
    error = view_error(decoded, poisoned, MASKS)
    for row in range(5):
        expected = sum(float((2 * VALUES[n][row]).square().sum()) for n in WIDTHS if MASKS[n][row])
        assert error[row].item() == pytest.approx(expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_linear_decoders_have_a_closed_form(weight_decay):
    views = decoder()
    poisoned = {n: torch.where(MASKS[n][:, None], v, torch.nan) for n, v in VALUES.items()}
    found = fit_latents(views, poisoned, MASKS, steps=400, lr=0.1, weight_decay=weight_decay)
    for row in range(5):
        there = [i for i, n in enumerate(WIDTHS) if MASKS[n][row]]
        if not there:
            assert not found[row].any()
            continue
        weight = np.concatenate([views.decoders[i].get_parameter("0.weight").detach().numpy() for i in there])
        bias = np.concatenate([views.decoders[i].get_parameter("0.bias").detach().numpy() for i in there])
        target = np.concatenate([list(VALUES.values())[i][row].numpy() for i in there])
        normal_matrix = weight.T @ weight + weight_decay * np.eye(2)
        expected = np.linalg.solve(normal_matrix, weight.T @ (target - bias))
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


def test_fitting_leaves_the_decoder_alone_and_works_without_gradients():
    views = decoder(hidden=(6,))
    before = {n: p.clone() for n, p in views.state_dict().items()}
    with torch.no_grad():
        found = fit_latents(views, VALUES, MASKS, steps=20)
    assert not found.requires_grad
    assert all(p.grad is None and p.requires_grad for p in views.parameters())
    torch.testing.assert_close(dict(views.state_dict()), before, rtol=0, atol=0)
    start, end = (view_error(views(latents), VALUES, MASKS).sum() for latents in (torch.zeros_like(found), found))
    assert end < 0.9 * start


@pytest.mark.parametrize("inside", [False, True])
def test_fits_in_inference_mode_too(inside):
    views, expected = decoder(hidden=(6,)), fit_latents(decoder(hidden=(6,)), VALUES, MASKS, steps=20)
    with torch.inference_mode():
        values, masks = ({n: x.clone() if inside else x for n, x in given.items()} for given in (VALUES, MASKS))
        found = fit_latents(views, values, masks, steps=20, start=torch.zeros(5, 2, dtype=torch.float64))
    assert torch.equal(found, expected)
    assert all(p.grad is None for p in views.parameters())


def test_each_sample_is_fitted_by_itself():
    views = decoder(hidden=(6,))
    together = fit_latents(views, VALUES, MASKS, steps=30)
    for row in range(5):
        own = slice(row, row + 1)
        alone = fit_latents(
            views, {n: v[own] for n, v in VALUES.items()}, {n: m[own] for n, m in MASKS.items()}, steps=30
        )
        torch.testing.assert_close(alone[0], together[row])


def test_start_is_kept_where_nothing_is_there():
    start = normal(5, 2, seed=11)
    found = fit_latents(decoder(), VALUES, MASKS, steps=5, start=start)
    assert torch.equal(found[3], start[3])
    assert not torch.equal(found[0], start[0])


def test_a_view_is_recovered_from_another():
    torch.manual_seed(0)
    basis = {n: normal(2, w, seed=w) for n, w in WIDTHS.items()}
    latents = normal(40, 2, seed=20)
    values = {n: latents @ b for n, b in basis.items()}
    table, views = LatentTable(30, 2).double(), decoder()
    masks = {"a.1": torch.arange(30) % 3 != 0, "b": torch.arange(30) % 3 != 1}
    adam = torch.optim.Adam([*table.parameters(), *views.parameters()], lr=0.05)
    seen = {n: v[:30] for n, v in values.items()}
    for _ in range(200):
        loss = view_error(views(table(torch.arange(30))), seen, masks).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    new = {n: v[30:] for n, v in values.items()}
    only = {"a.1": torch.ones(10, dtype=torch.bool), "b": torch.zeros(10, dtype=torch.bool)}
    told = views(fit_latents(views, new, only))["b"]
    assert (told - new["b"]).square().mean() < 0.01 * new["b"].var()


def test_refuses():
    with pytest.raises(ValueError, match="samples"):
        LatentTable(0, 2)
    with pytest.raises(ValueError, match="at least one view"):
        MultiViewDecoder(2, {})
    with pytest.raises(ValueError, match="hidden"):
        MultiViewDecoder(2, WIDTHS, hidden=(0,))
    views = decoder()
    with pytest.raises(ValueError, match=r"latent: expected shape \(..., D\) with D = 2"):
        views(normal(3, 4))
    with pytest.raises(ValueError, match="start: expected shape"):
        fit_latents(views, VALUES, MASKS, start=normal(5, 3))
    with pytest.raises(ValueError, match="weight_decay"):
        fit_latents(views, VALUES, MASKS, weight_decay=-1)
    with pytest.raises(ValueError, match="steps"):
        fit_latents(views, VALUES, MASKS, steps=0)
    with pytest.raises(ValueError, match="values: expected the modalities"):
        fit_latents(views, {"b": VALUES["b"]}, MASKS)


def test_view_error_takes_no_other_shapes():
    """Broadcast, one row's truth would be every row's, and a mask of entries would be one of rows."""
    with pytest.raises(ValueError, match=r"values: expected shapes \(5,\) before the last dimension"):
        view_error(VALUES, {n: v[:1] for n, v in VALUES.items()}, MASKS)
    with pytest.raises(ValueError, match=r"masks\['a.1'\]"):
        view_error(VALUES, VALUES, {n: m[:, None].expand(5, WIDTHS[n]) for n, m in MASKS.items()})
    with pytest.raises(ValueError, match="values: expected the modalities"):
        view_error(VALUES, {"b": VALUES["b"]}, MASKS)
    with pytest.raises(ValueError, match="index: expected"):
        LatentTable(3, 2)(torch.tensor([0.0]))
