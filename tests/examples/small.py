"""Every system at its smallest, and data with tokens that are small too."""

import torch

from examples.systems import system_module
from mmaffect.data import DataSpec, Vocabulary
from mmaffect.testing import random_dataset

WORDS = Vocabulary(12, 1, 2, (0, 1, 2, 3, 4))
TOKENS = DataSpec(
    {"a": 12, "b": 3}, "class", ("x", "y", "z"), "single", class_shares=(0.4, 0.3, 0.3), tokens={"a": WORDS}
)
DIALOGUE = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", 2, class_shares=(0.5, 0.3, 0.2))
SIZES = {
    "affect_diff": {"hidden": 8, "heads": 2, "layers": 1, "feed_forward": 8, "prior": False, "kernels": (1, 3)},
    "carn": {"hidden": 8, "heads": 2},
    "cider": {"hidden": 8, "heads": 2, "layers": 1, "lengths": (6,)},
    "gru": {"hidden": 6},
    "imder": {
        "hidden": 8,
        "heads": 2,
        "layers": 1,
        "memory_layers": 1,
        "network": "fast",
        "network_width": 8,
        "evaluations": 2,
        "training_evaluations": 2,
        "refinement_width": 16,
        "refinement_blocks": 1,
    },
    "linear": {},
    "transformer": {"hidden": 8, "heads": 2, "layers": 1},
}


def config_of(name):
    return system_module(name).Config(**SIZES[name])


def class_of(name):
    return system_module(name).System


def dataset(spec, samples=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (samples,), generator=generator).tolist()
    return random_dataset(spec, lengths, generator=generator)
