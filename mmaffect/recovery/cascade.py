"""A cascade of residual autoencoders: what is absent is imagined from what is there, a little more in each block."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import check_dropout, check_positive, keep
from mmaffect.recovery.slots import check_slot_masks, check_slots, join_slots, split_slots


class Cascade(NamedTuple):
    """What a cascade yields: every modality, imagined, and the bottlenecks of all blocks side by side."""

    imagined: dict[str, Tensor]
    """``(..., D_m)`` by modality, those that were there too"""
    latent: Tensor
    """``(..., blocks * hidden[-1])``"""


class CascadedResidualAutoencoder(nn.Module):
    r"""Cascaded residual autoencoder (CRA: Tran et al., 2017; MMIN: Zhao et al., 2021, eq. 2).

    .. math:: \Delta_1 = f_1(x), \quad \Delta_k = f_k\Big(x + \sum_{j<k} \Delta_j\Big), \quad
              \hat x = T\Big(x + \sum_k \Delta_k\Big)

    with x all modalities side by side, zero where one is absent; f an autoencoder, linear maps with ReLU between them
    (none at the bottleneck nor at the end); T two linear maps with ReLU between, or nothing. One row by itself:
    a vector of a sample, or a step. Nothing is imagined of a row of which nothing is there: it gives zeros.

    A block is not told what is absent, as in the papers: zero stands for it. An injected vector is added to what each
    block is given, and not to the running sum, which would count it once more in every block. CIF-MMIN injects
    its invariant features; what is there and what is not may be told in the same way.

    MMIN, with modalities of 128 each, is the default: blocks of 384-256-128-64-128-256-384. CRA is
    ``hidden=(256, 128), blocks=2, transition=False``.

    Args:
        widths: of each modality by name; the order is fixed here.
        hidden: widths within a block, down to its bottleneck; the way back up mirrors them.
        blocks: how many there are.
        transition: whether T is there.
        dropout: after each ReLU within the blocks.

    Shape:
        ``values[m] (..., D_m)``, ``masks[m] (...)``, ``inject (..., D)`` → ``imagined[m] (..., D_m)``,
        ``latent (..., blocks * hidden[-1])``; D is the sum of all widths.

    Raises:
        ValueError: on no modality or no hidden width, sizes that are not positive, or a dropout out of range.

    Example:
        >>> cascade = CascadedResidualAutoencoder({"face": 4, "voice": 2}, hidden=(5, 3), blocks=2)
        >>> values = {"face": torch.randn(2, 4), "voice": torch.randn(2, 2)}
        >>> masks = {"face": torch.tensor([True, True]), "voice": torch.tensor([True, False])}
        >>> imagined, latent = cascade(values, masks)
        >>> imagined["voice"].shape, latent.shape
        (torch.Size([2, 2]), torch.Size([2, 6]))
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden: Sequence[int] = (256, 128, 64),
        blocks: int = 5,
        transition: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or not hidden:
            raise ValueError(f"widths, hidden: expected at least one of each, got {dict(widths)} and {tuple(hidden)}")
        check_positive(widths=min(widths.values()), hidden=min(hidden), blocks=blocks)
        check_dropout(dropout=dropout)
        self.widths, self.hidden = dict(widths), tuple(hidden)
        self.dim = sum(widths.values())
        down = (self.dim, *hidden)
        self.encoders = nn.ModuleList(_perceptron(down, dropout) for _ in range(blocks))
        self.decoders = nn.ModuleList(_perceptron(down[::-1], dropout) for _ in range(blocks))
        self.transition = _perceptron((self.dim,) * 3) if transition else nn.Identity()

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        transition = not isinstance(self.transition, nn.Identity)
        return f"{self.widths}, hidden={self.hidden}, blocks={len(self.encoders)}, transition={transition}"

    def forward(
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], inject: Tensor | None = None
    ) -> Cascade:
        """Imagine.

        Args:
            values: of each modality.
            masks: True = it is there.
            inject: added to what each block is given; its last dimension is that of all modalities together.

        Raises:
            ValueError: on other names or shapes.
        """
        leading = check_slots("values", self.widths, values)
        check_slot_masks("masks", self.widths, masks, leading)
        if inject is not None and tuple(inject.shape) != (*leading, self.dim):
            raise ValueError(f"inject: expected shape {(*leading, self.dim)}, got {tuple(inject.shape)}")
        anything = torch.stack([masks[name] for name in self.widths]).any(0)
        running = join_slots(self.widths, values, masks)
        extra = None if inject is None else keep(inject, anything)
        latents = []
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            latents.append(encode(running if extra is None else running + extra))
            running = running + decode(latents[-1])
        imagined = keep(self.transition(running), anything)
        return Cascade(split_slots(self.widths, imagined), keep(torch.cat(latents, dim=-1), anything))


def _perceptron(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear maps through these widths, ReLU and dropout between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])
