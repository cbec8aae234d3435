"""The cascade, by hand and by the published counts."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from mmaffect.recovery import CascadedResidualAutoencoder


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_block_widths_and_latents():
    cascade = CascadedResidualAutoencoder({"a": 128, "t": 128, "v": 128})
    shapes = [tuple(m.weight.shape) for m in cascade.encoders[0] if isinstance(m, nn.Linear)]
    shapes += [tuple(m.weight.shape) for m in cascade.decoders[0] if isinstance(m, nn.Linear)]
    assert shapes == [(256, 384), (128, 256), (64, 128), (128, 64), (256, 128), (384, 256)]
    masks = {name: torch.ones(2, dtype=torch.bool) for name in "atv"}
    assert cascade({name: torch.randn(2, 128) for name in "atv"}, masks).latent.shape == (2, 320)


def test_counts_that_make_up_the_published_systems():
    """MMIN as GCNet runs it 3.87 M, CIF-MMIN 4.72 M, CRA 1.84 M, with what stands around their cascades."""
    widths = {"a": 128, "t": 128, "v": 128}

    def linear(*sizes):
        return sum(a * b + b for a, b in pairwise(sizes))

    def lstm(width):
        return 4 * 128 * (width + 128 + 2)

    def text_cnn(width):
        return sum(k * width * 128 + 128 for k in (3, 4, 5)) + linear(3 * 128, 128)

    cascade = count(CascadedResidualAutoencoder(widths))
    assert cascade == 1_694_400
    encoders = sum(linear(width, 128, 128, 128) for width in (512, 1024, 1024))
    mmin = 2 * cascade + encoders + linear(320, 128, 128, 4)
    assert round(mmin / 1e6, 2) == 3.87
    specific = lstm(130) + lstm(342) + text_cnn(1024)
    invariant = lstm(130) + lstm(342) + lstm(1024)
    assert round((specific + invariant + cascade + linear(384, 128, 128, 4)) / 1e6, 2) == 4.72
    cra = count(CascadedResidualAutoencoder(widths, hidden=(256, 128), blocks=2, transition=False))
    assert cra == 526_336
    around = linear(512, 128) + 2 * linear(1024, 128) + linear(384, 512 + 1024 + 1024) + linear(384, 4)
    assert round((cra + around) / 1e6, 2) == 1.84


def plain_cascade():
    """Two blocks on the features (x, y), through a bottleneck of one, with weights that can be followed by hand."""
    cascade = CascadedResidualAutoencoder({"x": 1, "y": 1}, hidden=(1,), blocks=2, transition=False)
    with torch.no_grad():
        for encode, decode in zip(cascade.encoders, cascade.decoders, strict=True):
            encode[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
            encode[0].bias.fill_(1.0)
            decode[0].weight.copy_(torch.tensor([[0.0], [1.0]]))
            decode[0].bias.zero_()
    return cascade


def test_by_hand():
    x = {"x": torch.tensor([[3.0]]), "y": torch.tensor([[100.0]])}
    masks = {"x": torch.tensor([True]), "y": torch.tensor([False])}
    imagined, latent = plain_cascade()(x, masks)
    # (3, 0): latent 3 + 0 + 1 = 4, adds (0, 4); (3, 4): latent 3 + 8 + 1 = 12, adds (0, 12).
    assert latent.tolist() == [[4.0, 12.0]]
    assert imagined["x"].tolist() == [[3.0]]
    assert imagined["y"].tolist() == [[16.0]]


def test_injected_by_hand_and_not_summed_up():
    x = {"x": torch.tensor([[3.0]]), "y": torch.tensor([[0.0]])}
    masks = {"x": torch.tensor([True]), "y": torch.tensor([False])}
    imagined, latent = plain_cascade()(x, masks, inject=torch.tensor([[10.0, 0.0]]))
    # (13, 0): 14, adds (0, 14); (13, 14): 13 + 28 + 1 = 42. The running sum never holds what was injected.
    assert latent.tolist() == [[14.0, 42.0]]
    assert imagined["x"].tolist() == [[3.0]]
    assert imagined["y"].tolist() == [[56.0]]


def test_hidden_maps_and_transition_have_relu_between_and_none_at_the_ends():
    cascade = CascadedResidualAutoencoder({"x": 2}, hidden=(3, 1), blocks=1, dropout=0.5)
    for part in (cascade.encoders[0], cascade.decoders[0], cascade.transition):
        kinds = [type(m) for m in part if not isinstance(m, nn.Dropout)]
        assert kinds == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_row_without_anything_gives_zeros():
    cascade = CascadedResidualAutoencoder({"x": 2, "y": 1}, hidden=(3,), blocks=2)
    masks = {"x": torch.tensor([True, False]), "y": torch.tensor([False, False])}
    values = {"x": torch.ones(2, 2), "y": torch.ones(2, 1)}
    imagined, latent = cascade(values, masks, torch.ones(2, 3))
    assert not imagined["x"][1].any()
    assert not imagined["y"][1].any()
    assert not latent[1].any()
    assert latent[0].any()
    assert imagined["y"][0].any()


def test_learns_what_no_linear_map_can_tell():
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    values = {"x": x, "y": x.abs()}
    masks = {"x": torch.ones(256, dtype=torch.bool), "y": torch.zeros(256, dtype=torch.bool)}
    torch.manual_seed(0)
    cascade = CascadedResidualAutoencoder({"x": 2, "y": 2}, hidden=(16, 8), blocks=2)
    adam = torch.optim.Adam(cascade.parameters(), lr=5e-3)
    for _ in range(120):
        error = (cascade(values, masks).imagined["y"] - values["y"]).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
    # |x| has no correlation with x: a linear map is left with its variance.
    assert error < 0.2 * values["y"].var()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": {}}, "at least one of each"),
        ({"hidden": ()}, "at least one of each"),
        ({"blocks": 0}, "blocks"),
        ({"hidden": (3, 0)}, "hidden"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        CascadedResidualAutoencoder(**({"widths": {"x": 2}} | options))


def test_refuses_other_shapes():
    cascade = CascadedResidualAutoencoder({"x": 2, "y": 1}, hidden=(3,), blocks=1)
    values = {"x": torch.ones(4, 2), "y": torch.ones(4, 1)}
    masks = {name: torch.ones(4, dtype=torch.bool) for name in values}
    with pytest.raises(ValueError, match=r"inject: expected shape \(4, 3\)"):
        cascade(values, masks, torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"values\['y'\]"):
        cascade(values | {"y": torch.ones(3, 1)}, masks)
    with pytest.raises(ValueError, match="values: expected the modalities"):
        cascade({"x": torch.ones(4, 2)}, masks)
    with pytest.raises(ValueError, match=r"masks\['x'\]: expected bool"):
        cascade(values, masks | {"x": torch.ones(4)})
    with pytest.raises(ValueError, match="masks: expected the modalities"):
        cascade(values, {"x": masks["x"]})
