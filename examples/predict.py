"""Apply a trained run to new, unlabelled data.

    python examples/predict.py runs/carn/carn/seed0 --data NEW.npz --out predictions.csv

RUN is the directory of one run: a folder that holds config.json and best.safetensors. The new file has the arrays
that the run's recipe names, but for labels and splits; a modality whose array it lacks is missing everywhere.
"""

import argparse
import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch

from examples.cell import NORMALISER, RECIPE, TOKENIZERS, assemble
from examples.command import run_command
from examples.maci import MACIConfig
from examples.systems import restore_config
from examples.text import TextConfig
from mmaffect.data import DataSpec, Normaliser, load_recipe, restore_tokenizer
from mmaffect.data.unlabelled import Unlabelled, read_unlabelled
from mmaffect.ops import InputError
from mmaffect.training import load_weights, predict
from mmaffect.training.checkpoint import write_text
from mmaffect.training.run_directory import BEST, CONFIG


def load_json(path: Path) -> Any:
    """A JSON file of the run.

    Raises:
        InputError: if it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"RUN: {path} cannot be read ({error}); expected the directory of a finished run") from error


def restore(run: Path) -> tuple[torch.nn.Module, DataSpec, dict[str, Any]]:
    """The trained system of a run, the data it knows, and how it was run."""
    config = load_json(run / CONFIG)
    try:
        name, spec, description = config["description"]["system"], dict(config["spec"]), config["description"]
        spec["classes"] = tuple(spec["classes"])
        maci: dict[str, Any] = description.get("maci", {})
        maci = {key: tuple(value) if isinstance(value, list) else value for key, value in maci.items()}
        system: Any = assemble(
            name,
            restore_config(name, config["system"]["config"]),
            DataSpec(**spec),
            TextConfig(**description.get("text", {})),
            MACIConfig(**maci),
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"RUN: {run / CONFIG} is not the config of a run of train.py: {error!r}") from error
    load_weights(system, run / BEST)
    return system.eval(), system.spec, config["description"]


def load_new(run: Path, data: Path, spec: DataSpec, description: dict[str, Any]) -> Unlabelled:
    """New data, normalised as the run's were, with the ids that the run's words had."""
    if not (run / NORMALISER).exists():
        raise InputError(f"RUN: {run} has no {NORMALISER}: it is not finished, or was trained on a synthetic world")
    state = {
        k: torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v
        for k, v in load_json(run / NORMALISER).items()
    }
    states = load_json(run / TOKENIZERS) if spec.tokens else {}
    return read_unlabelled(
        load_recipe(run / RECIPE),
        data,
        Normaliser.from_state_dict(state),
        description.get("sequence"),
        description.get("context"),
        spec,
        {name: restore_tokenizer(found) for name, found in states.items()},
    )


def main(arguments: list[str]) -> None:
    """Predict and write one row a turn or sample: its name, what was there, and the probabilities or scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="an .npz file, or a folder of arrays")
    parser.add_argument("--out", type=Path, required=True, help="the .csv file to write")
    options = parser.parse_args(arguments)
    if not options.out.resolve().parent.is_dir():
        raise InputError(f"--out: the folder of {options.out} does not exist")
    system, spec, description = restore(options.run)
    new = load_new(options.run, options.data, spec, description)
    prediction = predict(system, new.dataset)
    unit = "score" if spec.target == "score" else "probability"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["id", *(f"has_{n}" for n in spec.names), *(f"{unit}_{c}" for c in prediction.classes), "prediction"]
    )
    predicted = zip(prediction.ids, prediction.present.int().tolist(), prediction.values.tolist(), strict=True)
    for row, used in zip(new.ids, new.used, strict=True):
        if used:
            name, present, values = next(predicted)
        else:
            name, present, values = row, [0] * len(spec.names), [math.nan] * len(prediction.classes)
        writer.writerow([name, *present, *(f"{v:.6g}" for v in values), decide(spec, values)])
    try:
        write_text(options.out, table.getvalue())
    except OSError as error:
        raise InputError(f"--out: {options.out} cannot be written ({error.strerror})") from error
    nothing = int((~prediction.present.any(1)).sum()) + new.used.count(False)
    print(f"{len(new.ids)} rows written to {options.out}; {nothing} had nothing to read")


def decide(spec: DataSpec, values: list[float]) -> str:
    """The class, the labels above one half or the scores; empty where nothing is observed."""
    if any(v != v for v in values):
        return ""
    if spec.target == "class":
        return spec.classes[values.index(max(values))]
    if spec.target == "multilabel":
        return "+".join(c for c, v in zip(spec.classes, values, strict=True) if v >= 0.5)
    return " ".join(f"{v:.6g}" for v in values)


if __name__ == "__main__":
    run_command(main)
