"""Does recovery help, and does a diffusion recover best? IMDer beside other recoveries, on WESAD and IEMOCAP.

    python benchmarks/imder.py STUDY --data DIR --out runs/imder-STUDY [--workers 2] [--seeds 3] [--ablation-seeds 3]
        [--systems LABEL ...] [--epochs N] [--validation]

Studies: ``iemocap`` and ``wesad``, one model on mixed missing rates, scored at each; ``deleted``, IEMOCAP in the truly
missing regime, text deleted from turns in training too, one model a rate; of what is deleted only the data's
standardisation knows. All systems of a study share extractors, fusion, head and their initial weights of a seed, and
masks in validation and test: they differ in what puts back what is absent. In training order is the same in the first
stage, so the extractors are; later a system without a stage for its recovery goes on with another order, and other
masks unless they are for good.

A run that is finished is not trained again, and one that was stopped goes on. With --validation the validation split
stands for the test split throughout, so that choices can be made without a look at the other.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch
from imder_latents import write_latents

from examples.cell import Candidate, build, run_cell
from examples.report import Study, write_report
from examples.sources import Source, load_source
from examples.systems import imder
from mmaffect.training import Evaluation, Protocol, evaluate_all, load_weights, protocol
from mmaffect.training.run_directory import BEST

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes"

# Chosen on the validation splits of seed 0; the paper's sizes are for a GPU and for sequences of 50 steps.
SMALL = {
    "heads": 4,
    "layers": 1,
    "memory_layers": 1,
    "network": "fast",
    "network_width": 32,
    "refinement_blocks": 2,
    "dropout": 0.3,
    "input_dropout": 0.5,
}
DIALOGUES = {"hidden": 64, "epochs_complete": 15, "epochs_recovery": 15, "epochs_missing": 6, "evaluations": 6}
WINDOWS = {
    "hidden": 16,
    "kernel": 1,
    "epochs_complete": 10,
    "epochs_recovery": 15,
    "epochs_missing": 4,
    "evaluations": 6,
}

SYSTEMS: Mapping[str, Mapping[str, Any]] = {
    "imder": {},
    "residual autoencoder": {"recovery": "autoencoder"},
    "mean fill": {"recovery": "mean", "refinement": False},
    "zero fill": {"recovery": "zero", "refinement": False},
    "nothing put back": {"recovery": "none"},
}
SEVERAL = "imder, 8 draws"  # the weights of "imder"; probabilities averaged over draws
ABLATIONS = {label: change for label, change in imder.ABLATIONS.items() if label != "without either"}  # zero fill


class Setting(NamedTuple):
    """A study: its data, how what is missing is drawn, and sizes."""

    recipe: str
    conditions: dict[str, Any]
    per_condition: bool
    config: Mapping[str, Any]
    training: Mapping[str, Any]


IEMOCAP = {"batch_size": 8}
STUDIES = {
    "iemocap": Setting("iemocap6", {"kind": "random"}, False, {**SMALL, **DIALOGUES}, IEMOCAP),
    "wesad": Setting(
        "wesad",
        {"kind": "random", "rates": [i / 10 for i in range(9)]},
        False,
        {**SMALL, **WINDOWS},
        {"batch_size": 128},
    ),
    "deleted": Setting(
        "iemocap6",
        {"kind": "deletion", "modality": "text", "rates": [0.1, 0.3, 0.5]},
        True,
        # Of two modalities half of all hidden would leave one everywhere: what is whole must be met in training too.
        {**SMALL, **DIALOGUES, "hide": 0.25},
        {**IEMOCAP, "regime": "truly"},
    ),
}


class Cell(NamedTuple):
    """One training: which system, seed and conditions."""

    label: str
    seed: int
    part: int


class Task(NamedTuple):
    """What a process is handed."""

    study: str
    cell: Cell
    options: argparse.Namespace


def data_of(study: str, options: argparse.Namespace) -> Source:
    source = load_source(RECIPES / f"{STUDIES[study].recipe}.toml", options.data)
    return source._replace(test=source.valid) if options.validation else source


def conditions_of(study: str, source: Source) -> tuple[Protocol, tuple[Protocol, ...]]:
    """The whole protocol, and one for each model that is trained."""
    setting = STUDIES[study]
    arguments = dict(setting.conditions)
    whole = protocol(arguments.pop("kind"), source.train.spec.names, **arguments)
    return whole, whole.apart() if setting.per_condition else (whole,)


def candidate(study: str, label: str, epochs: int | None) -> Candidate:
    setting = STUDIES[study]
    config = imder.Config(**{**setting.config, **{**SYSTEMS, **ABLATIONS, SEVERAL: {"draws": 8}}[label]})
    return Candidate("imder", label, config, replace(imder.TRAINING, **setting.training, epochs=epochs))


def folder(options: argparse.Namespace, chosen: Candidate, cell: Cell, parts: tuple[Protocol, ...]) -> Path:
    under = f"under_{parts[cell.part].train.name}" if len(parts) > 1 else ""
    return Path(options.out, chosen.folder, f"seed{cell.seed}", under)


def train_cell(task: Task) -> tuple[Cell, dict[str, Evaluation], float]:
    """Train and measure one cell, or measure it again; with several draws measure what was trained with one."""
    study, cell, options = task
    torch.set_num_threads(1)
    source = data_of(study, options)
    _, parts = conditions_of(study, source)
    chosen = candidate(study, cell.label, options.epochs)
    started = time.process_time()
    if cell.label == SEVERAL:
        system = build(chosen, source, cell.seed)
        load_weights(system, folder(options, candidate(study, "imder", options.epochs), cell, parts) / BEST)
        found = evaluate_all(system, source.test, parts[cell.part].evaluation)
    else:
        out = folder(options, chosen, cell, parts)
        found = run_cell(chosen, source, parts[cell.part], seed=cell.seed, out=out, resume=True)
    return cell, found, time.process_time() - started


def write_study(
    study: str, labels: list[str], seeds: int, found: Mapping[Cell, dict[str, Evaluation]], out: Path, source: Source
) -> None:
    """Tables, JSON and curves of some systems over some seeds."""
    whole, parts = conditions_of(study, source)
    results = {
        label: [
            {name: e for part in range(len(parts)) for name, e in found[Cell(label, seed, part)].items()}
            for seed in range(seeds)
        ]
        for label in labels
    }
    listed = [candidate(study, label, None) for label in labels]
    out.mkdir(parents=True, exist_ok=True)
    write_report(Study(study, source.train.spec, whole, results, per_condition=len(parts) > 1), listed, source, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation-seeds", type=int, default=3, help="at most as many as --seeds; 0 for none")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--epochs", type=int, help="in all, for a trial")
    parser.add_argument("--validation", action="store_true")
    options = parser.parse_args()
    study, source = options.study, data_of(options.study, options)
    _, parts = conditions_of(study, source)
    ablations = [] if STUDIES[study].per_condition or not options.ablation_seeds else list(ABLATIONS)
    fewer = min(options.ablation_seeds, options.seeds)
    cells = [
        Cell(label, seed, part)
        for labels, seeds in ((options.systems, options.seeds), (ablations, fewer))
        for seed in range(seeds)
        for label in labels
        for part in range(len(parts))
    ]
    measured = [
        Cell(SEVERAL, seed, part)
        for seed in range(options.seeds if "imder" in options.systems else 0)
        for part in range(len(parts))
    ]
    found: dict[Cell, dict[str, Evaluation]] = {}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for some in (cells, measured):
            for cell, evaluations, seconds in pool.map(train_cell, [Task(study, cell, options) for cell in some]):
                found[cell] = evaluations
                count = f"{len(found)} of {len(cells) + len(measured)}"
                print(f"{count}: {cell.label}, seed {cell.seed}, {seconds:.0f} s", flush=True)
    labels = [*options.systems, *([SEVERAL] if measured else [])]
    write_study(study, labels, options.seeds, found, options.out, source)
    if ablations and "imder" in options.systems:
        write_study(study, ["imder", *ablations], fewer, found, options.out / "ablations", source)
    if not STUDIES[study].per_condition:
        chosen = [candidate(study, label, options.epochs) for label in (*options.systems, *ablations)]
        places = {c.label: folder(options, c, Cell(c.label, 0, 0), parts) for c in chosen}
        write_latents(source, chosen, places, options.out)


if __name__ == "__main__":
    main()
