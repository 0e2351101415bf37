"""A real browser for tests of the page: needs playwright (`pip install playwright`) and a Chromium on PATH."""

import re
import shutil
from contextlib import contextmanager
from urllib.parse import unquote

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="the page is looked at where playwright is installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the page is looked at where Chromium is on PATH"),
]
PATIENCE = 60_000
expect = playwright_api.expect
expect.set_options(timeout=PATIENCE)

DONE = ".lead .said:not([aria-busy])"


@contextmanager
def launched():
    """A browser."""
    with playwright_api.sync_playwright() as running:
        # Chromium's own sandbox needs rights that containers lack; what it shows here is this project's.
        found = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def visiting(browser):
    """Gives what opens the page of a server; in the end no script may have failed, and no other host been asked."""
    contexts, complaints, asked = [], [], []

    def visit(client, where="", width=1280, allowed=None, route=None, **settings):
        base = str(client.base_url).rstrip("/")
        context = browser.new_context(viewport={"width": width, "height": 900}, base_url=base, **settings)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if not (allowed and allowed in said.text) else None)
        page.on("request", lambda request: asked.append((base, request.url)))
        if route is not None:
            page.route(*route)
        page.goto(f"/{where}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked
    assert [url for base, url in asked if not url.startswith((f"{base}/", "data:"))] == []


def explained(page):
    """The text of the explanation when it is whole."""
    expect(page.locator(f"{DONE} ~ div ul.claims, {DONE} ~ div .note").first).to_be_visible()
    return page.locator(DONE).inner_text()


def api(client, path, **body):
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(client, user, item):
    return api(client, "explain", pairs=[{"user_id": user, "item_id": item}])["explanations"][0]["explanation"]


def box(page, name):
    return page.get_by_role("combobox", name=name, exact=True)


def squeezed(text):
    return " ".join(text.split())


def titles(page):
    return page.locator(".picks .pick-title").all_inner_texts()


def named(page, name):
    """What the address says."""
    return [unquote(value.replace("+", " ")) for key, value in re.findall(r"[#&](\w+)=([^&]*)", page.url) if key == name]


def figures(rows):
    return [float(text.split()[0].replace("\u2212", "-")) for text in rows.all_inner_texts()]
