"""How the encoder is trained: the options of `xrec encode`, and what each objective takes where none is given."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from xrec_dataset_builder.errors import DataError

DEFAULTS: dict[str, dict[str, Any]] = {
    "softmax": {"layers": 2, "aggregation": "0.2,0.3,0.5", "epochs": 8, "learning_rate": 0.03},
    "bpr": {"layers": 3, "aggregation": "mean", "epochs": 60, "learning_rate": 0.01},
}
"""By objective. The layer weights belong to the number of layers beside them; with another number it is the mean."""
WIDTH_OF_LEARNING_RATES = 64

LayerWeights = Literal["mean", "sum"] | list[float]
STARTS = ("spectral", "random")
POSITIVE = ("dim", "layers", "epochs", "patience", "batch_size", "negatives", "learning_rate")
LEAST_TEMPERATURE = 0.03  # exp(s / T), times many items, must stay a finite float32; s is 1 for the cosine
FULL_SOFTMAX_ITEMS, SAMPLED_ITEMS = 50_000, 16_384


@dataclass(frozen=True)
class EncodeOptions:
    """How LightGCN is trained. None stands for the objective's own default.

    Args:
        dim: width of an embedding.
        layers: propagation steps L; 2 for the softmax, 3 for BPR.
        aggregation: how layers make an embedding: `mean`, `sum`, or L + 1 weights with commas between them. For the softmax
            `0.2,0.3,0.5`, for BPR `mean`.
        objective: `softmax` (cross-entropy over all items) or `bpr` (the paper's, a fresh negative every time).
        start: `spectral` (the graph's leading singular vectors) or `random`.
        epochs: most passes over the training edges.
        patience: epochs without a better validation ndcg@20 after which training stops.
        batch_size: users a step for the softmax (2,048), edges a step for BPR (8,192), fewer in a small graph; every step
            propagates over the whole graph.
        negatives: items drawn at random every step to stand for all in the softmax. All up to 50,000 items, 16,384 beyond.
        learning_rate: of Adam at the first step; it falls to 0 along a half cosine. For the softmax 0.03 up to 64 dimensions,
            0.03 (64 / dim)^(3/4) beyond, where large steps drown what a spectral start knows. For BPR 0.01.
        temperature: of the softmax, in units of the score, which is a cosine times a length around 1; at least 0.03.
        popularity_exponent: items weigh in the softmax's sum by their popularity to the power of minus this; above 0,
            popular items are held down less.
        length_exponent: power of its own length that an item keeps in the softmax's score and in the tables; 0 for the
            cosine, 1 for the inner product with a user of length 1.
        weight_decay: factor on the squared norms in BPR.
        seed: of tables, batches and negatives.
    """

    dim: int = 64
    layers: int | None = None
    aggregation: str | None = None
    objective: str = "softmax"
    start: str = "spectral"
    epochs: int | None = None
    patience: int = 3
    batch_size: int | None = None
    negatives: int | None = None
    learning_rate: float | None = None
    temperature: float = 0.17
    popularity_exponent: float = 0.0
    length_exponent: float = 0.3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot be used."""
        for name, known in (("objective", tuple(DEFAULTS)), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise DataError(f"expected --{name} among {', '.join(known)}, found {getattr(self, name)!r}; choose one")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DataError(f"expected --{name.replace('_', '-')} above 0, found {value}; choose another")
        if not self.temperature >= LEAST_TEMPERATURE:
            raise DataError(f"expected --temperature of at least {LEAST_TEMPERATURE}, found {self.temperature}; raise it")
        if not abs(self.popularity_exponent) <= 1:
            raise DataError(f"expected --popularity-exponent from -1 to 1, found {self.popularity_exponent}; choose another")
        if not 0 <= self.length_exponent <= 1:
            raise DataError(f"expected --length-exponent from 0 to 1, found {self.length_exponent}; use 0 for the cosine")
        if self.aggregation is not None:
            _layer_weights(self.aggregation, self.layers or DEFAULTS[self.objective]["layers"])

    def completed(self) -> "EncodeOptions":
        """The same options with the objective's defaults in place of None, but for batch size and negatives."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        defaults = DEFAULTS[self.objective]
        if self.objective == "softmax":
            rate = defaults["learning_rate"] * min(1.0, WIDTH_OF_LEARNING_RATES / self.dim) ** 0.75
            defaults = defaults | {"learning_rate": rate}
        if found.get("layers", defaults["layers"]) != defaults["layers"]:
            defaults = defaults | {"aggregation": "mean"}
        return replace(self, **(defaults | found))

    def layer_weights(self) -> LayerWeights:
        """The aggregation as LightGCN takes it."""
        options = self.completed()
        return _layer_weights(str(options.aggregation), int(options.layers or 0))


def _layer_weights(aggregation: str, layers: int) -> LayerWeights:
    if aggregation == "mean" or aggregation == "sum":
        return aggregation  # type: ignore[return-value]
    try:
        weights = [float(weight) for weight in aggregation.split(",")]
    except ValueError:
        weights = []
    if len(weights) != layers + 1 or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise DataError(
            f"expected --aggregation mean, sum or {layers + 1} weights with commas between them (one a layer and one for the "
            f"table), found {aggregation!r}; write for example {','.join(['1'] * (layers + 1))}"
        )
    return weights
