"""The training loop of `xrec encode`: batches, steps, validation, early stopping, and a state to go on from."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from modeling_xrec.bipartite_graph import GroupedEntries, normalized_adjacency
from modeling_xrec.lightgcn import LightGCN, unit_rows
from xrec_dataset_builder.errors import DataError

from .encode_options import FULL_SOFTMAX_ITEMS, SAMPLED_ITEMS, EncodeOptions
from .graph_checkpoint import EncoderState, GraphCheckpoint
from .objectives import bpr_loss, softmax_loss, softmax_weights
from .ranking import ranking_metrics
from .starts import start_at_random, start_from_graph, start_from_spectrum
from .tables import Catalogue

BATCH_SIZES = {"softmax": 2048, "bpr": 8192}
LEAST_STEPS = 8  # an epoch of a small graph is cut into as many batches
VALIDATION_USERS = 16_384  # score an epoch; all validation users score the result
AVERAGE_DECAY = 0.9
"""Of the running mean of the tables over the last steps, which is what is scored and kept: single steps are noisy."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def fit(
    train: torch.Tensor, validation: torch.Tensor, catalogue: Catalogue, options: EncodeOptions, progress: bool = True,
    checkpoint: GraphCheckpoint | None = None, start_from: Path | None = None,
) -> tuple[LightGCN, list[float]]:  # fmt: skip
    """Trains tables on edges `(2, train)` and settles their running mean at the best validation epoch.

    Args:
        train: edges to learn, user rows then item rows.
        validation: edges that choose the epoch; none: the training loss does.
        catalogue: users and items.
        options: see `EncodeOptions`.
        progress: show a progress bar.
        checkpoint: where the state is kept after every epoch, and taken up if it is there; nowhere when None.
        start_from: folder of an earlier graph whose tables are the start.

    Returns:
        The settled model, its embeddings of `unit_rows`' lengths (softmax) or of root mean square length 1 (BPR), and by
        epoch the validation ndcg@20 over at most 16,384 users.

    Raises:
        DataError: the loss is not finite, or the checkpoint or the earlier graph cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        run = _Run(train, validation, catalogue, options.completed())
        state = checkpoint.load() if checkpoint else None
        if state is None:
            run.start(train, catalogue, start_from)
        else:
            run.restore(state)
        bar = tqdm(total=run.options.epochs, initial=len(run.history), desc="encode", unit="epoch", disable=not progress)
        while not run.finished():
            run.epoch()
            if checkpoint:
                checkpoint.save(run.state())
            bar.update()
            bar.set_postfix(ndcg=f"{run.history[-1]:.4f}")
        bar.close()
    return run.settled(train), run.history


class _Run:
    """One training run between two epochs."""

    def __init__(self, train: torch.Tensor, validation: torch.Tensor, catalogue: Catalogue, options: EncodeOptions) -> None:
        torch.manual_seed(options.seed)
        self.options, self.train = options, train
        sizes = (catalogue.users.height, catalogue.items.height)
        self.model = LightGCN(*sizes, options.dim, options.layers or 0, options.layer_weights())
        self.adjacency = normalized_adjacency(train, *sizes)
        self.grouped = GroupedEntries.of_edges(train[0], train[1], sizes[0])
        self.weights = softmax_weights(train[1], sizes[1], options.popularity_exponent)
        self.validation = _some_users(validation, options.seed)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
        self.units = train.shape[1] if options.objective == "bpr" else int(self.grouped.counts.count_nonzero())
        most = min(BATCH_SIZES[options.objective], math.ceil(self.units / LEAST_STEPS))
        self.batch_size = options.batch_size or most
        self.steps = math.ceil(self.units / self.batch_size)
        self.history: list[float] = []
        self.best = {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def start(self, train: torch.Tensor, catalogue: Catalogue, start_from: Path | None) -> None:
        """Fills the tables."""
        if start_from is not None:
            start_from_graph(self.model, train, catalogue, start_from)
        elif self.options.start == "spectral":
            start_from_spectrum(self.model, self.adjacency)
        else:
            start_at_random(self.model)

    def finished(self) -> bool:
        """Whether the epochs are used up or the patience is."""
        epochs = len(self.history)
        since_best = epochs - 1 - self.history.index(max(self.history)) if epochs else 0
        return epochs >= (self.options.epochs or 0) or since_best >= self.options.patience

    def epoch(self) -> None:
        """One pass over the training edges, and its score."""
        for step, batch in enumerate(self._batches(), len(self.history) * self.steps):
            done = step / (self.steps * (self.options.epochs or 1))
            rate = (self.options.learning_rate or 0) * 0.5 * (1 + math.cos(math.pi * done))
            self.optimizer.param_groups[0]["lr"] = rate
            self.optimizer.zero_grad()
            loss = self._bpr(batch) if self.options.objective == "bpr" else self._softmax(batch)
            if not loss.isfinite():
                remedy = "lower --learning-rate or --length-exponent, or raise --temperature"
                raise DataError(f"the encoder's loss is {loss.item()} at step {step + 1}; {remedy}")
            loss.backward()
            self.optimizer.step()
            self.averaged.update_parameters(self.model)
        self.history.append(self._score() if self.validation.shape[1] else -loss.item())
        if self.history.index(max(self.history)) == len(self.history) - 1:
            self.best = {name: value.detach().clone() for name, value in self.averaged.module.named_parameters()}

    def state(self) -> EncoderState:
        """All that the next epoch depends on."""
        tensors = {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.module.named_parameters()}
        for name, parameter in self.model.named_parameters():
            tensors[f"table.{name}"] = parameter
            moments = self.optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS}
        return EncoderState({**tensors, "random_state": torch.get_rng_state()}, list(self.history))

    def restore(self, state: EncoderState) -> None:
        """Takes up where `state` was written."""
        self.history = list(state.history)
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(state.tensors[f"table.{name}"])
            self.best[name] = state.tensors[f"best.{name}"]
            self.averaged.module.get_parameter(name).data.copy_(state.tensors[f"averaged.{name}"])
            self.optimizer.state[parameter] = {moment: state.tensors[f"{moment}.{name}"] for moment in MOMENTS}
        self.averaged.n_averaged.fill_(len(self.history) * self.steps)
        torch.set_rng_state(state.tensors["random_state"])

    def settled(self, train: torch.Tensor) -> LightGCN:
        """The model with the best epoch's tables, settled and scaled."""
        self.model.load_state_dict(self.best, strict=False)
        self.model.settle(train)
        if self.options.objective == "softmax":
            self.model.to_unit_rows(self.options.length_exponent)
        else:
            scale_to_unit(self.model)
        return self.model.requires_grad_(False)

    def _batches(self) -> Iterator[torch.Tensor]:
        """Shuffled edges (BPR) or users with edges (softmax), `(batch,)`."""
        if self.options.objective == "bpr":
            yield from torch.randperm(self.units).split(self.batch_size)
            return
        active = self.grouped.counts.nonzero().flatten()
        yield from active[torch.randperm(self.units)].split(self.batch_size)

    def _bpr(self, batch: torch.Tensor) -> torch.Tensor:
        users, items = self.model.propagate(adjacency=self.adjacency)
        edges = self.train[:, batch]
        negatives = torch.randint(self.model.num_items, (len(batch),))
        rows = (F.embedding(edges[0], users), F.embedding(edges[1], items), F.embedding(negatives, items))
        return bpr_loss(*rows, weight_decay=self.options.weight_decay / len(batch))

    def _softmax(self, batch: torch.Tensor) -> torch.Tensor:
        users, items = self.model.propagate(adjacency=self.adjacency)
        places, touched = self.grouped.of(batch)
        count = self.options.negatives or (len(items) if len(items) <= FULL_SOFTMAX_ITEMS else SAMPLED_ITEMS)
        candidates = torch.randperm(len(items))[:count] if count < len(items) else None
        rows = F.embedding(batch, users)
        exponent = self.options.length_exponent
        return softmax_loss(rows, items, places, touched, self.options.temperature, candidates, self.weights, exponent)

    @torch.no_grad()
    def _score(self) -> float:
        users, items = cast(LightGCN, self.averaged.module).propagate(adjacency=self.adjacency)
        if self.options.objective == "softmax":
            users, items = unit_rows(users, items, self.options.length_exponent)
        return ranking_metrics(users, items, self.train, self.validation)["ndcg@20"]


def scale_to_unit(model: LightGCN) -> None:
    """Scales all four tables by one number: the embeddings' root mean square norm becomes 1, rankings stay as they are."""
    with torch.no_grad():
        rows = torch.cat([model.user_embeddings, model.item_embeddings])
        factor = rows.square().sum(dim=1).mean().rsqrt()
        for table in model.state_dict().values():
            table.mul_(factor)


def _some_users(edges: torch.Tensor, seed: int) -> torch.Tensor:
    """The edges of at most 16,384 users, the same for the same seed."""
    users = edges[0].unique()
    chosen = users[torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))[:VALIDATION_USERS]]
    return edges[:, torch.isin(edges[0], chosen)]
