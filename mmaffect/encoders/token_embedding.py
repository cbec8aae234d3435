"""Token ids to vectors: a table of one learned vector a token."""

from torch import Tensor, nn

from mmaffect.ops import check_dropout, check_int64, check_mask, check_positive, check_shape, keep


class TokenEmbedding(nn.Module):
    """One learned vector a token: the text encoder that needs nothing but the training split.

    The vectors start normal and about one long, where PyTorch's are √dim: a word occurs a few times in a small corpus,
    and what it means must be able to outgrow what it was drawn as.

    Args:
        vocabulary: number of tokens, ``Vocabulary.size``.
        dim: width of the vectors.
        dropout: of their entries.

    Shape:
        ``ids (B, T)`` int64, ``mask (B, T)`` → ``(B, T, dim)``.

    Raises:
        ValueError: on sizes that are not positive, or a dropout outside [0, 1].

    Example:
        >>> import torch
        >>> encoder = TokenEmbedding(10, 4)
        >>> encoder(torch.tensor([[3, 7, 0]]), torch.tensor([[True, True, False]])).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, vocabulary: int, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(vocabulary=vocabulary, dim=dim)
        check_dropout(dropout=dropout)
        self.width = dim
        self.table = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        nn.init.normal_(self.table.weight, std=self.width**-0.5)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.table.num_embeddings}, {self.width}"

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Look the vectors up; zero at tokens that are not there, whatever id they hold.

        Args:
            ids: tokens.
            mask: True = a real token.

        Raises:
            ValueError: on another shape or dtype.
        """
        check_shape("ids", ids, "B T")
        check_mask("mask", mask, "B T", B=ids.shape[0], T=ids.shape[1])
        check_int64(ids=ids)
        return keep(self.dropout(self.table(keep(ids, mask))), mask)
