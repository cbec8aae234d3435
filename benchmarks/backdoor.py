"""Who estimates P(y | do(x))? Backdoor adjustment, CIDer's prototypes and a plain head in worlds whose truth is known.

    python benchmarks/backdoor.py --out docs/results/backdoor [--seeds 5]

Each world has one modality x, a label y drawn from it, and an observed confounder c that moves both: the only
back-door path. Heads share body, optimiser and data, not capacity: with the body the plain head has 292 parameters, the
observed confounder's 556, the prototypes' 3472. Each trains on its own likelihood and stops early on that of
validation data. Errors are total variation distances to the exact laws, averaged over x of the test split.
"""

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.causal import BackdoorHead, PrototypeHead, class_frequencies, class_prototypes
from mmaffect.data import synthetic_affect
from mmaffect.plots import save
from mmaffect.plots.style import add_legend, mark, new_figure, tidy

HEADS = ("plain", "observed confounder", "prototypes")
EXACT = "P(y | x) itself"
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
SIZES = (500, 1000, 2000, 4000, 8000, 16000)
SIZE = 4000
WORLD = {"sequence": "single", "confounder_shift": 0.7, "sharpness": 1.0}
WIDTH, CLASSES, STRATA, HIDDEN, TEST = 4, 4, 3, 32, 2000


class Split(NamedTuple):
    """``x (N, D)``, ``y (N,)``, ``c (N,)``."""

    x: Tensor
    y: Tensor
    c: Tensor


class World(NamedTuple):
    """Data of one seed, and the exact laws at the x of the test split, ``(N, C)`` each."""

    train: Split
    valid: Split
    test: Split
    done: Tensor
    seen: Tensor


class Row(NamedTuple):
    """One head in one world: distances to P(y | do(x)) and to P(y | x)."""

    head: str
    strength: float
    size: int
    seed: int
    done: float
    seen: float


def draw_world(strength: float, size: int, seed: int) -> World:
    """Draw a world; neither it nor its test split depends on ``size``."""
    data = synthetic_affect(
        {"voice": WIDTH}, sizes=(size, size // 4, TEST), confounder_strength=strength, seed=seed, **WORLD
    )
    train, valid, test = (
        Split(batch.inputs["voice"][:, 0], batch.targets, batch.confounder)
        for batch in (part.batch() for part in (data.train, data.valid, data.test))
    )
    truth = data.truth
    return World(train, valid, test, truth.interventional("voice", test.x), truth.observational("voice", test.x))


def distance(p: Tensor, q: Tensor) -> float:
    """Mean total variation distance between rows of probabilities."""
    return round(float((p - q).abs().sum(1).mean() / 2), 6)


def build(head: str, train: Split) -> tuple[nn.ModuleList, Callable[[Tensor, Tensor | None], Tensor]]:
    """A head on a body of one hidden layer, and its log-probabilities given x, with c or without."""
    body = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU())
    if head == "plain":
        plain = nn.Linear(HIDDEN, CLASSES)
        return nn.ModuleList([body, plain]), lambda x, c: plain(body(x)).log_softmax(-1)
    if head == "observed confounder":
        adjusted = BackdoorHead(HIDDEN, CLASSES, prior=class_frequencies(train.c, STRATA))
        return nn.ModuleList([body, adjusted]), lambda x, c: adjusted(body(x), c)
    mask = torch.ones(len(train.x), 1, dtype=torch.bool)
    means = class_prototypes(train.x.unsqueeze(1), train.y, mask, CLASSES)
    mixture = PrototypeHead(HIDDEN, {"voice": means}, prior=class_frequencies(train.y, CLASSES))
    return nn.ModuleList([body, mixture]), lambda x, c: mixture(body(x))


def fit(head: str, world: World, seed: int, *, rounds: int = 1000, patience: int = 30) -> Tensor:
    """Train on the likelihood, stop early on the validation split's; probabilities at the test split without c."""
    torch.manual_seed(seed)
    parts, log_prob = build(head, world.train)
    optimiser = torch.optim.Adam(parts.parameters(), lr=1e-2)
    best, since, kept = torch.inf, 0, copy.deepcopy(parts.state_dict())
    for _ in range(rounds):
        optimiser.zero_grad()
        nn.functional.nll_loss(log_prob(world.train.x, world.train.c), world.train.y).backward()
        optimiser.step()
        with torch.no_grad():
            loss = float(nn.functional.nll_loss(log_prob(world.valid.x, world.valid.c), world.valid.y))
        if loss < best:
            best, since, kept = loss, 0, copy.deepcopy(parts.state_dict())
        else:
            since += 1
            if since == patience:
                break
    parts.load_state_dict(kept)
    with torch.no_grad():
        return log_prob(world.test.x, None).exp().double()


def compare(strength: float, size: int, seed: int) -> list[Row]:
    """All heads in one world, and how far apart doing and seeing are in it."""
    world = draw_world(strength, size, seed)
    rows = [Row(EXACT, strength, size, seed, distance(world.seen, world.done), 0.0)]
    for head in HEADS:
        p = fit(head, world, seed)
        rows.append(Row(head, strength, size, seed, distance(p, world.done), distance(p, world.seen)))
    return rows


def errors(rows: Sequence[Row], head: str, strength: float, size: int, law: str) -> Tensor:
    """One a seed; ``law`` is ``"done"`` or ``"seen"``."""
    cell = sorted((r for r in rows if (r.head, r.strength, r.size) == (head, strength, size)), key=lambda r: r.seed)
    return torch.tensor([getattr(row, law) for row in cell], dtype=torch.float64)


def mean_and_sd(rows: Sequence[Row], head: str, strength: float, size: int, law: str) -> tuple[float, float]:
    """Of :func:`errors` over seeds; each seed is another world, and worlds differ more than training runs."""
    found = errors(rows, head, strength, size, law)
    return float(found.mean()), float(found.std()) if len(found) > 1 else 0.0


def table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over seeds, as Markdown, and in how many worlds adjustment is closer than none."""
    lines = ["# What doing would bring, estimated by three heads", ""]

    def section(title: str, first: str, law: str, cells: Sequence[tuple[float, int]]) -> None:
        names = [EXACT, *HEADS] if law == "done" else list(HEADS)
        heading = [first, *(name.replace("|", "\\|") for name in names), "observed confounder closer than plain"]
        lines.extend([f"## {title}", "", f"| {' | '.join(heading)} |", f"|{' --- |' * len(heading)}"])
        for strength, size in cells:
            found = [mean_and_sd(rows, name, strength, size, law) for name in names]
            plain, adjusted = (errors(rows, name, strength, size, law) for name in HEADS[:2])
            closer = f"{int((adjusted < plain).sum())} of {len(plain)}"
            shown = [str(strength if first == "strength" else size), *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in found)]
            lines.append(f"| {' | '.join([*shown, closer])} |")
        lines.append("")

    strengths = [(strength, SIZE) for strength in STRENGTHS]
    section(f"Distance to P(y | do(x)), {SIZE} training samples", "strength", "done", strengths)
    section(f"Distance to P(y | x), {SIZE} training samples", "strength", "seen", strengths)
    for strength in (STRENGTHS[-1], STRENGTHS[0]):
        cells = [(strength, size) for size in SIZES]
        section(f"Distance to P(y | do(x)), strength {strength}", "training samples", "done", cells)
    cells = [(STRENGTHS[-1], size) for size in SIZES]
    section(f"Distance to P(y | x), strength {STRENGTHS[-1]}", "training samples", "seen", cells)
    return "\n".join(lines)


def draw(rows: Sequence[Row]):
    """Distances over strengths, to both laws, and over sample sizes, at the strongest confounder and at none."""
    figure = new_figure(9.0, 7.0)
    (a, b), (c, d) = figure.subplots(2, 2, sharey=True)
    strengths = [(strength, SIZE) for strength in STRENGTHS]
    panels = [(a, "done", strengths, f"to P(y | do(x)), {SIZE} samples"), (b, "seen", strengths, "to P(y | x)")]
    for axes, strength in ((c, STRENGTHS[-1]), (d, STRENGTHS[0])):
        title = f"to P(y | do(x)), strength {strength:g}" + (" (no confounder)" if strength == 0 else "")
        panels.append((axes, "done", [(strength, size) for size in SIZES], title))
    handles = {}
    for axes, law, cells, title in panels:
        over_sizes = axes in (c, d)
        at = [size if over_sizes else strength for strength, size in cells]
        for number, name in enumerate([*HEADS, EXACT]):
            if name == EXACT and law == "seen":
                continue
            found = [mean_and_sd(rows, name, *cell, law) for cell in cells]
            mean, low, high = zip(*[(m, m - s, m + s) for m, s in found], strict=True)
            if name == EXACT:
                (handles[name],) = axes.plot(at, mean, color="black", linestyle=":")
                continue
            look = mark(number)
            wide = 9 if number == 0 else 5  # the first lies under the third, and stays visible
            (handles[name],) = axes.plot(at, mean, color=look.color, marker=look.marker, markersize=wide)
            axes.fill_between(at, low, high, color=look.color, alpha=0.15, linewidth=0)
        if over_sizes:
            axes.set_xscale("log", base=2)
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.minorticks_off()
        else:
            axes.set_xticks(STRENGTHS)
        axes.set_xlabel("training samples" if over_sizes else "strength of the confounder")
        axes.set_title(title, fontsize="medium")
        tidy(axes)
    a.set_ylim(bottom=0)
    for axes in (a, c):
        axes.set_ylabel("total variation distance")
    add_legend(figure, list(handles.values()), list(handles))
    return figure


def main() -> None:
    """Run the study, print the table, and write table, figure and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ends = [(strength, size) for strength in (STRENGTHS[0], STRENGTHS[-1]) for size in SIZES]
    cells = dict.fromkeys([(strength, SIZE) for strength in STRENGTHS] + ends)
    start, rows = time.perf_counter(), []
    for strength, size in cells:
        for seed in range(options.seeds):
            rows += compare(strength, size, seed)
        done = {n: round(mean_and_sd(rows, n, strength, size, "done")[0], 3) for n in (EXACT, *HEADS)}
        print(f"strength {strength}, {size} samples, {time.perf_counter() - start:.0f} s: {done}", flush=True)
    print("\n" + table(rows))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        record = {
            "versions": {"torch": torch.__version__, "machine": platform.machine()},
            "world": WORLD | {"width": WIDTH, "classes": CLASSES, "confounder_values": STRATA},
            "training": {"hidden": HIDDEN, "optimiser": "Adam, 1e-2, full batch", "patience": 30, "rounds": 1000},
            "seeds": options.seeds,
            "rows": [row._asdict() for row in rows],
        }
        (options.out / "result.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (options.out / "table.md").write_text(table(rows), encoding="utf-8")
        save(draw(rows), options.out / "figure.png", dpi=120)


if __name__ == "__main__":
    main()
