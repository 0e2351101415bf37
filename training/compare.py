"""Other recommenders on the same splits, for `xrec encode --compare`: what the graph's embeddings must beat."""

import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from modeling_xrec.bipartite_graph import GroupedEntries, normalized_adjacency
from xrec_dataset_builder.errors import DataError

from .ranking import best_items, list_metrics
from .starts import spectrum

Score = Callable[[torch.Tensor], torch.Tensor]
"""Scores `(part, items)` of user indices `(part,)`, newly made, so that they may be overwritten."""

HELD_OUT, LIST_LENGTH = ("validation", "test"), 20
NEIGHBOURS = 100
ALS = {"iterations": 10, "regularization": 0.01, "alpha": 10.0}
ALS_ITEM_EXPONENT = 0.25
BPR = {
    "iterations": 100,
    "learning_rate": 0.1,
    "regularization": 0.003,
}  # of five tried on Yelp's validation, within .0014 of the best recall


def require_implicit() -> None:
    """Checks for the package that most of the methods come from.

    Raises:
        DataError: it is not installed.
    """
    if importlib.util.find_spec("implicit") is None:
        raise DataError("--compare needs the package 'implicit', found none; install `xrec[compare]` or leave --compare out")


def held_out_metrics(score: Score, edges: Mapping[str, torch.Tensor], shape: tuple[int, int]) -> dict[str, float]:
    """Figures of a way to score on validation and test, training items masked, as `test_recall@20` and so on.

    Args:
        score: see `Score`.
        edges: `(2, edges)` by split; a split without edges is left out.
        shape: number of users and of items.
    """
    train = edges["train"]
    known, popularity = GroupedEntries.of_edges(train[0], train[1], shape[0]), torch.bincount(train[1], minlength=shape[1])
    users = torch.cat([edges[split][0] for split in HELD_OUT]).unique()
    figures: dict[str, float] = {}
    if not len(users):
        return figures
    lists = best_items(score, users, known, shape[1], LIST_LENGTH)
    for split in HELD_OUT:
        if edges[split].shape[1]:
            own = torch.isin(users, edges[split][0])
            found = list_metrics(lists[own], users[own], edges[split], popularity, shape[0])
            figures |= {f"{split}_{name}": value for name, value in found.items()}
    return figures


def popularity_metrics(edges: Mapping[str, torch.Tensor], shape: tuple[int, int]) -> dict[str, float]:
    """Figures of recommending to everybody what most training users have, the least that any method must beat."""
    counts = torch.bincount(edges["train"][1], minlength=shape[1]).float()
    return held_out_metrics(lambda users: counts.repeat(len(users), 1), edges, shape)


def compare_methods(
    edges: Mapping[str, torch.Tensor], shape: tuple[int, int], dim: int, seed: int, progress: bool = True
) -> dict[str, dict[str, float]]:
    """Trains and measures item-kNN, truncated SVD, ALS and BPR, the last three at the graph's width.

    ALS weighs an interaction by its item's popularity to the power of -0.25.

    Args:
        edges: `(2, edges)` by split.
        shape: number of users and of items.
        dim: numbers a user or item has.
        seed: of all methods that draw numbers. BPR with several threads differs a little from run to run all the same.
        progress: show a progress bar.

    Returns:
        For each method its figures, as `held_out_metrics`, with `cpu_seconds` and `wall_seconds` of its training.

    Raises:
        DataError: the package `implicit` is not installed.
    """
    require_implicit()
    table = {}
    for name, method in tqdm(METHODS.items(), desc="compare", unit="method", disable=not progress):
        cpu, wall = time.process_time(), time.perf_counter()
        score = method(edges["train"], shape, dim, seed)
        seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
        table[name] = held_out_metrics(score, edges, shape) | seconds
    return table


def _spectral(train: torch.Tensor, shape: tuple[int, int], dim: int, seed: int) -> Score:
    """The normalised adjacency's leading singular vectors, items times the root of their popularity, as in a graph filter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, right = spectrum(normalized_adjacency(train, *shape), *shape, dim)
    popularity = torch.bincount(train[1], minlength=shape[1]).float().unsqueeze(1)
    return _inner_products(left * values**0.5, right * popularity.sqrt())


def _neighbours(train: torch.Tensor, shape: tuple[int, int], dim: int, seed: int) -> Score:
    from implicit.nearest_neighbours import CosineRecommender

    matrix = _matrix(train, shape)
    model = CosineRecommender(K=NEIGHBOURS, num_threads=torch.get_num_threads())
    with warnings.catch_warnings():  # implicit warns of a conversion between its own matrices
        warnings.filterwarnings("ignore", message="Method expects CSR input")
        model.fit(matrix, show_progress=False)
    similarity = model.similarity.tocsr()
    return lambda users: torch.from_numpy((matrix[users.numpy()] @ similarity).toarray().astype(np.float32))


def _als(train: torch.Tensor, shape: tuple[int, int], dim: int, seed: int) -> Score:
    from implicit.cpu.als import AlternatingLeastSquares

    matrix = _matrix(train, shape)
    popularity = np.maximum(np.bincount(matrix.indices, minlength=shape[1]), 1)
    matrix.data *= (popularity / popularity.mean())[matrix.indices].astype(np.float32) ** -ALS_ITEM_EXPONENT
    return _factors(lambda: AlternatingLeastSquares(factors=dim, **_common(seed), **ALS), matrix)


def _bpr(train: torch.Tensor, shape: tuple[int, int], dim: int, seed: int) -> Score:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    factors = max(1, dim - 1)  # it adds an item bias as one column more
    return _factors(lambda: BayesianPersonalizedRanking(factors=factors, **_common(seed), **BPR), _matrix(train, shape))


def _common(seed: int) -> dict[str, Any]:
    return {"random_state": seed, "num_threads": torch.get_num_threads()}


def _factors(make: Callable[[], Any], matrix: Any) -> Score:
    """Makes and trains a factor model of `implicit`, whose own threads leave none to the linear algebra library."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = make()
        model.fit(matrix, show_progress=False)
    return _inner_products(torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors))


def _inner_products(users: torch.Tensor, items: torch.Tensor) -> Score:
    columns = items.T.contiguous()
    return lambda part: users[part] @ columns


def _matrix(train: torch.Tensor, shape: tuple[int, int]) -> Any:
    """Interactions as a sparse matrix of ones `(users, items)`; repeats count once."""
    from scipy.sparse import csr_matrix

    pairs = torch.unique(train[0] * shape[1] + train[1]).numpy()
    return csr_matrix((np.ones(len(pairs), np.float32), (pairs // shape[1], pairs % shape[1])), shape=shape)


METHODS = {"item-kNN": _neighbours, "SVD": _spectral, "ALS": _als, "BPR": _bpr}
