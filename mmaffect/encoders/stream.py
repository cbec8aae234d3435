"""One modality's steps as a system reads them: values, who speaks, and whether the modality is there."""

import torch
from torch import Tensor, nn

from mmaffect.ops import check_positive, check_shape, keep


class StreamInput(nn.Module):
    """Join a modality's values with the speaker and a flag of absence, and project them.

    A step at which the modality is absent still says who speaks; its values never enter.

    Args:
        dim: width of the modality.
        width: width of the stream; None leaves the joined input unprojected.
        speakers: how many speakers are told apart; 0 for none. A speaker beyond is taken for the last.
        dropout: of the modality's values.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``speaker (B, T)`` → ``(B, T, width)``.

    Raises:
        ValueError: on sizes that are not positive, another shape, or speakers announced and not given.

    Example:
        >>> stream = StreamInput(4, 8, speakers=2)
        >>> stream(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3).long()).shape
        torch.Size([2, 3, 8])
    """

    def __init__(self, dim: int, width: int | None = None, *, speakers: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim)
        self.dim, self.speakers = dim, speakers
        joined = dim + speakers + 1
        self.width = width or joined
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(joined, width) if width else nn.Identity()

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, width={self.width}, speakers={self.speakers}"

    def forward(self, x: Tensor, mask: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Join and project.

        Args:
            x: the modality's values.
            mask: True = the modality is there.
            speaker: number of the speaker at each step; needed when ``speakers`` > 0.
        """
        check_shape("x", x, "B T D", D=self.dim)
        parts = [self.dropout(keep(x, mask)), (~mask).unsqueeze(-1).to(x.dtype)]
        if self.speakers:
            if speaker is None:
                raise ValueError(f"speaker: expected the speaker of each step (speakers = {self.speakers}), got None")
            known = speaker.clamp(0, self.speakers - 1).unsqueeze(-1) == torch.arange(self.speakers, device=x.device)
            parts.append(known.to(x.dtype))
        return self.project(torch.cat(parts, dim=-1))
