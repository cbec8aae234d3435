"""Timing that all benchmarks share: candidates in turn, round by round, so that a drift of the machine meets all."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Measurement, Timer


def parser(description: str, *, rounds: int) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2, help="of PyTorch")
    options.add_argument("--rounds", type=int, default=rounds, help="how often each candidate has its turn")
    options.add_argument("--out", type=Path, help="write everything measured to this file, as JSON")
    return options


def keep_memory() -> None:
    """Start this program again with an allocator that keeps what is freed, on Linux.

    By default glibc hands large blocks back and asks for them again at each call. What a fresh page costs is a matter
    of the machine (on a virtual one it can exceed the computation) and the same for every candidate.
    """
    wanted = {
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
        "MALLOC_TOP_PAD_": "67108864",
    }
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def take_turns(
    candidates: Mapping[str, Callable[[], object]], *, rounds: int, threads: int, calls: int = 1
) -> dict[str, Measurement]:
    """Median and spread of each candidate's time a call.

    Args:
        candidates: what is called, by name.
        rounds: turns of each.
        threads: of PyTorch.
        calls: in one turn; many for what takes microseconds. The timer makes two more before each turn, untimed.
    """
    timers = {name: Timer("f()", globals={"f": f}, num_threads=threads) for name, f in candidates.items()}
    for candidate in candidates.values():
        candidate()  # what is compiled or allocated once
    found: dict[str, list[Measurement]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            found[name].append(timer.timeit(calls))
    return {name: Measurement.merge(runs)[0] for name, runs in found.items()}


def report(measured: Mapping[str, Measurement], *, relative_to: str, **labels: Any) -> list[dict[str, Any]]:
    """Print one line a candidate, with its time as a multiple of one of them, and return the rows for the record."""
    base = measured[relative_to].median
    width = max(map(len, measured))
    rows = []
    for name, found in measured.items():
        ratio = found.median / base
        print(
            f"  {name:{width}s}  {1e3 * found.median:9.3f} ms ± {1e3 * found.iqr:7.3f}   {ratio:7.2f} x {relative_to}"
        )
        rows.append(labels | {"candidate": name, "median_s": found.median, "iqr_s": found.iqr, "ratio": ratio})
    return rows


def save(options: argparse.Namespace, *, packages: Iterable[str] = (), **results: Any) -> None:
    """Write results with what they were measured on, if a file was asked for."""
    if options.out is None:
        return
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    record = {
        "versions": versions,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores",
        "options": {name: value for name, value in vars(options).items() if name != "out"},
    }
    options.out.write_text(json.dumps(record | results, indent=2, default=str) + "\n", encoding="utf-8")
