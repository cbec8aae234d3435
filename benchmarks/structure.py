"""Who recovers a graph from linear data, and how fast? Ours against the packages dagma and gCastle.

    python benchmarks/structure.py [--seeds 10] [--out benchmarks/results/structure.json]
    python benchmarks/structure.py --standardised [--out benchmarks/results/structure-standardised.json]

Random acyclic graphs (Erdős-Rényi, scale-free) with two edges a node and weights of size 0.5 to 2, 1000 samples, noises
of variance 1 (normal, exponential). Every learner has lambda 0.02 and threshold 0.3; gCastle's NOTEARS also runs at
its own lambda 0.1, and both on the smallest graphs and, by default, first seeds alone, as it is slow. Packages that are
not installed are skipped with a line. With --standardised the columns are scaled to variance 1 first, which takes
away what these learners read.

The structural Hamming distance is ours: an edge turned around counts once. BLAS is held to one thread on purpose: on
matrices this small two are slower, and far slower where the machine is shared. Learners take turns on each data set,
and only ratios of one run mean anything. With --out a run that was stopped goes on where it was.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mmaffect.causal import learn_dag
from mmaffect.metrics import structural_hamming_distance

LAMBDA, THRESHOLD, SAMPLES, EDGES = 0.02, 0.3, 1000, 2
Learner = Callable[[np.ndarray], np.ndarray]


def hold_to_one_thread() -> None:
    """Start this program again with one thread for BLAS, which reads the number when it is loaded."""
    wanted = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def erdos_renyi(d: int, rng: np.random.Generator) -> np.ndarray:
    """Exactly two edges a node, each pair as likely."""
    rows, columns = np.tril_indices(d, -1)
    chosen = rng.choice(len(rows), EDGES * d, replace=False)
    graph = np.zeros((d, d), dtype=bool)
    graph[rows[chosen], columns[chosen]] = True
    return graph


def scale_free(d: int, rng: np.random.Generator) -> np.ndarray:
    """Barabási and Albert's: each new node points at two old ones, the likelier the more point at them already."""
    graph = np.zeros((d, d), dtype=bool)
    for node in range(1, d):
        pull = 1.0 + graph[:, :node].sum(0)
        graph[node, rng.choice(node, min(EDGES, node), replace=False, p=pull / pull.sum())] = True
    return graph


GRAPHS = {"erdos-renyi": erdos_renyi, "scale-free": scale_free}
NOISES = {"normal": np.random.Generator.standard_normal, "exponential": np.random.Generator.standard_exponential}


def simulate(graph: str, d: int, noise: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True weights, and data; one seed has one graph under both noises."""
    rng = np.random.default_rng([seed, d, list(GRAPHS).index(graph)])
    order = rng.permutation(d)
    adjacency = GRAPHS[graph](d, rng)[np.ix_(order, order)]
    weights = adjacency * rng.uniform(0.5, 2, (d, d)) * rng.choice([-1, 1], (d, d))
    drawn = NOISES[noise](rng, size=(SAMPLES, d))
    return weights, drawn @ np.linalg.inv(np.eye(d) - weights)


def dagma_learner() -> Learner:
    """The package, without its progress bar."""
    linear = importlib.import_module("dagma.linear")
    linear.tqdm = lambda **_: contextlib.nullcontext(argparse.Namespace(update=lambda _: None))

    def learn(x: np.ndarray) -> np.ndarray:
        return linear.DagmaLinear(loss_type="l2").fit(x.copy(), lambda1=LAMBDA, w_threshold=THRESHOLD)

    return learn


def castle_learner(lambda1: float) -> Learner:
    """NOTEARS of gCastle, silent."""
    logging.disable(logging.INFO)
    algorithms = importlib.import_module("castle.algorithms")

    def learn(x: np.ndarray) -> np.ndarray:
        model = algorithms.Notears(lambda1=lambda1, w_threshold=THRESHOLD)
        model.learn(x.copy())
        return np.asarray(model.causal_matrix)

    return learn


def learners() -> dict[str, Learner]:
    """Ours, and the packages that can be imported."""
    chosen: dict[str, Learner] = {
        f"mmaffect {m}": lambda x, m=m: learn_dag(x, m, lambda1=LAMBDA, threshold=THRESHOLD)
        for m in ("dagma", "notears")
    }
    for name, make in {
        "dagma": dagma_learner,
        "gcastle notears": lambda: castle_learner(LAMBDA),
        "gcastle notears, lambda 0.1": lambda: castle_learner(0.1),
    }.items():
        try:
            chosen[name] = make()
        except ImportError as error:
            print(f"{name} is skipped: {error}")
    return chosen


def measure(learn: Learner, truth: np.ndarray, data: np.ndarray) -> dict[str, float]:
    started = time.perf_counter()
    found = learn(data)
    seconds = time.perf_counter() - started
    return {"shd": structural_hamming_distance(found, truth), "seconds": seconds}


def load(path: Path | None, settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What an earlier run with the same settings has measured."""
    if path is None or not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["settings"] != settings:
        raise SystemExit(f"{path} holds results of other settings or versions: {record['settings']}")
    return record["runs"]


def summarise(runs: dict[str, dict[str, float]], case: tuple[str, ...], names: list[str], seeds: int) -> None:
    """Print a line a learner: distance and time, and the ratio of times to the package dagma on the same seeds."""
    print(f"\n{', '.join(case)}: SHD mean ± sd; median seconds")

    def rows(name: str) -> dict[int, dict[str, float]]:
        keys = {seed: "/".join((*case, name, str(seed))) for seed in range(seeds)}
        return {seed: runs[key] for seed, key in keys.items() if key in runs}

    base = rows("dagma")
    for name in names:
        found = rows(name)
        if not found:
            continue
        shd = np.array([row["shd"] for row in found.values()])
        seconds = np.array([row["seconds"] for row in found.values()])
        shared = [found[s]["seconds"] / base[s]["seconds"] for s in found if s in base]
        ratio = f"{np.median(shared):6.2f} x dagma's time" if shared else ""
        spread = shd.std(ddof=1) if len(shd) > 1 else float("nan")
        print(
            f"  {name:28s} {shd.mean():6.1f} ± {spread:4.1f}   {np.median(seconds):8.3f} s   {ratio}   "
            f"{len(found)} seeds",
            flush=True,
        )


def main() -> None:
    """Run every learner on every graph, one seed after the other, and print a table for each case."""
    hold_to_one_thread()
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--slow-seeds", type=int, default=2, help="of gCastle, on the smallest size only")
    options.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40])
    options.add_argument("--standardised", action="store_true", help="columns of variance 1 instead of as they are")
    options.add_argument("--out", type=Path, help="write everything measured to this file, as JSON; resumes from it")
    given = options.parse_args()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("scipy", "dagma", "gcastle"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    settings = {"lambda1": LAMBDA, "threshold": THRESHOLD, "samples": SAMPLES, "edges": EDGES}
    settings |= {"standardised": given.standardised, "versions": versions, "machine": platform.machine()}
    runs = load(given.out, settings)
    chosen = learners()
    for size in given.sizes:
        for graph in GRAPHS:
            for noise in NOISES:
                case = (graph, str(size), noise)
                for seed in range(given.seeds):
                    truth, data = simulate(graph, size, noise, seed)
                    if given.standardised:
                        data = data / data.std(0)
                    for name, learn in chosen.items():
                        key = "/".join((*case, name, str(seed)))
                        skipped = name.startswith("gcastle") and (seed >= given.slow_seeds or size > min(given.sizes))
                        if key not in runs and not skipped:
                            runs[key] = measure(learn, truth, data)
                    if given.out:
                        record = {"settings": settings, "runs": runs}
                        given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                summarise(runs, case, list(chosen), given.seeds)


if __name__ == "__main__":
    main()
