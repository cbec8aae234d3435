"""What a training is told: its stages, its hyper-parameters, and where it stands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mmaffect.ops import InputError, check_choice, check_positive


@dataclass(frozen=True)
class Stage:
    """A part of the training with a schedule of its own: fresh optimiser, fresh warm-up, fresh decay.

    Args:
        name: what the system knows the stage by (``Progress.stage``).
        epochs: passes over the training set.
        missing: whether the training condition is applied; False trains on complete batches. In the truly
            missing regime nothing complete exists and the flag has no effect.

    Raises:
        ValueError: if ``epochs`` is below 1 or the name is empty.
    """

    name: str
    epochs: int
    missing: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: expected a stage's name, got an empty string")
        if self.epochs < 1:
            raise ValueError(f"epochs: expected at least 1 in stage {self.name!r}, got {self.epochs}")


class Progress(NamedTuple):
    """Where the training stands: what a system's loss may depend on besides the batch.

    Args:
        stage: name of the stage.
        epoch: epoch within the stage, from 0.
        epochs: epochs of the stage.
        fraction: part of the stage's steps already done, in ``[0, 1)``.
    """

    stage: str
    epoch: int
    epochs: int
    fraction: float


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of the loop; the architecture's stand in the system's own config.

    Args:
        epochs: total number of epochs, to which the stages are scaled; None keeps what the stages say.
        batch_size: samples of one optimiser step, over all processes and accumulated pieces together: the
            hardware does not change what is computed.
        learning_rate: of every parameter group that names none of its own.
        weight_decay: likewise; L2 in ``adam``, decoupled in ``adamw``.
        optimizer: ``"adam"`` or ``"adamw"``.
        schedule: ``"constant"``, or ``"cosine"`` to zero over each stage.
        warmup: fraction of each stage's steps over which the learning rate rises linearly from zero.
        clip_norm: largest gradient norm of each parameter group; None clips nothing.
        joint_clipping: clip all groups by their common norm. A large gradient in one then shrinks the steps of the
            others, though nothing else may connect them; some papers' loops do that.
        patience: epochs without improvement of ``monitor`` after which the last stage ends; None never stops.
        monitor: validation metric that selects the weights; None takes balanced_accuracy (class), macro_f1
            (multilabel) or mae (score; with several scores their mean).
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"`` (training only; evaluation is in full precision).
        accumulate: pieces into which each process cuts its share of a batch, to save memory.
        regime: ``"simulated"``: the loss gets the observed and the complete batch; ``"truly"``: the pattern is
            drawn once for the whole training and the loss gets the observed batch alone.
        sampling: ``"uniform"``: every sample once an epoch; ``"balanced"`` (targets that are classes): as many draws
            an epoch, with replacement, rare classes more often; see `class_balance`.

    Raises:
        ValueError: naming the field that is out of range.

    Example:
        >>> TrainConfig(learning_rate=3e-4).batch_size
        32
        >>> TrainConfig(warmup=1.5)
        Traceback (most recent call last):
        ...
        ValueError: warmup: expected a fraction in [0, 1), got 1.5
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: Literal["adam", "adamw"] = "adamw"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    clip_norm: float | None = 1.0
    joint_clipping: bool = False
    patience: int | None = None
    monitor: str | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    accumulate: int = 1
    regime: Literal["simulated", "truly"] = "simulated"
    sampling: Literal["uniform", "balanced"] = "uniform"

    def __post_init__(self) -> None:
        check_positive(learning_rate=self.learning_rate)
        if not math.isfinite(self.learning_rate):
            raise ValueError(f"learning_rate: expected a finite value, got {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay: expected a value >= 0, got {self.weight_decay}")
        for name in ("batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected None or at least 1, got {value}")
        if self.clip_norm is not None:
            check_positive(clip_norm=self.clip_norm)
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: expected a fraction in [0, 1), got {self.warmup}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate: expected at most batch_size = {self.batch_size}, got {self.accumulate}")
        check_choice("optimizer", self.optimizer, ("adam", "adamw"))
        check_choice("schedule", self.schedule, ("constant", "cosine"))
        check_choice("mixed_precision", self.mixed_precision, ("no", "bf16", "fp16"))
        check_choice("regime", self.regime, ("simulated", "truly"))
        check_choice("sampling", self.sampling, ("uniform", "balanced"))


def plan(stages: Sequence[Stage], epochs: int | None) -> tuple[Stage, ...]:
    """Scale the stages to a total number of epochs, each keeping at least one.

    Args:
        stages: as the system lists them.
        epochs: the wanted total; None keeps the stages as they are.

    Raises:
        ValueError: if there is no stage or two share a name; (``InputError``) if there are fewer epochs than stages.

    Example:
        >>> [s.epochs for s in plan([Stage("alone", 30), Stage("together", 70)], 5)]
        [2, 3]
    """
    if not stages:
        raise ValueError("stages: expected at least one, got none")
    names = [s.name for s in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"stages: expected different names, got {names}")
    if epochs is None:
        return tuple(stages)
    if epochs < len(stages):
        raise InputError(f"epochs: expected at least one for each of the {len(stages)} stages, got {epochs}")
    total = sum(s.epochs for s in stages)
    # One epoch each; the rest by cumulative rounding, so that the sum is exact.
    rest, done, before, planned = epochs - len(stages), 0, 0, []
    for stage in stages:
        before += stage.epochs
        upto = math.floor(rest * before / total + 0.5)
        planned.append(replace(stage, epochs=1 + upto - done))
        done = upto
    return tuple(planned)


def rate_factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    r"""What the learning rate is multiplied by at a step of a stage.

    .. math:: f(s) = (s + 1) / w \ (s < w), \qquad \tfrac12 (1 + \cos(\pi (s - w) / (S - w))) \ \text{after}

    with ``w`` the number of warm-up steps; ``"constant"`` stays at 1 after them. A function of the step alone, so
    there is no state to save.

    Example:
        >>> [round(rate_factor(s, 4, "cosine", 0.0), 3) for s in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
