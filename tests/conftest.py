"""Fixtures for all rooms."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Where real data lie: ``real_data("wesad")`` is the folder of ``wesad.npz``; the test is skipped without it.

    Looked for in the folder that ``MMAFFECT_DATA`` names, else in ``shared/data`` beside the checkout.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("MMAFFECT_DATA", beside))

    def find(name: str) -> Path:
        for folder in (root / name, root):
            if (folder / f"{name}.npz").is_file():
                return folder
        pytest.skip(f"no {name}.npz in {root}")

    return find
