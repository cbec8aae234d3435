import textwrap
from pathlib import Path

import numpy as np
import pytest

from mmaffect.data import Recipe, load_recipe

TOML = """
name = "toy"
file = "toy.npz"
id = "name"
sequence = "dialogue"
context = 3

[modalities.text]
array = "words"
available = "has_text"
normalise = "train"

[modalities.audio]
array = "sound"
normalise = "group"
normalise_by = "person"

[target]
kind = "class"
array = "label"
classes = ["sad", "happy", "calm"]
unlabelled = [-1]

[groups]
sequence = "talk"
speaker = "person"
fold = ["part"]

[split]
array = "split"
"""


class Toy:
    """Six talks of two people each, four parts; a recipe and its file, either of which a test may spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toml = TOML
        rng = np.random.default_rng(0)
        lengths = [5, 3, 7, 4, 6, 5]
        talk = np.repeat(np.arange(6), lengths)
        rows = len(talk)
        split = np.array(["train", "train", "train", "train", "valid", "test"])
        self.arrays: dict[str, np.ndarray] = {
            "name": np.array([f"u{i}" for i in range(rows)]),
            "talk": np.array([f"talk{t}" for t in talk]),
            "person": np.array([f"p{t}{who}" for t, who in zip(talk, rng.integers(0, 2, rows), strict=True)]),
            "part": np.array([1, 1, 2, 2, 3, 4])[talk],
            "words": rng.normal(3, 2, (rows, 4)).astype(np.float32),
            "has_text": rng.random(rows) < 0.7,
            "sound": rng.normal(-1, 5, (rows, 2)),
            "label": rng.integers(-1, 3, rows),
            "split": split[talk],
        }

    @property
    def rows(self) -> int:
        return len(self.arrays["split"])

    def change(self, *pairs: tuple[str, str]) -> "Toy":
        for old, new in pairs:
            assert old in self.toml, old
            self.toml = self.toml.replace(old, new)
        return self

    def recipe(self) -> Recipe:
        path = self.folder / "toy.toml"
        path.write_text(textwrap.dedent(self.toml), encoding="utf-8")
        return load_recipe(path)

    def save(self) -> Path:
        np.savez(self.folder / "toy.npz", **self.arrays)
        return self.folder


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)
