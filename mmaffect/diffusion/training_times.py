"""At which times a denoiser is trained."""

import math
from typing import Literal

import torch
from torch import Tensor

from mmaffect.diffusion.process import Process
from mmaffect.ops import check_choice

Times = Literal["uniform", "stratified", "lognormal"]
TIMES = ("uniform", "stratified", "lognormal")


def draw_times(
    process: Process,
    count: int,
    times: Times = "uniform",
    *,
    sigma_data: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    r"""Times to train at, between ``t_min`` and ``t_max``.

    ``"uniform"``: independent. ``"stratified"``: one draw and equal distances from it, modulo the range (Kingma et al.,
    2021, appendix I.1); each time is still uniform, but a batch covers the range evenly, so that its loss varies less.
    ``"lognormal"``: :math:`\ln(\sigma/\sigma_d) \sim N(-0.5, 1.2^2)` of σ = std / alpha, independent, moved to the
    ends where it falls outside (Karras et al., 2022, table 1, who have :math:`\sigma_d = 0.5` and a mean of -1.2).

    Args:
        process: of noising.
        count: B.
        times: which of these.
        sigma_data: :math:`\sigma_d`, standard deviation of the data.
        generator: where the randomness comes from.
        device: where to make them.

    Shape:
        → ``(B,)``, float32.

    Raises:
        ValueError: on an unknown name.
    """
    check_choice("times", times, TIMES)
    if times == "lognormal":
        normal = torch.randn(count, generator=generator, device=device, dtype=torch.float32)
        log_sigma = math.log(sigma_data) - 0.5 + 1.2 * normal
        return process.time(-2 * log_sigma).clamp(process.t_min, process.t_max)
    if times == "stratified":
        first = torch.rand(1, generator=generator, device=device, dtype=torch.float32)
        share = (first + torch.arange(count, device=device, dtype=torch.float32) / count) % 1
    else:
        share = torch.rand(count, generator=generator, device=device, dtype=torch.float32)
    return process.t_min + (process.t_max - process.t_min) * share
