"""What is recovered, beside what was there: the latents of a trained IMDer and of the recoveries beside it.

For each modality in turn: it is hidden from every test sample, recovered by each system of seed 0, and compared with
the latents that it had. All systems of a seed share their extractors, so they have the same goal. Figures as the
paper's 3 and 4, and what it does not show: the calibration of several draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from examples.cell import Candidate, build
from examples.sources import Source
from mmaffect.data import MultimodalBatch, MultimodalDataset
from mmaffect.metrics import calibration_metrics, interval_coverage, reliability_curve
from mmaffect.ops import masked_mean
from mmaffect.plots import coverage_diagram, reliability_diagram, save
from mmaffect.plots.style import GREY, add_legend, mark, new_figure, tidy
from mmaffect.training import load_weights, protocol
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.evaluate import EVALUATION_SEED, bind
from mmaffect.training.run_directory import BEST

DRAWS = 19  # the fewest that support an interval of 0.9
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SHOWN = ("residual autoencoder", "mean fill", "unconditional", "imder")
POINTS = 400


class Recovered(NamedTuple):
    """Rows of one modality: latents as they were and as recovered, ``(N, d)``, and their class ``(N,)``."""

    truth: Tensor
    guess: Tensor
    label: Tensor


def load(candidate: Candidate, source: Source, run: Path) -> Any:
    system = build(candidate, source, 0)
    load_weights(system, run / BEST)
    return system.eval()


def batches(dataset: MultimodalDataset, size: int = 64) -> list[MultimodalBatch]:
    return [dataset.collate([dataset[i] for i in rows.tolist()]) for rows in torch.arange(len(dataset)).split(size)]


@torch.no_grad()
def recovered(system: Any, dataset: MultimodalDataset, name: str) -> Recovered:
    """Hide one modality everywhere that another is there; one row a labelled turn, or a sample's mean."""
    found = []
    for batch in batches(dataset):
        others = torch.stack([mask for other, mask in batch.masks.items() if other != name]).any(0)
        shown = batch.drop({name: ~others})
        latents, true = system.extract(shown), system.extract(batch)
        asked = latents.wanted[name] & true.observed[name]
        guess = system.recover(latents, keys=batch.index)[name][0]
        truth, labels = true.values[name], batch.targets
        if labels.dim() == 1:
            rows = asked.any(1)
            parts = masked_mean(truth, asked)[rows], masked_mean(guess, asked)[rows], labels[rows]
        else:
            parts = truth[asked], guess[asked], labels[asked]
        found.append(parts)
    truth, guess, label = (torch.cat(part) for part in zip(*found, strict=True))
    known = label >= 0
    return Recovered(truth[known], guess[known], label[known])


def compare(rows: Recovered, centroids: Tensor, energy_rows: int = 1000) -> dict[str, float]:
    """Error, spread, distance of the laws, and how often the nearest centroid of the true latents is the own class's.

    In units of the true latents: each feature divided by its standard deviation.
    """
    scale = rows.truth.std(0).clamp(min=1e-6)
    truth, guess, centres = rows.truth / scale, rows.guess / scale, centroids / scale
    some = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))[:energy_rows]
    one, other = some.chunk(2)  # no row beside itself
    nearest = torch.cdist(guess, centres).argmin(1)
    return {
        "error": (guess - truth).square().mean().sqrt().item(),
        "spread": guess.std(0).square().mean().sqrt().item(),
        "energy distance": energy_distance(guess[one], truth[other]),
        "own class": class_mean(nearest == rows.label, rows.label),
    }


def class_mean(right: Tensor, label: Tensor) -> float:
    """Mean over classes of the share that is right."""
    return torch.stack([right[label == c].float().mean() for c in label.unique()]).mean().item()


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased."""

    def within(z: Tensor) -> float:
        return torch.pdist(z).mean().item()

    return 2 * torch.cdist(x, y).mean().item() - within(x) - within(y)


def class_centroids(system: Any, dataset: MultimodalDataset, name: str, classes: int) -> Tensor:
    """Mean true latent of each class in training."""
    rows = recovered(system, dataset, name)
    return torch.stack([rows.truth[rows.label == c].mean(0) for c in range(classes)])


@torch.no_grad()
def calibration(system: Any, source: Source) -> dict[str, Any]:
    """At the highest missing rate: how often intervals of 19 draws hold the truth, and how sure predictions are."""
    spec, test = source.train.spec, source.test
    count = len(spec.names)
    change = bind(protocol("random", spec.names, rates=[(count - 1) / count]).evaluation[0], test, EVALUATION_SEED)
    draws: dict[str, list[Tensor]] = {"drawn": [], "refined": []}
    truths, one, several, targets = [], [], [], []
    for batch in batches(test):
        shown = change(batch)
        latents, true = system.extract(shown), system.extract(batch)
        options = {"draws": DRAWS, "keys": batch.index, "evaluations": system.config.evaluations}
        drawn = system.recovery.recover(latents.values, latents.observed, latents.wanted, **options)
        kinds = {"drawn": drawn, "refined": system.recover(latents, **options)}
        for name in spec.names:
            asked = latents.wanted[name] & true.observed[name]
            truths.append(true.values[name][asked].flatten())
            for kind, by_name in kinds.items():
                draws[kind].append(by_name[name][:, asked].flatten(1))
        probabilities = system.predict_draws(shown, DRAWS)
        rows = shown.observed(spec.sequence) & (batch.targets >= 0)
        one.append(probabilities[0][rows].log())
        several.append(probabilities.mean(0)[rows].log())
        targets.append(batch.targets[rows])
    truth = torch.cat(truths)
    coverage = {kind: interval_coverage(torch.cat(x, dim=1), truth, levels=LEVELS) for kind, x in draws.items()}
    logits = {"1 draw": torch.cat(one), f"{DRAWS} draws": torch.cat(several)}
    return {"coverage": coverage, "logits": logits, "targets": torch.cat(targets)}


def scatter(panels: Mapping[str, Recovered], classes: Sequence[str], *, by_class: bool, tsne: bool) -> Any:
    """Latents in two dimensions, a panel a system: the paper's figures 3 (true and recovered) and 4 (by class)."""
    figure = new_figure(3.0 * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for panel, (label, rows) in zip(axes, panels.items(), strict=True):
        some = torch.randperm(len(rows.truth), generator=torch.Generator().manual_seed(0))[:POINTS]
        truth, guess = project(rows.truth[some], rows.guess[some], tsne)
        classed = rows.label[some]
        for c in range(len(classes)) if by_class else ():
            look, chosen = mark(c), guess[classed == c]
            handles[classes[c]] = panel.scatter(*chosen.T, s=9, color=look.color, marker=look.marker, linewidths=0)
        if not by_class:
            handles["true"] = panel.scatter(*truth.T, s=7, color=GREY, linewidths=0, alpha=0.6)
            handles["recovered"] = panel.scatter(*guess.T, s=7, color=mark(0).color, linewidths=0, alpha=0.6)
        panel.set_title(label)
        panel.set(xticks=[], yticks=[])
        tidy(panel, grid=None)
    add_legend(figure, list(handles.values()), list(handles))
    return figure


def project(truth: Tensor, guess: Tensor, tsne: bool) -> tuple[Tensor, Tensor]:
    """Principal components of the true latents; or t-SNE of both together."""
    if tsne:
        from sklearn.manifold import TSNE

        both = TSNE(perplexity=min(30, len(truth) // 4), random_state=0, init="pca").fit_transform(
            torch.cat([truth, guess]).numpy()
        )
        return torch.from_numpy(both[: len(truth)]), torch.from_numpy(both[len(truth) :])
    mean = truth.mean(0)
    axes = torch.linalg.svd(truth - mean, full_matrices=False)[2][:2]
    return (truth - mean) @ axes.T, (guess - mean) @ axes.T


def write_latents(source: Source, candidates: Sequence[Candidate], runs: Mapping[str, Path], out: Path) -> None:
    """``latents.md``, ``latents.json`` and the figures, from the runs of seed 0."""
    spec = source.train.spec
    systems = {c.label: load(c, source, runs[c.label]) for c in candidates if c.config.recovery != "none"}
    found: dict[str, dict[str, dict[str, float]]] = {}
    panels: dict[str, dict[str, Recovered]] = {}
    for name in spec.names:
        centres = class_centroids(next(iter(systems.values())), source.train, name, spec.outputs)
        panels[name] = {label: recovered(system, source.test, name) for label, system in systems.items()}
        truth = next(iter(panels[name].values()))
        found[name] = {"truth": compare(Recovered(truth.truth, truth.truth, truth.label), centres)}
        found[name] |= {label: compare(rows, centres) for label, rows in panels[name].items()}
    record: dict[str, Any] = {"recovered": found}
    text = [
        "# What is recovered\n\nOne modality hidden from every test sample; seed 0. Error, spread and energy distance "
        "in standard deviations of the true latents; own class: how often the nearest of the classes' mean latents "
        "is that of the own class, mean over classes, in percent."
    ]
    for name, by_system in found.items():
        columns = ["error", "spread", "energy distance", "own class"]
        lines = [f"## {name} hidden\n", f"| recovery | {' | '.join(columns)} |", "| --- " * 5 + "|"]
        for label, v in by_system.items():
            shown = [f"{v[c]:.3f}" for c in columns[:3]] + [f"{100 * v['own class']:.1f}"]
            lines.append(f"| {label} | {' | '.join(shown)} |")
        text.append("\n".join(lines))
    for name, by_system in panels.items():
        chosen = {label: by_system[label] for label in SHOWN if label in by_system}
        save(scatter(chosen, spec.classes, by_class=False, tsne=False), out / f"recovered_{name}.png")
        pair = {label: by_system[label] for label in ("unconditional", "imder") if label in by_system}
        save(scatter(pair, spec.classes, by_class=True, tsne=True), out / f"classes_{name}.png")
    if "imder" in systems:
        measured = calibration(systems["imder"], source)
        curves = {k: reliability_curve(logits, measured["targets"]) for k, logits in measured["logits"].items()}
        errors = {k: calibration_metrics(logits, measured["targets"]) for k, logits in measured["logits"].items()}
        save(reliability_diagram(curves), out / "reliability.png")
        save(coverage_diagram(measured["coverage"]), out / "coverage.png")
        record |= {"coverage": {k: c._asdict() for k, c in measured["coverage"].items()}, "calibration": errors}
        lines = [
            "## Several draws, at the highest missing rate\n",
            "| level | drawn | refined |",
            "| --- | --- | --- |",
        ]
        shares = zip(*(measured["coverage"][kind].coverage for kind in ("drawn", "refined")), strict=True)
        for level, (drawn, refined) in zip(LEVELS, shares, strict=True):
            lines.append(f"| {100 * level:.0f} % | {100 * drawn:.1f} | {100 * refined:.1f} |")
        columns = list(next(iter(errors.values())))
        lines += ["", f"| prediction | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
        lines += [f"| {k} | {' | '.join(f'{v[c]:.3f}' for c in columns)} |" for k, v in errors.items()]
        text.append("\n".join(lines))
    write_text(out / "latents.md", "\n\n".join(text) + "\n")
    write_json(out / "latents.json", record)
