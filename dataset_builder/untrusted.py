"""Text that others wrote, made fit to stand in a prompt or a dataset: no control strings, nothing invisible, never too long.

Nothing visible is taken away: what a language model could read as structure (`<|im_start|>`, `[INST]`, `<USER_EMBED>`,
`### Response:`, `Assistant:` at the start of a line) is broken by a space, so that a person still sees what stood there.

Text that speaks to a model can be told from a review by its words only, so that telling them apart is a filter and no proof:
what must hold is held by the checks of answers.
"""

import re
import unicodedata

RAW_CHARACTERS = 8_000
"""Characters of a text that are looked at; no prompt takes more than a part of them."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")
_OPEN, _CLOSE = "<◁【", ">▷】"
_BRACKETED = re.compile(rf"[{_OPEN}](?=[^\s{_OPEN}{_CLOSE}][^{_OPEN}{_CLOSE}]{{0,80}}[{_CLOSE}])|[{_OPEN}](?=[|/!])")
_BAR_CLOSES = re.compile(rf"\|(?=[{_CLOSE}])")
_SQUARE = re.compile(r"\[(?=/?[^\W\d]\w{0,40}\])")
_HEADING = re.compile(r"#(?=#)")
_ROLE = re.compile(r"(?im)^([^\w\n]{0,20}(?:system|user|assistant|human|model|tool|developer|ai|bot)[^\w\n]{0,3}?)(?<! )(:)")
_STRUCTURE = "<>[]|#:@"
_DISGUISES = (range(0xFF01, 0xFF5F), range(0xFE50, 0xFE6C), range(0x1D400, 0x1D800))
"""Full-width, small and mathematical forms of ASCII."""


_WORDS = r"(?:\W+\w+){0,5}?\W+"
_ORDERS = r"(?:instructions?|prompts?|rules?|guidelines?|orders|commands)"
_SPEAKS_TO_MODEL = re.compile(
    r"(?i)"
    + "|".join(
        (
            rf"\b(?:ignore|disregard|forget|override|bypass)(?:{_WORDS}{_ORDERS}\b|{_WORDS}(?:previous|prior|above|told|before)\b)",
            rf"\b(?:system|developer|hidden|initial|original|secret)\W+(?:prompt|message|{_ORDERS})\b",
            r"\b(?:real|new|further|changed)(?:\W+the)?\W+(?:instructions|task|rules|orders)\b(?:\W+follow|\s*[.:])",
            r"\b(?:dear|hey|hello|attention|note|message)\b(?:\W+(?:to|for|the|all|any))*\W+"
            r"(?:ai|llm|model|language\W+model|chat\W?bot|assistant|gpt|claude|gemini|bot)s?\b",
            r"\b(?:you are|you're|if you are|act as|pretend to be)\W+(?:now\W+|an?\W+|the\W+)*"
            r"(?:ai|llm|dan|language\W+model|chat\W?bot|assistant|bot)\b",
            r"\bas an? (?:ai|(?:large )?language model)\b",
            r"\b(?:when|while|if|before) you (?:are )?(?:summar\w+|writ\w+|generat\w+|process\w+)\W+(?:this|the|an?)\W+"
            r"(?:review|profile|portrait|summary|explanation|text)\b",
            r"\bin your (?:answer|profile|portrait|summary|explanation)\b",
            r"\byour (?:answer|output|response|reply|summary) (?:must|should|shall|has to|will|is to)\b",
            r"\b(?:respond|reply|answer|output)\W+(?:only\W+|exactly\W+|just\W+)+(?:with|in|the|this|as)?\b",
            rf"\b(?:repeat|reveal|print|leak|copy|quote|disclose)\b{_WORDS}(?:prompt|verbatim|word for word|{_ORDERS}"
            r"|(?:text|message|words|everything) above|whole message|your answer)\b",
            rf"\b(?:ignorier\w*|vergiss|missachte){_WORDS}(?:anweisung|regel|befehl|vorgabe)",
            rf"\b(?:ignor[ae]\w*|olvid\w+|oubli\w+|dimentic\w+|esque\w+){_WORDS}"
            r"(?:instruc|instru\u00e7|istruzion|consigne|regla|r\u00e8gle|regole|regras)",
            r"(?:\u5ffd\u7565|\u65e0\u89c6|\u7121\u8996|\u5ffd\u8996).{0,12}(?:\u6307\u793a|\u6307\u4ee4|\u8bf4\u660e|\u6307\u5f15)",
            r"\u7121\u8996\u3057\u3066|\u0438\u0433\u043d\u043e\u0440\u0438\u0440\u0443\u0439",
            r"\bend of (?:the )?(?:data|input|review|context)\b|<!--",
            r"[\"'\u201d]\s*[}\]]|[}\]]\s*[,}\]]|[\"']\s*,\s*[\"']\w+[\"']\s*:|```",
            r"<\||\|>|\[/?inst\]|<</?sys>>|</?s>|</?(?:start|end)_of_turn|<\w+_(?:embed|token|id)>|#{2,}\s*\w+\s*:",
            r"(?-i:\bSYSTEM\s?:)|(?:^|\n)[^\w\n]{0,20}(?:system|assistant|user|human)\s?:",
        )
    )
)


class _Cleaning(dict):
    """For `str.translate`, filled as characters come: what a character is replaced by, None for nothing.

    Controls become blanks, invisible characters go, and characters that a normaliser turns into a bracket, a bar or another
    sign of structure, or that are letters and digits in disguise (full-width, mathematical), become that plain one.
    """

    def __missing__(self, code: int) -> str | None:
        self[code] = _cleaned(chr(code))
        return self[code]


def _cleaned(char: str) -> str | None:
    category = unicodedata.category(char)
    if char == "\n" or category in ("Zl", "Zp"):
        return "\n"
    if category in ("Cc", "Zs"):
        return " "
    if category == "Cf" or "\ufe00" <= char <= "\ufe0f":
        return None
    plain = unicodedata.normalize("NFKD", char)[:1]
    disguised = plain.isascii() and any(ord(char) in forms for forms in _DISGUISES)
    return plain if disguised or plain in _STRUCTURE else char


_CLEANING = _Cleaning()


def visible(text: str) -> str:
    """The text without control, zero-width and bidirectional characters; line breaks stay, other blanks are spaces."""
    return _LONE_SURROGATE.sub("\ufffd", text).translate(_CLEANING)


def defused(text: str) -> str:
    """One line of visible text whose control strings are broken.

    Covers strings in angle brackets or their likes, whatever stands between them, if closed within 80 characters; words in
    square brackets; marks of headings; and roles with a colon at the start of a line.
    """
    text = _ROLE.sub(r"\1 \2", visible(text))
    for opening in (_BRACKETED, _BAR_CLOSES, _SQUARE, _HEADING):
        text = opening.sub(r"\g<0> ", text)
    return one_line(text)


def speaks_to_model(text: str) -> bool:
    """Whether a text has words or signs of one that gives orders to the model that reads it.

    Looks for talk of instructions and prompts, address of models, orders about the answer, in English and in a few words of
    seven other languages, and for signs of structure. Orders in plain words of another kind are not seen.
    """
    return _SPEAKS_TO_MODEL.search(visible(text)) is not None


def one_line(text: str) -> str:
    """The text with single spaces for runs of blanks."""
    return _BLANKS.sub(" ", text).strip()


def cut(text: str, characters: int) -> str:
    """At most so many characters, whole words where there are any, with dots where something is missing."""
    if len(text) <= characters:
        return text
    head = text[: characters - 3]
    words = head.rsplit(" ", 1)[0]
    return (words if 2 * len(words) >= characters else head).rstrip() + "..."
