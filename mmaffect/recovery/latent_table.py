"""A free latent for every sample, from which all of its views are decoded: partial multi-view learning."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_int64, check_positive, check_shape, keep
from mmaffect.recovery.slots import check_slot_masks, check_slots


class LatentTable(nn.Module):
    """One latent a training sample, a parameter like any other (CPM-Net: Zhang et al., 2019, section 3.1).

    No encoder stands before it, so it asks nothing of which views are there; and it knows the samples of training
    only. Latents of new ones are found by :func:`fit_latents`.

    Args:
        samples: how many there are.
        dim: width of a latent.

    Shape:
        ``index (...)`` int64 → ``(..., dim)``.

    Raises:
        ValueError: on sizes that are not positive.

    Example:
        >>> table = LatentTable(10, 4)
        >>> table(torch.tensor([3, 3, 7])).shape
        torch.Size([3, 4])
    """

    def __init__(self, samples: int, dim: int) -> None:
        super().__init__()
        check_positive(samples=samples, dim=dim)
        self.latents = nn.Parameter(torch.empty(samples, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from a normal distribution of such a spread that a latent has the length 1 on average."""
        nn.init.normal_(self.latents, std=self.latents.shape[1] ** -0.5)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return "{}, {}".format(*self.latents.shape)

    def forward(self, index: Tensor) -> Tensor:
        """The latents of these samples.

        Args:
            index: the samples' numbers.

        Raises:
            ValueError: on an index that is not int64.
        """
        check_int64(index=index)
        return nn.functional.embedding(index, self.latents)


class MultiViewDecoder(nn.Module):
    """All views of a latent: a linear map or a perceptron for each (CPM-Net: Zhang et al., 2019, eq. 3).

    Its loss is :func:`~mmaffect.losses.masked_reconstruction`, or :func:`view_error`, under a mask of what
    is there: an absent view asks nothing of the latent, and is imputed from what the others ask.

    Args:
        dim: width of a latent.
        widths: of each view by name; the order is fixed here.
        hidden: widths between, with ReLU after each; none: linear, as published.

    Shape:
        ``(..., dim)`` → ``(..., D_m)`` by view.

    Raises:
        ValueError: on no view, or sizes that are not positive.

    Example:
        >>> decoder = MultiViewDecoder(4, {"face": 3, "voice": 2}, hidden=(8,))
        >>> decoder(torch.randn(5, 4))["voice"].shape
        torch.Size([5, 2])
    """

    def __init__(self, dim: int, widths: Mapping[str, int], *, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths: expected at least one view, got none")
        check_positive(dim=dim, widths=min(widths.values()), hidden=min(hidden, default=1))
        self.dim, self.widths, self.hidden = dim, dict(widths), tuple(hidden)
        # A list, since a ModuleDict refuses names with a dot and some others.
        self.decoders = nn.ModuleList(_perceptron((dim, *hidden, width)) for width in widths.values())

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, {self.widths}, hidden={self.hidden}"

    def forward(self, latent: Tensor) -> dict[str, Tensor]:
        """Decode.

        Args:
            latent: one a sample, or a step.

        Raises:
            ValueError: on another width.
        """
        if latent.dim() < 1 or latent.shape[-1] != self.dim:
            raise ValueError(f"latent: expected shape (..., D) with D = {self.dim}, got {tuple(latent.shape)}")
        return {name: decode(latent) for name, decode in zip(self.widths, self.decoders, strict=True)}


def view_error(decoded: Mapping[str, Tensor], values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
    r"""Squared error of each row over the views that are there: :math:`\sum_m \|\hat x_m - x_m\|^2` (eq. 3).

    Args:
        decoded: what a decoder says, by view.
        values: what is true; never read where the mask is False.
        masks: True = the view is there.

    Shape:
        ``(..., D_m)`` by view, masks ``(...)`` → ``(...)``.

    Raises:
        ValueError: on other names or shapes.

    Example:
        >>> view_error({"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3)}, {"a": torch.tensor([True, False])})
        tensor([3., 0.])
    """
    widths = {name: guess.shape[-1] for name, guess in decoded.items()}
    leading = check_slots("decoded", widths, decoded)
    if check_slots("values", widths, values) != leading:
        given = {name: tuple(value.shape) for name, value in values.items()}
        raise ValueError(f"values: expected shapes {leading} before the last dimension, got {given}")
    check_slot_masks("masks", widths, masks, leading)
    errors = [
        (keep(at_least_float32(guess), masks[name]) - keep(at_least_float32(values[name]), masks[name]))
        .square()
        .sum(-1)
        for name, guess in decoded.items()
    ]
    return torch.stack(errors).sum(0).to(next(iter(decoded.values())).dtype)


def fit_latents(
    decoder: MultiViewDecoder,
    values: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    steps: int = 500,
    lr: float = 0.05,
    weight_decay: float = 0.0,
    start: Tensor | None = None,
) -> Tensor:
    r"""Latents of new samples: those from which the decoder tells best what is there of them.

    .. math:: h = \arg\min_h \sum_{m \text{ there}} \|f_m(h) - x_m\|^2 + \lambda \|h\|^2

    by Adam with a rate that falls to zero along a cosine. The decoder stays as it is and gets no gradient, and each
    sample is fitted by itself, whatever else is in the batch. A sample with nothing there stays where it starts.

    Args:
        decoder: of the views.
        values: by view; never read where the mask is False.
        masks: True = the view is there.
        steps: of Adam.
        lr: its first rate.
        weight_decay: λ. More than 0 settles what the views that are there leave open.
        start: first latents; zero by default, so that nothing is drawn.

    Shape:
        ``values[m] (..., D_m)``, ``masks[m] (...)`` → ``(..., dim)``, without gradient.

    Raises:
        ValueError: on other names or shapes, or numbers out of range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> decoder = MultiViewDecoder(2, {"face": 3, "voice": 2})
        >>> truth = decoder(torch.randn(5, 2))
        >>> there = {"face": torch.ones(5, dtype=torch.bool), "voice": torch.zeros(5, dtype=torch.bool)}
        >>> latents = fit_latents(decoder, truth, there)
        >>> bool((decoder(latents)["voice"] - truth["voice"]).abs().max() < 0.01)  # recovered from the face
        True
    """
    leading = check_slots("values", decoder.widths, values)
    check_slot_masks("masks", decoder.widths, masks, leading)
    check_positive(steps=steps, lr=lr)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay: expected a value >= 0, got {weight_decay}")
    like = next(iter(values.values()))
    if start is None:
        start = torch.zeros(*leading, decoder.dim, dtype=like.dtype, device=like.device)
    else:
        check_shape("start", start, " ".join(map(str, (*leading, decoder.dim))))
    # Out of inference mode, where systems are evaluated; its tensors are copied, since no gradient goes by them.
    with torch.inference_mode(False), torch.enable_grad():
        values = {name: _usable(value) for name, value in values.items()}
        masks = {name: _usable(mask) for name, mask in masks.items()}
        latent = start.detach().clone().requires_grad_()
        adam = torch.optim.Adam([latent], lr=lr)
        cooling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(steps):
            # A sum over samples: what one of them costs is nothing to the others.
            loss = view_error(decoder(latent), values, masks).sum() + weight_decay * latent.square().sum()
            (latent.grad,) = torch.autograd.grad(loss, latent)
            adam.step()
            cooling.step()
    return latent.detach()


def _usable(x: Tensor) -> Tensor:
    """For autograd, without a gradient of its own."""
    return x.clone() if x.is_inference() else x.detach()


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
