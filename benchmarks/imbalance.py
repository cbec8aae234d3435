"""Which remedy finds the rare classes? Affect-Diff, its ablations and remedies, on IEMOCAP's eight emotions.

    python benchmarks/imbalance.py --data DIR --out docs/results/affect-diff-iemocap8 [--workers 2] [--seeds 3]
        [--systems LABEL ...] [--validation]

One session is left out at a time, the next one validates, and the predictions on all four are pooled: fear has 30 turns
in all, 7 in one session. A cell is one system, seed and session. Its JSON file is written when it is done, and what is
there is not trained again, so a study that was stopped goes on; a killed cell goes on from its checkpoint in --runs.
While it runs, and with --validation, nothing of the test sessions is shown.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch

from examples.cell import Candidate, build
from examples.sources import Source, load_source
from examples.systems import system_module
from mmaffect.latent import LinearWarmup
from mmaffect.metrics import confusion_matrix, emotion_metrics, holm, paired_t_test
from mmaffect.metrics.confusion import f1_by_class, recall_by_class
from mmaffect.training import Complete, Evaluation, Patterns, SummaryRow, evaluate_all, fit, protocol, summary
from mmaffect.training.checkpoint import read_checkpoint, write_checkpoint, write_json, write_text
from mmaffect.training.run_directory import plain, versions

RECIPE = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "iemocap8.toml"
SESSIONS = ("1", "2", "3", "4")

# Chosen on the validation sessions of seed 0, for the paper's recipe and all that is derived from it. A step is a turn
# here and no frame: a convolution over turns cost two points, and there is no noise of frames to add.
SIZES = {
    "hidden": 64,
    "layers": 1,
    "feed_forward": 128,
    "prior_width": 32,
    "kernels": (1,),
    "positions": "distance",
    "input_dropout": 0.3,
    "noise": (0.0,),
}
# The curriculum of 100 epochs is pressed into these. The paper clips all gradients by one norm.
LOOP = {"batch_size": 8, "epochs": 30, "patience": 10, "joint_clipping": True}
# The prior learns for 220 steps here. After as many, predicting noise draws 70 times the latents' spread, of no class;
# predicting v draws latents that the classifier reads as their label.
DRAWN = {"drawn": 8, "drawn_evaluations": 4, "prediction": "v"}
WEIGHTS = {"balanced": True, "label_smoothing": 0.0}  # weighted smoothing would push every row towards the rare classes
LONGER = {"epochs": 60, "patience": 20}  # 30 epochs are some 240 steps: few where classes are weighted


class Entry(NamedTuple):
    """A system of the study: its file, its kind in the tables, and what differs from its defaults (and ``SIZES``)."""

    system: str
    kind: str
    config: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}


def entries() -> dict[str, Entry]:
    """All systems by label."""
    ablations = system_module("affect_diff").ABLATIONS
    free, context = {"free_bits": 0.5}, {**WEIGHTS, "context_layers": 1}
    return {
        **{name: Entry(name, "floor", {}, {"patience": 10}) for name in ("linear", "gru", "transformer")},
        "full": Entry("affect_diff", "paper's recipe"),
        **{name: Entry("affect_diff", "ablation", change) for name, change in ablations.items()},
        "groups clipped apart": Entry("affect_diff", "remedy", {}, {"joint_clipping": False}),
        "adaptive β": Entry("affect_diff", "remedy", {"adaptive_beta": True}),
        "larger free bits": Entry("affect_diff", "remedy", free),
        "balanced sampling": Entry("affect_diff", "remedy", {}, {"sampling": "balanced"}),
        "minority latents": Entry("affect_diff", "remedy", DRAWN),
        "class weights": Entry("affect_diff", "remedy", WEIGHTS),
        "weights, longer": Entry("affect_diff", "remedy", WEIGHTS, LONGER),
        "weights, longer, context": Entry("affect_diff", "remedy", context, LONGER),
        "weights, longer, context, no VAE": Entry("affect_diff", "remedy", {**context, "variational": False}, LONGER),
        # Without the sampling: beside the weights it corrects twice, and validation loses two points.
        "together": Entry(
            "affect_diff", "remedy", {"adaptive_beta": True, **free, **DRAWN, **WEIGHTS}, {"joint_clipping": False}
        ),
    }


PROBED = ("full", "together")
BASE = "full"


@dataclass(frozen=True)
class Cell:
    """One system, seed and session to leave out."""

    label: str
    seed: int
    session: str

    @property
    def name(self) -> str:
        """As a file name."""
        words = "".join(c if c.isalnum() else "-" for c in self.label.replace("β", "beta"))
        return f"{words}-seed{self.seed}-session{self.session}"


def candidate(label: str) -> Candidate:
    """What a label stands for."""
    entry = entries()[label]
    module = system_module(entry.system)
    own = entry.system == "affect_diff"
    config = module.Config(**{**(SIZES if own else {}), **entry.config})
    training = replace(module.TRAINING, **{**(LOOP if own else {}), **entry.training})
    return Candidate(entry.system, label, config, training)


@lru_cache(maxsize=len(SESSIONS))
def source(data: Path, session: str) -> Source:
    """The data with one session left out."""
    return load_source(RECIPE, data, holdout=("session", session))


def train_cell(cell: Cell, data: Path, runs: Path, out: Path) -> str:
    """Train and measure a cell, write its file, and say what validation found."""
    torch.set_num_threads(1)
    chosen, parts = candidate(cell.label), source(data, cell.session)
    spec = parts.train.spec
    started = time.process_time()
    system = build(chosen, parts, cell.seed)
    result = fit(
        system,
        parts.train,
        parts.valid,
        chosen.training,
        protocol=protocol("none", spec.names),
        out=runs / cell.name,
        seed=cell.seed,
        resume=True,
    )
    seconds = time.process_time() - started
    conditions = [Complete()]
    if cell.label in PROBED:
        conditions += protocol("corruption", spec.names).evaluation[1:]
        for name in spec.names:
            conditions.append(Patterns(f"missing {name}", spec.names, ("+".join(n for n in spec.names if n != name),)))
    test = evaluate_all(system, parts.test, conditions)
    valid = evaluate_all(system, parts.valid, [Complete()])["complete"]
    whole = test["complete"]
    scores = {"logits": whole.predictions[whole.counted], "targets": whole.targets[whole.counted]}
    write_checkpoint(runs / cell.name / "scores.safetensors", scores, {})
    record = plain(
        {
            "system": cell.label,
            "seed": cell.seed,
            "session": cell.session,
            "config": chosen.config,
            "training": chosen.training,
            "parameters": sum(p.numel() for p in system.parameters() if p.requires_grad),
            "epochs": result.epochs,
            "best": result.epoch,
            "seconds": round(seconds, 1),
            "versions": versions(),
            "valid": confusion(valid),
            "test": {name: confusion(evaluation) for name, evaluation in test.items()},
            "history": [epoch_of(row) for row in result.history],
        }
    )
    write_text(out / "cells" / f"{cell.name}.json", json.dumps(record) + "\n")
    return f"validation UA {100 * result.value:.1f}, epoch {result.epoch + 1} of {result.epochs}, {seconds:.0f} s"


def confusion(evaluation: Evaluation) -> list[list[int]]:
    """The confusion matrix of what counts: enough for every figure but the AUROC, and it adds up over folds."""
    logits, targets = evaluation.predictions[evaluation.counted], evaluation.targets[evaluation.counted]
    return confusion_matrix(logits.argmax(1), targets, logits.shape[1]).tolist()


def epoch_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures need of a row of the log."""
    loss = {name: round(value, 5) for name, value in row["loss"].items()}
    return {"loss": loss, "monitor": round(row["monitor"], 5), **row.get("system", {})}


# Reading the cells


def read_cells(out: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Cells by label and seed, in the order of the study; seeds of which a session lacks are left out."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for path in sorted((out / "cells").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(cell["system"], {}).setdefault(cell["seed"], []).append(cell)
    ordered = {label: found[label] for label in entries() if label in found}
    whole = {
        label: {seed: seeds[seed] for seed in sorted(seeds) if len(seeds[seed]) == len(SESSIONS)}
        for label, seeds in ordered.items()
    }
    return {label: seeds for label, seeds in whole.items() if seeds}


def measures(tables: Sequence[Sequence[Sequence[int]]], classes: Sequence[str]) -> dict[str, float]:
    """Figures of pooled confusion matrices; shares in percent."""
    table = torch.tensor(tables).sum(0)
    f1 = f1_by_class(table)
    found = {
        "accuracy": float(table.diagonal().sum() / table.sum()),
        "balanced accuracy": float(recall_by_class(table).nanmean()),
        "macro-F1": float(f1.nanmean()),
        "least F1": float(f1.nan_to_num().min()),
        **{f"per_class_f1/{name}": value for name, value in zip(classes, f1.tolist(), strict=True)},
    }
    return {name: 100 * value for name, value in found.items()}


def pooled_auroc(cells: Sequence[Mapping[str, Any]], runs: Path) -> float:
    """Over the folds' scores together; NaN where the run directories are gone."""
    paths = [runs / Cell(cell["system"], cell["seed"], cell["session"]).name / "scores.safetensors" for cell in cells]
    if not all(path.exists() for path in paths):
        return float("nan")
    scores = [read_checkpoint(path).tensors for path in paths]
    logits, targets = (torch.cat([s[name] for s in scores]) for name in ("logits", "targets"))
    value = emotion_metrics(logits, targets)["auroc"]
    assert isinstance(value, float)
    return 100 * value


class Results(NamedTuple):
    """Figures by label, one entry a seed, and the cells they were read from."""

    valid: dict[str, list[dict[str, float]]]
    test: dict[str, list[dict[str, dict[str, float]]]]
    cells: dict[str, dict[int, list[dict[str, Any]]]]


def results(out: Path, runs: Path, classes: Sequence[str]) -> Results:
    """Pool the folds of every label and seed."""
    cells = read_cells(out)
    valid, test = {}, {}
    for label, seeds in cells.items():
        valid[label] = [measures([cell["valid"] for cell in folds], classes) for folds in seeds.values()]
        test[label] = []
        for folds in seeds.values():
            conditions = {name: measures([cell["test"][name] for cell in folds], classes) for name in folds[0]["test"]}
            conditions["complete"]["AUROC"] = pooled_auroc(folds, runs)
            test[label].append(conditions)
    return Results(valid, test, cells)


# Writing


def lines_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    table = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def spread(values: Sequence[float], digits: int = 1) -> str:
    (row,) = summary([{"all": {"value": value}} for value in values])
    mean, sd, _ = row.metrics["value"]
    if mean != mean:
        return "n/a"
    return f"{mean:.{digits}f}" if len(values) == 1 else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def validation_table(found: Results) -> str:
    """What choices may be made by."""
    columns = ("accuracy", "balanced accuracy", "macro-F1", "least F1")
    rows = (
        [label, str(len(seeds)), *(spread([seed[c] for seed in seeds]) for c in columns)]
        for label, seeds in found.valid.items()
    )
    return lines_of(["validation, pooled", "seeds", *columns], rows)


def write_table(found: Results, classes: Sequence[str]) -> str:
    kinds = entries()
    whole = {label: [seed["complete"] for seed in seeds] for label, seeds in found.test.items()}
    columns = ("accuracy", "balanced accuracy", "macro-F1", "AUROC")
    cells = [cell for seeds in found.cells.values() for folds in seeds.values() for cell in folds]
    hours = sum(cell["seconds"] for cell in cells) / 3600
    turns = int(torch.tensor([cell["test"]["complete"] for cell in next(iter(found.cells[BASE].values()))]).sum())

    def summary_row(label: str) -> list[str]:
        seeds = whole[label]
        found_all = sum(seed["least F1"] > 0 for seed in seeds)
        chosen = spread([seed["balanced accuracy"] for seed in found.valid[label]])
        shown = [spread([seed[c] for seed in seeds]) for c in columns]
        return [label, kinds[label].kind, *shown, f"{found_all} of {len(seeds)}", chosen]

    def class_row(label: str) -> list[str]:
        return [label, *(spread([seed[f"per_class_f1/{c}"] for seed in whole[label]]) for c in classes)]

    parts = [
        "# Affect-Diff on IEMOCAP, eight emotions",
        f"Leave one session out, {turns} labelled turns of the four test sessions pooled; mean ± sd over seeds, in "
        f"percent. "
        f"{len(cells)} trainings, {hours:.1f} hours of one core. *Validation* is pooled balanced accuracy on the "
        "validation sessions at the chosen epochs.",
        lines_of(["system", "kind", *columns, "seeds with all classes", "validation"], map(summary_row, whole)),
        "## F1 of each class",
        lines_of(["system", *classes], map(class_row, whole)),
        f"## Against {BASE}",
        differences(whole, {label: list(seeds) for label, seeds in found.cells.items()}),
        goal(whole, kinds),
    ]
    for label in PROBED:
        if label in found.test:
            parts += [f"## Robustness of {label}", robustness(found.test[label])]
    return "\n\n".join(part for part in parts if part) + "\n"


def differences(whole: Mapping[str, list[dict[str, float]]], seeds: Mapping[str, list[int]]) -> str:
    """Each system less the full one, paired over the seeds both have."""
    by_seed = {label: dict(zip(seeds[label], whole[label], strict=True)) for label in whole}
    others = [label for label in whole if label != BASE and by_seed[label].keys() & by_seed[BASE].keys()]
    columns = []
    for metric in ("balanced accuracy", "macro-F1"):
        pairs = {
            label: [
                (a[metric], by_seed[BASE][seed][metric]) for seed, a in by_seed[label].items() if seed in by_seed[BASE]
            ]
            for label in others
        }
        columns.append([f"{sum(a - b for a, b in pair) / len(pair):+.1f}" for pair in pairs.values()])
        tested = [label for label, pair in pairs.items() if len(pair) > 1]
        tests = [paired_t_test(*map(list, zip(*pairs[label], strict=True))) for label in tested]
        adjusted = dict(zip(tested, holm([test.p_value for test in tests]), strict=True)) if tested else {}
        columns.append([f"{adjusted[label]:.3f}" if label in adjusted else "n/a" for label in others])
    header = ["system", "balanced accuracy", "p (paired t-test, Holm)", "macro-F1", "p (paired t-test, Holm)"]
    return lines_of(header, zip(others, *columns, strict=True))


def goal(whole: Mapping[str, list[dict[str, float]]], kinds: Mapping[str, Entry]) -> str:
    """What was asked of the remedies, and what came of it."""

    def mean(label: str, metric: str) -> float:
        return sum(seed[metric] for seed in whole[label]) / len(whole[label])

    floors = {label: mean(label, "balanced accuracy") for label in whole if kinds[label].kind == "floor"}
    if not floors:
        return ""
    best = max(floors, key=floors.__getitem__)
    lines = [
        "## What was asked of a remedy\n",
        f"Every class found in every seed; balanced accuracy at least 10 % above *{BASE}* "
        f"({1.1 * mean(BASE, 'balanced accuracy'):.1f}) and not below the best floor ({best}, {floors[best]:.1f}); "
        f"macro-F1 not more than 2 points below *{BASE}* ({mean(BASE, 'macro-F1') - 2:.1f}).\n",
    ]

    def row(label: str) -> list[str]:
        balanced, macro = mean(label, "balanced accuracy"), mean(label, "macro-F1")
        answers = (
            all(seed["least F1"] > 0 for seed in whole[label]),
            balanced >= 1.1 * mean(BASE, "balanced accuracy"),
            balanced >= floors[best],
            macro >= mean(BASE, "macro-F1") - 2,
        )
        return [label, *("yes" if answer else "no" for answer in answers)]

    header = ["remedy", "every class", f"10 % above {BASE}", "best floor", "macro-F1 kept"]
    remedies = [label for label in whole if kinds[label].kind == "remedy"]
    return "\n".join(lines) + "\n" + lines_of(header, map(row, remedies))


def robustness(seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    def row(name: str) -> list[str]:
        values = [seed[name]["macro-F1"] for seed in seeds]
        less = [seed[name]["macro-F1"] - seed["complete"]["macro-F1"] for seed in seeds]
        mean = sum(less) / len(less)
        return [name, spread(values), "" if name == "complete" else f"{mean:+.1f}"]

    note = "Without the text, or the audio, turns that have nothing else are not counted.\n\n"
    return note + lines_of(["condition", "macro-F1", "less complete"], map(row, seeds[0]))


def write_figures(found: Results, out: Path) -> None:
    from mmaffect.plots import condition_bars, epoch_curves, per_class_bars, save, trade_off, training_curves

    whole = {label: summary([{"complete": seed["complete"]} for seed in seeds]) for label, seeds in found.test.items()}
    shown = [label for label in ("transformer", "full", "no VAE", "minority latents", "class weights", "together")]
    save(per_class_bars({label: whole[label] for label in shown if label in whole}), out / "per_class_f1.png", dpi=120)
    bars = {
        metric: [SummaryRow(label, {"percent": rows[0].metrics[metric]}) for label, rows in whole.items()]
        for metric in ("balanced accuracy", "macro-F1")
    }
    save(condition_bars(bars, metric="percent"), out / "balanced_accuracy.png", dpi=120)
    points = {label: rows[0] for label, rows in whole.items()}
    save(trade_off(points, x="accuracy", y="balanced accuracy"), out / "trade_off.png", dpi=120)
    names = list(found.test[BASE][0])
    rows = {
        label: [SummaryRow(row.condition, {"macro-F1": row.metrics["macro-F1"]}) for row in summary(found.test[label])]
        for label in PROBED
        if label in found.test
    }
    save(condition_bars(rows, metric="macro-F1", conditions=names), out / "robustness.png", dpi=120)
    cells = [cell for folds in found.cells[BASE].values() for cell in folds]
    modalities = cells[0]["history"][0]["weights"]
    weights = {name: [[row["weights"][name] for row in cell["history"]] for cell in cells] for name in modalities}
    save(epoch_curves(weights, quantity="weight of the modality"), out / "weights.png", dpi=120)
    terms = [
        [{"stage": "train", "loss": row["loss"], "monitor": row["monitor"], "valid": {}} for row in cell["history"]]
        for cell in cells
        if cell["session"] == SESSIONS[0]  # one fold: a line a seed
    ]
    save(training_curves(terms), out / "loss_terms.png", dpi=120)
    base = candidate(BASE)
    epochs = base.training.epochs
    ramps = {"r_KL": LinearWarmup(*base.config.kl_ramp), "r_diff": LinearWarmup(*base.config.diffusion_ramp)}
    drawn = {name: [[ramp(e / epochs * base.config.epochs) for e in range(epochs)]] for name, ramp in ramps.items()}
    save(epoch_curves(drawn, quantity="weight of the term"), out / "curriculum.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds iemocap.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/imbalance"), help="run directories; not to be kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=list(entries()), default=list(entries()), metavar="LABEL")
    parser.add_argument("--sessions", nargs="+", choices=SESSIONS, default=SESSIONS)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--validation", action="store_true", help="train, print validation, leave the test closed")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # of the workers
    (options.out / "cells").mkdir(parents=True, exist_ok=True)
    everything = [Cell(x, n, s) for n in range(options.seeds) for x in options.systems for s in options.sessions]
    pending = [cell for cell in everything if not (options.out / "cells" / f"{cell.name}.json").exists()]
    started = time.perf_counter()
    print(f"{len(everything)} cells, {len(pending)} to be trained", flush=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train_cell, c, options.data, options.runs, options.out): c for c in pending}
        for done, future in enumerate(as_completed(futures), start=1):
            spent = time.perf_counter() - started
            left = spent / done * (len(pending) - done) / 60
            print(f"[{done}/{len(pending)}, {left:.0f} min left] {futures[future].name}: {future.result()}", flush=True)
    classes = source(options.data, SESSIONS[0]).train.spec.classes
    found = results(options.out, options.runs, classes)
    print("\n" + validation_table(found))
    if options.validation:
        return
    if BASE not in found.test:
        print(f"\nno table yet: it compares with {BASE!r}, of which no seed has all sessions")
        return
    text = write_table(found, classes)
    print("\n" + text)
    write_text(options.out / "table.md", text)
    record = {"versions": versions(), "classes": classes, "test": found.test, "valid": found.valid}
    write_json(options.out / "result.json", plain(record))
    write_figures(found, options.out)


if __name__ == "__main__":
    main()
