"""The log of a run: one row an epoch, as JSON lines and as TensorBoard events."""

import json
import os
from pathlib import Path
from typing import Any

from mmaffect.ops import InputError
from mmaffect.training.checkpoint import settle, temporary
from mmaffect.training.run_directory import LOG, plain

EVENTS = "tensorboard"


class Journal:
    """Writes rows; opened on a run that goes on, it first drops the rows that its checkpoint does not know of.

    Args:
        out: run directory.
        rows: how many rows the checkpoint knows of.

    Raises:
        InputError: if the log holds fewer.
    """

    def __init__(self, out: Path, rows: int) -> None:
        self.path = out / LOG
        self.rows = read_rows(out)[:rows]
        if len(self.rows) < rows:
            raise InputError(f"resume: {self.path} holds {len(self.rows)} rows, the checkpoint knows of {rows}")
        temporary(self.path).write_text("".join(map(_line, self.rows)), encoding="utf-8")
        settle(self.path)
        # Events cannot be taken back one by one, so they are written anew from the rows.
        events = out / EVENTS
        for old in events.glob("events.out.tfevents.*"):
            old.unlink()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(events)
        for row in self.rows:
            self._add_events(row)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it is on the disk when this returns."""
        row = plain(row)
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
        self._add_events(row)

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()

    def _add_events(self, row: dict[str, Any]) -> None:
        for name, value in _scalars({k: v for k, v in row.items() if k not in ("stage", "epoch", "step")}):
            self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The whole rows of a run's log; a row cut short by a killed process ends it."""
    path = out / LOG
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []:
        if not line.endswith("\n"):
            break
        rows.append(json.loads(line))
    return rows


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _scalars(value: Any, path: str = "") -> list[tuple[str, float]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _scalars(v, f"{path}/{k}" if path else str(k))]
    return [(path, float(value))] if isinstance(value, (int, float)) else []
