"""What the graph knows of the words, whatever a language model makes of it: a bag of words read off the embeddings.

A text's words are drawn from softmax(b + W x), with x the pair's embeddings, or its texts, or both. Bits a text over the
words' own frequencies say what x is worth for the task, and bits of both over the texts alone what the graph adds to them. It
takes minutes, so with `--levers` it also compares encoders, on validation rows.

    python benchmarks/signal/probe.py OUT --data yelp=FOLDER google=FOLDER
    python benchmarks/signal/probe.py OUT --data yelp=FOLDER google=FOLDER --levers encoder-dim-128 encoder-bpr
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
import polars as pl
import torch
from cells import LEVERS, PLAIN
from figures import difference
from measuring import machine, report
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from worlds import PROFILE, PROMPTS, TASKS, Sizes, World, prepare_graph, prepare_world

from modeling_xrec.signals import apply_signal
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table
from xrec_training.graph_folder import read_graph
from xrec_training.tables import Catalogue, read_edges

LEAST = 5
"""Training texts that a word must stand in to count."""
TOPICS = 64
"""Width of a text's features."""
PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
"""Weights of |W|^2 to choose from by the validation rows, the strongest first."""
STEPS = 40
PATIENCE = 2
"""Penalties without a gain after which a block is given up."""
SMOOTHING = 0.5
SHARPNESS = 10.0
"""Of the weights of a history's items."""
SPLITS = ("train", "validation", "test")
CONDITIONS = ("graph", "permuted", "random-fixed")
TEXTS = ("item_profile", "title", "user_profile")
"""Of a prompt, in the order in which they are added."""
Features = dict[str, np.ndarray]
"""By split, `(rows, width)`."""


class Words:
    """Softmax regression of word counts on features, fitted for one penalty after the other.

    Args:
        features: `(rows, width)` of the training rows.
        counts: `(rows, words)`.

    Attributes:
        bias: b, the logarithm of the words' frequencies `(words,)`.
        weight: W, `(width, words)`, 0 at first.
    """

    def __init__(self, features: np.ndarray, counts: np.ndarray) -> None:
        self._mean, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-9
        self._x, self._counts = self._scaled(features), torch.from_numpy(counts).float()
        frequency = self._counts.sum(dim=0) + SMOOTHING
        self.bias = (frequency / frequency.sum()).log()
        self.weight = torch.zeros(self._x.shape[1], len(frequency), requires_grad=True)

    def fit(self, penalties: np.ndarray) -> None:
        """Minimises nats a word plus, for each feature, its penalty times |W|^2, from where it stands.

        Args:
            penalties: `(width,)`.
        """
        weights = torch.from_numpy(penalties).float().unsqueeze(1)
        optimizer = torch.optim.LBFGS([self.weight], max_iter=STEPS, line_search_fn="strong_wolfe")
        words, total = self._counts.sum(dim=1), self._counts.sum()

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            logits = self.bias + self._x @ self.weight
            said = (self._counts * logits).sum() - (words * logits.logsumexp(dim=1)).sum()
            value = -said / total + (weights * self.weight.square()).sum()
            value.backward()
            return value

        optimizer.step(loss)

    @torch.no_grad()
    def bits(self, features: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Log-probability of each row's words over that by the words' frequencies, in bits `(rows,)`."""
        gain = (self.bias + self._scaled(features) @ self.weight).log_softmax(dim=1) - self.bias
        return (torch.from_numpy(counts).float() * gain).sum(dim=1).double().numpy() / np.log(2)

    def _scaled(self, features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((features - self._mean) / self._scale).float()


def bits_of(blocks: Sequence[Features], counts: Features, read: str = "test") -> list[np.ndarray]:
    """Bits of the test rows as one block of features after the other is added.

    Each block has a penalty of its own, chosen by the validation rows; one that does not help them stays out.

    Args:
        blocks: features by split.
        counts: of words, by split.
        read: the split whose rows are read.

    Returns:
        For each number of blocks, from one on, `(rows,)`.
    """
    found: list[np.ndarray] = []
    best, bits, chosen = 0.0, np.zeros(len(counts[read])), []
    for block in blocks:
        kept, penalty = [one for one, _ in chosen], None
        heard = {split: np.hstack([one[split] for one in [*kept, block]]) for split in SPLITS}
        words = Words(heard["train"], counts["train"])
        fixed = [np.full(one["train"].shape[1], value) for one, value in chosen]
        worse = 0
        for candidate in PENALTIES:
            words.fit(np.concatenate([*fixed, np.full(block["train"].shape[1], candidate)]))
            value = words.bits(heard["validation"], counts["validation"]).mean()
            if value > best:
                best, bits, penalty = value, words.bits(heard[read], counts[read]), candidate
            elif penalty is not None or (worse := worse + 1) > PATIENCE:
                break  # weaker ones only learn by heart
        if penalty is not None:
            chosen.append((block, penalty))
        found.append(bits)
    return found


def task_bits(world: World, task: str) -> dict[str, Any]:
    """What embeddings, texts and both are worth in a task."""
    tables, counts = words_of(world, task)
    parts = pl.read_parquet(world.task(task) / "parts.parquet")
    test = tables["test"].join(parts, on=["user_id", "item_id"], maintain_order="left").select("user_id", "item_id", "part")
    texts = texts_of(task, tables)
    found: dict[str, Any] = {"words": counts["test"].shape[1], "rows": len(test)}
    nothing = test.with_columns(own=pl.lit(0.0))
    for condition, sides in embeddings_of(world, task, tables).items():
        for order in [sides, texts | sides] if texts else [sides]:
            before = nothing
            for number, bits in enumerate(bits_of(list(order.values()), counts)):
                names = [f"{condition} {name}" if name in sides else name for name in list(order)[: number + 1]]
                scored = test.with_columns(pl.Series("own", bits))
                found[" + ".join(names)] = {"bits": difference(scored, nothing), "adds": difference(scored, before)}
                before = scored
    return found


def words_of(world: World, task: str) -> tuple[dict[str, pl.DataFrame], Features]:
    """A task's explanations by split, and how often each word stands in each `(rows, words)`."""
    tables = {split: read_table(DatasetFolder(world.task(task)).explanations(split), EXPLANATIONS) for split in SPLITS}
    vectorizer = CountVectorizer(min_df=LEAST, token_pattern=r"(?u)\b\w+\b")
    vectorizer.fit(tables["train"]["explanation"])
    return tables, {split: vectorizer.transform(table["explanation"]).toarray() for split, table in tables.items()}


def encoder_bits(world: World, task: str, levers: Sequence[str]) -> dict[str, Any]:
    """What the item's embedding by other encoders is worth on validation rows, alone and beside the texts of the prompt.

    Args:
        world: of a dataset, with the graphs of the levers.
        task: one of `TASKS`.
        levers: names among `LEVERS` that change the encoder.
    """
    tables, counts = words_of(world, task)
    rows = tables["validation"].select("user_id", "item_id", part=pl.lit("validation"))
    texts, catalogue = list(texts_of(task, tables).values()), Catalogue.read(world.task(task))
    nothing = rows.with_columns(own=pl.lit(0.0))
    found: dict[str, Any] = {}
    plain: dict[str, pl.DataFrame] = {}
    for lever in (PLAIN, *levers):
        graph = world.graph(task, LEVERS[lever].get("encode", ()))
        items = read_graph(graph, catalogue).item_embeddings.detach().numpy()
        item = {split: items[catalogue.rows(table)[1]] for split, table in tables.items()}
        found[lever] = {}
        for name, blocks in {"alone": [item], **({"beside texts": [*texts, item]} if texts else {})}.items():
            scored = rows.with_columns(pl.Series("own", bits_of(blocks, counts, "validation")[-1]))
            found[lever][name] = {"bits": difference(scored, nothing)["all"]}
            found[lever][name]["over_plain"] = difference(scored, plain.setdefault(name, scored))["all"]
    return found


def embeddings_of(world: World, task: str, tables: Mapping[str, pl.DataFrame]) -> dict[str, dict[str, Features]]:
    """Embeddings of the pairs by condition and side, the item's first; the profile task has one and the same user.

    Beside them stand what a sum of both sides cannot say: their product and, for the graph, the near part of the history.
    """
    catalogue = Catalogue.read(world.task(task))
    graph = dict(read_graph(world.graph(task), catalogue).state_dict())
    rows = {split: catalogue.rows(table) for split, table in tables.items()}
    sides = {"item": 1} if task == PROFILE else {"item": 1, "user": 0}
    found: dict[str, dict[str, Features]] = {}
    for condition in CONDITIONS:
        heard = {side: apply_signal(graph, condition)[f"{side}_embeddings"].numpy() for side in sides}
        found[condition] = {
            side: {split: heard[side][place[number]] for split, place in rows.items()} for side, number in sides.items()
        }
        if task != PROFILE:
            user, item = found[condition]["user"], found[condition]["item"]
            found[condition]["user x item"] = {split: user[split] * item[split] for split in SPLITS}
    if task != PROFILE:
        edges = read_edges(world.task(task), "train", catalogue).numpy()
        items = graph["item_embeddings"].numpy()
        found["graph"]["history near the item"] = {split: near_history(*rows[split], edges, items) for split in SPLITS}
    return found


def near_history(users: np.ndarray, targets: np.ndarray, edges: np.ndarray, items: np.ndarray) -> np.ndarray:
    """For each pair the items that its user touched, weighted by how near they are to its item: softmax of the cosine.

    Args:
        users: `(rows,)`.
        targets: items `(rows,)`.
        edges: training interactions `(2, edges)`, users then items.
        items: embeddings `(items, width)`.

    Returns:
        `(rows, width)`; 0 for a user without other items.
    """
    order = np.argsort(edges[0], kind="stable")
    touched, starts = edges[1][order], np.searchsorted(edges[0][order], np.arange(edges[0].max() + 2))
    unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-9)
    found = np.zeros((len(users), items.shape[1]), dtype=items.dtype)
    for row, (user, target) in enumerate(zip(users, targets, strict=True)):
        history = touched[starts[user] : starts[user + 1]] if user + 1 < len(starts) else touched[:0]
        history = history[history != target]
        if len(history):
            weights = np.exp(SHARPNESS * (unit[history] @ unit[target]))
            found[row] = weights @ items[history] / weights.sum()
    return found


def texts_of(task: str, tables: Mapping[str, pl.DataFrame]) -> dict[str, Features]:
    """Features of each text that stands in a task's prompt, by split; none where there are none."""
    found: dict[str, Features] = {}
    for name in TEXTS:
        if f"{{{name}}}" not in PROMPTS[task]:
            continue
        tfidf = TfidfVectorizer(min_df=2, sublinear_tf=True, stop_words="english")
        train = tfidf.fit_transform(tables["train"][name])
        topics = TruncatedSVD(min(TOPICS, train.shape[1] - 1), random_state=0).fit(train)
        found[name] = {split: topics.transform(tfidf.transform(table[name])) for split, table in tables.items()}
    return found


def run(
    out: Path, data: Mapping[str, Path], tasks: Sequence[str] = TASKS, levers: Sequence[str] = (), sizes: Sizes | None = None
) -> dict[str, Any]:
    """Bits of every dataset and task; where there are levers, those of their encoders alone."""
    sizes = sizes or Sizes()
    worlds = {name: prepare_world(source, out / name, sizes) for name, source in data.items()}
    for world in worlds.values():
        for task in tasks:
            for lever in levers:
                prepare_graph(world, task, sizes, LEVERS[lever]["encode"])
    if levers:
        datasets = {name: {task: encoder_bits(world, task, levers) for task in tasks} for name, world in worlds.items()}
    else:
        datasets = {name: {task: task_bits(world, task) for task in tasks} for name, world in worlds.items()}
    return {"machine": machine("cpu"), "datasets": datasets}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the worlds, as for grid.py")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help="datasets and where they lie")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    encoders = [name for name, lever in LEVERS.items() if "encode" in lever]
    parser.add_argument("--levers", nargs="+", choices=encoders, default=(), help="encoders to compare with the default")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    given = parser.parse_args(argv)
    data = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in given.data)}
    report(run(given.folder, data, given.tasks, given.levers), given.out)


if __name__ == "__main__":
    main()
