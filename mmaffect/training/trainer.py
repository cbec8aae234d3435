"""The loop: stages, epochs, steps, validation, and the checkpoint after which each of them can be taken up again."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.data import MultimodalBatch, MultimodalDataset
from mmaffect.training.balance import class_balance
from mmaffect.training.checkpoint import load_weights
from mmaffect.training.conditions import Change, Complete
from mmaffect.training.config import Progress, Stage, TrainConfig, rate_factor
from mmaffect.training.evaluate import evaluate_all, evaluating
from mmaffect.training.journal import Journal
from mmaffect.training.measure import is_better, labelled, mean_over_conditions
from mmaffect.training.observed import observed_dataset
from mmaffect.training.order import derive, epoch_batches, pieces
from mmaffect.training.protocol import Protocol
from mmaffect.training.run_directory import BEST, plain
from mmaffect.training.step import LossModule, check_finite, clip_gradients, hide_labels, make_optimizer
from mmaffect.training.store import Position, Store, load_optimizer

_SETTLED = "settled"


class Trainer:
    """Walks a system through its stages; see `fit`, which checks what it is given here.

    Args:
        system: on its device.
        train: samples to learn from.
        valid: samples to select by.
        stages: with the numbers of epochs that are wanted.
        config: hyper-parameters.
        protocol: conditions.
        monitor: metric that selects.
        out: run directory, which exists.
        seed: of everything drawn.
        accelerator: accelerate's.
        checkpoint_steps: steps between checkpoints within an epoch; None for none.
        progress_bar: whether to show one.
    """

    def __init__(
        self,
        system: nn.Module,
        train: MultimodalDataset,
        valid: MultimodalDataset,
        *,
        stages: tuple[Stage, ...],
        config: TrainConfig,
        protocol: Protocol,
        monitor: str,
        out: Path,
        seed: int,
        accelerator: Any,
        checkpoint_steps: int | None,
        progress_bar: bool,
    ) -> None:
        self.system, self.train, self.valid = system, train, valid
        self.stages, self.config, self.protocol, self.monitor = stages, config, protocol, monitor
        self.out, self.seed, self.accelerator, self.checkpoint_steps = out, seed, accelerator, checkpoint_steps
        self.progress_bar = progress_bar and accelerator.is_main_process
        self.device: torch.device = accelerator.device
        self.steps_per_epoch = -(-len(train) // config.batch_size)
        self.weights = class_balance(train) if config.sampling == "balanced" else None
        self.prior = protocol.prior(train)
        self.store = Store(out)
        self.names: dict[Tensor, str] = {p: name for name, p in system.named_parameters()}
        self.position = Position()
        self.loaded: dict[str, Tensor] = {}
        self.journal: Journal | None = None

    def resume(self) -> bool:
        """Take up the last whole checkpoint, and say whether there is one; nothing is written."""
        taken = self.store.load(self.system)
        if taken is None:
            return False
        self.position, self.loaded = taken
        if not self.accelerator.is_main_process:
            self.position.sums = {}  # the sums over all processes go on in the first
        return True

    def prepare(self) -> None:
        """Show the system the training split as its loss sees it, once, before the first step; nothing is written."""
        if callable(getattr(self.system, "prepare", None)):
            truly = self.config.regime == "truly"
            self._tell_once("prepare", observed_dataset(self.train, self._for_good()) if truly else self.train)

    def run(self) -> dict[str, Any] | None:
        """Train to the end, from wherever the position is; returns what `settle` found, None without such a hook."""
        if self.accelerator.is_main_process:
            self.store.settle_best(self.position)
            self.journal = Journal(self.out, self.position.rows)
        try:
            while self.position.stage < len(self.stages):
                self._run_stage(self.stages[self.position.stage])
        finally:
            if self.journal is not None:
                self.journal.close()
        self.accelerator.wait_for_everyone()
        return self._settle(load_weights(self.system, self.out / BEST))

    def _settle(self, held: dict[str, Any]) -> dict[str, Any] | None:
        """Let the system settle on the validation split what training does not; once, also of a run taken up again.

        What it moves becomes part of the best weights, in one step: killed before, the run settles when it is resumed.
        """
        if not callable(getattr(self.system, "settle", None)):
            return None
        if _SETTLED not in held:
            found = plain(self._tell_once("settle", self.valid, self.protocol) or {})
            self.accelerator.wait_for_everyone()  # all have read the weights before they are written anew
            if self.accelerator.is_main_process:
                self.store.save_best(self.system, {**held, _SETTLED: found})
            self.accelerator.wait_for_everyone()
            held = load_weights(self.system, self.out / BEST)  # the same in every process, whatever it settled itself
        settled: dict[str, Any] = held[_SETTLED]
        return settled

    def _tell_once(self, hook: str, *given: Any) -> Any:
        """Call a hook that runs once: in evaluation mode, without gradient, with draws that move no others."""
        with evaluating(self.system, self.device), torch.no_grad():
            torch.manual_seed(derive(self.seed, hook))
            return self._tell(hook, *given)

    def _run_stage(self, stage: Stage) -> None:
        position, number = self.position, self.position.stage
        optimizer = make_optimizer(self.system, self.config)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.mixed_precision == "fp16")
        if position.epoch or position.step:
            load_optimizer(optimizer, self.loaded, self.names)
            scaler.load_state_dict(position.scaler)
        rates = [group["lr"] for group in make_optimizer(self.system, self.config).param_groups]
        # Wrapped anew in each stage: which parameters are trained may differ.
        model = self.accelerator.prepare_model(LossModule(self.system, self.config.mixed_precision))
        while position.stage == number:
            started = time.perf_counter()
            change = self._training_change(stage)
            self.system.train()
            order = derive(self.seed, "order", number, position.epoch)
            batches = epoch_batches(len(self.train), self.config.batch_size, order, self.weights)
            for rows in self._shown(batches[position.step :], stage):
                at = position.epoch * self.steps_per_epoch + position.step
                total = stage.epochs * self.steps_per_epoch
                factor = rate_factor(at, total, self.config.schedule, self.config.warmup)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                progress = Progress(stage.name, position.epoch, stage.epochs, at / total)
                self._step(model, optimizer, scaler, rows, change, progress)
                position.step += 1
                position.steps += 1
                often = self.checkpoint_steps and position.steps % self.checkpoint_steps == 0
                if often and position.step < self.steps_per_epoch:
                    started = self._spend(started)
                    self._save(optimizer, scaler, improved=False)
            self._spend(started)
            self._end_epoch(stage, optimizer, scaler)

    def _step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        rows: Tensor,
        change: Change,
        progress: Progress,
    ) -> None:
        """One step of the optimiser.

        A system's loss is a mean over the labels of the piece it is given, so pieces are weighted by their labels: the
        sum is the mean over the labels of the whole batch, however it was cut over processes and accumulation.
        """
        accelerator, position, spec = self.accelerator, self.position, self.train.spec
        where = f"stage {progress.stage!r}, epoch {progress.epoch}, step {position.step}"
        cut = pieces(rows, accelerator.process_index, accelerator.num_processes, self.config.accumulate)
        # Every process must take part in the synchronisation: an empty piece is a sample of weight zero.
        pairs = [self._prepare(piece if len(piece) else rows[:1], change) for piece in cut]
        labels = [int(labelled(spec, o.targets).sum()) if len(p) else 0 for p, (o, _) in zip(cut, pairs, strict=True)]
        counts = torch.tensor([labels, [len(p) for p in cut]], dtype=torch.float32)
        totals = accelerator.reduce(counts.sum(1).to(self.device), "sum").cpu()
        # Without any label (unsupervised terms) samples take the place of labels.
        weights = (counts / totals[:, None].clamp(min=1))[0 if totals[0] > 0 else 1].tolist()
        place = (position.stage, position.epoch, position.step, accelerator.process_index)
        torch.manual_seed(derive(self.seed, "step", *place))
        optimizer.zero_grad(set_to_none=True)
        for number, ((observed, complete), weight) in enumerate(zip(pairs, weights, strict=True)):
            last = number == len(pairs) - 1
            with nullcontext() if last else accelerator.no_sync(model):
                terms: dict[str, Tensor] = model(observed, complete, progress)
                check_finite(terms, where, observed.id)
                # The wrapper averages over the processes; the weights already sum to one over them.
                loss = torch.stack(list(terms.values())).sum() * weight * accelerator.num_processes
                scaler.scale(loss).backward()
            for name, term in terms.items():
                position.sums[name] = position.sums.get(name, 0.0) + weight * term.item()
        scaler.unscale_(optimizer)
        clip_gradients(
            optimizer,
            self.config.clip_norm,
            None if scaler.is_enabled() else where,
            joint=self.config.joint_clipping,
        )
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= scale:  # it falls where a gradient overflowed, and no step was taken
            self._tell("after_step")

    def _tell(self, hook: str, *given: Any) -> Any:
        """Call a hook of the system, if it has it; on every process, with the same arguments."""
        method = getattr(self.system, hook, None)
        return method(*given) if callable(method) else None

    def _prepare(self, rows: Tensor, change: Change) -> tuple[MultimodalBatch, MultimodalBatch | None]:
        batch = self.train.collate([self.train[i] for i in rows.tolist()])
        observed = hide_labels(self.train.spec, change(batch)).to(self.device)
        return observed, None if self.config.regime == "truly" else batch.to(self.device)

    def _training_change(self, stage: Stage) -> Change:
        if self.config.regime == "truly":
            return self._for_good()
        if not stage.missing:
            return Complete().bind(self.train, 0)
        place = (self.position.stage, self.position.epoch)
        return self.protocol.train.bind(self.train, derive(self.seed, "condition", *place))

    def _for_good(self) -> Change:
        """What is absent in the truly missing regime."""
        return self.protocol.train.bind(self.train, derive(self.seed, "condition"))

    def _end_epoch(self, stage: Stage, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        position = self.position
        hidden = stage.missing or self.config.regime == "truly"
        conditions = self.protocol.evaluation if hidden else (Complete(),)
        found = evaluate_all(self.system, self.valid, conditions, prior=self.prior)
        metrics = {name: evaluation.metrics for name, evaluation in found.items()}
        excluded = {name: evaluation.excluded for name, evaluation in found.items()}
        value = sum(m[self.monitor] for m in metrics.values()) / len(metrics)
        self._tell("after_validation", mean_over_conditions(metrics))
        self._gather_sums()
        row = {
            "stage": stage.name,
            "epoch": position.epoch,
            "step": position.steps,
            "learning_rate": {g["name"]: g["lr"] for g in optimizer.param_groups},
            "loss": {name: total / self.steps_per_epoch for name, total in position.sums.items()},
            "monitor": value,
            "valid": metrics,
            "excluded": excluded,
            "seconds": position.seconds,
        }
        report = self._tell("report")
        if report:
            row["system"] = report
        last_stage = position.stage == len(self.stages) - 1
        improved = last_stage and is_better(self.monitor, value, position.best["value"] if position.best else None)
        if improved:
            position.best = {"stage": stage.name, "epoch": position.epoch, "value": value, "row": position.rows}
        position.stale = 0 if improved or not last_stage else position.stale + 1
        if self.journal is not None:
            self.journal.write(row)
        position.rows += 1
        position.epoch, position.step, position.sums, position.seconds = position.epoch + 1, 0, {}, 0.0
        tired = self.config.patience is not None and position.stale >= self.config.patience
        if tired or position.epoch == stage.epochs:
            position.stage, position.epoch = position.stage + 1, 0
        self._save(optimizer, scaler, improved=improved)

    def _save(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, *, improved: bool) -> None:
        self._gather_sums()
        self.position.scaler = scaler.state_dict()
        if self.accelerator.is_main_process:
            self.store.save(self.position, self.system, optimizer, self.names, improved=improved)

    def _gather_sums(self) -> None:
        """Put the sums over all processes into the first; the others start from zero."""
        if self.accelerator.num_processes == 1:
            return
        from accelerate.utils import gather_object

        total: dict[str, float] = {}
        for sums in gather_object([self.position.sums]):
            for name, value in sums.items():
                total[name] = total.get(name, 0.0) + value
        self.position.sums = total if self.accelerator.is_main_process else {}

    def _spend(self, started: float) -> float:
        now = time.perf_counter()
        self.position.seconds += now - started
        return now

    def _shown(self, batches: list[Tensor], stage: Stage) -> Iterator[Tensor]:
        if not self.progress_bar:
            return iter(batches)
        from tqdm import tqdm

        label = f"{stage.name} {self.position.epoch + 1}/{stage.epochs}"
        return iter(tqdm(batches, desc=label, initial=self.position.step, total=self.steps_per_epoch, leave=False))
