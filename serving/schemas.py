"""What requests and answers look like; FastAPI makes the OpenAPI description of it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_ROWS = 64
MAX_HISTORY = 500
MAX_K = 100
MAX_FOUND = 100
MAX_EXCLUDED = 1000
MAX_ID = 256
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Title = Annotated[str, Field(max_length=500)]
Profile = Annotated[str, Field(max_length=4000)]

PAIR_EXAMPLE = {"pairs": [{"user_id": "u00000", "item_id": "i00000"}]}
REQUEST_EXAMPLES: dict[str, Any] = {
    "one pair": {"summary": "A user of the model and an item", "value": PAIR_EXAMPLE},
    "a history": {
        "summary": "A user that the model does not know, by the items that it liked",
        "value": {"histories": [{"history": ["i00001", "i00002"], "item_id": "i00000"}], "evidence": True, "claims": True},
    },
    "streamed": {"summary": "One pair, word by word, as server-sent events", "value": {**PAIR_EXAMPLE, "stream": True}},
}
RECOMMEND_EXAMPLES: dict[str, Any] = {
    "a history": {
        "summary": "The best items for whoever liked these, but for one",
        "value": {"history": ["i00001", "i00002"], "k": 5, "exclude": ["i00000"]},
    },
    "a user": {"summary": "The best items of a user, explained", "value": {"user_id": "u00000", "k": 3, "explain": True}},
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
    profile_of: Id | None = Field(
        default=None,
        description="a user of the model whose stored profile stands in the prompt: only the graph's signal changes",
    )

    @model_validator(mode="after")
    def _check_profile(self) -> "History":
        if self.profile_of is not None and self.user_profile is not None:
            raise ValueError("expected profile_of or user_profile, found both; give one")
        return self


ROW_NAMES = frozenset((*Pair.model_fields, *History.model_fields))


class ExplainRequest(BaseModel):
    """Pairs, histories or both; with `stream` exactly one of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pairs: list[Pair] = Field(default=[], max_length=MAX_ROWS)
    histories: list[History] = Field(default=[], max_length=MAX_ROWS)
    evidence: bool = Field(default=False, description="whether to say what each score rests on")
    claims: bool = Field(default=False, description="whether to check each thing that the text says against what is known")
    stream: bool = Field(default=False, description="whether to send the text word by word, as server-sent events")

    @model_validator(mode="before")
    @classmethod
    def _check_is_no_row(cls, given: Any) -> Any:
        """A row where the request should be is met often, so it is told what to become."""
        if isinstance(given, dict) and not given.keys() & {"pairs", "histories"} and (row := given.keys() & ROW_NAMES):
            kind, found = ("histories" if "history" in row else "pairs"), next(name for name in given if name in row)
            raise ValueError(f"expected 'pairs' or 'histories', found {found!r}; send {{\"{kind}\": [...]}}")
        return given

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


class RecommendRequest(BaseModel):
    """A user or a history, and how many items."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: Id | None = None
    history: list[Id] | None = Field(default=None, min_length=1, max_length=MAX_HISTORY)
    k: int = Field(default=10, ge=1, le=MAX_K, description="how many items")
    explain: bool = Field(default=False, description="whether to explain each item")
    exclude: list[Id] = Field(
        default=[], max_length=MAX_EXCLUDED, description="further items to leave out, beside what is known already"
    )

    @model_validator(mode="after")
    def _check_who(self) -> "RecommendRequest":
        if (self.user_id is None) == (self.history is None):
            found = "none" if self.user_id is None else "both"
            raise ValueError(f"expected 'user_id' or 'history', found {found}; give one")
        return self

    def who(self) -> dict[str, Any]:
        """The user of a row of the pipeline."""
        return {"history": self.history} if self.user_id is None else {"user_id": self.user_id}


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


class Source(BaseModel):
    """A sentence of a text that is known of an item or a user."""

    source: str = Field(description="such as item_profile, item_reviews, user_profile, user_history")
    text: str


class CheckedClaim(BaseModel):
    """One thing that a text says, and what it rests on."""

    text: str
    verdict: Literal["supported", "user only", "unsupported", "contradicted", "no evidence", "named", "not named"] = Field(
        description="by an encoder: supported (the item's texts say it), user only (the user's, not the item's), unsupported; "
        "by words alone: named, user only, not named; no evidence where the item has no text but its title"
    )
    score: float | None = Field(description="cosine with the nearest phrase; null where the server has no encoder")
    evidence: list[Source] = Field(description="what the verdict rests on, nearest first; none for what nothing supports")


class Explanation(BaseModel):
    """An explanation and what it rests on."""

    user_id: str | None = None
    history: list[str] | None = None
    profile_of: str | None = None
    item_id: str
    title: str
    explanation: str
    score: float = Field(description="inner product of the two collaborative embeddings")
    user_gates: list[float] = Field(description="weight of every expert of the user's adapter")
    item_gates: list[float] = Field(description="weight of every expert of the item's adapter")
    history_scores: list[float] | None = Field(default=None, description="what each item of the history adds to the score")
    shortened: dict[str, list[int]] | None = Field(default=None, description="profiles cut: their tokens as found and as kept")
    cached: bool
    evidence: ScoreParts | None = Field(default=None, description="where asked for; null where the server has no data")
    claims: list[CheckedClaim] | None = Field(default=None, description="where asked for; null where the server has no data")


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
    """The best items of a user or a history, best first."""

    model: str
    notes: list[str]
    user_id: str | None = None
    history: list[str] | None = None
    masked: bool = Field(description="whether what is known already is left out: training items, or the history")
    items: list[Recommendation]


class About(BaseModel):
    """What is served."""

    model: str = Field(description="revision of the model")
    notes: list[str]
    name: str = Field(description="last part of the model's folder or Hub id")
    users: int
    items: int
    experts: int = Field(description="of each adapter")
    injection: str = Field(description="where the graph's signal goes in")
    has_data: bool = Field(description="whether training interactions are known")


class FoundUser(BaseModel):
    """A user of the model."""

    user_id: str


class Users(BaseModel):
    """Users that were looked for."""

    users: list[FoundUser]
    total: int = Field(description="how many match, given or not")


class FoundItem(BaseModel):
    """An item of the model."""

    item_id: str
    title: str


class Items(BaseModel):
    """Items that were looked for."""

    items: list[FoundItem]
    total: int = Field(description="how many match, given or not")


class UserHistory(BaseModel):
    """A user's training items, the latest first."""

    user_id: str
    history: list[FoundItem] = Field(max_length=MAX_HISTORY)
    total: int = Field(description="how many there are, given or not")


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class State(BaseModel):
    """How the server is."""

    status: str
    model: str | None = None
