"""Backdoor adjustment for an observed confounder: what doing x would bring, from what seeing x and c brings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_int64, check_positive, check_shape


def backdoor_adjust(log_prob: Tensor, log_prior: Tensor) -> Tensor:
    r"""Average conditional laws over the law of the confounder (Pearl, 2009, theorem 3.3.2).

    .. math:: \log P(y \mid do(x)) = \log \sum_c P(y \mid x, c)\, P(c)

    The average is over P(c), not over P(c | x): that is all the difference between doing and seeing. It is P(y | do(x))
    if c is no effect of x, blocks every back-door path from x to y, and each value of c has some chance at each x. A
    step on the way from x to y fails the first: averaged over, it takes away what x does through it.

    Args:
        log_prob: log P(y | x, c), finite.
        log_prior: log P(c); -inf leaves a value out.

    Shape:
        ``log_prob (..., K, C)``, ``log_prior (K,)`` → ``(..., C)``.

    Returns:
        Log-probabilities, computed in float32 at least, in the dtype of ``log_prob``.

    Raises:
        ValueError: on other shapes.

    Example:
        >>> given_c = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> backdoor_adjust(given_c.log(), torch.tensor([0.5, 0.5]).log()).exp()
        tensor([0.6000, 0.4000])
    """
    if log_prob.dim() < 2:
        raise ValueError(f"log_prob: expected shape (..., K, C), got {tuple(log_prob.shape)}")
    check_shape("log_prior", log_prior, "K", K=log_prob.shape[-2])
    joint = at_least_float32(log_prob) + at_least_float32(log_prior).unsqueeze(-1)
    return joint.logsumexp(-2).to(log_prob.dtype)


def class_frequencies(labels: Tensor, classes: int) -> Tensor:
    """How often each value occurs: P(c) of a confounder, or P(y), as the training split has it.

    Args:
        labels: values from 0; negative ones (-100) are unknown and left out. The others speak for all only where
            whether a value is known has nothing to do with it.
        classes: how many values there are.

    Shape:
        int64, any shape → ``(classes,)``.

    Returns:
        Frequencies of sum 1, float32.

    Raises:
        ValueError: on labels that are no int64, out of range, or all unknown.

    Example:
        >>> class_frequencies(torch.tensor([0, 2, 0, -100, 0]), 3)
        tensor([0.7500, 0.0000, 0.2500])
    """
    check_positive(classes=classes)
    check_int64(labels=labels)
    known = labels[labels >= 0]
    if known.numel() == 0 or int(known.max()) >= classes:
        found = "none" if known.numel() == 0 else int(known.max())
        raise ValueError(f"labels: expected known values from 0 to {classes - 1}, got {found}")
    counts = known.bincount(minlength=classes).double()
    return (counts / counts.sum()).float()


def as_log_prior(prior: Tensor | Sequence[float]) -> Tensor:
    """Check a distribution given by the user, and take its logarithm.

    Shape:
        ``(K,)`` → ``(K,)``.

    Raises:
        ValueError: unless it is a vector of numbers of at least 0 and of sum 1.
    """
    given = torch.as_tensor(prior, dtype=torch.float64).detach()
    check_shape("prior", given, "K")
    if not (bool((given >= 0).all()) and abs(float(given.sum()) - 1) < 1e-5):
        raise ValueError(f"prior: expected numbers of at least 0 and of sum 1, got {given.tolist()}")
    return (given / given.sum()).log().float()


class BackdoorHead(nn.Module):
    r"""Estimate P(y | do(x)) where the confounder is discrete and observed in training.

    .. math:: P(y \mid x, c) = \mathrm{softmax}(W_c h + b_c), \qquad
              P(y \mid do(x)) = \sum_c P(y \mid x, c)\, P(c)

    Trained on P(y | x, c) at each sample's own c; averaged over P(c) when nobody says c. So the parts of the sum are
    what they are called, unlike those of :class:`PrototypeHead`, which are only ever fitted as a mixture.

    One linear map a stratum, on a hidden state that all strata share. A common map with an offset for c would have
    fewer parameters, but could not express that c changes how x acts; and the average over c is only as good as each
    of its parts.

    Args:
        dim: width of the hidden state, which must not be made from c, and must keep what x says of y.
        classes: values of y.
        prior: P(c), such as :func:`class_frequencies` of the training split; a buffer. It is not learned: the
            likelihood of P(y | x, c) says nothing of it, and that of the mixture would bend it towards P(c | x).

    Shape:
        ``hidden (..., D)``, ``confounder (...)`` → ``(..., C)``.

    Raises:
        ValueError: on sizes that are not positive, or a prior that is no distribution.

    Example:
        >>> head = BackdoorHead(8, 3, prior=[0.5, 0.3, 0.2])
        >>> h, c, y = torch.randn(4, 8), torch.tensor([0, 2, 1, -100]), torch.tensor([2, 0, 1, 1])
        >>> known = c >= 0  # the others would carry no gradient, yet count in the mean
        >>> loss = nn.functional.nll_loss(head(h[known], c[known]), y[known])  # trains P(y | x, c)
        >>> head(h).shape  # estimates log P(y | do(x))
        torch.Size([4, 3])
    """

    log_prior: Tensor

    def __init__(self, dim: int, classes: int, *, prior: Tensor | Sequence[float]) -> None:
        super().__init__()
        check_positive(dim=dim, classes=classes)
        self.register_buffer("log_prior", as_log_prior(prior))
        self.dim, self.classes, self.strata = dim, classes, len(self.log_prior)
        self.linear = nn.Linear(dim, self.strata * classes)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, classes={self.classes}, strata={self.strata}"

    def forward(self, hidden: Tensor, confounder: Tensor | None = None) -> Tensor:
        """Log-probabilities of y.

        Args:
            hidden: one state a sample, or a step.
            confounder: its value, to train; None averages over it. Where it is unknown (-100, or any negative
                number) the average is given, without gradient: trained through it, the sample would be fitted to
                P(y | x).

        Returns:
            log P(y | x, c) where c is given, the estimate of log P(y | do(x)) elsewhere.

        Raises:
            ValueError: on other shapes, or a confounder that is not int64.
        """
        if hidden.dim() < 1 or hidden.shape[-1] != self.dim:
            raise ValueError(f"hidden: expected shape (..., D) with D = {self.dim}, got {tuple(hidden.shape)}")
        logits = at_least_float32(self.linear(hidden).unflatten(-1, (self.strata, self.classes)))
        log_prob = logits.log_softmax(-1)
        # Taken anew, as a head in half precision has rounded its buffer: a sum of 1 is a sum of 1.
        average = backdoor_adjust(log_prob, at_least_float32(self.log_prior).log_softmax(0))
        if confounder is None:
            return average.to(hidden.dtype)
        if confounder.shape != hidden.shape[:-1]:
            raise ValueError(
                f"confounder: expected shape {tuple(hidden.shape[:-1])}, one value a state, "
                f"got {tuple(confounder.shape)}"
            )
        check_int64(confounder=confounder)
        known = (confounder >= 0)[..., None]
        stratum = confounder.clamp(min=0)[..., None, None].expand(*confounder.shape, 1, self.classes)
        own = log_prob.gather(-2, stratum).squeeze(-2)
        return torch.where(known, own, average.detach()).to(hidden.dtype)
