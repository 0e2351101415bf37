"""`xrec encode`: trains LightGCN on a dataset's training interactions and writes the collaborative embeddings."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.lightgcn import LightGCN
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import atomic_folder

from .objectives import bpr_loss, softmax_loss
from .ranking import ranking_metrics
from .tables import METRICS_FILE, Catalogue, read_edges, write_graph

logger = logging.getLogger(__name__)
OBJECTIVES = ("softmax", "bpr")


@dataclass(frozen=True)
class EncodeOptions:
    """How LightGCN is trained.

    Args:
        dim: width of an embedding.
        layers: propagation steps L.
        objective: `softmax` (cross-entropy by cosine over sampled items) or `bpr` (the paper's); fresh negatives every step.
        epochs: most passes over the training edges.
        patience: epochs without a better validation ndcg@20 after which training stops.
        batch_size: edges a step; every step propagates over the whole graph.
        negatives: items sampled for the softmax, shared by the batch; all items where there are no more.
        learning_rate: of Adam.
        temperature: of the softmax, in units of the cosine.
        weight_decay: factor on the squared norms in BPR.
        seed: of tables, batches and negatives.
    """

    dim: int = 64
    layers: int = 2
    objective: str = "softmax"
    epochs: int = 15
    patience: int = 3
    batch_size: int = 4096
    negatives: int = 1024
    learning_rate: float = 0.01
    temperature: float = 0.15
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot be used."""
        if self.objective not in OBJECTIVES:
            raise DataError(f"expected an objective among {', '.join(OBJECTIVES)}, found {self.objective!r}; choose one")
        for name in ("dim", "layers", "epochs", "patience", "batch_size", "negatives", "learning_rate", "temperature"):
            if getattr(self, name) <= 0:
                raise DataError(f"expected --{name.replace('_', '-')} above 0, found {getattr(self, name)}; choose another")


def encode(data: Path, out: Path, options: EncodeOptions | None = None, progress: bool = True) -> dict[str, float]:
    """Trains the encoder and writes `collaborative.safetensors` and `metrics.json`.

    Args:
        data: dataset folder; only its training interactions make edges.
        out: folder to make.
        options: see `EncodeOptions`.
        progress: show a progress bar.

    Returns:
        `metrics.json` as a dictionary: recall@20 and ndcg@20 on validation and test, epochs, options.

    Raises:
        DataError: the dataset cannot be read, has no training edge, or the loss is not finite.
    """
    options = options or EncodeOptions()
    with atomic_folder(out) as folder:
        catalogue = Catalogue.read(data)
        edges = {split: read_edges(data, split, catalogue) for split in ("train", "validation", "test")}
        if edges["train"].shape[1] == 0:
            raise DataError(f"{data}: expected training interactions, found none; build with other splits or filters")
        model, history = fit(edges["train"], edges["validation"], catalogue, options, progress)
        metrics: dict = {"epochs": len(history), "validation_curve": history, "options": asdict(options)}
        known = {"validation": edges["train"], "test": torch.cat([edges["train"], edges["validation"]], dim=1)}
        for split, mask in known.items():
            if edges[split].shape[1]:
                found = ranking_metrics(model.user_embeddings, model.item_embeddings, mask, edges[split])
                metrics |= {f"{split}_{name}": value for name, value in found.items()}
        write_graph(dict(model.state_dict()), folder, catalogue)
        (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def fit(
    train: torch.Tensor, validation: torch.Tensor, catalogue: Catalogue, options: EncodeOptions, progress: bool = True
) -> tuple[LightGCN, list[float]]:
    """Trains tables on edges `(2, train)` and settles them at the best validation epoch.

    Returns:
        The settled model, its embeddings of length 1 (softmax) or of root mean square length 1 (BPR), and validation ndcg@20
        by epoch.
    """
    torch.manual_seed(options.seed)
    model = LightGCN(catalogue.users.height, catalogue.items.height, options.dim, options.layers)
    adjacency = normalized_adjacency(train, model.num_users, model.num_items)
    start_from_spectrum(model, adjacency)
    loss_of = _objective(options)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    history: list[float] = []
    best = {name: value.clone() for name, value in model.state_dict().items()}
    bar = tqdm(range(options.epochs), desc="encode", unit="epoch", disable=not progress)
    for _ in bar:
        for batch in torch.randperm(train.shape[1]).split(options.batch_size):
            optimizer.zero_grad()
            loss = loss_of(model, adjacency, train[:, batch])
            if not loss.isfinite():
                raise DataError(f"the encoder's loss is {loss.item()}; lower --learning-rate")
            loss.backward()
            optimizer.step()
        history.append(_validation_score(model, adjacency, train, validation, options, -loss.item()))
        bar.set_postfix(ndcg=f"{history[-1]:.4f}")
        if history[-1] == max(history):
            best = {name: value.clone() for name, value in model.state_dict().items()}
        elif len(history) - 1 - history.index(max(history)) >= options.patience:
            break
    bar.close()
    model.load_state_dict(best)
    model.settle(train)
    if options.objective == "softmax":
        model.to_unit_rows()
    else:
        scale_to_unit(model)
    return model.requires_grad_(False), history


def start_from_spectrum(model: LightGCN, adjacency: torch.Tensor) -> None:
    """Sets the tables to the graph's leading singular vectors, from which a few epochs suffice.

    Args:
        model: tables of width d, overwritten.
        adjacency: A_hat; its user-item block R = U S V' gives U S^1/2 and V S^1/2. Where the graph is smaller than d, the last
            columns keep their random start.
    """
    entries = adjacency.to_sparse_coo().coalesce()
    rows, columns = entries.indices()
    block = rows < model.num_users
    places = torch.stack([rows[block], columns[block] - model.num_users])
    shape = (model.num_users, model.num_items)
    width = min(model.user_embeddings.shape[1], *shape)
    with torch.no_grad():
        left, values, right = torch.svd_lowrank(
            torch.sparse_coo_tensor(places, entries.values()[block], shape), q=width, niter=4
        )
        model.user_embeddings[:, :width] = left * values.sqrt()
        model.item_embeddings[:, :width] = right * values.sqrt()


def scale_to_unit(model: LightGCN) -> None:
    """Scales all four tables by one number: the embeddings' root mean square norm becomes 1, rankings stay as they are."""
    with torch.no_grad():
        rows = torch.cat([model.user_embeddings, model.item_embeddings])
        factor = rows.square().sum(dim=1).mean().rsqrt()
        for table in model.state_dict().values():
            table.mul_(factor)


def _objective(options: EncodeOptions) -> Callable[[LightGCN, torch.Tensor, torch.Tensor], torch.Tensor]:
    def bpr(model: LightGCN, adjacency: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        users, items = model.propagate(adjacency=adjacency)
        negatives = torch.randint(model.num_items, (edges.shape[1],))
        weight_decay = options.weight_decay / edges.shape[1]
        rows = (F.embedding(edges[0], users), F.embedding(edges[1], items), F.embedding(negatives, items))
        return bpr_loss(*rows, weight_decay=weight_decay)

    def softmax(model: LightGCN, adjacency: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        users, items = model.propagate(adjacency=adjacency)
        sampled = torch.randperm(model.num_items)[: options.negatives]
        rows = (F.embedding(edges[0], users), F.embedding(edges[1], items), F.embedding(sampled, items))
        return softmax_loss(*rows, edges[1].unsqueeze(1) == sampled, options.temperature)

    return {"bpr": bpr, "softmax": softmax}[options.objective]


@torch.no_grad()
def _validation_score(
    model: LightGCN,
    adjacency: torch.Tensor,
    train: torch.Tensor,
    validation: torch.Tensor,
    options: EncodeOptions,
    fallback: float,
) -> float:
    """Validation ndcg@20; the negative loss where there is no validation edge."""
    if validation.shape[1] == 0:
        return fallback
    users, items = model.propagate(adjacency=adjacency)
    if options.objective == "softmax":
        users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
    return ranking_metrics(users, items, train, validation)["ndcg@20"]
