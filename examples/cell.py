"""One cell of a study: one system with one config, trained with one seed, measured under every condition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples.maci import MACI, MACIConfig
from examples.sources import Source
from examples.systems import system_module
from examples.text import ReadsText, TextConfig
from mmaffect.data import DataSpec
from mmaffect.ops import InputError
from mmaffect.training import Evaluation, Protocol, TrainConfig, evaluate_all, fit
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.run_directory import plain

RECIPE, NORMALISER, TOKENIZERS, TEST = "recipe.toml", "normaliser.json", "tokenizers.json", "test.json"


@dataclass(frozen=True)
class Candidate:
    """A system as it enters a comparison.

    Args:
        system: its name.
        label: what tables call it.
        config: of the architecture.
        training: hyper-parameters of the loop.
        text: how token ids are read, where the data have some.
        maci: which halves of MACI are put on it.
    """

    system: str
    label: str
    config: Any
    training: TrainConfig
    text: TextConfig = field(default_factory=TextConfig)
    maci: MACIConfig = field(default_factory=MACIConfig)

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return "".join(c if c.isalnum() else "_" for c in self.label).strip("_").replace("__", "_")


def assemble(name: str, config: Any, spec: DataSpec, text: TextConfig, maci: MACIConfig) -> nn.Module:
    """A system, within what reads the tokens of its data, within MACI: whatever of these is needed.

    Raises:
        ValueError: if config, data and wrappers do not fit together.
    """
    system_class = system_module(name).System
    system: nn.Module = ReadsText(system_class, config, spec, text) if spec.tokens else system_class(config, spec)
    return system if maci.use == "none" else MACI(system, maci)


def describe(candidate: Candidate, spec: DataSpec) -> dict[str, Any]:
    """What a run directory records of a candidate, for `assemble` to build it again."""
    text = {"text": plain(candidate.text)} if spec.tokens else {}
    maci = {} if candidate.maci.use == "none" else {"maci": plain(candidate.maci)}
    return {"system": candidate.system, **text, **maci}


def build(candidate: Candidate, source: Source, seed: int) -> nn.Module:
    """The system with its initial weights, which the seed decides.

    Raises:
        InputError: if its config does not fit itself or the data.
    """
    torch.manual_seed(seed)
    try:
        return assemble(candidate.system, candidate.config, source.train.spec, candidate.text, candidate.maci)
    except ValueError as error:
        raise InputError(f"config of {candidate.label}: {error}") from error


def run_cell(
    candidate: Candidate,
    source: Source,
    protocol: Protocol,
    *,
    seed: int,
    out: Path,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
    progress_bar: bool = False,
) -> dict[str, Evaluation]:
    """Train (or finish training) a candidate and measure it on the test split under every condition of the protocol.

    The run directory holds what ``fit`` writes, the test metrics, and what applies the system to new data: the
    recipe, the normalisation and the tokenizers.

    Args:
        candidate: the system.
        source: the data.
        protocol: conditions of training and of measuring.
        seed: of weights, order, patterns and dropout.
        out: run directory.
        resume: go on with the run in ``out`` if there is one.
        options: what else identifies the run: the sequence kind, the fold.
        progress_bar: show one.

    Raises:
        InputError: before anything is written, if the directory holds something else.
    """
    from accelerate import PartialState

    system = build(candidate, source, seed)
    description = {**describe(candidate, source.train.spec), "recipe": source.text, **(options or {})}
    fit(
        system,
        source.train,
        source.valid,
        candidate.training,
        protocol=protocol,
        out=out,
        seed=seed,
        resume=resume,
        description=description,
        progress_bar=progress_bar,
    )
    evaluations = evaluate_all(system, source.test, protocol.evaluation, prior=protocol.prior(source.train))
    if PartialState().is_main_process:
        write_text(out / RECIPE, source.text)
        if source.normaliser is not None:
            state = source.normaliser.state_dict()
            write_json(out / NORMALISER, {k: v.tolist() if torch.is_tensor(v) else v for k, v in state.items()})
        if source.tokenizers:
            write_json(out / TOKENIZERS, {name: found.state_dict() for name, found in source.tokenizers.items()})
        write_json(out / TEST, {name: record(evaluation) for name, evaluation in evaluations.items()})
    return evaluations


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Metrics and counts as JSON holds them; a metric that is not defined or not finite is null."""
    return {
        "metrics": plain(evaluation.metrics),
        "counted": int(evaluation.counted.sum()),
        "excluded": evaluation.excluded,
        "filled": int((evaluation.filled & evaluation.counted).sum()),
    }
