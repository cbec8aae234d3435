"""How good is a recovery? Every way of recovering, against a law of the absent given the observed that is known.

    python benchmarks/recovery_quality.py [--seeds 5] [--quick] [--out benchmarks/results/recovery-quality.json]

Worlds of three modalities of six features each around an affect of two. In the *Gaussian* one nothing beats the
Gaussian imputation; in the *mixture* a confounder of three values moves the first modality far, and what is absent has
three modes. A seed has a world, data, initial weights and draws of its own. The first modality is absent, or the first
two; all that learn were trained on both cases alike, on the same rows. The diffusions differ in training by Karras'
preconditioning alone ("plain" is IMDer's), and around each network all samplers are run.

* **energy**: energy distance, times 1000, between recovered and exact, beside what is observed; pairs of one row
  left out, so it is unbiased and may be below zero. In units of each feature's standard deviation.
* **mean**: error of the conditional mean over the conditional standard deviation (both root mean square), less what
  so few draws cost by chance.
* **covariance**: error of the conditional covariance, averaged over rows, over its size (Frobenius).
* **accuracy** of the Bayes classifier that takes what is recovered for the truth, one draw at a time, and **vote** of
  its probabilities averaged over draws; both expected under the true law of the label, in per cent. The best
  possible is the accuracy of "exact" by vote, but for the number of draws. **regret**: millinats between the
  true law of the label given what is observed and those averaged probabilities.

A cell (world, seed, model) is written to --out when done, and what is there is not computed again. About 20 minutes on
one core with the defaults; --quick, a smoke test, takes seconds and says nothing.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timing import parser, save
from torch import Generator, Tensor, nn

from mmaffect.data import synthetic_affect
from mmaffect.diffusion import VESDE, Process, TimeEmbedding, dpmpp_2m, euler_maruyama, uniform_times
from mmaffect.losses import masked_reconstruction
from mmaffect.recovery import CascadedResidualAutoencoder, DiffusionRecovery, GaussianImputation, MeanFill

WIDTHS = {"a": 6, "b": 6, "c": 6}
CASES = {"a": ("a",), "a, b": ("a", "b")}
WORLDS: dict[str, dict[str, Any]] = {
    "Gaussian": {"confounder_shift": 0.0, "confounder_strength": 0.0},
    "mixture": {"confounder_shift": 3.0},
}
MODELS = ("closed form", "autoencoder", "karras", "plain", "unconditional")
METRICS = {"energy": 1000, "mean": 1, "covariance": 1, "accuracy": 100, "vote": 100, "regret": 1000}
BEST, PEER = "diffusion karras, 2M 10", "diffusion karras, EM 500"

Values = dict[str, Tensor]
Recover = Callable[[Values, tuple[str, ...], Generator], Values]


class Size(NamedTuple):
    """How much of everything."""

    train: int = 8000
    rows: int = 256
    draws: int = 8
    steps: int = 1200
    batch: int = 512
    hidden: int = 128


QUICK = Size(train=300, rows=32, draws=3, steps=5, batch=32, hidden=8)


class VectorNet(nn.Module):
    """A perceptron in the place of a U-Net: steps of these worlds have no neighbours to look at."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(hidden, hidden)
        self.enter = nn.Linear(2 * dim + 1, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.leave = nn.Linear(hidden, dim)

    def forward(
        self, x: Tensor, t: Tensor, *, context: Tensor, context_mask: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        h = self.enter(torch.cat([x, context, context_mask.unsqueeze(-1).to(x.dtype)], dim=-1))
        h = h + self.time(t).unsqueeze(1)
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h))
        return self.leave(nn.functional.silu(h))


class Problem:
    """A world, its rows, and what is true of them."""

    def __init__(self, world: str, seed: int, size: Size) -> None:
        data = synthetic_affect(
            WIDTHS,
            sequence="single",
            sizes=(size.train, 4, size.rows),
            affect=2,
            noise=0.5,
            frame_noise=0.0,
            seed=seed,
            **WORLDS[world],
        )
        self.size, self.seed, self.truth = size, seed, data.truth
        self.train, self.test = dict(data.train.values), dict(data.test.values)
        self.scale = {n: x.double().std(0) for n, x in self.train.items()}

    def observed(self, missing: Sequence[str]) -> Values:
        return {n: x.double() for n, x in self.test.items() if n not in missing}

    def exact(self, values: Values, missing: tuple[str, ...], generator: Generator) -> Values:
        """Draws from p(missing | observed), a mixture of Gaussians of one covariance."""
        law = self.truth.conditional_moments({n: x for n, x in values.items() if n not in missing}, list(missing))
        shape = self.size.draws, *law.mean.shape
        which = torch.multinomial(law.weights, self.size.draws, replacement=True, generator=generator).T
        centre = law.means[torch.arange(shape[1]), which]
        noise = torch.randn(shape, dtype=torch.float64, generator=generator)
        drawn = centre + noise @ torch.linalg.cholesky(law.within).T
        return dict(zip(missing, drawn.split([WIDTHS[n] for n in missing], dim=-1), strict=True))

    def batches(self, generator: Generator) -> Iterator[tuple[Values, Values, Values]]:
        """Rows ``(B, 1, D)``, what is observed and what is wanted: the first always, the second half the time."""
        for _ in range(self.size.steps):
            rows = torch.randint(self.size.train, (self.size.batch,), generator=generator)
            half = torch.rand(self.size.batch, 1, generator=generator) < 0.5
            wanted = {"a": torch.ones_like(half), "b": half, "c": torch.zeros_like(half)}
            yield {n: x[rows, None] for n, x in self.train.items()}, {n: ~w for n, w in wanted.items()}, wanted

    def score(self, recovered: Values, missing: tuple[str, ...], exact: Values) -> dict[str, float]:
        """All metrics of draws ``(K, N, D_m)``."""
        observed = self.observed(missing)
        scale = torch.cat([self.scale[n] for n in missing])
        drawn = torch.cat([recovered[n].double() for n in missing], dim=-1) / scale
        goal = torch.cat([exact[n] for n in missing], dim=-1) / scale
        beside = torch.cat([x / self.scale[n] for n, x in observed.items()], dim=-1)
        law = self.truth.conditional_moments(observed, list(missing))
        spread, mean = law.covariance / scale / scale[:, None], law.mean / scale

        draws = len(drawn)
        error = (drawn.mean(0) - mean).square().sum(-1).mean()
        covariance = torch.zeros_like(spread[0])
        if draws > 1:
            apart = drawn - drawn.mean(0)
            covariance = torch.einsum("knd,kne->de", apart, apart) / ((draws - 1) * apart.shape[1])
            error = error - covariance.trace() / draws
        size = spread.mean(0)

        law_of_label = self.truth.posterior(observed)
        said = self._classify(recovered, missing)
        average = said.mean(0)
        picked = law_of_label.expand_as(said).gather(-1, said.argmax(-1, keepdim=True))
        regret = (law_of_label * (law_of_label.log() - average.clamp(min=1e-12).log())).sum(-1)
        return {
            "energy": energy_distance(drawn[:4], goal[:4], beside),
            "mean": (error.clamp(min=0) / size.trace()).sqrt().item(),
            "covariance": ((covariance - size).norm() / size.norm()).item(),
            "accuracy": picked.mean().item(),
            "vote": law_of_label.gather(-1, average.argmax(-1, keepdim=True)).mean().item(),
            "regret": regret.mean().item(),
        }

    def _classify(self, recovered: Values, missing: tuple[str, ...]) -> Tensor:
        """P(y | all modalities) with the recovered in the place of the true: ``(K, N, C)``."""
        draws, rows = next(iter(recovered.values())).shape[:2]
        whole = {n: x.expand(draws, *x.shape).flatten(0, 1) for n, x in self.observed(missing).items()}
        whole |= {n: recovered[n].double().flatten(0, 1) for n in missing}
        return self.truth.posterior(whole).unflatten(0, (draws, rows))


def energy_distance(x: Tensor, y: Tensor, beside: Tensor) -> float:
    """Of draws ``(K, N, D)`` and ``(L, N, D)`` for the same rows, each beside what is observed; no pair of one row."""

    def mean_distance(x: Tensor, y: Tensor) -> float:
        x, y = (torch.cat([z, beside.expand(len(z), -1, -1)], dim=-1).float() for z in (x, y))
        apart = torch.cdist(x.flatten(0, 1), y.flatten(0, 1), compute_mode="donot_use_mm_for_euclid_dist").double()
        rows = x.shape[1]
        own = ~torch.eye(rows, dtype=torch.bool).repeat(len(x), len(y))
        return (apart * own).sum().item() / own.sum().item()

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


def masks(missing: tuple[str, ...], *shape: int) -> tuple[Values, Values]:
    wanted = {n: torch.full(shape, n in missing) for n in WIDTHS}
    return {n: ~w for n, w in wanted.items()}, wanted


def closed_form(problem: Problem) -> dict[str, Recover]:
    """What needs no training: the truth, zero, means and the Gaussian."""
    there = {n: torch.ones(len(x), dtype=torch.bool) for n, x in problem.train.items()}
    means, gaussian = MeanFill(WIDTHS), GaussianImputation(WIDTHS).double()
    means.fit(problem.train, there)
    gaussian.fit(problem.train, there)
    rows, draws = problem.size.rows, problem.size.draws

    def zero(values: Values, missing: tuple[str, ...], _: Generator) -> Values:
        return {n: torch.zeros(1, *values[n].shape) for n in missing}

    def filled(fill: nn.Module, values: Values, missing: tuple[str, ...], _: Generator) -> Values:
        return {n: fill(values, *masks(missing, rows))[n].unsqueeze(0) for n in missing}

    def drawn(values: Values, missing: tuple[str, ...], generator: Generator) -> Values:
        return gaussian.recover(values, *masks(missing, rows), draws=draws, generator=generator)

    return {
        "exact": problem.exact,
        "zero fill": zero,
        "mean fill": partial(filled, means),
        "Gaussian, mean": partial(filled, gaussian),
        "Gaussian, draws": drawn,
    }


def minimise(problem: Problem, model: nn.Module, loss: Callable[..., Tensor]) -> None:
    """Adam at a rate that falls along a cosine, on the same batches for every model of a seed."""
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, problem.size.steps)
    model.train()
    for values, observed, wanted in problem.batches(Generator().manual_seed(problem.seed)):
        adam.zero_grad()
        loss(values, observed, wanted).backward()
        adam.step()
        cooling.step()
    model.eval()


def autoencoder(problem: Problem) -> dict[str, Recover]:
    """A cascade of MMIN's five blocks, in units of standard deviations as the diffusions, its error where hidden."""
    centre = {n: x.mean(0) for n, x in problem.train.items()}
    scale = {n: x.std(0) for n, x in problem.train.items()}
    hidden = problem.size.hidden // 2
    cascade = CascadedResidualAutoencoder(WIDTHS, hidden=(hidden, hidden // 2, hidden // 4))

    def standardise(values: Values) -> Values:
        return {n: (x - centre[n]) / scale[n] for n, x in values.items()}

    def loss(values: Values, observed: Values, wanted: Values) -> Tensor:
        goal = standardise(values)
        return masked_reconstruction(cascade(goal, observed).imagined, goal, wanted)

    minimise(problem, cascade, loss)

    def recover(values: Values, missing: tuple[str, ...], _: Generator) -> Values:
        with torch.no_grad():
            imagined = cascade(standardise(values), masks(missing, problem.size.rows)[0]).imagined
        return {n: (centre[n] + scale[n] * imagined[n]).unsqueeze(0) for n in missing}

    return {"autoencoder": recover}


def diffusion(problem: Problem, model: str) -> dict[str, Recover]:
    """One training, and samplers around it."""
    recovery = DiffusionRecovery(
        tuple(WIDTHS),
        WIDTHS["a"],
        network=lambda: VectorNet(WIDTHS["a"], problem.size.hidden),
        process=VESDE(),
        preconditioning="none" if model == "plain" else "karras",
        conditional=model != "unconditional",
    )
    generator = Generator().manual_seed(problem.seed)

    def loss(values: Values, observed: Values, wanted: Values) -> Tensor:
        return recovery.loss(values, observed, wanted, generator=generator)

    minimise(problem, recovery, loss)

    def recover(
        sampler: Callable[..., Tensor], steps: int, values: Values, missing: tuple[str, ...], generator: Generator
    ) -> Values:
        found = recovery.recover(
            {n: x.unsqueeze(1) for n, x in values.items()},
            *masks(missing, problem.size.rows, 1),
            draws=problem.size.draws,
            sampler=sampler,
            evaluations=steps,
            generator=generator,
        )
        return {n: found[n].squeeze(2) for n in missing}

    if model == "unconditional":
        return {"diffusion unconditional, 2M 20": partial(recover, dpmpp_2m, 20)}
    name = f"diffusion {model}"
    samplers: dict[str, Recover] = {f"{name}, 2M {n}": partial(recover, dpmpp_2m, n) for n in (5, 10, 14, 20)}
    return samplers | {f"{name}, EM {n}": partial(recover, imder_steps, n) for n in (100, 500)}


def imder_steps(denoise: Any, process: Process, x: Tensor, steps: int, *, generator: Generator | None = None) -> Tensor:
    """Euler-Maruyama as IMDer takes it, in steps that are equal in time."""
    times = uniform_times(process, steps)
    return euler_maruyama(denoise, process, x, steps, times=times, generator=generator)


def cell(world: str, seed: int, model: str, size: Size) -> list[dict[str, Any]]:
    """Train one model in one world, and score all that it offers."""
    problem = Problem(world, seed, size)
    torch.manual_seed(seed)
    if model == "closed form":
        candidates = closed_form(problem)
    else:
        candidates = autoencoder(problem) if model == "autoencoder" else diffusion(problem, model)
    rows = []
    for case, missing in CASES.items():
        exact = problem.exact(problem.test, missing, Generator().manual_seed(10_000 + seed))
        # NaN where nothing is observed: no recovery may look.
        given = {n: torch.full_like(x, torch.nan) if n in missing else x for n, x in problem.test.items()}
        for name, recover in candidates.items():
            recovered = recover(given, missing, Generator().manual_seed(20_000 + seed))
            found = problem.score(recovered, missing, exact)
            rows.append({"world": world, "seed": seed, "absent": case, "recovery": name} | found)
    return rows


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation over seeds, in Markdown."""
    lines = []
    for world in WORLDS:
        for case in CASES:
            found: dict[str, list[Mapping[str, Any]]] = {}
            for row in rows:
                if (row["world"], row["absent"]) == (world, case):
                    found.setdefault(row["recovery"], []).append(row)
            if not found:
                continue
            lines += ["", f"**{world} world, {case} absent** ({len(next(iter(found.values())))} seeds)", ""]
            lines += ["| recovery | " + " | ".join(METRICS) + " |", "|---" * (1 + len(METRICS)) + "|"]
            for name, own in found.items():
                cells = [spread([metric * row[m] for row in own]) for m, metric in METRICS.items()]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
            if BEST in found and PEER in found:
                pairs = list(zip(found[BEST], found[PEER], strict=False))
                cells = [spread([scale * (p[m] - q[m]) for p, q in pairs]) for m, scale in METRICS.items()]
                lines.append("| *2M 10 less EM 500 (karras), paired by seed* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))
    digits = 1 if max(map(abs, values)) >= 10 else 2 if max(map(abs, values)) >= 1 else 3
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"


def main() -> None:
    """Compute what is not there yet, and print the tables."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--seeds", type=int, default=5, help="0 to N - 1")
    options.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="of these alone")
    options.add_argument("--quick", action="store_true", help="a smoke test")
    options.set_defaults(threads=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    size = QUICK if given.quick else Size()
    done: dict[str, list[dict[str, Any]]] = {}
    out: Path | None = given.out
    if out is not None and out.exists():
        record = json.loads(out.read_text(encoding="utf-8"))
        if record["size"] != size._asdict():
            raise SystemExit(f"{out}: holds cells of another size, {record['size']}; expected {size._asdict()}")
        done = record["cells"]
    for seed in range(given.seeds):
        for world in WORLDS:
            for model in given.models:
                key = f"{world}, seed {seed}, {model}"
                if key in done:
                    continue
                start = time.process_time()
                done[key] = cell(world, seed, model, size)
                print(f"{key}: {time.process_time() - start:.0f} s", flush=True)
                save(given, size=size._asdict(), cells=done)
    order = {model: place for place, model in enumerate(MODELS)}
    keys = sorted(done, key=lambda key: (order[key.rsplit(", ", 1)[1]], key))
    table = tables([row for key in keys for row in done[key]])
    print(table)
    if out is not None:
        out.with_suffix(".md").write_text(table.lstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
