"""Does MACI help out of distribution, and does it estimate what doing would bring? On three systems, as measured.

    python benchmarks/cider_ood.py words --data DIR --out docs/results/cider-ood --runs runs/cider-ood [--workers 2]
        [--seeds 3] [--epochs N] [--systems cider carn imder] [--mild]
    python benchmarks/cider_ood.py world --out docs/results/cider-world --runs runs/cider-world [--workers 2]

``words``: MOSI's words and audio, negative, neutral or positive, in a random split (IID) and in one whose words mislead
(OOD), of the same sizes and class counts; each seed is another split too. Every system is trained with its own head and
with the mixture of classifiers; each is measured as it is and with the counterfactual subtracted, which does not touch
the training. Trained under missing words and audio at a rate drawn for each sample; weights and τ are chosen on the
validation split, which is distributed like the training split, at rates 0 and 0.5 together.

``world``: synthetic worlds whose confounder moves x and y: total variation distance of predicted probabilities to
P(y | do(x)) and to P(y | x), which are known.

A run that is finished is not trained again, and one that was stopped goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch
from backdoor import EXACT, HEADS, STRENGTHS, WORLD, distance, draw_world, fit

from examples.cell import Candidate, build, run_cell
from examples.maci import MACIConfig
from examples.sources import Source, load_source
from examples.systems import system_module
from examples.text import TextConfig
from mmaffect.data import synthetic_affect
from mmaffect.training import Evaluation, evaluate_all, load_weights, predict, protocol
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.run_directory import BEST, versions

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes"

# Small, for a corpus of 1447 utterances; classes are not weighed, since accuracy is what selects.
CONFIGS: dict[str, dict[str, Any]] = {
    "cider": {"layers": 2, "heads": 4, "lengths": (50, 1), "balanced": False, "epochs": 10},
    "carn": {"hidden": 48, "balanced": False, "epochs_complete": 4, "epochs_missing": 12},
    "imder": {
        "heads": 4,
        "layers": 1,
        "memory_layers": 1,
        "network": "fast",
        "network_width": 32,
        "refinement_blocks": 2,
        "dropout": 0.3,
        "evaluations": 4,
        "training_evaluations": 3,
        "balanced": False,
        "epochs_complete": 10,
        "epochs_recovery": 4,
        "epochs_missing": 3,
    },
}
TEXT = TextConfig(width=32)
# What is trained, and what it is called without the counterfactual and with it.
TRAINED = {"counterfactual": ("plain head", "counterfactual"), "both": ("backdoor", "both")}
VARIANTS = ("plain head", "backdoor", "counterfactual", "both")
SPLITS = {"iid": "IID", "ood": "OOD", "mild": "OOD, mild"}
MEASURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "binary": "accuracy of negative against positive"}
RATES = (0.0, 0.5)
# A wrapped system in the synthetic world, and how it is trained there.
WORLD_CONFIG: dict[str, Any] = {
    "layers": 1,
    "heads": 2,
    "hidden": 16,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "output_dropout": 0.0,
    "lengths": (1,),
    "recurrence": False,
    "twins": False,
    "balanced": False,
    "epochs": 12,
}
WORLD_SYSTEMS = {"CIDer": "none", "CIDer with MACI": "backdoor"}
WORLD_SIZE = 4000


class Cell(NamedTuple):
    """One training on words."""

    system: str
    use: str
    split: str
    seed: int


class Row(NamedTuple):
    """One measurement."""

    system: str
    variant: str
    split: str
    seed: int
    rate: str
    accuracy: float
    macro_f1: float
    binary: float
    tau: float


class Task(NamedTuple):
    """What a process is handed."""

    cell: Any
    options: argparse.Namespace


def split_of(cell: Cell, options: argparse.Namespace) -> Source:
    """MOSI in the split of a seed."""
    kind = "iid" if cell.split == "iid" else "ood"
    text = (RECIPES / f"mosi_words3_{kind}.toml").read_text(encoding="utf-8")
    text = text.replace("\nseed = 0", f"\nseed = {cell.seed}")
    if cell.split == "mild":
        text = text.replace("# most = 0.1", "most = 0.1")
    recipe = options.runs / "recipes" / f"{cell.split}-seed{cell.seed}.toml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_text(recipe, text)
    return load_source(recipe, options.data)


def candidate(cell: Cell, epochs: int | None) -> Candidate:
    module = system_module(cell.system)
    maci = MACIConfig(use=cell.use, compared=("negative", "positive"), monitor="accuracy")
    training = replace(module.TRAINING, batch_size=32, clip_norm=1.0, monitor="accuracy", epochs=epochs)
    config = module.Config(**CONFIGS[cell.system])
    return Candidate(cell.system, f"{cell.system} {cell.use}", config, training, TEXT, maci)


def measure(cell: Cell, variant: str, found: dict[str, Evaluation], tau: float) -> list[Row]:
    """The rows of a variant, one a missing rate."""
    rows = []
    for rate, evaluation in found.items():
        metrics = evaluation.metrics
        binary = two_classes(evaluation)
        rows.append(Row(*cell[:1], variant, *cell[2:], rate, metrics["accuracy"], metrics["macro_f1"], binary, tau))
    return rows


def two_classes(evaluation: Evaluation) -> float:
    """Accuracy of negative (0) against positive (2), among the rows that are one of both."""
    rows = evaluation.counted & (evaluation.targets != 1)
    said = evaluation.predictions[rows]
    return float(((said[:, 2] > said[:, 0]) == (evaluation.targets[rows] == 2)).double().mean())


def run_words(task: Task) -> tuple[list[Row], float]:
    """Train a cell and measure it with the counterfactual and without."""
    cell, options = task
    torch.set_num_threads(1)
    started, chosen = time.process_time(), candidate(cell, options.epochs)
    out = Path(options.runs, cell.split, chosen.folder, f"seed{cell.seed}")
    done = out / "ood.json"
    if done.exists():
        return [Row(*row) for row in json.loads(done.read_text(encoding="utf-8"))], 0.0
    source = split_of(cell, options)
    conditions = protocol("feature", source.train.spec.names, rates=RATES)
    run_cell(chosen, source, conditions, seed=cell.seed, out=out, resume=True)
    system: Any = build(chosen, source, cell.seed)
    load_weights(system, out / BEST)
    rows = []
    for variant, tau in zip(TRAINED[cell.use], (0.0, float(system.tau)), strict=True):
        system.tau.fill_(tau)
        found = evaluate_all(system, source.test, conditions.evaluation, prior=conditions.prior(source.train))
        rows += measure(cell, variant, found, tau)
    write_json(done, [list(row) for row in rows])
    return rows, time.process_time() - started


def mean_and_sd(values: Sequence[float]) -> str:
    found = torch.tensor(values, dtype=torch.float64)
    return f"{100 * found.mean():.1f} ± {100 * found.std() if len(found) > 1 else 0:.1f}"


def words_table(rows: Sequence[Row]) -> str:
    """Every variant of every system: IID, OOD, and what is lost between, by measure and rate; percent."""
    splits = [split for split in SPLITS if any(row.split == split for row in rows)]
    seeds = sorted({row.seed for row in rows})
    by_key = {(r.system, r.variant, r.split, r.rate, r.seed): r for r in rows}
    heading = ["system", "head", *(SPLITS[s] for s in splits), *(f"IID - {SPLITS[s]}" for s in splits[1:])]
    heading.append(f"τ ({SPLITS[splits[-1]]})")
    lines = ["# MACI in and out of distribution: MOSI, words and audio", ""]
    lines.append(f"Percent, mean ± standard deviation over {len(seeds)} seeds (splits and trainings).")
    for rate in RATES:
        for measure_name, title in MEASURES.items():
            lines += ["", f"## {title}, missing rate {rate:g}", "", f"| {' | '.join(heading)} |"]
            lines.append(f"|{' --- |' * len(heading)}")
            for system in dict.fromkeys(row.system for row in rows):
                for variant in VARIANTS:
                    cells = {s: [by_key[system, variant, s, f"{rate:g}", seed] for seed in seeds] for s in splits}
                    values = {s: [getattr(row, measure_name) for row in found] for s, found in cells.items()}
                    gaps = [[a - b for a, b in zip(values[splits[0]], values[s], strict=True)] for s in splits[1:]]
                    taus = ", ".join(f"{row.tau:g}" for row in cells[splits[-1]])
                    shown = [system, variant, *map(mean_and_sd, values.values()), *map(mean_and_sd, gaps), taus]
                    lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


class Truth(NamedTuple):
    """Distances of one way in one world."""

    way: str
    strength: float
    seed: int
    done: float
    seen: float


def run_world(task: Task) -> tuple[list[Truth], float]:
    """All ways in the world of a strength and a seed."""
    (strength, seed), options = task
    torch.set_num_threads(1)
    started, world = time.process_time(), draw_world(strength, WORLD_SIZE, seed)
    rows = [Truth(EXACT, strength, seed, distance(world.seen, world.done), 0.0)]
    for head in HEADS[:2]:
        p = fit(head, world, seed)
        rows.append(Truth(head, strength, seed, distance(p, world.done), distance(p, world.seen)))
    sizes = (WORLD_SIZE, WORLD_SIZE // 4, len(world.test.x))
    data = synthetic_affect({"voice": 4}, sizes=sizes, confounder_strength=strength, seed=seed, **WORLD)
    source = Source(data.train, data.valid, data.test, "", None, f"[synthetic] # strength {strength}, seed {seed}")
    module = system_module("cider")
    training = replace(module.TRAINING, batch_size=64, monitor="log_loss", learning_rate=3e-3, schedule="cosine")
    for way, use in WORLD_SYSTEMS.items():
        chosen = Candidate("cider", way, module.Config(**WORLD_CONFIG), training, maci=MACIConfig(use=use))
        out = Path(options.runs, f"strength{strength:g}", chosen.folder, f"seed{seed}")
        run_cell(chosen, source, protocol("none", ("voice",)), seed=seed, out=out, resume=True)
        system = build(chosen, source, seed)
        load_weights(system, out / BEST)
        p = predict(system, source.test).values.double()
        rows.append(Truth(way, strength, seed, distance(p, world.done), distance(p, world.seen)))
    return rows, time.process_time() - started


def world_table(rows: Sequence[Truth]) -> str:
    """Distances by strength, mean ± standard deviation over seeds."""
    ways = list(dict.fromkeys(row.way for row in rows))
    names = {"plain": "a plain head", "observed confounder": "BackdoorHead, confounder observed"}
    lines = ["# MACI in synthetic worlds whose confounder is known", ""]
    lines.append(
        "Total variation distance, mean ± standard deviation over seeds; each seed is another world. CIDer here is one "
        "layer of width 16, without recurrence and twins."
    )
    for law, title in (("done", "P(y | do(x))"), ("seen", "P(y | x)")):
        heading = ["strength", *(names.get(way, way).replace("|", "\\|") for way in ways)]
        lines += ["", f"## Distance to {title}", "", f"| {' | '.join(heading)} |", f"|{' --- |' * len(heading)}"]
        for strength in sorted({row.strength for row in rows}):
            shown = [f"{strength:g}"]
            for way in ways:
                found = [getattr(r, law) for r in rows if (r.way, r.strength) == (way, strength)]
                values = torch.tensor(found, dtype=torch.float64)
                shown.append(f"{values.mean():.3f} ± {values.std() if len(found) > 1 else 0:.3f}")
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run a study, print its table, and write table and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("words", "world"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and the numbers")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--data", type=Path, help="folder that holds mosi.npz")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--strengths", nargs="+", type=float, default=list(STRENGTHS))
    parser.add_argument("--mild", action="store_true", help="a third split, that misleads less")
    parser.add_argument("--epochs", type=int, help="in all, for a trial")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells: list[Any]
    if options.study == "words":
        if options.data is None:
            parser.error("--data: expected the folder that holds mosi.npz")
        splits = list(SPLITS)[: 3 if options.mild else 2]
        cells = [
            Cell(system, use, split, seed)
            for seed in range(options.seeds)
            for system in options.systems
            for use in TRAINED
            for split in splits
        ]
    else:
        cells = [(strength, seed) for seed in range(options.seeds) for strength in options.strengths]
    run, table = (run_words, words_table) if options.study == "words" else (run_world, world_table)
    rows: list[Any] = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for number, (found, seconds) in enumerate(pool.map(run, [Task(cell, options) for cell in cells])):
            rows += found
            print(f"{number + 1} of {len(cells)}: {tuple(cells[number])}, {seconds:.0f} s", flush=True)
    made = table(rows)
    print(made)
    write_text(options.out / "table.md", made)
    settings = (
        {"configs": CONFIGS, "text": TEXT.width} if options.study == "words" else {"cider": WORLD_CONFIG, **WORLD}
    )
    record = {"versions": versions(), "settings": settings, "rows": [row._asdict() for row in rows]}
    write_json(options.out / "result.json", record)


if __name__ == "__main__":
    main()
