"""How good is a sample after so many evaluations? Every sampler with the exact denoiser.

    python benchmarks/sampler_quality.py [--repeats 8] [--out benchmarks/results/sampler-quality.json]

* **Gaussian**, 32 correlated dimensions, variances from .02 to 1: 2-Wasserstein distance of what is returned from the
  data, over the data's standard deviation. No sampling: the denoiser is affine, so a run is an affine map of its start
  and its noises, found by sending basis vectors through the sampler. "matched" starts from the columns' moments.
* **Mixture** of three Gaussians in the plane: energy distance (unbiased, so it may be below 0) to as many exact
  samples, mean ± standard deviation over repeats. Chance hides what separates good samplers here.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from timing import parser, save
from torch import Tensor

from mmaffect.diffusion import (
    VESDE,
    CosineVP,
    Process,
    ancestral,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    heun,
    karras_times,
    predictor_corrector,
    uniform_times,
)

DIM, COUNT = 32, 4096
EVALUATIONS = (8, 10, 14, 20, 50, 100)
PROCESSES = {"VE, sigma 25": VESDE(25.0), "VP, cosine": CosineVP()}
Run = Callable[..., Tensor]
MEANS = torch.tensor([[-1.0, 0.2], [1.1, 0.9], [0.6, -1.2]], dtype=torch.float64)
STDS = torch.tensor([0.25, 0.4, 0.3], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def runs() -> dict[str, tuple[Run, Callable[..., Tensor] | None, int]]:
    """By name: sampler, grid if not the default, evaluations a step."""
    return {
        "dpmpp_2m": (dpmpp_2m, None, 1),
        "dpmpp_2m, karras": (dpmpp_2m, karras_times, 1),
        "dpmpp_2m, eta=1": (partial(dpmpp_2m, eta=1.0), None, 1),
        "heun": (heun, None, 2),
        "ddim": (ddim, None, 1),
        "ancestral": (ancestral, None, 1),
        "predictor_corrector": (predictor_corrector, None, 2),
        "euler_maruyama": (euler_maruyama, None, 1),
        "euler_maruyama, uniform": (euler_maruyama, uniform_times, 1),
    }


def level(process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    return process.alpha(t[0].double()), process.std(t[0].double())


class Correlated:
    """Gaussian data; everything is computed in the axes of its covariance, where a sampler acts on each apart."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64, generator=generator)).Q
        self.mean = self.basis.T @ torch.randn(DIM, dtype=torch.float64, generator=generator)
        self.variances = torch.logspace(math.log10(0.02), 0, DIM, dtype=torch.float64)

    def denoise(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        alpha, std = level(process, t)
        gain = alpha * self.variances / (alpha**2 * self.variances + std**2)
        return self.mean + gain * (x - alpha * self.mean)

    def distance(self, run: Run, process: Process, steps: int, *, matched: bool, **options: Any) -> float:
        denoise = partial(self.denoise, process)
        drawn = 0

        def one_row(z: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
            nonlocal drawn
            z.zero_()[2 + drawn] = std
            drawn += 1
            return z

        start = torch.zeros(2 + 2 * steps, DIM, dtype=torch.float64)  # at 0; at 1; at 0 and meeting one noise each
        start[1] = 1
        with torch.no_grad(), patch.object(torch.Tensor, "normal_", one_row):
            out = run(denoise, process, start, steps, **options)
        scale, noise = out[1] - out[0], (out[2:] - out[0]).square().sum(0)
        alpha, std = level(process, torch.tensor([process.t_max]))
        columns = (self.basis * self.variances @ self.basis.T).diagonal() if matched else torch.zeros(DIM).double()
        begin = self.basis.T * (alpha**2 * columns + std**2) @ self.basis
        mean = out[0] + scale * (alpha * self.mean if matched else 0)
        covariance = scale[:, None] * begin * scale + torch.diag(noise)
        root = self.variances.sqrt()
        cross = torch.linalg.eigvalsh(root[:, None] * covariance * root).clamp(min=0).sqrt().sum()
        squared = (mean - self.mean).square().sum() + self.variances.sum() + covariance.trace() - 2 * cross
        return (squared.clamp(min=0) / self.variances.sum()).sqrt().item()


def mixture_denoise(process: Process, x: Tensor, t: Tensor) -> Tensor:
    alpha, std = level(process, t)
    spread = alpha**2 * STDS**2 + std**2
    offset = x.unsqueeze(1) - alpha * MEANS
    posterior = (WEIGHTS.log() - offset.square().sum(-1) / (2 * spread) - spread.log()).softmax(-1)
    return (posterior.unsqueeze(-1) * (MEANS + (alpha * STDS**2 / spread).unsqueeze(-1) * offset)).sum(1)


def exact(generator: torch.Generator) -> Tensor:
    which = torch.multinomial(WEIGHTS, COUNT, replacement=True, generator=generator)
    return MEANS[which] + STDS[which, None] * torch.randn(COUNT, 2, dtype=torch.float64, generator=generator)


def energy_distance(x: Tensor, y: Tensor) -> float:
    x, y = x.float(), y.float()
    within = sum(torch.pdist(z).double().mean().item() for z in (x, y))
    return 2 * torch.cdist(x, y).double().mean().item() - within


def gaussian_table() -> list[dict[str, Any]]:
    data, rows = Correlated(), []
    for title, process in PROCESSES.items():
        print(f"\nGaussian, {title}: W2 over the data's standard deviation, by evaluations")
        print(f"  {'':34s}" + "".join(f"{n:>9d}" for n in (*EVALUATIONS, 500)))
        for name, (run, grid, each) in runs().items():
            for matched in (True, False):
                found = {}
                for evaluations in (*EVALUATIONS, 500):
                    steps = (evaluations + each - 1) // each
                    times = {} if grid is None else {"times": grid(process, steps)}
                    found[evaluations] = data.distance(run, process, steps, matched=matched, **times)
                start = "matched" if matched else "N(0, std²)"
                print(f"  {name + ', ' + start:34s}" + "".join(f"{value:9.4f}" for value in found.values()))
                rows.append({"process": title, "sampler": name, "start": start, "w2": found})
    return rows


def mixture_table(repeats: int) -> list[dict[str, Any]]:
    truths = [exact(torch.Generator().manual_seed(repeat)) for repeat in range(repeats)]
    others = [exact(torch.Generator().manual_seed(1000 + repeat)) for repeat in range(repeats)]
    floor = torch.tensor([energy_distance(x, y) for x, y in zip(others, truths, strict=True)])
    print(f"\nMixture: energy distance x 1000; exact samples {1e3 * floor.mean():.1f} ± {1e3 * floor.std():.1f}")
    rows = [{"sampler": "exact", "mean": floor.mean().item(), "sd": floor.std().item()}]
    mean = WEIGHTS @ MEANS
    var = WEIGHTS @ (STDS[:, None] ** 2 + MEANS**2) - mean**2
    for title, process in PROCESSES.items():
        print(f"  {title:34s}" + "".join(f"{n:>14d}" for n in (10, 20, 50, 100)))
        for name, (run, grid, each) in runs().items():
            line = []
            for evaluations in (10, 20, 50, 100):
                steps = (evaluations + each - 1) // each
                times = None if grid is None else grid(process, steps)
                found = []
                for repeat, truth in enumerate(truths):
                    generator = torch.Generator().manual_seed(2000 + repeat)
                    x = process.prior((COUNT, 2), mean, var, generator)
                    with torch.no_grad():
                        sample = run(
                            partial(mixture_denoise, process), process, x, steps, times=times, generator=generator
                        )
                    found.append(energy_distance(sample, truth))
                values = torch.tensor(found)
                line.append(f"{1e3 * values.mean():7.1f} ± {1e3 * values.std():4.1f}")
                rows.append(
                    {"process": title, "sampler": name, "evaluations": evaluations}
                    | {"mean": values.mean().item(), "sd": values.std().item()}
                )
            print(f"  {name:34s}" + "".join(f"{text:>14s}" for text in line))
    return rows


def main() -> None:
    """Print both tables."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--repeats", type=int, default=8, help="of the mixture, with other seeds")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    save(given, gaussian=gaussian_table(), mixture=mixture_table(given.repeats))


if __name__ == "__main__":
    main()
