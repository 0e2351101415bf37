"""What a step of the encoder costs beside torch_geometric's, and how soon it has the reference's quality; prints JSON.

Both LightGCNs start from the same table and take the same batch of user, touched item and drawn item; before anything is timed
their losses must agree. Propagation and loss are timed forward and backward, and again with Adam's step, in turns, so that a
slow moment of the machine falls on all alike. torch_geometric gets the graph as `edge_index`, as its LightGCN documents it,
and as a sparse matrix normalised beforehand, which is the fastest way it has.

The reference's loop is not run from here. What it took is given: `--reference-seconds 700 --reference-recall 0.08`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from interactions import read_interactions
from measuring import Call, interleave, machine, quartiles, report

from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.lightgcn import LightGCN
from xrec_training.encode import EncodeOptions, fit
from xrec_training.objectives import bpr_loss
from xrec_training.ranking import ranking_metrics
from xrec_training.tables import Catalogue

REQUIRED = {"torch_geometric": 3.0, "reference": 30.0}
LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Options:
    """What is measured, on what.

    Args:
        interactions: Parquet file with user_id, item_id and split (train, validation).
        dim: width of an embedding.
        layers: propagation steps of the timed step.
        batch: interactions a step.
        repetitions: readings of the clock for each.
        threads: of torch.
        epochs: most epochs until the reference's recall must be there.
        reference_seconds: that the reference's loop took, CPU seconds or wall; 0 when it was not run.
        reference_recall: validation recall@20, training items masked, that its embeddings had then.
        seed: of tables and batches.
    """

    interactions: str = ""
    dim: int = 64
    layers: int = 3
    batch: int = 4096
    repetitions: int = 10
    threads: int = 2
    epochs: int = 8
    reference_seconds: float = 0.0
    reference_recall: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Graph:
    """Interactions as edges `(2, edges)` between users and items that are numbered from 0."""

    train: torch.Tensor
    validation: torch.Tensor
    num_users: int
    num_items: int

    catalogue: Catalogue

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Reads a Parquet file with user_id, item_id and split."""
        edges, catalogue = read_interactions(path)
        return cls(edges["train"], edges["validation"], catalogue.users.height, catalogue.items.height, catalogue)


def steps(graph: Graph, options: Options) -> dict[str, tuple[torch.nn.Module, Call]]:
    """By name a model and a call that makes its loss of one batch, all from the same table and batch."""
    from torch_geometric.nn import LightGCN as GeometricLightGCN

    torch.manual_seed(options.seed)
    adjacency = normalized_adjacency(graph.train, graph.num_users, graph.num_items)
    ours = LightGCN(graph.num_users, graph.num_items, options.dim, options.layers)
    users, items = graph.train[:, torch.randperm(graph.train.shape[1])[: options.batch]]
    drawn = torch.randint(graph.num_items, users.shape)

    def our_loss() -> torch.Tensor:
        final_users, final_items = ours.propagate(adjacency=adjacency)
        rows = F.embedding(users, final_users), F.embedding(items, final_items), F.embedding(drawn, final_items)
        return bpr_loss(*rows)

    found: dict[str, tuple[torch.nn.Module, Call]] = {"ours": (ours, our_loss)}
    indices = adjacency.to_sparse_coo().indices()
    pairs = torch.stack([users.repeat(2), torch.cat([items, drawn]) + graph.num_users])
    for name, given, normalize in (("edge_index", indices, True), ("sparse_matrix", adjacency, False)):
        theirs = GeometricLightGCN(len(adjacency), options.dim, options.layers, normalize=normalize)
        with torch.no_grad():
            theirs.embedding.weight.copy_(torch.cat([ours.user_embeddings, ours.item_embeddings]))
        found[name] = (theirs, _their_loss(theirs, given, pairs))
    return found


def _their_loss(model: Any, graph: torch.Tensor, pairs: torch.Tensor) -> Call:
    def loss() -> torch.Tensor:
        positive, negative = model(graph, pairs).chunk(2)
        return model.recommendation_loss(positive, negative, lambda_reg=0.0)

    return loss


def differences(models: dict[str, tuple[torch.nn.Module, Call]]) -> dict[str, float]:
    """Largest difference of torch_geometric's gradient from ours, relative to the largest entry, and of the loss.

    Raises:
        RuntimeError: it exceeds `LARGEST_DIFFERENCE`, so that different things would be timed.
    """
    losses, gradients = {}, {}
    for name, (model, loss_of) in models.items():
        loss = loss_of()
        loss.backward()
        losses[name] = loss.item()
        gradients[name] = torch.cat([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
        model.zero_grad()
    found = {}
    for name in models.keys() - {"ours"}:
        gradient = ((gradients[name] - gradients["ours"]).abs().max() / gradients["ours"].abs().max()).item()
        found[name] = max(gradient, abs(losses[name] - losses["ours"]))
        if not found[name] < LARGEST_DIFFERENCE:
            raise RuntimeError(f"expected {name} to differ by less than {LARGEST_DIFFERENCE}, found {found[name]}")
    return found


def against_torch_geometric(graph: Graph, options: Options) -> dict[str, Any]:
    """Milliseconds of propagation and loss, and of a whole optimiser step, with the ratios of medians."""
    models = steps(graph, options)
    found: dict[str, Any] = {"largest_difference": differences(models)}

    def propagation(model: torch.nn.Module, loss_of: Call) -> Call:
        def call() -> None:
            model.zero_grad()
            loss_of().backward()

        return call

    def whole_step(model: torch.nn.Module, loss_of: Call) -> Call:
        optimizer, backward = torch.optim.Adam(model.parameters(), lr=1e-3), propagation(model, loss_of)

        def call() -> None:
            backward()
            optimizer.step()

        return call

    for what, make in (("propagation_and_loss", propagation), ("whole_step", whole_step)):
        calls = {name: make(*pair) for name, pair in models.items()}
        seconds = interleave(calls, options.repetitions, lambda: None)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        found[what] = {"median_ms": {name: 1000 * median for name, median in medians.items()}}
        for name in models.keys() - {"ours"}:
            ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)]
            times_faster = medians[name] / medians["ours"]
            found[what][name] = {"times_faster": times_faster, "times_faster_quartiles": quartiles(ratios)}
    judged = found["propagation_and_loss"]["edge_index"]
    judged |= {"required": REQUIRED["torch_geometric"], "met": judged["times_faster"] >= REQUIRED["torch_geometric"]}
    return found


def against_reference(graph: Graph, options: Options) -> dict[str, Any]:
    """CPU and wall seconds of `fit`, by default options, until its embeddings have the reference's masked recall@20.

    `fit` is called anew with one epoch more until they have it, and the seconds are those of the last call: graph, start, all
    its epochs and their validation.
    """
    found: dict[str, Any] = {"runs": []}
    for epochs in range(1, options.epochs + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        settings = EncodeOptions(dim=options.dim, epochs=epochs, seed=options.seed)
        model, _ = fit(graph.train, graph.validation, graph.catalogue, settings, progress=False)
        run: dict[str, float] = {"epochs": epochs, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        metrics = ranking_metrics(model.user_embeddings, model.item_embeddings, graph.train, graph.validation)
        found["runs"].append(run | {"recall@20": metrics["recall@20"]})
        if metrics["recall@20"] >= options.reference_recall:
            break
    last = found["runs"][-1]
    found["reached"] = last["recall@20"] >= options.reference_recall
    if options.reference_seconds:
        times_less = options.reference_seconds / last["cpu_s"]
        met = found["reached"] and times_less >= REQUIRED["reference"]
        found |= {"times_less": times_less, "required": REQUIRED["reference"], "met": met}
    return found


def parse(argv: Sequence[str] | None) -> tuple[Options, Path | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("interactions", help="Parquet file with user_id, item_id and split")
    for field in fields(Options):
        if field.name != "interactions":
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = vars(parser.parse_args(argv))
    out = given.pop("out")
    return Options(**given), out


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    import torch_geometric

    options, out = parse(argv)
    torch.set_num_threads(options.threads)
    graph = Graph.read(Path(options.interactions))
    figures = {
        "options": asdict(options),
        "machine": machine("cpu") | {"torch_geometric": torch_geometric.__version__},
        "users": graph.num_users,
        "items": graph.num_items,
        "training_edges": graph.train.shape[1],
        "torch_geometric": against_torch_geometric(graph, options),
        "reference": against_reference(graph, options),
    }
    report(figures, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
