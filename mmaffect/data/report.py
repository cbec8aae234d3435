"""What loading did to the data, in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """Counts to read before believing a result.

    Args:
        name: the recipe's.
        sequence: ``"dialogue"``, ``"window"`` or ``"single"``.
        rows: rows of the file.
        labelled: rows with a label for this task.
        samples: samples of each split.
        labels: labelled rows of each split, by class, label (where it is 1) or score.
        repaired: values that were observed but not finite, by modality.
        missing: rows without each modality.
        empty_rows: rows (turns) with no modality at all.
        dropped_unlabelled: samples left out because nothing in them is labelled.
        dropped_empty: samples left out because no modality is there.

    Example:
        >>> print(Report("toy", "single", 3, 2, {"train": 2}, {"train": {"sad": 2}}, {"text": 0}, {"text": 1}, 0, 1, 0))
        toy as single: 3 rows, 2 labelled
          train: 2 samples; sad 2
          text: missing in 1 rows, 0 values not finite
          turns with nothing: 0; samples left out: 1 without a label, 0 without any modality
    """

    name: str
    sequence: str
    rows: int
    labelled: int
    samples: dict[str, int]
    labels: dict[str, dict[str, int]]
    repaired: dict[str, int]
    missing: dict[str, int]
    empty_rows: int
    dropped_unlabelled: int
    dropped_empty: int

    def __str__(self) -> str:
        lines = [f"{self.name} as {self.sequence}: {self.rows} rows, {self.labelled} labelled"]
        for split, count in self.samples.items():
            labels = ", ".join(f"{name} {n}" for name, n in self.labels[split].items())
            lines.append(f"  {split}: {count} samples; {labels}")
        for name, count in self.missing.items():
            lines.append(f"  {name}: missing in {count} rows, {self.repaired[name]} values not finite")
        lines.append(
            f"  turns with nothing: {self.empty_rows}; samples left out: {self.dropped_unlabelled} without a label, "
            f"{self.dropped_empty} without any modality"
        )
        return "\n".join(lines)
