"""How well do conditional score networks recover, at the same training? Against a law that is known.

    python benchmarks/score_network_quality.py [--seeds 2] [--out benchmarks/results/score-network-quality.json]

Three sequences of 12 steps and 16 features are jointly Gaussian: common causes that last some steps, met by the third
three steps late; a trait that is the same at all steps; and noise of their own. The first is to be recovered from any
part of the others and of itself, hidden by sequence and by step. Its law given what is observed is Gaussian and exact
here, whatever is observed. Every network is trained alike (Karras' preconditioning, 1000 batches of 32) and sampled by
``dpmpp_2m`` at 10 evaluations, under patterns it did not meet by name. Means over patterns of

* excess: squared error of the denoiser beyond that of the exact one, in units of the network's own output, a mean over
  eight noise levels. It has no noise of sampling: go by this one;
* mean: of four draws, against the conditional mean, without what their number explains; features have variance 1;
* covariance: of draws around the conditional mean, relative error by Frobenius norm;
* energy: energy distance of draws from draws of the exact law, both around its mean, over the root of their width.

The largest step of Adam is the same for all, 1e-3; ``--rate`` and ``--only reference`` try another. ``exact`` is the
sampler around the exact denoiser: what these numbers are when nothing is left to learn. The networks below the first
two differ from ``fast`` in one thing each: nothing is attended to; everything is, in each block, and nothing enters
beside the steps; half the width.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import parser, save
from torch import Tensor, nn

from mmaffect.diffusion import VESDE, Denoiser, UNet1d, dpmpp_2m, fast_score_network, reference_score_network
from mmaffect.ops import keep

COUNT, STEPS, DIM, CONTEXT = 3, 12, 16, 32
BATCH, EVALUATIONS, CASES, DRAWS = 32, 10, 256, 4
LEVELS = torch.logspace(math.log10(0.05), math.log10(8), 8, dtype=torch.float64).tolist()
PROCESS = VESDE()


def networks() -> dict[str, Callable[[], nn.Module]]:
    unet = partial(UNet1d, DIM, context=CONTEXT)
    fast = partial(unet, multipliers=(1, 2), attention="bottom", aligned=True)
    return {
        "reference": lambda: reference_score_network(DIM, context=CONTEXT),
        "fast": lambda: fast_score_network(DIM, context=CONTEXT),
        "no attention": lambda: unet(width=64, multipliers=(1, 2), attention="none", aligned=True),
        "attention, not aligned": lambda: unet(width=64, multipliers=(1, 2)),
        "half as wide": lambda: fast(width=32),
    }


def covariance() -> Tensor:
    """Of three sequences of steps of features, as one matrix; unit variances."""
    generator = torch.Generator().manual_seed(0)

    def mix(causes: int, scale: float) -> list[Tensor]:
        shape = (COUNT, DIM, causes)
        return list(scale / causes**0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))

    lasting, trait, late = mix(6, 1.0), mix(2, 0.5), (0, 0, 3)
    own = torch.diag(torch.logspace(math.log10(0.02), math.log10(0.5), DIM, dtype=torch.float64))
    t = torch.arange(STEPS, dtype=torch.float64)
    whole = torch.zeros(COUNT, STEPS, DIM, COUNT, STEPS, DIM, dtype=torch.float64)
    for m in range(COUNT):
        for n in range(COUNT):
            apart = (t - late[m])[:, None] - (t - late[n])
            block = torch.einsum("ts,de->tdse", 0.85 ** apart.abs(), lasting[m] @ lasting[n].T)
            block = block + (trait[m] @ trait[n].T)[None, :, None, :]
            if m == n:
                block = block + torch.einsum("ts,de->tdse", 0.5 ** apart.abs(), own)
            whole[m, :, :, n] = block
    whole = whole.reshape(COUNT * STEPS * DIM, -1)
    std = whole.diagonal().sqrt()
    return whole / (std[:, None] * std)


class World:
    """Samples, and the law of what is wanted of the first sequence given what is observed of all."""

    def __init__(self) -> None:
        self.covariance = covariance()
        self.root = torch.linalg.cholesky(self.covariance).float()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        white = torch.randn(count, len(self.root), generator=generator)
        return (white @ self.root.T).reshape(count, COUNT, STEPS, DIM)

    def law(self, x: Tensor, observed: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Conditional mean ``(N, W)`` and covariance ``(W, W)``, for one pattern ``(M, T)`` and ``(T,)``."""
        known = observed.repeat_interleave(DIM, 1).flatten()
        asked = torch.zeros(COUNT, STEPS, dtype=torch.bool)
        asked[0] = wanted
        asked = asked.repeat_interleave(DIM, 1).flatten()
        across = self.covariance[asked][:, known]
        gain = torch.linalg.solve(self.covariance[known][:, known], across.T).T
        return x.flatten(1)[:, known].double() @ gain.T, self.covariance[asked][:, asked] - gain @ across.T


def hide(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is observed ``(N, M, T)`` and what is wanted of the first ``(N, T)``, anew for each training sample."""
    uniform = partial(torch.rand, generator=generator)
    wanted = (uniform(count, 1) < 0.5) | (uniform(count, STEPS) < 0.6)
    wanted[:, 0] |= ~wanted.any(1)
    there = uniform(count, COUNT - 1) < 0.7
    there[torch.arange(count), (uniform(count) < 0.5).long()] |= ~there.any(1)
    others = there.unsqueeze(2) & (uniform(count, COUNT - 1, STEPS) < 0.85)
    return torch.cat([~wanted.unsqueeze(1), others], 1), wanted


def patterns() -> dict[str, tuple[Tensor, Tensor]]:
    everything, second_half = torch.ones(STEPS, dtype=torch.bool), torch.arange(STEPS) >= STEPS // 2
    nothing, gaps = ~everything, torch.arange(STEPS) % 4 != 1
    return {
        "both others": (torch.stack([nothing, everything, everything]), everything),
        "one other": (torch.stack([nothing, everything, nothing]), everything),
        "the late one, with gaps": (torch.stack([nothing, nothing, gaps]), everything),
        "its first half, and the others": (torch.stack([~second_half, everything, gaps]), second_half),
    }


class Recovery(nn.Module):
    """A denoiser of the first sequence, told one fused condition."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.fuse = nn.Linear(COUNT * (DIM + 1), CONTEXT)
        self.denoiser = Denoiser(network, PROCESS, preconditioning="karras", times="stratified")

    def condition(self, x: Tensor, observed: Tensor) -> dict[str, Tensor]:
        slots = torch.cat([keep(x, observed), observed.unsqueeze(-1).to(x.dtype)], -1)
        there = observed.any(1)
        return {"context": keep(self.fuse(slots.transpose(1, 2).flatten(2)), there), "context_mask": there}

    def denoise(self, x: Tensor, observed: Tensor, wanted: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The denoiser for all draws of these samples, with the condition read once."""
        told = self.condition(x.repeat_interleave(DRAWS, 0), observed.expand(len(x) * DRAWS, -1, -1))
        prepared = self.denoiser.net.prepare(told["context"], told["context_mask"])
        mask = wanted.expand(len(x) * DRAWS, -1)
        return lambda y, t: self.denoiser.x0(y, t, mask=mask, prepared=prepared)


def train(build: Callable[[], nn.Module], world: World, steps: int, rate: float, seed: int) -> Recovery:
    torch.manual_seed(seed)
    model, generator = Recovery(build()), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    for _ in range(steps):
        x, (observed, wanted) = world.draw(BATCH, generator), hide(BATCH, generator)
        loss = model.denoiser.loss(x[:, 0], mask=wanted, generator=generator, **model.condition(x, observed))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def energy_distance(x: Tensor, y: Tensor) -> float:
    x, y = x.float(), y.float()
    within = sum(torch.pdist(z).double().mean().item() for z in (x, y))
    return 2 * torch.cdist(x, y).double().mean().item() - within


@torch.no_grad()
def score(model: Recovery | None, world: World) -> dict[str, dict[str, float]]:
    """Every measure under every pattern; of the exact denoiser without a model."""
    generator, found = torch.Generator().manual_seed(1), {}
    for name, (observed, wanted) in patterns().items():
        x = world.draw(CASES, generator)
        mean, spread = world.law(x, observed, wanted)
        values, axes = torch.linalg.eigh(spread)
        width, means = len(values), mean.repeat_interleave(DRAWS, 0)

        def exact(y: Tensor, t: Tensor, means: Tensor = means, values: Tensor = values, axes: Tensor = axes) -> Tensor:
            shrink = values / (values + PROCESS.std(t[0].double()) ** 2)
            given = y[:, wanted].flatten(1).double()  # noqa: B023
            best = means + (given - means) @ axes * shrink @ axes.T
            out = torch.zeros_like(y)
            out[:, wanted] = best.unflatten(1, (-1, DIM)).to(y.dtype)  # noqa: B023
            return out

        denoise = exact if model is None else model.denoise(x, observed, wanted)
        truth, excess = x[:, 0].repeat_interleave(DRAWS, 0), []
        for sigma in LEVELS:
            t = PROCESS.time(torch.tensor(-2 * math.log(sigma)))
            noisy = keep(truth + sigma * torch.randn(truth.shape, generator=generator), wanted.expand(len(truth), -1))
            error = (denoise(noisy, t.expand(len(noisy))) - exact(noisy, t.expand(len(noisy))))[:, wanted]
            excess.append(error.square().mean().item() * (sigma**2 + 1) / sigma**2)
        start = PROCESS.prior(tuple(truth.shape), torch.zeros(DIM), torch.ones(DIM), generator=generator)
        drawn = dpmpp_2m(denoise, PROCESS, keep(start, wanted.expand(len(truth), -1)), EVALUATIONS)
        around = drawn[:, wanted].flatten(1).double() - means
        by_case = around.unflatten(0, (CASES, DRAWS))
        off = by_case.mean(1).square().mean() - by_case.var(1).mean() / DRAWS
        fresh = torch.randn(len(around), width, generator=generator, dtype=torch.float64)
        fresh = fresh * values.clamp(min=0).sqrt() @ axes.T
        found[name] = {
            "excess": sum(excess) / len(excess),
            "mean": math.sqrt(max(off.item(), 0.0)),
            "covariance": ((around.T @ around / len(around) - spread).norm() / spread.norm()).item(),
            "energy": energy_distance(around, fresh) / width**0.5,
        }
    return found


def main() -> None:
    options = parser(__doc__ or "", rounds=0)
    options.add_argument("--steps", type=int, default=1000, help="batches of training")
    options.add_argument("--rate", type=float, default=1e-3, help="largest step of Adam")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--only", nargs="*", help="names of the networks, all by default")
    options.set_defaults(threads=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    world, rows = World(), []

    def note(name: str, seed: int, found: dict[str, dict[str, float]], **more: Any) -> None:
        average = {key: sum(one[key] for one in found.values()) / len(found) for key in next(iter(found.values()))}
        rows.append({"network": name, "seed": seed, **average, **more, "patterns": found})
        numbers = "  ".join(f"{key} {value:6.4f}" for key, value in average.items())
        print(f"{name:24s} {seed}  {numbers}  {more}", flush=True)

    note("exact", 0, score(None, world))
    for seed in range(chosen.seeds):
        for name, build in networks().items():
            if chosen.only and name not in chosen.only:
                continue
            begun = time.process_time()
            model = train(build, world, chosen.steps, chosen.rate, seed)
            spent = round(time.process_time() - begun)
            count = sum(p.numel() for p in model.denoiser.net.parameters())
            note(name, seed, score(model, world), parameters=count, training_cpu_s=spent)
    save(chosen, rows=rows)


if __name__ == "__main__":
    main()
