"""What does a sampler cost beside the network? Ours against diffusers, k-diffusion and torchsde, where installed.

    python benchmarks/sampler_speed.py [--threads 2] [--out benchmarks/results/sampler-speed.json]

The denoiser is free (x * 0.1), so that what is timed is the sampler: a whole run of 50 levels, schedule included, timed
in turn, round by round. Only ratios of one run mean anything. The floors are loops with the least a sampler can do:
the denoiser and two kernels in place (second order: three; with noise: two and the draw), coefficients at hand.
Before, results are compared with the peers' on the same levels. How good samples are: benchmarks/sampler_quality.py.

* diffusers: clipping off; k-diffusion and diffusers: no progress bar. Each runs under torch.no_grad().
* "heun" asks the denoiser twice a level, as k-diffusion's does; "predictor_corrector" too.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor

from mmaffect.diffusion import (
    VESDE,
    CosineVP,
    DiscreteVP,
    ancestral,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    heun,
    log_snr_times,
    predictor_corrector,
)

SHAPES = ((64, 32, 50), (64, 128))
STEPS = 50
Runs = dict[str, Callable[[], object]]


def free(x: Tensor, t: Tensor) -> Tensor:
    return x * 0.1


def first_order(x: Tensor) -> Tensor:
    x, t = x.clone(), torch.zeros(len(x))
    for _ in range(STEPS - 1):
        x0 = free(x, t)
        x.mul_(0.9).add_(x0, alpha=0.1)
    return free(x, t)


def second_order(x: Tensor) -> Tensor:
    x, t, last = x.clone(), torch.zeros(len(x)), torch.zeros_like(x)
    for _ in range(STEPS - 1):
        x0 = free(x, t)
        x.mul_(0.9).add_(x0, alpha=0.2).add_(last, alpha=-0.1)
        last = x0
    return free(x, t)


def with_noise(x: Tensor) -> Tensor:
    x, t, z = x.clone(), torch.zeros(len(x)), torch.empty_like(x)
    for _ in range(STEPS - 1):
        x0 = free(x, t)
        z.normal_(0, 0.1).add_(x, alpha=0.9).add_(x0, alpha=0.1)
        x, z = z, x
    return free(x, t)


def ours(x: Tensor) -> Runs:
    process = CosineVP()
    samplers = (ddim, dpmpp_2m, heun, ancestral, euler_maruyama, predictor_corrector)
    chosen: Runs = {
        "floor, first order": lambda: first_order(x),
        "floor, second order": lambda: second_order(x),
        "floor, with noise": lambda: with_noise(x),
    }
    for sampler in samplers:
        chosen[f"mmaffect {sampler.__name__}"] = lambda sampler=sampler: sampler(free, process, x, STEPS)
    chosen["mmaffect dpmpp_2m, eta=1"] = lambda: dpmpp_2m(free, process, x, STEPS, eta=1.0)
    return chosen


def diffusers_runs(x: Tensor) -> Runs:
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    schedulers = {
        "DDIM": DDIMScheduler(clip_sample=False, prediction_type="sample"),
        "DPMSolverMultistep": DPMSolverMultistepScheduler(prediction_type="sample"),
        "EulerDiscrete": EulerDiscreteScheduler(),
        "DDPM": DDPMScheduler(clip_sample=False, prediction_type="sample"),
    }

    def run(scheduler: Any) -> Tensor:
        scheduler.set_timesteps(STEPS)
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(free(scheduler.scale_model_input(state, t), t), t, state).prev_sample
        return state

    return {f"diffusers {name}": lambda scheduler=scheduler: run(scheduler) for name, scheduler in schedulers.items()}


def k_diffusion_runs(x: Tensor) -> Runs:
    from k_diffusion import sampling

    sigmas = sampling.get_sigmas_exponential(STEPS, 0.03, 40.0)
    samplers = (sampling.sample_dpmpp_2m, sampling.sample_euler, sampling.sample_heun)
    return {f"k-diffusion {run.__name__}": lambda run=run: run(free, x, sigmas, disable=True) for run in samplers}


def torchsde_runs(x: Tensor) -> Runs:
    import torchsde

    class Reverse(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Tensor, y: Tensor) -> Tensor:
            return free(y, t)

        def g(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.full_like(y, 0.1)

    flat, ends, equation = x.flatten(1), torch.tensor([0.0, 1.0]), Reverse()
    return {"torchsde euler": lambda: torchsde.sdeint(equation, flat, ends, dt=1 / STEPS, method="euler")}


PEERS = {"diffusers": diffusers_runs, "k_diffusion": k_diffusion_runs, "torchsde": torchsde_runs}


def differences() -> dict[str, float]:
    """Largest deviation from the peers on the same levels, relative, with a denoiser that is not linear."""

    def apart(mine: Tensor, theirs: Tensor) -> float:
        return ((mine - theirs).abs().max() / theirs.abs().max()).item()

    generator = torch.Generator().manual_seed(0)
    found = {}
    if find_spec("k_diffusion"):
        from k_diffusion import sampling

        process = VESDE()
        x = process.prior((16, 8), generator=generator, dtype=torch.float64)
        sigmas = torch.cat([process.sigma(log_snr_times(process, 20)), torch.zeros(1)])
        for run, name in ((dpmpp_2m, "sample_dpmpp_2m"), (ddim, "sample_euler")):
            theirs = getattr(sampling, name)(lambda x, sigma: torch.tanh(x), x, sigmas, disable=True)
            found[f"{run.__name__} and k-diffusion {name}, float64"] = apart(
                run(lambda x, t: torch.tanh(x), process, x, 20), theirs
            )
    if find_spec("diffusers"):
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler(
            beta_start=1e-4, beta_end=0.02, clip_sample=False, prediction_type="sample", timestep_spacing="leading"
        )
        scheduler.set_timesteps(STEPS)
        table = DiscreteVP.linear()
        state = x = torch.randn(16, 8, generator=generator)
        for t in scheduler.timesteps:
            state = scheduler.step(torch.tanh(state), t, state).prev_sample
        times = (scheduler.timesteps + 1).double() / 1000
        mine = ddim(lambda x, t: torch.tanh(x), table, x, STEPS, times=times)
        found["ddim on DiscreteVP.linear and diffusers DDIM, float32"] = apart(mine, state)
    return found


def main() -> None:
    """Compare, then time."""
    keep_memory()
    options = parser(__doc__ or "", rounds=25)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    same = differences()
    for name, value in same.items():
        print(f"largest relative difference, {name}: {value:.1e}")
    missing = [name for name in PEERS if not find_spec(name)]
    if missing:
        print(f"not installed: {', '.join(missing)}")
    rows = []
    for shape in SHAPES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        runs = ours(x)
        for name, peer in PEERS.items():
            runs |= peer(x) if name not in missing else {}
        print(f"\n{shape}, {STEPS} levels, float32, {given.threads} threads (a whole run)")
        calls = 4 if math.prod(shape) > 10_000 else 10
        with torch.no_grad():
            measured = take_turns(runs, rounds=given.rounds, threads=given.threads, calls=calls)
        rows += report(measured, relative_to="floor, first order", shape=shape)
        pairs = {"floor, second order": "mmaffect dpmpp_2m", "floor, with noise": "mmaffect euler_maruyama"}
        for floor, name in pairs.items():
            print(f"  {name}: {measured[name].median / measured[floor].median:.2f} x {floor}")
    save(given, packages=("diffusers", "k-diffusion", "torchsde"), differences=same, times=rows)


if __name__ == "__main__":
    main()
