"""A study: systems with several seeds on one recipe's data under one protocol, and its report."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast

import tyro

from examples.cell import Candidate, build, run_cell
from examples.maci import USES, MACIConfig
from examples.report import Study, write_report
from examples.sources import Source, load_folds, load_pair, load_source, read_mapping
from examples.systems import system_module
from examples.text import TextConfig
from mmaffect.ops import InputError, check_choice
from mmaffect.training import Evaluation, Protocol, TrainConfig, pool, protocol

C = TypeVar("C")
FLOORS = ("linear", "gru", "gru,bidirectional=True")
Missing = Literal["none", "fixed", "random", "deletion", "feature", "rmfm_same", "rmm", "tmfm", "stmfm", "corruption"]


@dataclass(frozen=True)
class Arguments(Generic[C]):
    """What the command line of `train.py` says.

    Args:
        recipe: TOML file that describes the data.
        out: folder for runs, tables and figures.
        data: folder that holds the recipe's files; a synthetic world needs none.
        test_recipe: test on the test split of another dataset, which has the same modalities; see load_transfer.
        test_data: folder of its files; that of --data by default.
        map: common classes of both, such as happy=positive,sad=negative; a class named like a common one stands for it,
            others are left out and counted. Needed unless the classes are the same.
        missing: protocol: which modalities or steps are hidden.
        rates: missing rates, for random (by default 0, 0.1 ... up to (M - 1)/M of M modalities, at most 0.7), deletion
            (0.1 0.3 0.5), feature, rmm, tmfm and stmfm (0, 0.1 ... 1). In random and deletion training draws from them
            too; in the others it draws in [0, 1].
        patterns: available modalities, for fixed, such as audio+text; all by default; training draws from them too.
            For rmfm_same with rates, such as text=0.5+audio; training draws in [0, 1].
        modality: which one is deleted, for deletion.
        training_rates: in feature, whether a rate is drawn for each sample (the default) or for each position (as
            CIDer's code does: a fair coin a position).
        keep_one: in rmm, never hide all modalities.
        per_condition: train one model for each condition, under it (the papers' way: one model for each rate or
            pattern), not one model for all.
        seeds: how many, from 0.
        beside: systems printed beside this one, with a config of their own: NAME or NAME,FIELD=VALUE; or none. MACI
            is put on one by NAME,maci=both, otherwise as --maci says.
        ablations: train every ablation of the system's paper too.
        folds: leave out one group of this column at a time (session, speaker, subject); predictions are pooled.
        sequence: kind of sequence; the recipe's by default.
        context: steps of a window; the recipe's by default.
        tokenizer: of the recipe's sentences: words, or a folder that holds that of a pretrained model; the recipe's by
            default.
        resume: go on with what is in the output folder.
        threads: CPU threads of each process; these systems are small, and more cost more than they bring.
        quiet: show no progress bar; a file or a pipe is never shown one.
        config: of SYSTEM.
        training: of SYSTEM and its ablations; those beside it keep their own.
        text: how token ids are read, by all systems, where the recipe has some.
        maci: which halves of MACI are put on SYSTEM and its ablations, and how; see examples/maci.py.
    """

    recipe: Path
    out: Path
    config: Annotated[C, tyro.conf.FlagConversionOff]
    training: Annotated[TrainConfig, tyro.conf.FlagConversionOff]
    text: Annotated[TextConfig, tyro.conf.FlagConversionOff] = field(default_factory=TextConfig)
    maci: Annotated[MACIConfig, tyro.conf.FlagConversionOff] = field(default_factory=MACIConfig)
    data: Path | None = None
    test_recipe: Path | None = None
    test_data: Path | None = None
    map: str | None = None
    missing: Missing = "none"
    rates: tuple[float, ...] = ()
    patterns: tuple[str, ...] = ()
    modality: str | None = None
    training_rates: Literal["sample", "position"] | None = None
    keep_one: bool = False
    per_condition: bool = False
    seeds: int = 3
    beside: tuple[str, ...] = FLOORS
    ablations: bool = False
    folds: str | None = None
    sequence: Literal["dialogue", "window", "single"] | None = None
    context: int | None = None
    tokenizer: str | None = None
    resume: bool = False
    threads: int = 1
    quiet: bool = False


def read_candidate(entry: str, options: Arguments[Any], flag: str) -> Candidate:
    """A system as it is written in one word: NAME or NAME,FIELD=VALUE, of the config; or maci=USE.

    Args:
        entry: the word.
        options: for how text is read and MACI trained.
        flag: what the word was given to.

    Raises:
        InputError: if the name, a field or a value is unknown.
    """
    name, *settings = entry.split(",")
    module = system_module(name)
    if any("=" not in setting for setting in settings):
        raise InputError(f"{flag}: expected NAME or NAME,FIELD=VALUE, got {entry!r}")
    uses = [setting.partition("=")[2] for setting in settings if setting.startswith("maci=")]
    for given in uses:
        check_choice(f"{flag} {entry}: maci", given, USES)
    fields = [setting for setting in settings if not setting.startswith("maci=")]
    flags = [part for s in fields for part in (f"--{s.partition('=')[0]}", s.partition("=")[2])]
    kind = cast(Any, tyro.conf.FlagConversionOff)[module.Config]
    try:
        config = tyro.cli(kind, prog=f"{flag} {entry}", args=flags)
    except ValueError as error:
        raise InputError(f"{flag}: {entry!r}: {error}") from error
    label = f"{name} ({', '.join(settings)})" if settings else name
    return Candidate(
        name, label, config, module.TRAINING, options.text, replace(options.maci, use=cast(Any, [*uses, "none"][0]))
    )


class Fold(NamedTuple):
    """Data to train and test on, and the folder and options that tell it from other folds."""

    source: Source
    folder: str
    options: dict[str, Any]


def sources(options: Arguments[Any]) -> list[Fold]:
    """The data: once, or once for every group left out."""
    sequence, context, tokenizer = options.sequence, options.context, options.tokenizer
    recorded = {k: v for k, v in (("sequence", sequence), ("context", context)) if v is not None}
    if options.test_recipe is not None:
        mapping = None if options.map is None else read_mapping(options.map)
        paths = (options.recipe, options.data, options.test_recipe, options.test_data)
        source = load_pair(*paths, mapping, sequence=sequence, context=context, tokenizer=tokenizer)
        return [Fold(source, "", {**recorded, "tested_on": options.test_recipe.stem, "map": mapping})]
    if options.folds is None:
        source = load_source(options.recipe, options.data, sequence=sequence, context=context, tokenizer=tokenizer)
        return [Fold(source, "", recorded)]
    folds = load_folds(
        options.recipe, options.data, options.folds, sequence=sequence, context=context, tokenizer=tokenizer
    )
    return [
        Fold(source, f"{options.folds}_{group}", {**recorded, "fold": {options.folds: group}})
        for group, source in folds.items()
    ]


def run_seed(
    candidate: Candidate, folds: list[Fold], conditions: Protocol, seed: int, options: Arguments[Any]
) -> dict[str, Evaluation]:
    """Train and measure with one seed; over folds the predictions are pooled.

    One model a fold, or one a fold and condition.
    """
    found = []
    for fold in folds:
        measured: dict[str, Evaluation] = {}
        for part in conditions.apart() if options.per_condition else (conditions,):
            folder = f"under_{part.train.name}" if options.per_condition else ""
            measured |= run_cell(
                candidate,
                fold.source,
                part,
                seed=seed,
                out=options.out / candidate.folder / f"seed{seed}" / fold.folder / folder,
                resume=options.resume,
                options=fold.options,
                progress_bar=not options.quiet and sys.stderr.isatty(),
            )
        found.append(measured)
    if len(found) == 1:
        return found[0]
    return {name: pool(folds[0].source.train.spec, [each[name] for each in found]) for name in found[0]}


class Prepared(NamedTuple):
    """What is found to fit together before anything is written."""

    listed: list[Candidate]
    folds: list[Fold]
    conditions: Protocol


def check_empty(out: Path) -> None:
    """Raise where something is that a new study would write over.

    Raises:
        InputError: naming the folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out: {out} is not empty; give --resume to go on with it, or name another folder")


def prepare(listed: list[Candidate], options: Arguments[Any], folds: list[Fold] | None = None) -> Prepared:
    """Load the data, and build every candidate for them once.

    Args:
        listed: what is compared.
        options: what the command line says.
        folds: the data, if they are loaded already.

    Raises:
        InputError: naming what cannot be read or does not fit.
    """
    folders = [candidate.folder for candidate in listed]
    if len(set(folders)) < len(folders):
        raise InputError(
            f"systems: expected labels that differ in letters or digits, which name the folders, got "
            f"{'; '.join(candidate.label for candidate in listed)}"
        )
    report = folds is None  # what is loaded is described once
    folds = sources(options) if folds is None else folds
    try:
        conditions = protocol(
            options.missing,
            folds[0].source.train.spec.names,
            rates=options.rates or None,
            patterns=options.patterns or None,
            modality=options.modality,
            training_rates=options.training_rates,
            keep_one=options.keep_one,
        )
    except ValueError as error:
        raise InputError(f"--missing {options.missing}: {error}") from error
    if not options.resume:
        check_empty(options.out)
    if report and folds[0].source.report:
        print(folds[0].source.report)
    for candidate in listed:
        build(candidate, folds[0].source, 0)
    return Prepared(listed, folds, conditions)


def run(prepared: Prepared, options: Arguments[Any]) -> Study:
    """Train every candidate with every seed, measure it, and report."""
    listed, folds, conditions = prepared
    tested_on = "" if options.test_recipe is None else f", tested on {options.test_recipe.stem}"
    spec = folds[0].source.train.spec
    study = Study(options.recipe.stem + tested_on, spec, conditions, {}, per_condition=options.per_condition)
    for candidate in listed:
        study.results[candidate.label] = [
            run_seed(candidate, folds, conditions, seed, options) for seed in range(options.seeds)
        ]
    write_report(study, listed, folds[0].source, options.out)
    return study
