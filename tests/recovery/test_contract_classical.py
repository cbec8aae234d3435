"""What recovers without diffusion, put through the library's contract."""

import pytest
import torch

from mmaffect.recovery import (
    CascadedResidualAutoencoder,
    CyclicTranslator,
    GaussianImputation,
    LatentTable,
    MeanFill,
    MultiViewDecoder,
    fill_wanted,
    view_error,
)
from mmaffect.testing import Case, check_all

WIDTHS = {"a.1": 3, "b": 2, "c": 4}
# Absent in part or throughout, padding behind and holes; the last step of the second sample has nothing at all.
MASKS = {
    "a.1": torch.tensor([[True, True, True, False], [True, False, False, False], [True, True, False, True]]),
    "b": torch.tensor([[False] * 4, [True, True, False, False], [True, True, True, True]]),
    "c": torch.tensor([[True, False, True, False], [True, True, False, False], [False] * 4]),
}
WANTED = {name: ~mask for name, mask in MASKS.items()}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


VALUES = {name: normal(3, 4, width, seed=width) for name, width in WIDTHS.items()}


def everything(count):
    return {name: torch.ones(count, dtype=torch.bool) for name in WIDTHS}


def correlated(count):
    mixed = normal(count, 9) @ (torch.eye(9) + 0.5 * normal(9, 9, seed=1)) + normal(9, seed=2)
    return dict(zip(WIDTHS, mixed.split(list(WIDTHS.values()), dim=1), strict=True))


def fitted_gaussian():
    gaussian = GaussianImputation(WIDTHS, shrinkage=0.2)
    gaussian.fit(correlated(200), everything(200))
    return gaussian


def fitted_mean():
    fill = MeanFill(WIDTHS)
    fill.fit(correlated(200), everything(200))
    return fill


@pytest.mark.parametrize("inject", [False, True])
@pytest.mark.parametrize("options", [{}, {"transition": False, "dropout": 0.2}])
def test_cascade(inject, options):
    check_all(
        Case(
            build=lambda: CascadedResidualAutoencoder(WIDTHS, hidden=(5, 3), blocks=2, **options),
            inputs={"values": VALUES, "masks": MASKS, "inject": normal(3, 4, 9, seed=7) if inject else None},
            masks={"values": "masks"},
            along={"inject": ("masks.a.1", (1,))} if inject else {},
        )
    )


@pytest.mark.parametrize("build", [fitted_mean, fitted_gaussian])
def test_fills(build):
    check_all(
        Case(
            build=build,
            inputs={"values": VALUES, "observed": MASKS, "wanted": WANTED},
            masks={"values": "observed"},
            along={f"wanted.{name}": (f"observed.{name}", (1,)) for name in WIDTHS},
        )
    )


def test_gaussian_draws():
    check_all(
        Case(
            build=fitted_gaussian,
            inputs={"values": VALUES, "observed": MASKS, "wanted": WANTED, "noise": normal(3, 4, 9, seed=9)},
            masks={"values": "observed"},
            along={f"wanted.{name}": (f"observed.{name}", (1,)) for name in WIDTHS} | {"noise": ("observed.b", (1,))},
            call=lambda layer, **given: layer.recover(**given),
            exempt={"export": "of the layer's own call, above", "compile": "of the layer's own call, above"},
        )
    )


def test_gaussian_conditional():
    check_all(
        Case(
            build=fitted_gaussian,
            inputs={"values": VALUES, "observed": MASKS},
            masks={"values": "observed"},
            call=lambda layer, **given: layer.conditional(**given),
            exempt={"export": "of the layer's own call, above", "compile": "of the layer's own call, above"},
        )
    )


def test_fill_wanted():
    check_all(
        Case(
            build=lambda: fill_wanted,
            inputs={
                "values": VALUES,
                "observed": MASKS,
                "wanted": WANTED,
                "recovered": {name: -value for name, value in VALUES.items()},
            },
            masks={"values": "observed", "recovered": "wanted"},
        )
    )


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_multi_view_decoder(hidden):
    check_all(
        Case(build=lambda: MultiViewDecoder(4, WIDTHS, hidden=hidden), inputs={"latent": normal(3, 2, 4)}),
    )


def test_latent_table():
    check_all(Case(build=lambda: LatentTable(6, 4), inputs={"index": torch.tensor([[0, 5], [2, 2], [3, 1]])}))


def test_view_error():
    check_all(
        Case(
            build=lambda: view_error,
            inputs={"decoded": {n: -v for n, v in VALUES.items()}, "values": VALUES, "masks": MASKS},
            masks={"decoded": "masks", "values": "masks"},
        )
    )


STEPS = {
    "a.1": torch.tensor([[True, True, False], [True, False, True], [True, True, True]]),
    "b": torch.tensor([[True, False, True], [True, True, False], [True, False, False]]),
    "c": torch.tensor([[True, True], [False, False], [True, True]]),
}
SEQUENCES = {name: normal(3, STEPS[name].shape[1], width, seed=width) for name, width in WIDTHS.items()}


def translation(values, forced, steps=STEPS, **options):
    """A case of the cyclic translator over the modalities of ``steps``."""
    names = tuple(steps)
    return Case(
        build=lambda: CyclicTranslator({name: WIDTHS[name] for name in names}, hidden=3),
        inputs={"values": values, "masks": steps, "forced": forced},
        masks={"values": "masks"},
        along={f"forced.{name}": (f"masks.{name}", (1,)) for name in forced or {}},
        aligned={"joint": "masks.a.1", "source": "masks.a.1"}
        | {f"translated.{name}": f"masks.{name}" for name in names[1:]},
        fullgraph=False,
        **options,
    )


COMPILED = {"compile": "each step is traced by itself: compiled below, with fewer"}


def test_cyclic_translator_told_the_truth():
    forced = {name: torch.arange(mask.shape[1]).expand_as(mask) % 2 == 0 for name, mask in STEPS.items()}
    check_all(translation(SEQUENCES, forced, exempt=COMPILED))


def test_cyclic_translator_by_itself():
    check_all(translation({"a.1": SEQUENCES["a.1"]}, None, exempt=COMPILED))


def test_cyclic_translator_compiled():
    steps = {name: STEPS[name][:, :2] for name in ("a.1", "b")}
    values = {name: SEQUENCES[name][:, :2] for name in steps}
    check_all(translation(values, {"b": steps["b"]}, steps), only=["compile"])
