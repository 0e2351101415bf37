"""A page on the Hub that explains recommendations of one published model.

It runs from the published repository alone: `space.json` beside this file names it and the commit. Every text that comes from
users or data goes into the page escaped.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import pipeline

try:
    import gradio as gr
except ImportError:  # the page needs it; explaining does not
    gr = None

TASK = "recommendation-explanation"
MOST_CHOICES = 1000
"""Entries of a list that a phone can still scroll; any other id can be typed."""
MOST_HISTORY = 50
"""Items of a history that are taken."""
NEW_TOKENS = 80
STYLE = """
.evidence { overflow-wrap: anywhere; }
.evidence table { width: 100%; border-collapse: collapse; }
.evidence td, .evidence th { padding: 0.3em 0.5em; text-align: left; vertical-align: top; }
.evidence meter { width: 100%; min-width: 5em; }
"""


@dataclass(frozen=True)
class Explainer:
    """The published model with what can be chosen.

    Args:
        run: the pipeline `recommendation-explanation`.
        users: choices, label and id.
        items: choices, label and id.
        titles: id of an item to its title.
    """

    run: Any
    users: list[tuple[str, str]]
    items: list[tuple[str, str]]
    titles: Mapping[str, str]

    @classmethod
    def load(cls, repo_id: str, revision: str | None) -> "Explainer":
        """Fetch the model and its catalogue.

        Args:
            repo_id: a repository of the Hub, or a folder.
            revision: the commit.
        """
        run = pipeline(TASK, model=repo_id, revision=revision, trust_remote_code=True)
        rows = run.processor.items
        titles = {row["item_id"]: row.get("title") or row["item_id"] for row in rows}
        users = [(short(row["user_id"]), row["user_id"]) for row in run.processor.users[:MOST_CHOICES]]
        items = [(f"{titles[row['item_id']]} ({short(row['item_id'])})", row["item_id"]) for row in rows[:MOST_CHOICES]]
        return cls(run, users, items, titles)

    def explain(self, item_id: str | None, user_id: str | None, history: Sequence[str] | None) -> tuple[str, str]:
        """Explain one pair.

        Args:
            item_id: the item.
            user_id: a stored user; None or empty for a new one.
            history: items that a new user liked.

        Returns:
            The explanation as plain text, and what it rests on as HTML; the text is empty where there is none, and the HTML
            says why.
        """
        if not item_id:
            return "", note("Choose an item.")
        if not user_id and not history:
            return "", note("Choose a stored user, or items that the user liked.")
        who = {"user_id": str(user_id)} if user_id else {"history": [str(one) for one in history or ()][:MOST_HISTORY]}
        try:
            result = self.run({**who, "item_id": str(item_id)}, max_new_tokens=NEW_TOKENS)
        except ValueError as error:  # such as an id that the model does not know
            return "", note(str(error))
        return result["explanation"], self.evidence(result)

    def evidence(self, result: Mapping[str, Any]) -> str:
        """What the explanation rests on, as HTML."""
        rows = [("Item", result["title"]), ("What is known of the item", result["item_profile"])]
        rows += [("What is known of the user", result["user_profile"]), ("Score", f"{result['score']:.3f}")]
        cells = [f"<tr><th>{escaped(name)}</th><td>{escaped(text or 'nothing')}</td></tr>" for name, text in rows]
        parts = [f"<table>{''.join(cells)}</table>"]
        if "history_scores" in result:
            names = [self.titles.get(item, item) for item in result["history"]]
            parts.append(bars("What each item of the history adds to the score", names, result["history_scores"]))
        for side in ("user", "item"):
            gates = result[f"{side}_gates"]
            parts.append(bars(f"Experts of the {side} adapter", [f"{n}" for n in range(1, len(gates) + 1)], gates))
        return f'<div class="evidence">{"".join(parts)}</div>'


def short(text: str) -> str:
    """An id for a list: a hash by its beginning."""
    return text if len(text) <= 20 else f"{text[:12]}…"


def escaped(text: str) -> str:
    """A text for HTML."""
    return html.escape(str(text), quote=True)


def note(text: str) -> str:
    """A remark, as HTML."""
    return f'<p class="evidence">{escaped(text)}</p>'


def bars(title: str, names: Sequence[str], values: Sequence[float]) -> str:
    """Figures with bars behind a heading that opens them, as HTML; the longest bar is the largest figure."""
    most = max((abs(value) for value in values), default=0.0) or 1.0
    rows = [
        f'<tr><td>{escaped(name)}</td><td><meter value="{abs(value) / most:.3f}"></meter></td><td>{value:.3f}</td></tr>'
        for name, value in zip(names, values, strict=True)
    ]
    return f"<details><summary>{escaped(title)}</summary><table>{''.join(rows)}</table></details>"


def build_page(explainer: Explainer, title: str, about: str) -> Any:
    """The page, not yet served.

    Args:
        explainer: what explains.
        title: its heading.
        about: a line below it.
    """
    with gr.Blocks(title=title) as page:
        gr.HTML(f"<style>{STYLE}</style><h1>{escaped(title)}</h1><p>{escaped(about)}</p>")
        item = gr.Dropdown(explainer.items, value=None, label="Item", allow_custom_value=True)
        user = gr.Dropdown(
            [("A new user", ""), *explainer.users],
            value="",
            label="User",
            allow_custom_value=True,
            visible=bool(explainer.users),
        )
        history = gr.Dropdown(
            explainer.items, value=[], multiselect=True, label="Items that a new user liked", allow_custom_value=True
        )
        button = gr.Button("Explain", variant="primary")
        text = gr.Textbox(label="Explanation, written by a machine", lines=3, interactive=False)
        evidence = gr.HTML(label="What it rests on")
        button.click(explainer.explain, [item, user, history], [text, evidence], api_name="explain")
    return page


def main(folder: Path) -> Any:
    """The page of the model that `space.json` names.

    Args:
        folder: where it lies.
    """
    if gr is None:
        raise ImportError("the page needs gradio; install requirements.txt and gradio.")
    about = json.loads((folder / "space.json").read_text(encoding="utf-8"))
    explainer = Explainer.load(about["repo_id"], about["revision"])
    at = f" at commit {about['revision'][:7]}" if about["revision"] else ""
    return build_page(explainer, about["title"], f"Explanations by {about['repo_id']}{at}.")


if __name__ == "__main__":
    main(Path(__file__).parent).launch()
