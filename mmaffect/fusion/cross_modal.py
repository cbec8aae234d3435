"""Fusion by directed cross-modal attention between every two modalities (MulT; Tsai et al., 2019)."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmaffect.attention import CrossModalEncoder
from mmaffect.ops import check_mask, check_modalities, check_names, check_positive, check_shape, keep

_MEMORY_LAYERS = 3  # at least, in the published code


class CrossModalFusion(nn.Module):
    r"""Each modality gathers from every other one, and then from what it has gathered (Tsai et al., 2019, figure 2).

    .. math::
        z_{n \to m} = \mathrm{CM}_{n \to m}(x_m, x_n), \qquad
        y_m = \mathrm{SA}_m([z_{n \to m}]_{n \ne m})

    with a :class:`~mmaffect.attention.CrossModalEncoder` CM for each ordered pair of modalities, and one SA for each
    modality that looks at itself, MulT's memory. For any number of modalities; a single one has a memory and nothing to
    gather from. IMDer reads these (section 3.5); with three modalities of width 32, 8 heads and 4 layers there are
    905,472 parameters, with 6 layers 1,357,824, as published.

    MulT reads the last step of each modality and concatenates them. Here every step is returned, so that a dialogue can
    be predicted turn by turn, and a pool over real steps does not depend on where a sequence ends.

    Args:
        names: of the modalities; their order is fixed here.
        dim: width D of the steps, a multiple of ``heads``.
        layers: blocks of each directed encoder.
        heads: attention heads of every encoder.
        memory_layers: blocks of each memory; as many as ``layers``, but at least 3, by default, as published.
        dropout: of both branches of every block and inside its feed-forward part.
        attention_dropout: of the attention weights.
        embedding_dropout: of the embedded sequences.

    Shape:
        ``hidden[m] (B, T_m, D)``, ``masks[m] (B, T_m)``, ``queries[m] (B, T_m)`` → by modality
        ``(B, T_m, (M - 1) D)``; for a single modality ``(B, T, D)``.

    Raises:
        ValueError: on no or equal names, sizes that are not positive, or a width that is no multiple of the heads.

    Example:
        >>> fusion = CrossModalFusion(("words", "voice", "face"), 8, layers=1, heads=2)
        >>> steps = {"words": torch.randn(2, 3, 8), "voice": torch.randn(2, 7, 8), "face": torch.randn(2, 5, 8)}
        >>> {name: tuple(y.shape) for name, y in fusion(steps).items()}
        {'words': (2, 3, 16), 'voice': (2, 7, 16), 'face': (2, 5, 16)}
    """

    def __init__(
        self,
        names: Sequence[str],
        dim: int,
        *,
        layers: int,
        heads: int,
        memory_layers: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_names("names", names)
        memory_layers = max(layers, _MEMORY_LAYERS) if memory_layers is None else memory_layers
        check_positive(dim=dim, layers=layers, memory_layers=memory_layers)
        self.names, self.dim = tuple(names), dim
        self.gathered = max(len(names) - 1, 1) * dim

        def encoder(width: int, blocks: int) -> CrossModalEncoder:
            return CrossModalEncoder(
                width,
                blocks,
                heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                embedding_dropout=embedding_dropout,
            )

        # By modality that gathers, then by modality that is gathered from.
        self.directed = nn.ModuleDict(
            {m: nn.ModuleDict({n: encoder(dim, layers) for n in self.names if n != m}) for m in self.names}
        )
        self.memories = nn.ModuleDict({m: encoder(self.gathered, memory_layers) for m in self.names})

    @property
    def width(self) -> int:
        """Features of all modalities' steps together."""
        return len(self.names) * self.gathered

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"names={self.names}, dim={self.dim}"

    def forward(
        self,
        hidden: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        *,
        queries: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Let every modality gather from the others.

        Args:
            hidden: steps by modality, in any order.
            masks: True = the step may be looked at; all by default.
            queries: True = the step has a meaning of its own even where it is none to look at (a real turn at which
                the modality is absent), so it gathers too; by default the same as ``masks``.

        Returns:
            Steps by modality in the order of the constructor, zero where they do not gather.

        Raises:
            ValueError: on other names or shapes.
        """
        for what, given in (("hidden", hidden), ("masks", masks), ("queries", queries)):
            if given is not None:
                check_modalities(what, given, self.names)
        there, asked, steps = {}, {}, {}
        for name in self.names:
            x = hidden[name]
            check_shape(f"hidden[{name!r}]", x, "B T D", B=hidden[self.names[0]].shape[0], D=self.dim)
            there[name] = _mask(f"masks[{name!r}]", x, None if masks is None else masks[name])
            asked[name] = there[name] if queries is None else _mask(f"queries[{name!r}]", x, queries[name])
            asked[name] = asked[name] | there[name]
            steps[name] = keep(x, there[name])
        found = {}
        for m in self.names:
            sources = cast(nn.ModuleDict, self.directed[m])
            gathered = [encoder(steps[m], steps[n], asked[m], there[n]) for n, encoder in sources.items()]
            joined = torch.cat(gathered, dim=-1) if gathered else steps[m]
            # What was gathered at an asking step is as good to look at as at any other.
            found[m] = self.memories[m](joined, None, asked[m])
        return found


def _mask(name: str, x: Tensor, given: Tensor | None) -> Tensor:
    if given is None:
        return x.new_ones(x.shape[:2]).bool()
    check_mask(name, given, "B T", B=x.shape[0], T=x.shape[1])
    return given
