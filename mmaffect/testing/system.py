"""The contract of a system: that of a layer, on its forward and on every loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.testing.batches import missing_pair
from mmaffect.testing.case import Case, seeded
from mmaffect.testing.interface import LossProgress, check_interface, stage_starts
from mmaffect.testing.layer import check_all

_NOT_A_LAYER = {
    "gradients": "a system may stop gradients on purpose; its layers are checked one by one",
    "reset": "a rule for layers",
}
_NOT_A_FORWARD = _NOT_A_LAYER | {
    "dtypes": "losses run in float32 or under autocast",
    "compile": "checked on the forward",
    "export": "checked on the forward",
    "state_dict": "checked on the forward",
    "pickle": "checked on the forward",
}


def system_cases(
    build: Callable[[DataSpec], nn.Module],
    spec: DataSpec,
    *,
    lengths: Sequence[int] = (5, 3, 1, 4),
    fullgraph: bool = True,
    exempt: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Case]:
    """The cases of a system: its forward, and the loss of each stage in both regimes of missing data.

    Steps of dialogues, or samples, lack a modality in turn, already in the complete batch; more are lacking in the
    observed one. A quarter of the targets is unlabelled.

    Args:
        build: makes the system for a specification, such as ``lambda spec: System(Config(), spec)``.
        spec: what it is built for.
        lengths: steps of each sample; see :func:`random_batch`.
        fullgraph: False where ``torch.compile`` may break the graph (recurrent systems).
        exempt: checks that do not apply, each with the reason.
        seed: of data, parameters and noise.

    Returns:
        Cases by name: ``"forward"``, ``"loss of NAME, simulated"`` and ``"loss of NAME, truly missing"`` for each
        stage. A loss is called with half of its stage done.
    """
    complete, observed = missing_pair(spec, lengths, seed)
    given = dict(exempt or {})

    def case(batches: dict[str, MultimodalBatch], reasons: dict[str, str], call: Callable[..., Any] | None) -> Case:
        first = next(iter(batches))
        return Case(
            build=lambda: build(spec),
            inputs=batches,
            masks={k: v for name, batch in batches.items() for k, v in _masks(name, batch, spec).items()},
            labels={f"{name}.targets": f"{name}.steps" if spec.sequence == "dialogue" else None for name in batches},
            aligned={"output": "batch.steps"} if call is None and spec.sequence == "dialogue" else {},
            hideable=tuple(f"{first}.masks.{m}" for m in spec.names),
            exempt=reasons | given,
            call=call,
            stochastic=call is not None,
            fullgraph=fullgraph,
            half_tolerance=0.1 if call is None else float("inf"),
            seed=seed,
        )

    with seeded(seed):
        starts = stage_starts(build(spec))
    cases = {"forward": case({"batch": observed}, _NOT_A_LAYER, None)}
    for start in starts:
        name, progress = start.stage, start._replace(epoch=start.epochs // 2, fraction=0.5)

        def loss(
            system: Any,
            observed: MultimodalBatch,
            complete: MultimodalBatch | None = None,
            progress: LossProgress = progress,
        ) -> Any:
            return system.loss(observed, complete, progress)

        simulated = _NOT_A_FORWARD | {"empty_labels": "a teacher may learn it from the complete batch"}
        cases[f"loss of {name}, simulated"] = case({"observed": observed, "complete": complete}, simulated, loss)
        cases[f"loss of {name}, truly missing"] = case({"observed": observed}, _NOT_A_FORWARD, loss)
    return cases


def check_system(
    build: Callable[[DataSpec], nn.Module],
    spec: DataSpec,
    *,
    only: Iterable[str] | None = None,
    lengths: Sequence[int] = (5, 3, 1, 4),
    fullgraph: bool = True,
    exempt: Mapping[str, str] | None = None,
    seed: int = 0,
) -> None:
    """Run the contract on a system: what it offers, its forward, and its losses.

    Args:
        build: makes the system for a specification, such as ``lambda spec: System(Config(), spec)``.
        spec: what it is built for; run the contract once for each kind the system supports.
        only: names of the checks to run; all of ``CHECKS`` by default.
        lengths: steps of each sample; see :func:`random_batch`.
        fullgraph: False where ``torch.compile`` may break the graph (recurrent systems).
        exempt: checks that do not apply, each with the reason.
        seed: of data, parameters and noise.

    Raises:
        AssertionError: with a section for each case that failed.

    Example:
        >>> import torch
        >>> from mmaffect.ops import masked_mean
        >>> class Means(nn.Module):
        ...     def __init__(self, spec):
        ...         super().__init__()
        ...         self.head = nn.Linear(sum(spec.modalities.values()), spec.outputs)
        ...     def represent(self, batch):
        ...         return torch.cat([masked_mean(x, batch.masks[m]) for m, x in batch.inputs.items()], -1)
        ...     def forward(self, batch):
        ...         return self.head(self.represent(batch))
        ...     def loss(self, observed, complete, progress):
        ...         labelled = (observed.targets != -100) & observed.observed(spec.sequence)
        ...         rows = nn.functional.cross_entropy(self(observed), observed.targets, reduction="none")
        ...         return {"task": torch.where(labelled, rows, 0.0).sum() / labelled.sum().clamp(min=1)}
        >>> spec = DataSpec({"text": 4, "audio": 2}, "class", ("sad", "happy"), "single")
        >>> check_system(Means, spec, only=["padding", "batch_mates", "absent_values"])
    """
    check_interface(build, spec, lengths=lengths, seed=seed)
    chosen = None if only is None else list(only)
    failures: dict[str, AssertionError] = {}
    for name, case in system_cases(build, spec, lengths=lengths, fullgraph=fullgraph, exempt=exempt, seed=seed).items():
        try:
            check_all(case, chosen)
        except AssertionError as error:
            failures[name] = error
    if failures:
        sections = [f"{name}: {error}" for name, error in failures.items()]
        raise AssertionError("\n".join(sections)) from next(iter(failures.values()))


def _masks(name: str, batch: MultimodalBatch, spec: DataSpec) -> dict[str, str]:
    masks = {f"{name}.inputs": f"{name}.masks"}
    if batch.steps is not None:
        masks[f"{name}.steps"] = f"{name}.steps"
        if batch.speaker is not None:
            masks[f"{name}.speaker"] = f"{name}.steps"
        if batch.confounder is not None and spec.sequence == "dialogue":
            masks[f"{name}.confounder"] = f"{name}.steps"
    return masks
