"""Words of the built-in world: aspects with their surface forms, kinds of place, and the sentences of reviews."""

ASPECTS: dict[str, tuple[str, ...]] = {
    "bread": ("fresh bread", "sourdough loaves", "warm rolls"),
    "coffee": ("strong coffee", "smooth espresso", "silky flat white"),
    "curry": ("fiery curry", "fragrant curry", "slow curry"),
    "desserts": ("rich desserts", "chocolate cake", "homemade tart"),
    "noodles": ("springy noodles", "hand pulled noodles", "peppery ramen"),
    "vegan": ("vegan dishes", "plant based menu", "meatless options"),
    "seafood": ("grilled seafood", "buttery lobster", "briny oysters"),
    "beer": ("craft beer", "hoppy ales", "local lagers"),
    "wine": ("natural wine", "deep wine list", "crisp whites"),
    "cocktails": ("clever cocktails", "smoky negroni", "citrus spritz"),
    "quiet": ("quiet corners", "hushed rooms", "calm mood"),
    "music": ("live music", "jazz nights", "vinyl records"),
    "view": ("river view", "rooftop terrace", "skyline panorama"),
    "garden": ("shady garden", "flowery courtyard", "leafy patio"),
    "books": ("used books", "poetry shelves", "rare editions"),
    "games": ("board games", "pinball machines", "pool tables"),
    "art": ("modern art", "bold murals", "sculpture room"),
    "service": ("kind staff", "attentive service", "patient waiters"),
    "speed": ("quick orders", "short queue", "speedy counter"),
    "price": ("fair prices", "cheap lunch", "modest bill"),
    "portions": ("huge portions", "generous plates", "heaped bowls"),
    "design": ("elegant design", "velvet chairs", "tiled interior"),
    "children": ("play corner", "toddler seats", "family tables"),
    "dogs": ("dog bowls", "puppy treats", "pet friendly porch"),
}
"""Name of each aspect and the phrases that name it in a text; no word of one aspect's phrases is shared with another's."""

KINDS: dict[str, tuple[str, ...]] = {
    "Bakery": ("bread", "coffee", "desserts", "vegan", "quiet", "price", "children", "speed"),
    "Kitchen": ("curry", "noodles", "vegan", "seafood", "portions", "service", "price", "speed"),
    "Tavern": ("beer", "wine", "music", "games", "portions", "dogs", "service", "garden"),
    "Lounge": ("cocktails", "wine", "music", "view", "design", "art", "quiet", "service"),
    "Bookshop": ("books", "coffee", "quiet", "art", "games", "design", "children", "desserts"),
    "Terrace": ("view", "garden", "dogs", "seafood", "cocktails", "beer", "children", "portions"),
}
"""Kind of place, the last word of a title, and the aspects that are common in it."""

NAMES = (
    "Amber", "Birch", "Cedar", "Dune", "Ember", "Fern", "Grove", "Harbor", "Iris", "Juniper", "Kestrel", "Linden", "Maple",
    "Nettle", "Opal", "Pebble", "Quill", "Raven", "Saffron", "Thistle", "Umber", "Violet", "Willow", "Yarrow", "Zephyr",
)  # fmt: skip
"""First words of titles."""

REASONS = (
    "I loved the {a}.",
    "I really enjoyed the {a}.",
    "I came back because of the {a}.",
    "The {a} made my evening perfect.",
    "The best part was the {a}.",
    "I was impressed by the {a}.",
    "I would recommend it for the {a}.",
)
"""Sentences that say why; `{a}` is a surface form of an aspect that user and item share."""

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
