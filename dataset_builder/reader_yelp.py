"""Yelp Open Dataset: `yelp_academic_dataset_review.json` and `yelp_academic_dataset_business.json`, JSON lines."""

from .fields import DATE, NUMBER, TEXT, Field
from .sources import JsonLinesReader

READER = JsonLinesReader(
    about="Yelp Open Dataset",
    reviews={
        "user_id": [Field("user_id", TEXT, required=True)],
        "item_id": [Field("business_id", TEXT, required=True)],
        "rating": [Field("stars", NUMBER)],
        "timestamp": [Field("date", DATE)],
        "review": [Field("text", TEXT)],
    },
    items={
        "item_id": [Field("business_id", TEXT, required=True)],
        "title": [Field("name", TEXT)],
        "description": [Field("categories", TEXT, optional=True), Field("city", TEXT, optional=True)],
    },
)
