"""What a study leaves behind: tables for people, one JSON file for programs, figures."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from examples.cell import Candidate, build, record
from examples.sources import Source
from mmaffect.data import DataSpec
from mmaffect.metrics import area_under_rates, holm, paired_t_test, sign_flip_test
from mmaffect.training import Evaluation, Protocol, SummaryRow, load_weights, render, summary
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.protocol import CURVES
from mmaffect.training.run_directory import BEST, LOG, plain, versions

COLUMNS = {
    "class": {"WA": "accuracy", "UA": "balanced_accuracy", "macro-F1": "macro_f1"},
    "multilabel": {"macro-F1": "macro_f1", "AUROC": "auroc"},
    "score": {"Acc-2 (non0)": "acc2_non0", "F1 (non0)": "f1_non0", "MAE": "mae", "Corr": "corr"},
    "scores": {"CCC": "ccc", "MAE": "mae", "Corr": "corr"},
}
SHARES = ("WA", "UA", "macro-F1", "AUROC", "Acc-2 (non0)", "F1 (non0)")  # printed in percent


@dataclass(frozen=True)
class Study:
    """What was measured.

    Args:
        name: of the recipe.
        spec: of the data.
        conditions: the protocol.
        results: by label of the candidate, one entry a seed: evaluations by condition.
        per_condition: whether each condition has a model of its own.
    """

    name: str
    spec: DataSpec
    conditions: Protocol
    results: dict[str, list[dict[str, Evaluation]]]
    per_condition: bool = False

    @property
    def columns(self) -> dict[str, str]:
        """Table columns and the metrics behind them, by kind of target; the second column of classes is UA."""
        several = self.spec.target == "score" and self.spec.outputs > 1
        return COLUMNS["scores" if several else self.spec.target]

    @property
    def headline(self) -> str:
        """The column that systems are compared by."""
        return "UA" if self.spec.target == "class" else next(iter(self.columns))

    def values(self, label: str) -> list[dict[str, dict[str, float]]]:
        """Table values of a candidate: one entry a seed, by condition and column; shares in percent."""
        return [
            {
                condition: {
                    column: (100 if column in SHARES else 1) * evaluation.metrics[metric]
                    for column, metric in self.columns.items()
                }
                for condition, evaluation in seed.items()
            }
            for seed in self.results[label]
        ]

    def means(self, label: str) -> list[float]:
        """A candidate's headline metric, mean over conditions, one a seed."""
        return [sum(c[self.headline] for c in seed.values()) / len(seed) for seed in self.values(label)]

    @property
    def digits(self) -> int:
        """How many digits after the point tables show."""
        return 1 if all(column in SHARES for column in self.columns) else 3


def write_report(study: Study, candidates: Sequence[Candidate], source: Source, out: Path) -> None:
    """Print the tables and write ``table.md``, ``result.json`` and the figures; one process of many does."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    tables = [_header(study), *(f"## {label}\n\n{_table(study, label)}" for label in study.results)]
    if len(study.results) > 1:
        tables.append(f"## {study.headline} side by side\n\n{_side_by_side(study)}")
        tables += _significance(study)
    tables += _areas(study)
    excluded = {c: e.excluded for c, e in next(iter(study.results.values()))[0].items() if e.excluded}
    if excluded:
        listed = ", ".join(f"{name}: {count}" for name, count in excluded.items())
        tables.append(f"Left with nothing observed, hence not counted: {listed}.")
    tables += _filled(study)
    text = "\n\n".join(tables) + "\n"
    print(text)
    write_text(out / "table.md", text)
    write_json(out / "result.json", _as_json(study, candidates, source))
    _figures(study, candidates, source, out)


def _filled(study: Study) -> list[str]:
    """How many of the counted rows were left with nothing and predicted from the training split's labels alone."""
    first = next(iter(study.results.values()))[0]
    counts = {name: int((e.filled & e.counted).sum()) for name, e in first.items()}
    listed = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
    if not listed:
        return []
    return [f"Left with nothing, hence predicted for every system from the labels of the training split: {listed}."]


def _header(study: Study) -> str:
    """What the tables show."""
    first = next(iter(study.results.values()))
    counted = [int(evaluation.counted.sum()) for evaluation in first[0].values()]
    rows = str(counted[0]) if len(set(counted)) == 1 else f"{min(counted)} to {max(counted)}"
    shares = [column for column in study.columns if column in SHARES]
    percent = f" {', '.join(shares)} in percent." if shares else ""
    models = ", one model a condition" if study.per_condition else ""
    return (
        f"# {study.name}, missing: {study.conditions.name}{models}\n\n"
        f"Test split, {rows} labelled rows counted by condition; mean ± sd over {len(first)} seeds.{percent}"
    )


def _table(study: Study, label: str) -> str:
    return render(summary(study.values(label)), style="markdown", digits=study.digits)


def _side_by_side(study: Study) -> str:
    """The headline metric, conditions down and candidates across."""
    rows: list[SummaryRow] = []
    spreads = {label: summary(study.values(label)) for label in study.results}
    for number, row in enumerate(next(iter(spreads.values()))):
        rows.append(
            SummaryRow(row.condition, {label: s[number].metrics[study.headline] for label, s in spreads.items()})
        )
    return render(rows, metrics=list(study.results), style="markdown", digits=study.digits)


def _significance(study: Study) -> list[str]:
    """The first candidate against each other one, paired over seeds."""
    first, *others = study.results
    ours = study.means(first)
    theirs = {label: study.means(label) for label in others}
    # A metric that is not defined under some condition (a correlation with a constant, say) can't be compared.
    theirs = {label: means for label, means in theirs.items() if all(map(math.isfinite, [*ours, *means]))}
    if len(ours) < 2 or not theirs:
        return []
    adjusted = holm([paired_t_test(ours, means).p_value for means in theirs.values()])
    lines = [
        f"## {first} against the others\n",
        f"{study.headline}, mean over conditions, paired over {len(ours)} seeds.\n",
        "| against | difference | p (t-test, Holm) | p (exact sign flips) |",
        "| --- | --- | --- | --- |",
    ]
    for (label, means), p in zip(theirs.items(), adjusted, strict=True):
        difference = sum(a - b for a, b in zip(ours, means, strict=True)) / len(ours)
        flips = sign_flip_test(ours, means).p_value
        lines.append(f"| {label} | {difference:+.{study.digits}f} | {p:.3f} | {flips:.3f} |")
    return ["\n".join(lines)]


def _rates(study: Study) -> list[float]:
    """Missing rates of the conditions, where the protocol is a curve."""
    return [float(c.name) for c in study.conditions.evaluation] if study.conditions.name in CURVES else []


def _areas(study: Study) -> list[str]:
    """AUILC: area under each metric over the missing rates, divided by their span."""
    rates = _rates(study)
    if len(rates) < 2:
        return []
    rows = []
    for label in study.results:
        areas = [
            {"area": {c: area_under_rates(rates, [v[c] for v in seed.values()]).normalised for c in study.columns}}
            for seed in study.values(label)
        ]
        rows.append(SummaryRow(label, summary(areas)[0].metrics))
    return [
        f"## Area under the curve over missing rates (AUILC)\n\n{render(rows, style='markdown', digits=study.digits)}"
    ]


def _as_json(study: Study, candidates: Sequence[Candidate], source: Source) -> dict[str, Any]:
    """Everything measured, with what produced it."""
    systems = {
        candidate.label: {
            "system": candidate.system,
            "config": candidate.config,
            "training": candidate.training,
            "table": {
                row.condition: {column: spread._asdict() for column, spread in row.metrics.items()}
                for row in summary(study.values(candidate.label))
            },
            "seeds": [
                {name: record(evaluation) for name, evaluation in seed.items()}
                for seed in study.results[candidate.label]
            ],
        }
        for candidate in candidates
    }
    found: dict[str, Any] = plain(
        {
            "versions": versions(),
            "data": {n: getattr(source, n).fingerprint for n in ("train", "valid", "test")},
            "modalities": study.spec.modalities,
            "classes": study.spec.classes,
            "sequence": study.spec.sequence,
            "protocol": study.conditions.describe(),
            "per_condition": study.per_condition,
            "systems": systems,
        }
    )
    return found


def _figures(study: Study, candidates: Sequence[Candidate], source: Source, out: Path) -> None:
    """Loss curves of the first candidate, its attention on a test sample, and the curve over rates, if there is one."""
    from mmaffect.plots import attention_matrices, condition_bars, rate_curve, rate_curves, save, training_curves

    first = candidates[0]
    logs = sorted((out / first.folder).glob(f"seed*/**/{LOG}"))
    histories = [[json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] for log in logs]
    if histories:  # none where the runs lie elsewhere
        save(training_curves(histories), out / "training_curves.png")
    columns = {}
    for candidate in candidates:
        attended = _attention(candidate, source, out)
        if attended:
            columns[candidate.label] = attended
    if columns:
        save(attention_matrices(columns), out / "attention.png")
    if len(_rates(study)) > 1:
        curves = {label: rate_curve(summary(study.values(label)), study.headline) for label in study.results}
        save(rate_curves(curves, metric=study.headline), out / "rate_curves.png")
    elif len(study.conditions.evaluation) > 1:
        bars = {label: summary(study.values(label)) for label in study.results}
        save(condition_bars(bars, metric=study.headline), out / "conditions.png")


def _attention(candidate: Candidate, source: Source, out: Path) -> dict[str, torch.Tensor]:
    """Attention of the first seed's weights on the longest test sample, by modality; empty if the system has none."""
    weights = sorted((out / candidate.folder / "seed0").glob(f"**/{BEST}"))
    system = build(candidate, source, 0)
    if not weights or not hasattr(system, "attention"):
        return {}
    load_weights(system, weights[0])
    system.eval()
    lengths = torch.stack(list(source.test.lengths.values())).amax(0)
    batch = source.test.collate([source.test[int(lengths.argmax())]])
    with torch.no_grad():
        attended = cast(Any, system).attention(batch)
    return {name: matrix[0].mean(0) for name, matrix in attended.items()}
