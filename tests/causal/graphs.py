"""Random graphs and linear data with a known graph, as the papers on structure learning simulate them."""

import numpy as np


def random_graph(d, edges, rng):
    """An acyclic graph with so many edges, its nodes shuffled: weights of size 0.5 to 2 and either sign."""
    rows, columns = np.tril_indices(d, -1)
    chosen = rng.choice(len(rows), edges, replace=False)
    weights = np.zeros((d, d))
    weights[rows[chosen], columns[chosen]] = rng.uniform(0.5, 2, edges) * rng.choice([-1, 1], edges)
    order = rng.permutation(d)
    return weights[np.ix_(order, order)]


def linear_data(weights, n, rng, noise="normal"):
    """Rows of x = Wᵀx + ε, the noises independent and of variance 1."""
    drawn = rng.normal(size=(n, len(weights))) if noise == "normal" else rng.exponential(size=(n, len(weights)))
    return drawn @ np.linalg.inv(np.eye(len(weights)) - weights)


def has_no_cycle(adjacency):
    """Kahn's algorithm: take away nodes that nothing left points at, until none goes."""
    edges = adjacency != 0
    left = np.ones(len(edges), dtype=bool)
    for _ in edges:
        left &= (edges & left[:, None]).any(0)
    return not left.any()
