"""Does what sees all teach what sees a part? CIDer with and without MSSD, features missing at rates of 0 to 1.

    python benchmarks/cider_rmfm.py DATASET --data DIR --out docs/results/cider-rmfm-DATASET [--workers 2] [--seeds 3]
        [--systems LABEL ...] [--epochs N] [--validation]

Datasets: ``mosi``, the words and the audio of MOSI's utterances (mosi_words3.toml); ``iemocap``, text and audio of
whole dialogues (iemocap6.toml), which in validation do better than windows of turns. One model a seed for all rates,
as in the paper: in training each sample draws its rate in [0, 1]. Measured at 0, 0.1 … 1 over the same rows: where
nothing is left every system says what the training split's labels say. Masks are the same for all systems and seeds,
and what is missing at a rate is missing at every higher one. Neutral is 5 of 100 of MOSI's utterances: there classes
are not balanced, and the share of correct answers (WA) is what systems are chosen and compared by; on IEMOCAP it is
the mean recall (UA).

A cell is one system and seed. Its JSON file is written when it is done, and what is there is not trained again, so a
study that was stopped goes on; a killed cell goes on from its checkpoint in --runs. With --validation the validation
split stands for the test split throughout, so that choices can be made without a look at the other. A file of another
split, or of other settings than those of now, is refused: no table mixes them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch

from examples.cell import Candidate, build, record
from examples.sources import Source, load_source
from examples.systems import system_module
from mmaffect.metrics import area_under_rates, holm, paired_t_test
from mmaffect.ops import InputError
from mmaffect.training import SummaryRow, evaluate_all, fit, protocol, render, summary
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.run_directory import plain, versions

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes"
METRICS = {"UA": "balanced_accuracy", "WA": "accuracy", "macro-F1": "macro_f1"}
SELECTED_AT = (0.0, 0.3, 0.6, 0.9)  # weights are chosen by the mean over these, in validation


class Setting(NamedTuple):
    """A dataset: its recipe, kind of sequence, the column systems are compared by, and how one trains, floors too."""

    recipe: str
    sequence: str
    headline: str
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    floor_epochs: int


DATASETS = {
    "mosi": Setting(
        "mosi_words3",
        "single",
        "WA",
        {"balanced": False},
        {"batch_size": 32, "epochs": 12, "monitor": "accuracy"},
        20,
    ),
    "iemocap": Setting("iemocap6", "dialogue", "UA", {"balanced": True}, {"batch_size": 8, "epochs": 40}, 40),
}
SIZES = {"layers": 2, "heads": 4}


class Entry(NamedTuple):
    """A system of the study: its file, what differs from its defaults (and ``SIZES``), and its rates in training."""

    system: str
    config: Mapping[str, Any] = {}
    rates: str = "sample"


BASE, WITHOUT = "CIDer", "without MSSD"
ENTRIES = {
    BASE: Entry("cider"),
    WITHOUT: Entry("cider", {"twins": False}),
    "both passes, nothing distilled": Entry("cider", {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}),
    "attention maps as published (beta = 15)": Entry("cider", {"beta": 15.0}),
    "without joint states (alpha = 0)": Entry("cider", {"alpha": 0.0}),
    "without attention maps (beta = 0)": Entry("cider", {"beta": 0.0}),
    "without features (gamma = 0)": Entry("cider", {"gamma": 0.0}),
    "a coin a position in training": Entry("cider", {}, "position"),
    "gru": Entry("gru"),
    "linear": Entry("linear"),
}


class Cell(NamedTuple):
    """One system and seed."""

    label: str
    seed: int

    @property
    def name(self) -> str:
        """As a file name."""
        return "".join(c if c.isalnum() else "-" for c in f"{self.label}-seed{self.seed}")


class Task(NamedTuple):
    """What a process is handed."""

    cell: Cell
    options: argparse.Namespace


@lru_cache(maxsize=1)
def data_of(dataset: str, data: Path, validation: bool) -> Source:
    setting = DATASETS[dataset]
    source = load_source(RECIPES / f"{setting.recipe}.toml", data, sequence=setting.sequence)
    return source._replace(test=source.valid) if validation else source


def candidate(dataset: str, label: str, epochs: int | None) -> Candidate:
    """What a label stands for."""
    entry, module = ENTRIES[label], system_module(ENTRIES[label].system)
    own = entry.system == "cider"
    config = module.Config(**{**(SIZES if own else {}), **DATASETS[dataset].config, **entry.config})
    training = replace(module.TRAINING, **DATASETS[dataset].training)
    training = replace(training, epochs=epochs or (training.epochs if own else DATASETS[dataset].floor_epochs))
    return Candidate(entry.system, label, config, training)


def settings(label: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a cell's figures depend on beside its seed, as its file holds it."""
    chosen = candidate(options.dataset, label, options.epochs)
    return {
        "split": "validation" if options.validation else "test",
        "config": plain(chosen.config),
        "training": plain(chosen.training),
        "training_rates": ENTRIES[label].rates,
    }


def read_cell(cell: Cell, options: argparse.Namespace) -> dict[str, Any] | None:
    """What the file of a cell holds; None if it is not finished.

    Raises:
        InputError: if it is of another split, or was trained otherwise than one would now.
    """
    path = options.out / "cells" / f"{cell.name}.json"
    if not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key, now in settings(cell.label, options).items():
        if kept.get(key, now) != now:
            raise InputError(f"{path}: expected a cell of {key} = {now}, got {kept[key]}; take another --out")
    return kept


def train_cell(task: Task) -> str:
    """Train and measure a cell, write its file, and say how long it took."""
    torch.set_num_threads(1)
    cell, options = task
    source = data_of(options.dataset, options.data, options.validation)
    names = source.train.spec.names
    chosen = candidate(options.dataset, cell.label, options.epochs)
    started = time.process_time()
    system = build(chosen, source, cell.seed)
    under = protocol("feature", names, rates=SELECTED_AT, training_rates=ENTRIES[cell.label].rates)
    out = options.runs / options.dataset / cell.name
    result = fit(
        system, source.train, source.valid, chosen.training, protocol=under, out=out, seed=cell.seed, resume=True
    )
    trained = time.process_time() - started
    whole = protocol("feature", names)
    found = evaluate_all(system, source.test, whole.evaluation, prior=whole.prior(source.train))
    parameters = sum(p.numel() for p in system.parameters())
    kept = {
        **cell._asdict(),
        **settings(cell.label, options),
        "parameters": parameters,
        "valid": result.value,
        "epoch": result.epoch,
        "seconds": trained,
        "test": {rate: record(evaluation) for rate, evaluation in found.items()},
    }
    write_text(options.out / "cells" / f"{cell.name}.json", json.dumps(plain(kept)) + "\n")
    return f"{trained:.0f} s of one core, validation {100 * result.value:.1f}"


def read_cells(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Finished cells by label, of labels that have all seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for label in ENTRIES:
        cells = [read_cell(Cell(label, seed), options) for seed in range(options.seeds)]
        whole = [cell for cell in cells if cell is not None]
        if len(whole) == options.seeds:
            found[label] = whole
    return found


def curves(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, dict[str, float]]]:
    """Percent by rate and column, one entry a seed."""
    return [
        {
            rate: {column: 100 * kept["metrics"][metric] for column, metric in METRICS.items()}
            for rate, kept in cell["test"].items()
        }
        for cell in cells
    ]


def figures_of(seed: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of one model: each column at rate 0, and its area over all rates."""
    rates = [float(rate) for rate in seed]
    at_zero = {f"{column} at 0": seed["0"][column] for column in METRICS}
    areas = {
        f"{column} AUILC": area_under_rates(rates, [at[column] for at in seed.values()]).normalised
        for column in METRICS
    }
    return at_zero | areas


def write_tables(found: Mapping[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    """What the cells say."""
    figures = {label: [figures_of(seed) for seed in curves(cells)] for label, cells in found.items()}
    headline, first = DATASETS[options.dataset].headline, next(iter(found.values()))[0]["test"]
    filled = ", ".join(f"{rate}: {kept['filled']}" for rate, kept in first.items() if kept["filled"])
    counted = {kept["counted"] for kept in first.values()}
    seconds = sum(cell["seconds"] for cells in found.values() for cell in cells)
    split = "Validation" if options.validation else "Test"
    parts = [
        f"# {DATASETS[options.dataset].recipe}, features missing at rates of 0 to 1\n\n"
        f"{split} split, {', '.join(map(str, sorted(counted)))} labelled rows at every rate; percent, mean ± sd over "
        f"{options.seeds} seeds. AUILC is the area over the rates. UA weighs classes alike. {len(found)} systems, "
        f"{seconds / 60:.0f} minutes of one core. Rows with nothing left, for which every system says what the "
        f"training split's labels say: {filled or 'none'}.",
        render(
            [SummaryRow(label, summary([{"": seed} for seed in seeds])[0].metrics) for label, seeds in figures.items()],
            style="markdown",
            digits=1,
        ),
    ]
    if BASE in figures and options.seeds > 1:
        parts += [f"## Against {BASE}\n\n{differences(figures, headline)}"]
    if BASE in figures and WITHOUT in figures:
        parts += [f"## What MSSD brings\n\n{verdict(figures, headline)}"]
    by_rate = {label: summary(curves(cells)) for label, cells in found.items()}
    rows = [
        SummaryRow(row.condition, {label: spreads[number].metrics[headline] for label, spreads in by_rate.items()})
        for number, row in enumerate(next(iter(by_rate.values())))
    ]
    parts += [f"## {headline} by missing rate\n\n{render(rows, style='markdown', digits=1)}"]
    return "\n\n".join(parts) + "\n"


def differences(figures: Mapping[str, list[dict[str, float]]], headline: str) -> str:
    """Each system less the base, paired over seeds: at rate 0 and in area."""
    lines = [
        "Difference of means, paired over seeds; p of a paired t-test, Holm over the systems.\n",
        f"| system | {headline} at 0 | p | {headline} AUILC | p |",
        "| --- | --- | --- | --- | --- |",
    ]
    others = [label for label in figures if label != BASE]
    columns: dict[str, tuple[list[float], list[float]]] = {}
    for column in (f"{headline} at 0", f"{headline} AUILC"):
        ours = [seed[column] for seed in figures[BASE]]
        theirs = {label: [seed[column] for seed in figures[label]] for label in others}
        means = [sum(b - a for a, b in zip(ours, theirs[label], strict=True)) / len(ours) for label in others]
        columns[column] = means, holm([paired_t_test(theirs[label], ours).p_value for label in others])
    for number, label in enumerate(others):
        cells = [f"{means[number]:+.1f} | {p[number]:.3f}" for means, p in columns.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(figures: Mapping[str, list[dict[str, float]]], headline: str) -> str:
    """Whether MSSD keeps what there is at rate 0 and gains area: in the mean, seed by seed, and beyond chance."""
    lines = []
    for column, asked in ((f"{headline} at 0", "must not lose"), (f"{headline} AUILC", "must gain")):
        ours, theirs = ([seed[column] for seed in figures[label]] for label in (BASE, WITHOUT))
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        mean = sum(gains) / len(gains)
        answer = "it does not lose" if mean >= 0 else "it loses"
        if asked == "must gain":
            answer = "it gains" if mean > 0 else "it does not gain"
        listed = ", ".join(f"{gain:+.1f}" for gain in gains)
        lines.append(f"* {column}: {asked}; {answer}: {mean:+.1f} in the mean; by seed {listed}.")
        if len(gains) > 1:
            p = paired_t_test(ours, theirs).p_value
            told = "told from no difference" if p < 0.05 else "**not told from no difference**"
            lines[-1] += f" By a paired t-test (p = {p:.3f}) {told}."
    return "\n".join(lines)


def write_figures(found: Mapping[str, list[dict[str, Any]]], headline: str, out: Path) -> None:
    from mmaffect.plots import rate_curve, rate_curves, save

    drawn = {label: rate_curve(summary(curves(cells)), headline) for label, cells in found.items()}
    pair = {label: drawn[label] for label in (BASE, WITHOUT, "gru", "linear") if label in drawn}
    if pair:
        save(rate_curves(pair, metric=f"{headline} (%)", areas=True), out / "mssd.png", dpi=120)
    ablated = {label: curve for label, curve in drawn.items() if ENTRIES[label].system == "cider"}
    if ablated:
        save(rate_curves(ablated, metric=f"{headline} (%)", areas=True), out / "ablations.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the dataset's file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/cider-rmfm"), help="run directories; not to be kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=list(ENTRIES), default=list(ENTRIES), metavar="LABEL")
    parser.add_argument("--epochs", type=int, help="of every system, for a trial")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument(
        "--validation", action="store_true", help="measure on the validation split, leave the test closed"
    )
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # of the workers
    (options.out / "cells").mkdir(parents=True, exist_ok=True)
    everything = [Cell(label, seed) for seed in range(options.seeds) for label in options.systems]
    pending = [cell for cell in everything if read_cell(cell, options) is None]
    started = time.perf_counter()
    print(f"{len(everything)} cells, {len(pending)} to be trained", flush=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train_cell, Task(cell, options)): cell for cell in pending}
        for done, future in enumerate(as_completed(futures), start=1):
            left = (time.perf_counter() - started) / done * (len(pending) - done) / 60
            print(f"[{done}/{len(pending)}, {left:.0f} min left] {futures[future].name}: {future.result()}", flush=True)
    found = read_cells(options)
    if not found:
        print("no table yet: no system has all seeds")
        return
    text = write_tables(found, options)
    print("\n" + text)
    write_text(options.out / "table.md", text)
    figures = {label: [figures_of(seed) for seed in curves(cells)] for label, cells in found.items()}
    write_json(options.out / "result.json", plain({"versions": versions(), "figures": figures}))
    write_figures(found, DATASETS[options.dataset].headline, options.out)


if __name__ == "__main__":
    main()
