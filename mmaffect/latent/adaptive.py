"""A β that is steered: towards a target of the divergence, or by the classes that are never found."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmaffect.ops import check_positive


class KLController(nn.Module):
    r"""Hold a KL divergence at a target by moving its weight: ControlVAE's PI controller (Shao et al., 2020).

    .. math:: e = \mathrm{KL} - \mathrm{target}, \quad
              I \leftarrow \mathrm{clamp}(I + K_i\, e, 0, \beta_{max} - \beta_{min}), \quad
              \beta = \mathrm{clamp}\left(\frac{K_p}{1 + \exp(-e)} + I + \beta_{min}, \beta_{min}, \beta_{max}\right)

    A divergence above the target raises β, one below it lowers β; only at the target does the integral I rest. The
    paper stops I while β is out of its bounds; ours keeps I itself within them, so that it never winds up and β turns
    at once when the error changes its sign.

    Call it with the divergence in the loss, and :meth:`update` once after each step of the optimiser: then one step
    has one β, in however many pieces its batch is computed. Its state is in buffers, so it is saved with the weights.

    Args:
        target: nats at which the divergence is held. The divergence is the one it is called with: free bits are
            not part of it any more if they were taken off before.
        proportional: K_p, the most that the present error adds to β.
        integral: K_i, how much a nat of error moves β in a step. A divergence that swings wants a smaller one.
        min_beta: lower bound, and where β starts.
        max_beta: upper bound.

    Shape:
        ``kl ()`` → ``()``.

    Raises:
        ValueError: on a target, gains or bounds that are not positive or not in order.

    Example:
        >>> controller = KLController(2.0, integral=0.1)
        >>> for _ in range(3):  # far above the target
        ...     _ = controller(torch.tensor(5.0))
        ...     controller.update()
        >>> controller.beta
        tensor(0.9095)
    """

    beta: Tensor
    accumulated: Tensor
    observed: Tensor

    def __init__(
        self,
        target: float,
        *,
        proportional: float = 0.01,
        integral: float = 1e-4,
        min_beta: float = 0.0,
        max_beta: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(target=target, integral=integral)
        if not proportional >= 0:
            raise ValueError(f"proportional: expected a value >= 0, got {proportional}")
        if not 0 <= min_beta < max_beta:
            raise ValueError(f"min_beta, max_beta: expected 0 <= min_beta < max_beta, got {min_beta} and {max_beta}")
        self.target, self.proportional, self.integral = target, proportional, integral
        self.min_beta, self.max_beta = min_beta, max_beta
        self.register_buffer("beta", torch.tensor(float(min_beta)))
        self.register_buffer("accumulated", torch.zeros(()))
        # Sum and number of the divergences since the last update.
        self.register_buffer("observed", torch.zeros(2))

    def forward(self, kl: Tensor) -> Tensor:
        """β · KL, with no gradient through β; in training the divergence is noted for the next update."""
        if self.training:
            noted = kl.detach().to(self.observed)
            self.observed += torch.stack([noted, torch.ones_like(noted)])
        return self.beta * kl

    @torch.no_grad()
    def update(self) -> None:
        """Move β by the mean divergence since the last update, over all processes; nothing noted, nothing moved.

        Under ``torch.distributed`` every process must call it.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.observed)
        total, count = self.observed.unbind()
        error = torch.where(count > 0, total / count.clamp(min=1) - self.target, torch.zeros_like(total))
        self.accumulated += self.integral * error
        self.accumulated.clamp_(0.0, self.max_beta - self.min_beta)
        moved = self.proportional * error.sigmoid() + self.accumulated + self.min_beta
        self.beta.copy_(torch.where(count > 0, moved.clamp(self.min_beta, self.max_beta), self.beta))
        self.observed.zero_()

    def extra_repr(self) -> str:
        """Target, gains and bounds."""
        gains = f"proportional={self.proportional}, integral={self.integral}"
        return f"{self.target}, {gains}, min_beta={self.min_beta}, max_beta={self.max_beta}"


class RecallController(nn.Module):
    r"""Lower β while some class has zero recall in validation, and raise it again after.

    .. math:: \beta \leftarrow \max(\mathrm{fall} \cdot \beta, \beta_{min}) \text{ if some recall is } 0, \quad
              \min(\mathrm{rise} \cdot \beta, \beta_{max}) \text{ else}

    Affect-Diff's paper finds that the divergence presses rare classes into the frequent ones and proposes to anneal β
    adaptively, without saying how; this is our reading. The validation set so has a say in training, though
    only by which classes are found: judge on a test set. Its state is a buffer, so it is saved with the weights.

    Args:
        fall: factor of β after a validation in which a class was never found, in (0, 1).
        rise: factor after one in which every class was found, above 1.
        min_beta: lower bound, above zero.
        max_beta: upper bound, and where β starts.

    Shape:
        ``kl ()`` → ``()``.

    Raises:
        ValueError: on factors or bounds out of range.

    Example:
        >>> controller = RecallController()
        >>> controller.update([0.9, 0.0, float("nan")])  # the second class was never found, the third does not occur
        >>> controller.beta
        tensor(0.5000)
        >>> controller.update([0.9, 0.1, float("nan")])
        >>> controller.beta
        tensor(0.6250)
    """

    beta: Tensor

    def __init__(self, *, fall: float = 0.5, rise: float = 1.25, min_beta: float = 0.01, max_beta: float = 1.0) -> None:
        super().__init__()
        if not 0 < fall < 1:
            raise ValueError(f"fall: expected a factor in (0, 1), got {fall}")
        if not rise > 1:
            raise ValueError(f"rise: expected a factor above 1, got {rise}")
        if not 0 < min_beta < max_beta:
            raise ValueError(f"min_beta, max_beta: expected 0 < min_beta < max_beta, got {min_beta} and {max_beta}")
        self.fall, self.rise, self.min_beta, self.max_beta = fall, rise, min_beta, max_beta
        self.register_buffer("beta", torch.tensor(float(max_beta)))

    def forward(self, kl: Tensor) -> Tensor:
        """β · KL, with no gradient through β."""
        return self.beta * kl

    def update(self, recall: Iterable[float]) -> None:
        """Move β by the recall of each class in one validation.

        Args:
            recall: of each class; NaN for one that does not occur, which has no say.
        """
        factor = self.fall if any(value == 0 for value in recall) else self.rise
        self.beta.mul_(factor).clamp_(self.min_beta, self.max_beta)

    def extra_repr(self) -> str:
        """Factors and bounds."""
        return f"fall={self.fall}, rise={self.rise}, min_beta={self.min_beta}, max_beta={self.max_beta}"
