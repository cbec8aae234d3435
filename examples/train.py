"""Train a system on a recipe's data and measure it under missing modalities, beside its floors.

    python examples/train.py carn --recipe examples/recipes/iemocap6.toml --data DIR --missing fixed \
        --seeds 3 --out runs/carn

Every field of the system's config is a flag (--config.hidden 128), and so is every field of the training's
(--training.learning-rate 3e-4). With --resume a killed run goes on where it stopped. Under ``accelerate launch``
or ``torchrun`` the same command trains on many processes.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch
import tyro

from examples.cell import Candidate
from examples.command import run_command
from examples.study import FLOORS, Arguments, prepare, read_candidate, run
from examples.systems import system_module, system_names
from mmaffect.ops import InputError


def parse(arguments: list[str]) -> tuple[str, Arguments[Any]]:
    """The system's name and the options.

    Raises:
        InputError: on an unknown system or a value out of range.
    """
    if not arguments or arguments[0].startswith("-"):
        known = ", ".join(system_names())
        if arguments[:1] in (["-h"], ["--help"]):
            print(f"{__doc__}\nSystems: {known}. The options of one: python examples/train.py SYSTEM --help")
            sys.exit(0)
        raise InputError(f"SYSTEM: expected the name of a system first, one of: {known}")
    name, *rest = arguments
    module = system_module(name)
    default = Arguments(
        recipe=tyro.MISSING, out=tyro.MISSING, config=module.Config(), training=module.TRAINING, beside=FLOORS
    )
    try:
        options = tyro.cli(
            cast(Any, Arguments)[module.Config],
            prog=f"train.py {name}",
            description=module.__doc__,
            args=rest,
            default=default,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    if options.seeds < 1:
        raise InputError(f"--seeds: expected at least 1, got {options.seeds}")
    if options.test_recipe is None and (options.test_data, options.map) != (None, None):
        raise InputError("--test-data, --map: expected only beside --test-recipe")
    if options.test_recipe is not None and options.folds is not None:
        raise InputError("--folds: expected none beside --test-recipe, whose test split is tested")
    if options.threads < 1:
        raise InputError(f"--threads: expected at least 1, got {options.threads}")
    return name, options


def candidates(name: str, options: Arguments[Any]) -> Iterator[Candidate]:
    """The system, its ablations if asked for, and the floors beside it.

    Raises:
        InputError: if a name, field or value given to ``--beside`` is unknown.
    """
    use = options.maci.use
    wrapped = name if use == "none" else f"{name} (maci={use})"
    own = Candidate(name, wrapped, options.config, options.training, options.text, options.maci)
    yield own
    if options.ablations:
        ablations = getattr(system_module(name), "ABLATIONS", {})
        if not ablations:
            raise InputError(f"--ablations: {name} has none")
        for label, change in ablations.items():
            yield replace(own, label=f"{wrapped} {label}", config=replace(options.config, **change))
    for entry in options.beside:
        if entry == "none":
            continue
        candidate = read_candidate(entry, options, "--beside")
        if (candidate.system, candidate.config, candidate.maci.use) != (name, options.config, options.maci.use):
            yield candidate


def main(arguments: list[str]) -> None:
    """Train, measure, report."""
    name, options = parse(arguments)
    torch.set_num_threads(options.threads)
    run(prepare(list(candidates(name, options)), options), options)


if __name__ == "__main__":
    run_command(main)
