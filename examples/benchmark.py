"""Many systems on many datasets under many protocols, and one table over all of them.

    python examples/benchmark.py --systems carn imder,evaluations=10 transformer \
        --recipes examples/recipes/iemocap6.toml examples/recipes/wesad.toml --data IEMOCAP_DIR WESAD_DIR \
        --missing fixed random --seeds 3 --out runs/benchmark

A system is NAME or NAME,FIELD=VALUE, as after ``train.py --beside``; lists may be written with commas too. Each dataset
and protocol is a study as ``train.py`` makes it, in a folder of its own with tables, figures and ``result.json``; OUT
has the table over them. All is read and built before the first training. With --resume a killed run goes on where it
stopped.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, cast, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch
import tyro
from scipy.stats import rankdata

from examples.command import run_command
from examples.report import Study
from examples.study import Arguments, Missing, Prepared, check_empty, prepare, read_candidate, run
from mmaffect.ops import InputError, check_choice
from mmaffect.training import TrainConfig, render, summary
from mmaffect.training.checkpoint import write_json, write_text
from mmaffect.training.run_directory import plain

PROTOCOLS = [missing for missing in get_args(Missing) if missing != "deletion"]  # which needs a modality of one dataset


@dataclass(frozen=True)
class Grid:
    """What the command line of `benchmark.py` says.

    Args:
        systems: NAME or NAME,FIELD=VALUE each; maci=USE puts MACI on one.
        recipes: TOML files that describe the data.
        out: folder for all studies and the table over them.
        data: folder of each recipe's files, in their order, or one for all; synthetic worlds need none.
        missing: protocols of train.py, each with its own default rates or patterns; all but deletion.
        seeds: how many, from 0.
        per_condition: train one model for each condition.
        resume: go on with what is in the output folder.
        threads: CPU threads.
        quiet: show no progress bar; a file or a pipe is never shown one.
    """

    systems: tuple[str, ...]
    recipes: tuple[Path, ...]
    out: Path
    data: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ("none",)
    seeds: int = 3
    per_condition: bool = False
    resume: bool = False
    threads: int = 1
    quiet: bool = False


def parse(arguments: list[str]) -> Grid:
    """The options.

    Raises:
        InputError: on a value out of range.
    """
    grid = tyro.cli(Grid, prog="benchmark.py", description=__doc__, args=arguments)
    grid = replace(
        grid,
        systems=_apart(grid.systems),
        recipes=tuple(map(Path, _apart(map(str, grid.recipes)))),
        data=tuple(map(Path, _apart(map(str, grid.data)))),
        missing=_apart(grid.missing),
    )
    for missing in grid.missing:
        check_choice("--missing", missing, PROTOCOLS)
    if grid.seeds < 1 or grid.threads < 1:
        raise InputError(f"--seeds, --threads: expected at least 1, got {grid.seeds} and {grid.threads}")
    for flag, given in (("--systems", grid.systems), ("--recipes", grid.recipes), ("--missing", grid.missing)):
        if not given or len(set(given)) < len(given):
            raise InputError(f"{flag}: expected at least one, each once, got {' '.join(map(str, given)) or 'none'}")
    stems = [recipe.stem for recipe in grid.recipes]
    if len(set(stems)) < len(stems):
        raise InputError(f"--recipes: expected files of different names, which name the folders, got {' '.join(stems)}")
    if len(grid.data) not in (0, 1, len(grid.recipes)):
        raise InputError(
            f"--data: expected one folder for all recipes or one for each of the {len(grid.recipes)}, "
            f"got {len(grid.data)}"
        )
    return grid


def _apart(words: Iterable[str]) -> tuple[str, ...]:
    """Lists with blanks, with commas or with both; FIELD=VALUE after a comma belongs to what stands before it."""
    found: list[str] = []
    for word in words:
        for number, part in enumerate(word.split(",")):
            if number and "=" in part:
                found[-1] += f",{part}"
            else:
                found.append(part)
    return tuple(found)


def plan(grid: Grid) -> dict[str, tuple[Prepared, Arguments[Any]]]:
    """Every study by its folder's name, read and built, nothing trained.

    Raises:
        InputError: naming what does not fit.
    """
    if not grid.resume:
        check_empty(grid.out)
    given = grid.data or (None,)
    folders = given * len(grid.recipes) if len(given) == 1 else given
    studies = {}
    for recipe, data in zip(grid.recipes, folders, strict=True):
        folds = None  # read once, for all protocols
        for missing in grid.missing:
            name = f"{recipe.stem}/{missing}"
            options: Arguments[Any] = Arguments(
                recipe=recipe,
                out=grid.out / name,
                config=None,
                training=TrainConfig(),
                data=data,
                missing=cast(Missing, missing),
                seeds=grid.seeds,
                per_condition=grid.per_condition,
                resume=grid.resume,
                threads=grid.threads,
                quiet=grid.quiet,
            )
            listed = [read_candidate(entry, options, "--systems") for entry in grid.systems]
            try:
                studies[name] = prepare(listed, options, folds), options
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            folds = studies[name][0].folds
    return studies


def overview(studies: Mapping[str, Study]) -> tuple[str, dict[str, Any]]:
    """The table over all studies, and its numbers: each one's headline metric and the systems' ranks by it.

    A rank is that of the mean over conditions and seeds, 1 the best; equals share theirs, and where the metric is not
    defined a system is behind all others. The last row is the mean.
    """
    means = {name: {label: study.means(label) for label in study.results} for name, study in studies.items()}
    seeds = range(len(next(iter(next(iter(means.values())).values()))))
    titles = {name: f"{name}: {study.headline}" for name, study in studies.items()}
    rows = summary(
        [{titles[n]: {label: m[seed] for label, m in found.items()} for n, found in means.items()} for seed in seeds]
    )
    # Every headline metric is the better the higher.
    losses = [[math.inf if math.isnan(s.mean) else -s.mean for s in row.metrics.values()] for row in rows]
    ranks = [
        dict(zip(row.metrics, rankdata(each).tolist(), strict=True)) for row, each in zip(rows, losses, strict=True)
    ]
    mean_rank = {label: mean(rank[label] for rank in ranks) for label in ranks[0]}
    table = render(rows, style="markdown", digits=max(study.digits for study in studies.values()))
    last = " | ".join(f"{rank:.2f}" for rank in mean_rank.values())
    numbers = {
        name: {"metric": study.headline, "seeds": means[name], "ranks": rank}
        for (name, study), rank in zip(studies.items(), ranks, strict=True)
    }
    return f"{table}\n| mean rank | {last} |", {"studies": numbers, "mean_rank": mean_rank}


def main(arguments: list[str]) -> None:
    """Prepare every study, run them in turn, print the table over them."""
    from accelerate import PartialState

    grid = parse(arguments)
    torch.set_num_threads(grid.threads)
    studies = {name: run(prepared, options) for name, (prepared, options) in plan(grid).items()}
    if not PartialState().is_main_process:
        return
    table, numbers = overview(studies)
    seeds = f"{grid.seeds} seeds" if grid.seeds > 1 else "1 seed"
    text = f"# Over all\n\nTest split, mean over conditions; mean ± sd over {seeds}.\n\n{table}\n"
    print(text)
    write_text(grid.out / "table.md", text)
    write_json(grid.out / "result.json", plain(numbers))


if __name__ == "__main__":
    run_command(main)
