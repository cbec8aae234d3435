"""What a recovery is told: everything observed, of every modality, on one time axis."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmaffect.ops import check_mask, check_positive, check_shape, keep

ConditionNoise = Literal["clean", "independent", "shared"]
CONDITION_NOISE = ("clean", "independent", "shared")


class ObservedContext(nn.Module):
    r"""Steps of several modalities, any of them absent anywhere, as one sequence.

    .. math:: c_t = b + \sum_m W_m\, [a_{tm} x_{tm}, a_{tm}], \qquad a_{tm} = 1 \text{ where } m \text{ is observed}

    A 1x1 convolution of the concatenated modalities, as IMDer's, except that those which are absent are zero and said
    to be absent: one map for any subset, where the published code has one convolution for each pair. Steps where
    nothing is observed are zero.

    Args:
        count: number of modalities M.
        dim: width D of each, and of the context.

    Shape:
        ``x (B, T, M, D)``, ``observed (B, T, M)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive.

    Example:
        >>> fuse = ObservedContext(3, 4)
        >>> fuse(torch.randn(2, 5, 3, 4), torch.rand(2, 5, 3) < 0.5).shape
        torch.Size([2, 5, 4])
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        check_positive(count=count, dim=dim)
        self.count, self.dim = count, dim
        self.fuse = nn.Linear(count * (dim + 1), dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.count}, {self.dim}"

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """Fuse.

        Args:
            x: steps of each modality.
            observed: True = the modality is there at the step.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T M D", M=self.count, D=self.dim)
        check_mask("observed", observed, "B T M", B=x.shape[0], T=x.shape[1], M=self.count)
        slots = torch.cat([keep(x, observed), observed.unsqueeze(-1).to(x.dtype)], dim=-1)
        return keep(self.fuse(slots.flatten(2)), observed.any(2))
