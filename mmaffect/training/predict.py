"""What a trained system says of data without labels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.data import MultimodalDataset
from mmaffect.training.conditions import Condition
from mmaffect.training.evaluate import EVALUATION_SEED, bind, predict_rows


class Prediction(NamedTuple):
    """Predictions by row: a turn of a dialogue, else a sample; in the order of the dataset.

    Args:
        ids: names, one a row; for turns of a dialogue the dataset's, or ``"dialogue#3"``.
        values: probabilities of the classes or labels, or scores; NaN where nothing is observed.
        classes: names of the columns.
        present: which modality is observed.

    Shape:
        ``values (R, C)``, also for one score; ``present (R, M)``.
    """

    ids: tuple[str, ...]
    values: Tensor
    classes: tuple[str, ...]
    present: Tensor


def predict(
    system: nn.Module,
    dataset: MultimodalDataset,
    *,
    condition: Condition | None = None,
    batch_size: int = 64,
    seed: int = EVALUATION_SEED,
) -> Prediction:
    """Probabilities (softmax for classes, sigmoid for several labels) or scores of every row of a dataset.

    Labels are not looked at. Several processes share the work as in `evaluate`.

    Args:
        system: trained.
        dataset: labelled or not.
        condition: what is hidden beyond what the data lack; nothing by default.
        batch_size: samples of one forward pass.
        seed: of the condition's draws, and of what the system itself draws.

    Raises:
        InputError: if the dataset is empty.
        ValueError: if the system's output does not fit the dataset.
    """
    (rows,) = predict_rows(system, dataset, [bind(condition, dataset, seed)], batch_size, seed)
    values = rows.predictions
    if dataset.spec.target == "class":
        values = values.softmax(-1)
    elif dataset.spec.target == "multilabel":
        values = values.sigmoid()
    values = values.reshape(len(rows.ids), dataset.spec.outputs)
    nothing = torch.full((), torch.nan, dtype=values.dtype)
    values = torch.where(rows.present.any(1, keepdim=True), values, nothing)
    return Prediction(rows.ids, values, dataset.spec.classes, rows.present)
