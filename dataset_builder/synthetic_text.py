"""Words of the built-in world: aspects, kinds of place, and the sentences of reviews."""

ASPECTS: dict[str, str] = {
    "bread": "fresh bread",
    "coffee": "strong coffee",
    "curry": "fiery curry",
    "cake": "chocolate cake",
    "noodles": "springy noodles",
    "vegan": "vegan dishes",
    "seafood": "grilled seafood",
    "beer": "craft beer",
    "wine": "natural wine",
    "cocktails": "clever cocktails",
    "quiet": "quiet corners",
    "music": "live music",
    "view": "river view",
    "garden": "shady garden",
    "books": "used books",
    "games": "board games",
    "art": "modern art",
    "staff": "kind staff",
    "speed": "short queue",
    "price": "fair prices",
    "portions": "huge portions",
    "design": "velvet chairs",
    "children": "toddler seats",
    "dogs": "puppy treats",
}
"""Name of each aspect and the phrase that names it in a text."""

KINDS: dict[str, tuple[str, ...]] = {
    "Bakery": ("bread", "coffee", "cake", "vegan", "quiet", "price", "children", "speed"),
    "Kitchen": ("curry", "noodles", "vegan", "seafood", "portions", "staff", "price", "speed"),
    "Tavern": ("beer", "wine", "music", "games", "portions", "dogs", "staff", "garden"),
    "Lounge": ("cocktails", "wine", "music", "view", "design", "art", "quiet", "staff"),
    "Bookshop": ("books", "coffee", "quiet", "art", "games", "design", "children", "cake"),
    "Terrace": ("view", "garden", "dogs", "seafood", "cocktails", "beer", "children", "portions"),
}
"""Kind of place, the last word of a title, and the aspects that are common in it."""

NAMES = (
    "Amber", "Birch", "Cedar", "Dune", "Ember", "Fern", "Grove", "Harbor", "Iris", "Juniper", "Kestrel", "Linden", "Maple",
    "Nettle", "Opal", "Pebble", "Quill", "Raven", "Saffron", "Thistle", "Umber", "Violet", "Willow", "Yarrow", "Zephyr",
)  # fmt: skip
"""First words of titles."""

REASONS = (
    "I loved the {list}.",
    "I really enjoyed the {list}.",
    "I came back because of the {list}.",
    "I was impressed by the {list}.",
    "I would recommend it for the {list}.",
)
"""Sentences that say why; `{list}` names one or more aspects that user and item share."""

DESCRIPTIONS = (
    "A {kind} known for {aspect}.",
    "A {kind} in the centre of town.",
    "A small {kind} near the station.",
)
"""What an item's metadata says: its kind, and now and then one of its aspects."""

NOISE = (
    "I went there on a {day} with my {companion}.",
    "We arrived around {hour} in the evening.",
    "My {companion} told me about this place last {season}.",
    "It was my {count} visit this year.",
    "We live a few streets away.",
    "I wrote this on the train home.",
)
"""Sentences that say nothing about taste."""

FILLERS: dict[str, tuple[str, ...]] = {
    "day": ("Monday", "Tuesday", "Thursday", "Sunday"),
    "companion": ("cousin", "neighbour", "sister", "colleague"),
    "hour": ("six", "seven", "eight"),
    "season": ("spring", "summer", "autumn", "winter"),
    "count": ("second", "third", "fourth"),
}
"""Words for the gaps in `NOISE`."""
