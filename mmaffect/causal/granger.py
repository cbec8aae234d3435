"""The causal self-supervised loss of CARN: a step should be foretold by its attended past (eq. 15-17)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_choice, check_mask, check_positive, check_shape, info_nce_rows, keep


def granger_context(x: Tensor, parents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""Attention-weighted sum of each step's parents.

    .. math:: \mathrm{ctx}_i = \sum_j A_{ij} x_j

    Contracted over the sources. As printed, eq. 15 of the paper sums over the other axis, which would
    collect the future.

    Args:
        x: raw features.
        parents: attention weights, query by source; heads are averaged.
        mask: True = the modality is really there.

    Shape:
        ``x (B, T, D)``, ``parents (B, H, T, T)``, ``mask (B, T)`` → context ``(B, T, D)``, valid ``(B, T)``.

    Returns:
        The context, and where a loss may read it: the step is there and has at least one parent.

    Raises:
        ValueError: on other shapes.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0], [5.0]]])
        >>> parents = torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]])
        >>> context, valid = granger_context(x, parents, torch.ones(1, 2, dtype=torch.bool))
        >>> context.flatten().tolist(), valid.tolist()
        ([0.0, 1.0], [[False, True]])
    """
    check_shape("x", x, "B T D")
    check_mask("mask", mask, "B T", B=x.shape[0], T=x.shape[1])
    check_shape("parents", parents, "B H T T", B=x.shape[0], T=x.shape[1])
    weights = keep(parents.mean(1), mask.unsqueeze(1) & mask.unsqueeze(2))
    return weights @ keep(x, mask), mask & (weights.detach().sum(-1) > 0)


def granger_info_nce(
    prediction: Tensor, target: Tensor, valid: Tensor, *, temperature: float = 0.1, reduction: str = "mean"
) -> Tensor:
    r"""Contrastive prediction of each step among all valid steps of the batch (CARN eq. 17).

    .. math:: L = -\frac1N \sum_{i=1}^N \log
              \frac{\exp(p_i^\top g_i/\tau)}{\sum_{j=1}^N \exp(p_i^\top g_j/\tau)}

    Targets carry no gradient. Both sides are taken as given: scale them to unit length for cosine scores.

    Args:
        prediction: p, made from the context.
        target: g, the step itself; detached here.
        valid: True = the step takes part, as anchor and as candidate.
        temperature: τ > 0.
        reduction: ``"mean"`` over valid steps (zero where there is none), ``"sum"`` or ``"none"``.

    Shape:
        ``prediction (B, T, D)``, ``target (B, T, D)``, ``valid (B, T)`` → scalar, or ``(B, T)``; float32 at least.

    Raises:
        ValueError: on other shapes, a temperature that is not positive, or an unknown reduction.

    Example:
        >>> import torch
        >>> p = torch.eye(2).unsqueeze(0)
        >>> granger_info_nce(p, p, torch.ones(1, 2, dtype=torch.bool), temperature=1.0)
        tensor(0.3133)
    """
    check_shape("prediction", prediction, "B T D")
    check_shape("target", target, "B T D", **dict(zip("BTD", prediction.shape, strict=True)))
    check_shape("valid", valid, "B T", B=prediction.shape[0], T=prediction.shape[1])
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    p, g = (at_least_float32(side).flatten(0, 1) for side in (prediction, target.detach()))
    rows = info_nce_rows(p, g, valid.flatten(), temperature=temperature).view_as(valid)
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.sum() / valid.sum().clamp(min=1)


class GrangerLoss(nn.Module):
    """Causal self-supervision of one modality (CARN, eq. 15-17, with what the paper leaves open settled).

    The context of a step is mapped by ``F``, a two-layer perceptron, to predict the step's raw features.
    The paper's target projection ``G`` is detached and would never train, so it is the identity here. For
    the contrast both sides are scaled to unit length: otherwise the temperature would depend on the width.

    **It makes no causal claim.** It rewards prediction from the past; Granger's test would compare the prediction with
    and without a source. For a prediction, parents must come from the strict past, such as the weights of
    :class:`~mmaffect.attention.CausalEntmaxAttention` with ``include_self=False``; the first step then has none and is
    left out. With the paper's own weights a step is its own parent too, and may read its answer.

    Args:
        dim: width of the raw features.
        hidden: width inside ``F``; ``dim`` by default.
        kind: ``"info_nce"``, or ``"mse"``, the paper's ablation.
        temperature: τ of the contrast.

    Shape:
        ``x (B, T, D)``, ``parents (B, H, T, T)``, ``mask (B, T)`` → scalar.

    Raises:
        ValueError: on an unknown kind, or sizes or a temperature that are not positive.

    Example:
        >>> import torch
        >>> loss = GrangerLoss(4)
        >>> parents = torch.tril(torch.ones(1, 1, 3, 3), -1)
        >>> loss(torch.randn(1, 3, 4), parents, torch.ones(1, 3, dtype=torch.bool)).shape
        torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int | None = None,
        kind: Literal["info_nce", "mse"] = "info_nce",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        check_choice("kind", kind, ("info_nce", "mse"))
        check_positive(dim=dim, temperature=temperature)
        self.dim, self.kind, self.temperature = dim, kind, temperature
        hidden = hidden or dim
        self.predict = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, kind={self.kind!r}, temperature={self.temperature}"

    def forward(self, x: Tensor, parents: Tensor, mask: Tensor) -> Tensor:
        """Mean over the steps that are there and have a parent; zero where there is none.

        Args:
            x: raw features.
            parents: attention weights over the allowed parents, query by source.
            mask: True = the modality is really there.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        context, valid = granger_context(x, parents, mask)
        prediction, target = at_least_float32(self.predict(context)), at_least_float32(keep(x, mask)).detach()
        if self.kind == "mse":
            error = keep((prediction - target).square().mean(-1), valid)
            return error.sum() / valid.sum().clamp(min=1)
        return granger_info_nce(
            F.normalize(prediction, dim=-1), F.normalize(target, dim=-1), valid, temperature=self.temperature
        )
