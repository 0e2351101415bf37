"""What requests and answers look like; FastAPI makes the OpenAPI description of it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_ROWS = 64
MAX_HISTORY = 500
MAX_K = 100
Id = Annotated[str, Field(min_length=1, max_length=256)]
Title = Annotated[str, Field(max_length=500)]
Profile = Annotated[str, Field(max_length=4000)]

PAIR_EXAMPLE = {"pairs": [{"user_id": "u00000", "item_id": "i00000"}]}
REQUEST_EXAMPLES: dict[str, Any] = {
    "one pair": {"summary": "A user of the model and an item", "value": PAIR_EXAMPLE},
    "a history": {
        "summary": "A user that the model does not know, by the items that it liked",
        "value": {"histories": [{"history": ["i00001", "i00002"], "item_id": "i00000"}], "evidence": True},
    },
    "streamed": {"summary": "One pair, word by word, as server-sent events", "value": {**PAIR_EXAMPLE, "stream": True}},
}


class Asked(BaseModel):
    """An item, and texts that take the place of the stored ones."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item_id: Id
    title: Title | None = None
    user_profile: Profile | None = None
    item_profile: Profile | None = None


class Pair(Asked):
    """A user of the model and an item."""

    user_id: Id


class History(Asked):
    """The items that an unseen user liked, and an item."""

    history: list[Id] = Field(min_length=1, max_length=MAX_HISTORY)


class ExplainRequest(BaseModel):
    """Pairs, histories or both; with `stream` exactly one of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pairs: list[Pair] = Field(default=[], max_length=MAX_ROWS)
    histories: list[History] = Field(default=[], max_length=MAX_ROWS)
    evidence: bool = Field(default=False, description="whether to say what each score rests on")
    stream: bool = Field(default=False, description="whether to send the text word by word, as server-sent events")

    @model_validator(mode="after")
    def _check_count(self) -> "ExplainRequest":
        count = len(self.pairs) + len(self.histories)
        if not 1 <= count <= MAX_ROWS:
            raise ValueError(f"expected 1 to {MAX_ROWS} pairs and histories, found {count}")
        if self.stream and count != 1:
            raise ValueError(f"expected one pair or history with stream, found {count}")
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the pipeline: the pairs, then the histories."""
        return [row.model_dump(exclude_none=True) for row in (*self.pairs, *self.histories)]


class LinkedUser(BaseModel):
    """A user who touched both a history item and the item, and what the two add to the score."""

    user_id: str
    weight: float


class HistoryShare(BaseModel):
    """A history item and its share of the score."""

    item_id: str
    title: str
    share: float
    paths: list[LinkedUser]


class UserShare(BaseModel):
    """A user who touched the item, and its share of the score."""

    user_id: str
    share: float


class ScoreParts(BaseModel):
    """A score as a sum, in two ways: `own + history + history_rest`, and `item_own + users + users_rest`."""

    score: float
    own: float
    history: list[HistoryShare]
    history_rest: float
    item_own: float
    users: list[UserShare]
    users_rest: float


class Explanation(BaseModel):
    """An explanation and what it rests on."""

    user_id: str | None = None
    history: list[str] | None = None
    item_id: str
    title: str
    explanation: str
    score: float = Field(description="inner product of the two collaborative embeddings")
    user_gates: list[float] = Field(description="weight of every expert of the user's adapter")
    item_gates: list[float] = Field(description="weight of every expert of the item's adapter")
    history_scores: list[float] | None = Field(default=None, description="what each item of the history adds to the score")
    shortened: dict[str, list[int]] | None = Field(default=None, description="profiles cut: their tokens as found and as kept")
    cached: bool
    evidence: ScoreParts | None = Field(default=None, description="where asked for, and the server has data")


class Explanations(BaseModel):
    """Explanations in the order of the pairs, then of the histories."""

    model: str = Field(description="revision of the model")
    notes: list[str] = Field(description="what the answers lack")
    explanations: list[Explanation]


class Recommendation(BaseModel):
    """A recommended item."""

    item_id: str
    title: str
    score: float
    explanation: Explanation | None = None


class Recommendations(BaseModel):
    """A user's best items, best first."""

    model: str
    notes: list[str]
    user_id: str
    masked: bool = Field(description="whether the user's training items are left out")
    items: list[Recommendation]


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class State(BaseModel):
    """How the server is."""

    status: str
    model: str | None = None
