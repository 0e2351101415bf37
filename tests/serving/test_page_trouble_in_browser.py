"""The page in a real browser: what goes wrong, what is planted, and who reads it how."""

import dataclasses
import json
import re
import time
from urllib.parse import unquote

import pytest

from xrec_serving.explaining import ExplainingModel

from .page_browser import NEEDS_BROWSER, box, expect, explained, launched, titles, visiting

pytestmark = NEEDS_BROWSER
HOSTILE = "<img src=x onerror=window.broken=1><b>bold</b>&amp;"
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((part, at) => part * top[3] + below[at] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), rgba("Canvas").slice(0, 3));
  };
  const light = (color) => color.map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(".unseen, noscript")) continue;
    const ground = behind(node);
    const [one, other] = [light(over(rgba(getComputedStyle(node).color), ground)), light(ground)].sort((a, b) => b - a);
    const key = `${node.tagName}.${node.className}`;
    found[key] = Math.min(found[key] ?? 99, (one + 0.05) / (other + 0.05));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture
def visit(browser):
    with visiting(browser) as go:
        yield go


def planted(value, inside=None):
    """Markup before every text and id of an answer."""
    if isinstance(value, dict):
        return {key: planted(some, key) for key, some in value.items()}
    if isinstance(value, list):
        return [planted(some, inside) for some in value]
    texts = (
        "title",
        "user_id",
        "item_id",
        "text",
        "explanation",
        "detail",
        "name",
        "model",
        "notes",
        "verdict",
        "source",
        "history",
    )
    return HOSTILE + value if isinstance(value, str) and inside in texts else value


def hand_over(route):
    """Asks the real server without the markup, and gives its answer with it."""
    bare = unquote(route.request.url).replace(HOSTILE, "")
    body = route.request.post_data
    answer = route.fetch(url=bare, post_data=None if body is None else body.replace(json.dumps(HOSTILE)[1:-1], ""))
    if "event-stream" not in answer.headers["content-type"]:
        route.fulfill(response=answer, body=json.dumps(planted(answer.json())))
        return
    lines = (
        f"data: {json.dumps(planted(json.loads(line[6:])))}" if line.startswith("data: ") else line
        for line in answer.text().split("\n")
    )
    route.fulfill(response=answer, body="\n".join(lines))


def test_markup_in_titles_ids_profiles_and_texts_is_shown_as_it_is(serve, visit):
    client = serve()
    page = visit(client, route=("**/v1/**", hand_over), allowed="404")
    assert explained(page).startswith(HOSTILE)
    assert all(title.startswith(HOSTILE) for title in titles(page))
    box(page, "The same item for another user").fill("u00003")
    page.locator("#what-if [role=option]").first.click()
    expect(page.locator(".sides .said").last).to_contain_text(HOSTILE)
    page.locator("#who .chip button").first.click()
    expect(page.locator(".moves .move-title").first).to_contain_text(HOSTILE)
    for place in ("#item-title", ".kicker", "#rests", "#what-if", "#trust", "#model-line", ".chip"):
        expect(page.locator(place).first).to_contain_text(HOSTILE)
    page.goto("/#user=" + HOSTILE.replace("&", "%26") + "nobody")
    expect(page.locator("#list .problem")).to_contain_text(HOSTILE)
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main b b").count() == 0


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone_however_long_a_word_is(serve, visit, width):
    def lengthen(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=re.sub(r'"title":"', '"title":"' + "Endlessness" * 12, answer.text()))

    page = visit(serve(), width=width, route=(re.compile(r"/v1/(items|users|recommend|explain)"), lengthen))
    explained(page)
    box(page, "User").click()
    expect(page.locator("#who [role=option]").first).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".pick").nth(1).click()
    explained(page)
    page.locator(".toggle").first.click()
    expect(page.locator(".sides .said")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.eval_on_selector_all(
        "button, input, summary",
        "all => all.filter((one) => one.checkVisibility()).map((one) => one.getBoundingClientRect().height)",
    )
    assert min(small) >= 22


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(serve, visit, scheme):
    page = visit(serve(), color_scheme=scheme)
    explained(page)
    page.locator("summary").click()
    page.locator(".toggle").first.click()
    expect(page.locator(".sides .said")).to_have_count(2)
    box(page, "User").click()
    expect(page.locator("#who [role=option]").first).to_be_visible()
    page.wait_for_timeout(400)  # until colours have changed over
    found = page.evaluate(CONTRAST)
    assert len(found) > 30
    assert {name: round(ratio, 2) for name, ratio in found.items() if ratio < 4.5} == {}


def test_who_wants_no_motion_sees_none(serve, visit):
    page = visit(serve(), reduced_motion="reduce", route=("**/v1/explain", lambda route: None))
    expect(page.locator(".caret")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_key_is_asked_for_and_kept_for_the_tab_alone(serve, visit):
    client = serve(keys=("right",))
    page = visit(client, allowed="401")
    page.get_by_label("Key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator(".problem-line")).to_have_text("The server does not know this key.")
    page.get_by_label("Key").fill("right")
    page.keyboard.press("Enter")
    explained(page)
    kept = page.evaluate("[localStorage.length, document.cookie, JSON.stringify(sessionStorage), location.href]")
    assert kept[:3] == [0, "", '{"xrec-key":"right"}']
    assert "right" not in kept[3]


def test_what_is_not_known_is_said_where_it_should_stand(serve, visit):
    client = serve()
    page = visit(client, where="#user=nobody&item=nothing", allowed="404")
    for place in ("#who", "#list", "#explanation"):
        expect(page.locator(f"{place} .problem-line")).to_contain_text("nobody")
    box(page, "User").fill("u00001")
    page.locator("#who [role=option]").first.click()
    explained(page)
    expect(page.locator(".problem")).to_have_count(0)


def test_a_busy_server_is_asked_again_when_it_said(serve, visit):
    calls = []

    def refuse_once(route):
        calls.append(time.monotonic())
        if len(calls) > 1:
            route.continue_()
        else:
            route.fulfill(
                status=429, headers={"retry-after": "2", "content-type": "application/json"}, body='{"detail": "busy"}'
            )

    page = visit(serve(), route=("**/v1/explain", refuse_once), allowed="429")
    expect(page.locator("#explanation .problem-line")).to_contain_text("trying again in 2 seconds")
    explained(page)
    assert len(calls) == 2
    assert calls[1] - calls[0] >= 2


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (None, "The server cannot be reached"),
        ({"status": 504, "json": {"detail": "expected an answer within 60 s, found none"}}, "Expected an answer within 60 s"),
        ({"status": 422, "json": {"detail": "expected a shorter title"}}, "Expected a shorter title."),
        ({"status": 502, "body": "<html>bad gateway"}, "The server answered 502."),
        ({"content_type": "text/event-stream", "body": 'event: token\ndata: {"text": "Half"}\n\n'}, "The answer broke off"),
        ({"content_type": "text/event-stream", "body": 'event: error\ndata: {"detail": "it failed"}\n\n'}, "It failed."),
        ({"content_type": "text/event-stream", "body": "event: done\ndata: {nonsense\n\n"}, "The answer broke off"),
    ],
)
def test_what_goes_wrong_is_one_line_and_can_be_tried_again(serve, visit, answer, line):
    def fail(route):
        if failed:
            route.continue_()
            return
        failed.append(1)
        route.abort() if answer is None else route.fulfill(**answer)

    failed = []
    page = visit(serve(), route=("**/v1/explain", fail), allowed="Failed to load resource")
    expect(page.locator("#explanation .problem-line")).to_contain_text(line)
    expect(page.locator(".picks li").first).to_be_visible()
    page.locator("#explanation .problem button").click()
    assert explained(page)


def test_without_data_the_page_says_what_is_lacking(serve, visit, options):
    bare = {"data": None, "graph": None}
    page = visit(serve(ExplainingModel(dataclasses.replace(options, **bare)), **bare))
    expect(page.locator("#trust .notes")).to_contain_text("Served without --data")
    expect(page.locator("#rests")).to_contain_text("there is no evidence")
    expect(page.locator("#list")).to_contain_text("may hold items that the user knows already")
    expect(page.locator("#what-if")).to_contain_text("The server has no data")
