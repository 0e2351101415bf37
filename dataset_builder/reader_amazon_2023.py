"""Amazon Reviews 2023 (Hou et al.): reviews and metadata as JSON lines, a file per category.

A product's variants share their parent's metadata, so an item is a `parent_asin`.
"""

from .fields import MILLISECONDS, NAMES, NUMBER, PARAGRAPHS, TEXT, Field
from .sources import JsonLinesReader

READER = JsonLinesReader(
    about="Amazon Reviews 2023",
    reviews={
        "user_id": [Field("user_id", TEXT, required=True)],
        "item_id": [Field("parent_asin", TEXT, required=True)],
        "rating": [Field("rating", NUMBER)],
        "timestamp": [Field("timestamp", MILLISECONDS)],
        "review": [Field("text", TEXT)],
    },
    items={
        "item_id": [Field("parent_asin", TEXT, required=True)],
        "title": [Field("title", TEXT)],
        "description": [
            Field("description", PARAGRAPHS),
            Field("features", PARAGRAPHS, optional=True),
            Field("categories", NAMES, optional=True),
        ],
    },
)
