"""Amazon review data 2018 (Ni, Li and McAuley): reviews and metadata as JSON lines, a file per category."""

from .fields import NUMBER, PARAGRAPHS, SECONDS, TEXT, Field
from .sources import JsonLinesReader

READER = JsonLinesReader(
    about="Amazon review data 2018",
    reviews={
        "user_id": [Field("reviewerID", TEXT, required=True)],
        "item_id": [Field("asin", TEXT, required=True)],
        "rating": [Field("overall", NUMBER)],
        "timestamp": [Field("unixReviewTime", SECONDS)],
        "review": [Field("reviewText", TEXT)],
        "user_name": [Field("reviewerName", TEXT, optional=True)],
    },
    items={
        "item_id": [Field("asin", TEXT, required=True)],
        "title": [Field("title", TEXT)],
        "description": [Field("description", PARAGRAPHS)],
    },
)
