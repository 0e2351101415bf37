"""LightGCN trained on sampled neighbourhoods by one or more processes: for graphs whose every full propagation is too dear.

    torchrun --nproc-per-node 2 -m xrec_training.sampled_encoder DATA --out GRAPH

Every rank holds the tables and the graph, and takes a part of each batch; the gradients of the rows that were read are summed
over ranks. All random numbers come from one seed that the ranks share, so two ranks train what one would. Rank 0 measures
after each epoch, and in the end propagates once over the whole graph and writes what `xrec encode` writes, without a curve.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tqdm import tqdm

from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.lightgcn import LightGCN, unit_rows
from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import SPLITS, atomic_folder

from .encode import graph_metrics
from .encode_options import EncodeOptions
from .graph_folder import METRICS_FILE, write_graph
from .objectives import softmax_weights
from .ranking import ranking_metrics
from .sampled_propagation import distinct, propagate_sampled
from .starts import start_from_spectrum
from .tables import Catalogue, read_edges

EXPONENTS = ("popularity_exponent", "length_exponent")


@dataclass(frozen=True)
class SampledOptions:
    """How LightGCN is trained on sampled neighbourhoods, by the full encoder's softmax over sampled items.

    The layers' weights are those of `xrec encode`.

    Args:
        neighbours: most neighbours of a node that are drawn for one layer of one step.
        dim: width of an embedding.
        layers: propagation steps L.
        epochs: most passes over the training edges.
        patience: epochs without a better validation ndcg@20 after which training stops.
        batch_size: edges a step, of all ranks together; a last batch with fewer edges than ranks is left out.
        negatives: items sampled for the softmax, shared by the batch; all items where there are no more.
        learning_rate: of Adam, which moves only the rows that a step read.
        temperature: as in `EncodeOptions`.
        popularity_exponent: as in `EncodeOptions`, from -1 to 1.
        length_exponent: as in `EncodeOptions`, from 0 to 1.
        seed: of tables, batches, negatives and neighbours.
    """

    neighbours: int = 10
    dim: int = 64
    layers: int = 2
    epochs: int = 15
    patience: int = 3
    batch_size: int = 4096
    negatives: int = 1024
    learning_rate: float = 0.01
    temperature: float = 0.17
    popularity_exponent: float = 0.0
    length_exponent: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot be used."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("seed", *EXPONENTS) and not value > 0:
                raise DataError(f"expected --{field.name.replace('_', '-')} above 0, found {value}; choose another")
        EncodeOptions(**{name: getattr(self, name) for name in ("temperature", *EXPONENTS)})


def encode_sampled(data: Path, out: Path, options: SampledOptions | None = None, progress: bool = True) -> dict:
    """Trains on a dataset's training interactions; rank 0 writes the tables, the catalogue and `metrics.json`.

    Args:
        data: dataset folder, readable by every rank.
        out: folder to make.
        options: see `SampledOptions`.
        progress: show rank 0's progress bar.

    Returns:
        On rank 0 `metrics.json` as a dictionary; elsewhere an empty one.

    Raises:
        DataError: the dataset cannot be read or has no training edge, the loss is not finite, or the ranks' tables differ.
    """
    options, first = options or SampledOptions(), _rank() == 0
    with atomic_folder(out) if first else nullcontext(out) as folder:
        catalogue = Catalogue.read(data)
        edges = {split: read_edges(data, split, catalogue) for split in SPLITS}
        if edges["train"].shape[1] == 0:
            raise DataError(f"{data}: expected training interactions, found none; build with other splits or filters")
        sizes = catalogue.users.height, catalogue.items.height
        model, history = fit_sampled(edges["train"], edges["validation"], *sizes, options, progress)
        if not first:
            return {}
        model.settle(edges["train"])
        model.to_unit_rows(options.length_exponent)
        metrics: dict = {"epochs": len(history), "validation_curve": history, "options": asdict(options), "ranks": _ranks()}
        metrics |= graph_metrics(model, edges)
        write_graph(model, folder, catalogue)
        (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def fit_sampled(
    train: torch.Tensor,
    validation: torch.Tensor,
    num_users: int,
    num_items: int,
    options: SampledOptions,
    progress: bool = True,
) -> tuple[LightGCN, list[float]]:
    """Trains tables on edges `(2, train)`, the same on every rank.

    Returns:
        The model, not settled: on rank 0 E^(0) of the best epoch, elsewhere of the last; and validation ndcg@20 by epoch (the
        epoch's number where there is no validation edge, so that the last is the best).
    """
    torch.manual_seed(options.seed)
    layer_weights = EncodeOptions(layers=options.layers).layer_weights()
    model = LightGCN(num_users, num_items, options.dim, options.layers, layer_weights).requires_grad_(False)
    weights = softmax_weights(train[1], num_items, options.popularity_exponent)
    adjacency = normalized_adjacency(train, num_users, num_items)
    if _rank() == 0:
        start_from_spectrum(model, adjacency)
    table = torch.cat([model.user_embeddings, model.item_embeddings])
    if _ranks() > 1:
        _together(dist.broadcast, table, 0)
    table.requires_grad_()
    optimizer = torch.optim.SparseAdam([table], lr=options.learning_rate)
    generator = torch.Generator().manual_seed(options.seed)
    history: list[float] = []
    bar = tqdm(range(options.epochs), desc="encode", unit="epoch", disable=not progress or _rank() > 0)
    for epoch in bar:
        for batch in torch.randperm(train.shape[1], generator=generator).split(options.batch_size):
            if len(batch) >= _ranks():
                _step(table, adjacency, train[:, batch], model, options, optimizer, generator, weights)
        score = float(epoch)
        if _rank() == 0 and validation.shape[1]:
            score = _validation_score(model, table, adjacency, train, validation, options.length_exponent)
        history.append(_agree(score, table))
        bar.set_postfix(score=f"{history[-1]:.4f}")
        if history[-1] == max(history):
            best = table.detach().clone()
        elif len(history) - 1 - history.index(max(history)) >= options.patience:
            break
    bar.close()
    _fill(model, best)
    return model, history


def _step(
    table: torch.Tensor,
    adjacency: torch.Tensor,
    edges: torch.Tensor,
    model: LightGCN,
    options: SampledOptions,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    weights: torch.Tensor,
) -> None:
    """One optimiser step on a batch of edges `(2, batch)`, of which this rank takes every `ranks`-th."""
    sampled = torch.randperm(model.num_items, generator=generator)[: options.negatives]
    shifts = torch.rand(options.layers, len(table), generator=generator, dtype=torch.float64)
    users, items = edges[:, _rank() :: _ranks()]
    targets, places = distinct(torch.cat([users, items + model.num_users, sampled + model.num_users]), len(table))
    rows = propagate_sampled(table, adjacency, targets, model.layer_weights, options.neighbours, shifts)
    ours, theirs, others = (F.embedding(place, rows) for place in places.split([len(users), len(items), len(sampled)]))
    same = items.unsqueeze(1) == sampled
    loss = sampled_softmax_loss(
        ours, theirs, others, same, options.temperature, weights[items], weights[sampled], model.num_items,
        options.length_exponent,
    )  # fmt: skip
    if not loss.isfinite():
        raise DataError(f"the encoder's loss is {loss.item()}; lower --learning-rate")
    optimizer.zero_grad()
    (loss * len(users) / edges.shape[1]).backward()
    if _ranks() > 1 and table.grad is not None:
        table.grad = table.grad.coalesce()
        _together(dist.all_reduce, table.grad)
    optimizer.step()


def sampled_softmax_loss(
    users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, same: torch.Tensor, temperature: float,
    own_weights: torch.Tensor, weights: torch.Tensor, num_items: int, length_exponent: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Cross-entropy of the touched item against all items, of which some are drawn at random to stand for the others.

    What `softmax_loss` of the full encoder is, an interaction at a time; equal to it where all items are drawn. With s its
    score over T, n_u the drawn items other than the touched i, and w the items' weights:

        mean over (u, i) of log (w_i exp s(u, i) + (|I| - 1) / n_u * sum over drawn j of w_j exp s(u, j)) - s(u, i)

    Args:
        users: propagated embeddings `(batch, d)`.
        positives: of the item each user touched, `(batch, d)`.
        negatives: of drawn items shared by the batch, `(drawn, d)`.
        same: where a drawn item is the touched one itself, `(batch, drawn)`; left out of the sum.
        temperature: T, divisor of the score, > 0.
        own_weights: w of the touched items, `(batch,)`.
        weights: w of the drawn items, `(drawn,)`.
        num_items: all items |I|.
        length_exponent: gamma of the score; the drawn items' mean length stands for that of all.

    Returns:
        Mean over the batch, a scalar.
    """
    mean = negatives.detach().norm(dim=1).mean()
    users, items = unit_rows(users, torch.cat([positives, negatives]), length_exponent, mean)
    positives, negatives = items.split([len(positives), len(negatives)])
    own = (users * positives).sum(dim=1, keepdim=True) / temperature
    stand_for = (num_items - 1) / (len(negatives) - same.sum(dim=1, keepdim=True)).clamp(min=1)
    others = (users @ negatives.T / temperature + weights.log() + stand_for.log()).masked_fill(same, float("-inf"))
    total = torch.cat([own + own_weights.log().unsqueeze(1), others], dim=1).logsumexp(dim=1)
    return (total - own.squeeze(1)).mean()


def _validation_score(
    model: LightGCN, table: torch.Tensor, adjacency: torch.Tensor, train: torch.Tensor, validation: torch.Tensor,
    length_exponent: float,
) -> float:  # fmt: skip
    """Validation ndcg@20 of the whole graph's propagation."""
    _fill(model, table)
    rows = unit_rows(*model.propagate(adjacency=adjacency), length_exponent)
    return ranking_metrics(*rows, train, validation)["ndcg@20"]


def _agree(score: float, table: torch.Tensor) -> float:
    """Rank 0's score, on every rank, after a check that all hold the same table (as they do not if their data differ)."""
    if _ranks() == 1:
        return score
    mine = torch.tensor([score, table.detach().double().sum()], dtype=torch.float64)
    first = mine.clone()
    _together(dist.broadcast, first, 0)
    same = torch.tensor(int(mine[1] == first[1]))
    _together(dist.all_reduce, same, dist.ReduceOp.MIN)
    if not same:
        raise DataError("the ranks' tables differ; do all read the same DATA, with the same options and versions of torch?")
    return first[0].item()


@torch.no_grad()
def _fill(model: LightGCN, table: torch.Tensor) -> None:
    model.user_embeddings.copy_(table[: model.num_users])
    model.item_embeddings.copy_(table[model.num_users :])


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _together(operation: Callable, *args: Any, **kwargs: Any) -> None:
    """What needs every rank: an operation of torch.distributed, whose failure is one clear line."""
    try:
        operation(*args, **kwargs)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"rank {os.environ['RANK']}: expected every rank to go on, found one that stopped or did not answer ({reason}); "
            "see the other ranks' messages, then start all again"
        ) from error


@contextmanager
def process_group(timeout: float) -> Iterator[None]:
    """Joins the ranks that `torchrun` started, by gloo; without `torchrun`, one process is all there is.

    Args:
        timeout: seconds that a rank waits for the others before it gives up.

    Raises:
        DataError: another rank stopped, or did not answer in time.
    """
    if "RANK" not in os.environ:
        yield
        return
    _together(dist.init_process_group, "gloo", timeout=timedelta(seconds=timeout))
    try:
        yield
    finally:
        dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        Exit code: 0, or 1 with a one-line error.
    """
    try:
        parser = Parser("sampled_encoder", description="Train LightGCN on sampled neighbourhoods, under torchrun or alone.")
        parser.add_argument("data", type=Path, metavar="DATA", help="a folder made by `xrec build`")
        parser.add_argument("--out", type=Path, required=True, metavar="GRAPH", help="the folder to make")
        parser.add_argument("--timeout", type=float, default=1800, help="seconds to wait for other ranks (default: 1800)")
        for field in fields(SampledOptions):
            default = field.default
            flag = f"--{field.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(default), default=default, help=f"default: {default}")
        given = vars(parser.parse_args(argv))
        data, out, timeout = given.pop("data"), given.pop("out"), given.pop("timeout")
        options = SampledOptions(**given)
        with process_group(timeout):
            metrics = encode_sampled(data, out, options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sampled_encoder: {' '.join(str(error).split())}\n")
        return 1
    for split in ("validation", "test"):
        if f"{split}_recall@20" in metrics:
            recall, ndcg = metrics[f"{split}_recall@20"], metrics[f"{split}_ndcg@20"]
            sys.stdout.write(f"{split:<10} recall@20 {recall:.4f}  ndcg@20 {ndcg:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
