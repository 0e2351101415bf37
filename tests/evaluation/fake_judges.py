"""Judges of known behaviour behind an endpoint on the loopback interface, and rows to put before them."""

import json
import math

import polars as pl

from ..dataset_builder.scripted_server import Reply, completion

GOOD = {"5": 0.7, "4": 0.2, "1": 0.1}
"""A distribution with the mean 5 * .7 + 4 * .2 + 1 * .1 = 4.4."""

WORDS = ("bread", "garden", "music", "coffee", "river", "chess", "books", "tea", "light", "silence", "view", "price")


def said(probabilities, digit=None, others=(), before=(), fingerprint="fp_1"):
    """A completion of one digit, the likeliest where none is given, with the log-probabilities of what it might have been."""
    digit = digit or max(probabilities, key=probabilities.get)
    options = [{"token": token, "logprob": math.log(one)} for token, one in [*probabilities.items(), *others]]
    tokens = [{"token": token, "logprob": 0.0, "top_logprobs": [{"token": token, "logprob": 0.0}]} for token in before]
    tokens.append({"token": digit, "logprob": 0.0, "top_logprobs": options})
    found = json.loads(completion("".join([*before, digit])).body)
    found["choices"][0]["logprobs"] = {"content": tokens}
    found |= {"model": "m-2026-01-01", "system_fingerprint": fingerprint}
    return Reply(body=json.dumps(found).encode(), headers={"Content-Type": "application/json"})


def material(body):
    """What a judge was shown."""
    return json.loads(body["messages"][1]["content"].split("Material:\n")[1].split("\nQuestion:")[0])


def asked_for(body):
    content = body["messages"][1]["content"]
    names = {"reasons that": "faithfulness", "this very user": "specificity", "well is": "fluency", "two texts": "preference"}
    (name,) = [name for words, name in names.items() if words in content.split("Question:")[1].splitlines()[0]]
    return name


def likeness(text, reference):
    """From 0 to 1: 1 for the same words, 0 for the opposite and for other words."""
    mine, theirs = (set(one.lower().replace(".", "").split()) for one in (text, reference))
    if ("not" in mine) != ("not" in theirs):
        return 0.0
    known = set(WORDS)
    return len(mine & theirs & known) / max(len(mine & known | theirs & known), 1)


def honest(body, _number=0):
    """Scores by likeness to the reference, and prefers the text that is more alike."""
    shown = material(body)
    if asked_for(body) == "preference":
        first, second = (likeness(shown[name], shown["reference"]) for name in "12")
        return said({"1": 0.9, "2": 0.1} if first >= second else {"1": 0.2, "2": 0.8})
    if asked_for(body) == "fluency":
        return said({"4": 1.0} if shown["text"] else {"1": 1.0})
    share = 0.98 * likeness(shown["text"], shown["reference"]) + 0.01
    return said({"5": share, "1": 1 - share})


def indifferent(body, _number=0):
    """Likes everything equally, and of two texts the first."""
    return said({"1": 1.0} if asked_for(body) == "preference" else {"4": 1.0})


def rows(count=30, ids=True):
    """References of three words each, predictions that name two of them, and a system that names one."""
    triples = [(WORDS[row % 12], WORDS[(row + 1 + row // 12) % 12], WORDS[(row + 5) % 12]) for row in range(count)]
    table = {
        "prediction": [f"The user would enjoy the {a} and the {b}." for a, b, _ in triples],
        "reference": [f"The user would enjoy the {a} and the {b} and the {c}." for a, b, c in triples],
        "plain": [f"The user would enjoy the {a}." for a, _, _ in triples],
    }
    if ids:
        table = {"user_id": [f"u{row}" for row in range(count)], "item_id": [f"i{row}" for row in range(count)]} | table
    return pl.DataFrame(table)
