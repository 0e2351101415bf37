"""What the adapters make of the embeddings, to look at: a map of the items with clusters, and the weights of the experts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.manifold import TSNE

from .likelihood import ReferenceLikelihood

MOST_ITEMS = 800
CLUSTERS = 8
LEAST_ITEMS = 20
WORDS = 5
SEED = 0


def gates_of(scorer: ReferenceLikelihood) -> dict[str, list[dict[str, float]]]:
    """Weights of the experts over some pairs.

    Args:
        scorer: The pairs.

    Returns:
        By side, for each expert the mean weight `value`, its 5th percentile `low` and its 95th `high`; empty where nothing is
        injected.
    """
    if scorer.model.config.injection == "none":
        return {}
    found = {}
    for side, embeddings in scorer.signal()._asdict().items():
        adapter = getattr(scorer.model, f"{side}_adapter")
        with torch.no_grad():
            gates = adapter.gates(embeddings.to(adapter.gate_weight)).double().cpu().numpy()
        low, high = np.quantile(gates, (0.05, 0.95), axis=0)
        columns = zip(gates.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
        found[side] = [{"value": mean, "low": least, "high": most} for mean, least, most in columns]
    return found


def map_items(embeddings: np.ndarray, titles: Sequence[str], profiles: Sequence[str]) -> dict[str, Any] | None:
    """A map of items and clusters of them, by embeddings alone.

    Args:
        embeddings: `(items, width)`.
        titles: One an item.
        profiles: One an item.

    Returns:
        `points` `(items, 2)`, `clusters` (a number an item), `titles`, and `about`: by cluster `group`, `size` and `words`
        that are more frequent in it than elsewhere. At most `MOST_ITEMS`, drawn; None for fewer than `LEAST_ITEMS`, or where
        all embeddings are one.
    """
    if len(embeddings) < LEAST_ITEMS or not np.ptp(embeddings, axis=0).any():
        return None
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(embeddings))[:MOST_ITEMS])
    rows = np.asarray(embeddings, dtype=np.float64)[drawn]
    clusters = KMeans(CLUSTERS, n_init=4, random_state=SEED).fit_predict(rows)
    start = PCA(2, random_state=SEED).fit_transform(rows)
    start = start / (start[:, 0].std() or 1.0) * 1e-4
    points = TSNE(2, perplexity=min(30, len(rows) // 4), init=start, random_state=SEED).fit_transform(rows)
    titles = [titles[row] for row in drawn]
    texts = [f"{title} {profiles[row]}" for title, row in zip(titles, drawn, strict=True)]
    about = [
        {"group": group, "size": int((clusters == group).sum()), "words": words}
        for group, words in enumerate(_words(texts, clusters))
    ]
    return {"points": points.round(2).tolist(), "clusters": clusters.tolist(), "titles": titles, "about": about}


def _words(texts: Sequence[str], clusters: np.ndarray) -> list[list[str]]:
    """For each cluster the words whose share of texts there is most above their share elsewhere."""
    vectorizer = CountVectorizer(binary=True, stop_words="english", min_df=2)
    try:
        present = vectorizer.fit_transform(texts)
    except ValueError:  # no word stands in two texts
        return [[] for _ in range(CLUSTERS)]
    names = vectorizer.get_feature_names_out()
    found = []
    for group in range(CLUSTERS):
        inside = clusters == group
        ahead = np.asarray(present[inside].mean(axis=0) - present[~inside].mean(axis=0)).ravel()
        found.append([str(names[place]) for place in np.argsort(-ahead, kind="stable")[:WORDS] if ahead[place] > 0])
    return found
