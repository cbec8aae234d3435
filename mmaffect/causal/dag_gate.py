"""A gate over modalities, shaped like a causal graph (Affect-Diff)."""

from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from mmaffect.ops import (
    acyclicity,
    at_least_float32,
    check_choice,
    check_mask,
    check_positive,
    check_shape,
    keep,
    masked_softmax,
)


class GateOutput(NamedTuple):
    """What the gate yields: ``weights (B, M)``, ``adjacency (B, M, M)`` (cause by effect), ``penalty`` (scalar)."""

    weights: Tensor
    adjacency: Tensor
    penalty: Tensor


def gumbel_sigmoid(scores: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Sample edges that are 0 or 1, with the gradient of their relaxation (Maddison et al., 2017, appendix B).

    .. math:: s = \sigma((e + \ell) / \tau), \qquad a = [s > 1/2], \qquad
              \frac{\partial a}{\partial e} := \frac{\partial s}{\partial e}

    Args:
        scores: e, the log-odds of each edge.
        noise: ℓ, standard logistic (the difference of two Gumbel variables); zero gives the likelier value.
        temperature: τ of the relaxation, which only the gradient sees.

    Shape:
        any; ``noise`` like ``scores``.

    Raises:
        ValueError: on a temperature that is not positive.

    Example:
        >>> gumbel_sigmoid(torch.tensor([-2.0, 0.5]), torch.zeros(2)).tolist()
        [0.0, 1.0]
    """
    check_positive(temperature=temperature)
    soft = ((scores + noise) / temperature).sigmoid()
    hard = (soft > 0.5).to(soft.dtype)
    return hard + (soft - soft.detach())


class DAGGate(nn.Module):
    r"""Weigh modalities by the edges that point at them in a graph made anew for each sample (Affect-Diff, III-B).

    .. math:: E_{ij} = \frac{(W_q n_i)^\top (W_k n_j)}{\sqrt d}, \quad A = \sigma(E)\ (i \ne j), \quad
              w_j = \frac{\sum_i A_{ij}}{\sum_{ik} A_{ik}}, \quad
              \mathrm{penalty} = \frac1B \sum_b \big( h(A_b) + \lambda \textstyle\sum_{ij} A_{b,ij} \big)

    Multiply each modality's hidden sequence by its weight, and by the number of modalities present, so that uniform
    weights keep the scale: :math:`\tilde H_m = M_b\, w_{b,m} H_m` with ``present.sum(1)`` for :math:`M_b`.

    **It is a gate.** The paper calls A a causal graph; nothing in its training makes it one. A sigmoid of pairwise
    scores, pushed towards a task's loss and towards having no cycles, says which modalities the task listens to.
    Even learners made for linear graphs lose most directions once their data are standardised: about a third of the
    edges keep theirs, and the distance to the truth is about that of an empty graph (see :func:`learn_dag`).

    The equations were lost in the text we have: W_q and W_k have no bias, and the weight of the L1 term is ours.

    Args:
        dim: width of the nodes.
        kind: ``"notears"``, as above; ``"gumbel"``, the paper's ablation: edges are sampled by :func:`gumbel_sigmoid`,
            the likelier value outside training, and the penalty is the L1 term alone; ``"none"``: equal weights, no
            edges, no penalty.
        method: how h is computed, see :func:`mmaffect.ops.acyclicity`.
        l1: λ.
        temperature: of the samples' relaxation in ``"gumbel"``.

    Shape:
        ``nodes (B, M, D)``, ``present (B, M)`` → ``weights (B, M)``, ``adjacency (B, M, M)``, ``penalty ()``.

    Raises:
        ValueError: on an unknown kind or method, a ``dim`` or temperature that is not positive, or a negative ``l1``.

    Example:
        >>> from mmaffect.ops import check_mask, masked_mean
        >>> hidden, mask = {m: torch.randn(2, 5, 8) for m in ("face", "voice", "words")}, torch.ones(2, 5).bool()
        >>> nodes = torch.stack([masked_mean(x, mask) for x in hidden.values()], dim=1)
        >>> present = torch.tensor([[True, True, True], [False, True, False]])
        >>> weights, adjacency, penalty = DAGGate(8)(nodes, present)
        >>> weights[1].tolist(), adjacency[1].sum().item()
        ([0.0, 1.0, 0.0], 0.0)
        >>> scale = present.sum(1, keepdim=True) * weights
        >>> gated = {m: x * scale[:, i, None, None] for i, (m, x) in enumerate(hidden.items())}
    """

    def __init__(
        self,
        dim: int,
        *,
        kind: Literal["notears", "gumbel", "none"] = "notears",
        method: Literal["expm", "poly", "logdet"] = "expm",
        l1: float = 1e-2,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(dim=dim, temperature=temperature)
        check_choice("kind", kind, ("notears", "gumbel", "none"))
        check_choice("method", method, ("expm", "poly", "logdet"))
        if not l1 >= 0:
            raise ValueError(f"l1: expected a value of at least 0, got {l1}")
        self.dim, self.kind, self.method, self.l1, self.temperature = dim, kind, method, l1, temperature
        if kind != "none":
            self.query = nn.Linear(dim, dim, bias=False)
            self.key = nn.Linear(dim, dim, bias=False)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        options = {"notears": f", method={self.method!r}", "gumbel": f", temperature={self.temperature}", "none": ""}
        return f"{self.dim}, kind={self.kind!r}{options[self.kind]}, l1={self.l1}"

    def forward(
        self, nodes: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> GateOutput:
        """Weigh the modalities.

        Args:
            nodes: one state a modality, such as the masked mean of its hidden steps.
            present: True = the modality is there; all by default.
            generator: of the samples of ``"gumbel"`` in training mode; PyTorch's own by default.

        Returns:
            Weights that sum to 1 over the modalities present, and to 0 where none is; a single one has weight 1. The
            others have weight 0, no edges and no gradient. The penalty is the mean over all samples, 0 where there
            are none; one with fewer than two modalities has no edges and adds 0.

        Raises:
            ValueError: on another shape.
        """
        check_shape("nodes", nodes, "B M D", D=self.dim)
        if present is None:
            present = nodes.new_ones(nodes.shape[:2]).bool()
        check_mask("present", present, "B M", B=nodes.shape[0], M=nodes.shape[1])
        if self.kind == "none":
            adjacency = nodes.new_zeros(*present.shape, present.shape[1])
            return GateOutput(masked_softmax(adjacency[:, 0], present), adjacency, nodes.new_zeros(()))
        nodes = keep(nodes, present)
        scores = at_least_float32(self.query(nodes)) @ at_least_float32(self.key(nodes)).mT / self.dim**0.5
        edges = present.unsqueeze(1) & present.unsqueeze(2)
        edges = edges & ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
        if self.kind == "notears":
            adjacency = keep(scores.sigmoid(), edges)
            weights = _column_shares(nn.functional.logsigmoid(scores), edges, present)
            penalty = acyclicity(adjacency, method=self.method) + self.l1 * adjacency.sum((1, 2))
        else:
            noise = torch.zeros_like(scores)
            if self.training:
                noise = torch.rand(scores.shape, dtype=scores.dtype, device=scores.device, generator=generator).logit()
            adjacency = keep(gumbel_sigmoid(scores, noise, self.temperature), edges)
            weights = _edge_shares(adjacency, present)
            penalty = self.l1 * adjacency.sum((1, 2))
        # Not mean(), which is NaN where there is no sample.
        penalty = penalty.sum() / max(penalty.shape[0], 1)
        return GateOutput(weights.to(nodes.dtype), adjacency.to(nodes.dtype), penalty)


def _column_shares(log_adjacency: Tensor, edges: Tensor, present: Tensor) -> Tensor:
    """Column sums, normalised: in logarithms, as sums of sigmoids may all underflow while their ratios do not."""
    floor = torch.full((), torch.finfo(log_adjacency.dtype).min / 2, dtype=log_adjacency.dtype, device=edges.device)
    sums = torch.where(edges, log_adjacency, floor).logsumexp(1)
    # Only the column of a single modality has no edge at all; it has nobody to share with.
    return masked_softmax(keep(sums, edges.any(1)), present)


def _edge_shares(adjacency: Tensor, present: Tensor) -> Tensor:
    """Column sums of edges that are 0 or 1, normalised; where no edge was drawn nothing favours any: equal shares."""
    pointed = adjacency.sum(1)
    total = pointed.sum(1, keepdim=True)
    equal = masked_softmax(torch.zeros_like(pointed), present)
    return torch.where(total > 0.5, pointed / total.clamp(min=0.5), equal)
