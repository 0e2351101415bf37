"""Google Local Data 2021 (Li, Shang and McAuley; Yan et al.): reviews and metadata as JSON lines, a file per state.

The reviewer's name, which the file gives beside every review, is read to be masked in texts, and published nowhere.
"""

from .fields import MILLISECONDS, NAMES, NUMBER, TEXT, Field
from .sources import JsonLinesReader

READER = JsonLinesReader(
    about="Google Local Data 2021",
    reviews={
        "user_id": [Field("user_id", TEXT, required=True)],
        "item_id": [Field("gmap_id", TEXT, required=True)],
        "rating": [Field("rating", NUMBER)],
        "timestamp": [Field("time", MILLISECONDS)],
        "review": [Field("text", TEXT)],
        "user_name": [Field("name", TEXT, optional=True)],
    },
    items={
        "item_id": [Field("gmap_id", TEXT, required=True)],
        "title": [Field("name", TEXT)],
        "description": [Field("description", TEXT, optional=True), Field("category", NAMES, optional=True)],
    },
)
