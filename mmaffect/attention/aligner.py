"""Frames brought to the clock of the words: CIDer's word-based self-alignment module."""

from typing import NamedTuple

from torch import Tensor, nn

from mmaffect.attention.attend import merge_heads, split_heads
from mmaffect.attention.weights import attention_mask
from mmaffect.ops import check_positive, check_shape, keep, masked_softmax, step_mask


class AlignerOutput(NamedTuple):
    """What an aligner yields: ``y (B, T, D)``, a step a word, and ``weights (B, H, T, S)``, word by frame."""

    y: Tensor
    weights: Tensor


class WordAligner(nn.Module):
    r"""For each word the frames that belong to it, by attention (CIDer, WSAM).

    .. math:: y = W_o\, \mathrm{softmax}(W_q u\, (W_k f)^\top / \sqrt{d})\, W_v f

    with biases, and without residual, norm or dropout. The words ask and the frames answer, so the output has a
    step a word, and one instance serves one stream of frames. In the published code a word that does not ask comes
    out as the bias of :math:`W_o`; here it is zero, as is a word without any frame.

    Args:
        dim: width D of words and frames, a multiple of ``heads``.
        heads: attention heads; CIDer has one.

    Shape:
        ``words (B, T, D)``, ``frames (B, S, D)``, ``word_mask (B, T)``, ``frame_mask (B, S)``, ``queries (B, T)``
        → ``y (B, T, D)``, ``weights (B, H, T, S)``.

    Raises:
        ValueError: on sizes that are not positive, or a width that is no multiple of the heads.

    Example:
        >>> import torch
        >>> aligner = WordAligner(8)
        >>> words, frames = torch.randn(1, 3, 8), torch.randn(1, 50, 8)
        >>> y, weights = aligner(words, frames, torch.tensor([[True, True, False]]))
        >>> y.shape, bool((y[0, 2] == 0).all())
        (torch.Size([1, 3, 8]), True)
    """

    def __init__(self, dim: int, heads: int = 1) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        self.dim, self.heads = dim, heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, heads={self.heads}"

    def forward(
        self,
        words: Tensor,
        frames: Tensor,
        word_mask: Tensor | None = None,
        frame_mask: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> AlignerOutput:
        """Gather frames for the words.

        Args:
            words: steps that ask.
            frames: steps that are gathered.
            word_mask: True = a real word; all by default.
            frame_mask: True = a real frame; all by default.
            queries: True = a real word that asks; all real ones by default. CIDer keeps its tokenizer's first and
                last token from asking.

        Returns:
            ``y`` and ``weights``, zero for a word that does not ask or has no frame.

        Raises:
            ValueError: on another shape.
        """
        check_shape("words", words, "B T D", D=self.dim)
        check_shape("frames", frames, "B S D", B=words.shape[0], D=self.dim)
        word_mask = step_mask("word_mask", words, word_mask)
        frame_mask = step_mask("frame_mask", frames, frame_mask, "B S")
        if queries is not None:
            word_mask = word_mask & step_mask("queries", words, queries)
        allowed = attention_mask(frame_mask, word_mask)
        query = split_heads(self.query(keep(words, word_mask)), self.heads)
        key, value = (
            split_heads(part, self.heads) for part in self.key_value(keep(frames, frame_mask)).chunk(2, dim=-1)
        )
        weights = masked_softmax((query * query.shape[-1] ** -0.5) @ key.mT, allowed.unsqueeze(1))
        return AlignerOutput(keep(self.out(merge_heads(weights @ value)), allowed.any(-1)), weights)
