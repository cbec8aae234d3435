"""Predictor and corrector: after each step to a lower noise level, Langevin steps at that level."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.diffusion.ddim import ddim_coefficients
from mmaffect.diffusion.descent import Callback, Denoise, Descent
from mmaffect.diffusion.process import Process


def predictor_corrector(
    denoise: Denoise,
    process: Process,
    x: Tensor,
    steps: int,
    *,
    corrections: int = 1,
    snr: float = 0.16,
    times: Tensor | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Song et al.'s sampler (2021, algorithms 1-5): :func:`ancestral` steps, each followed by Langevin steps.

    .. math::
        x \leftarrow x + \delta\, \nabla \log p_s(x) + \sqrt{2 \delta}\, \varepsilon, \qquad
        \delta = 2 (r\, \mathrm{std}_s)^2

    at the level s just reached. The paper scales δ by the norms of noise and score, averaged over the batch, so that
    samples influence each other; here their ratio is its expected value, std, and δ a number known before the run.

    A Langevin step of finite size keeps a distribution a little wider than the true one: noise alone by a factor
    1 / (1 - r²) in variance, less the more the data's own spread prevails. The last denoising takes most of it away.

    ``steps + corrections * (steps - 1)`` evaluations; the callback sees one a level, after its corrections. The rules
    and the other arguments are those of :func:`ddim`.

    Args:
        denoise: ``denoise(x, t)``, the expected data.
        process: how the noise came about.
        x: where sampling starts.
        steps: noise levels.
        corrections: Langevin steps a level.
        snr: r, the paper's signal-to-noise ratio of such a step, below 1.
        times: the levels' times; uniform in the log-SNR by default.
        generator: where the randomness comes from.
        callback: called at each level with a :class:`SamplerStep`.

    Shape:
        ``x (B, …)`` → the same.

    Raises:
        ValueError: as :func:`ddim`, or unless ``corrections`` is an int of at least 1 and 0 < ``snr`` < 1.

    Example:
        >>> from mmaffect.diffusion import CosineVP
        >>> process = CosineVP()
        >>> x = process.prior((4, 2), mean=1.0, var=0.0)
        >>> predictor_corrector(lambda x, t: torch.ones_like(x), process, x, 10)[0].tolist()
        [1.0, 1.0]
    """
    if not isinstance(corrections, int) or corrections < 1:
        raise ValueError(f"corrections: expected an int of at least 1, got {corrections!r}")
    if not 0 < snr < 1:
        raise ValueError(f"snr: expected a value between 0 and 1, got {snr}")
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    pull = 2 * snr**2
    x = run.x
    for step, (a, b, noise) in enumerate(ddim_coefficients(run.levels, 1.0)):
        x = run.combine(x, a, run.estimate(step, x), b, noise)
        level = run.levels[step + 1]
        for _ in range(corrections):
            x = run.combine(x, 1 - pull, run.denoise(step + 1, x), pull * level.alpha, 2 * snr * level.std)
    return run.finish(x)
