"""The page of the studio in a browser: every panel is used, on runs of every kind."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image
from tiny_runs import joint_run, wait

from browser import Watch, chromium, serving
from isthmus.signs.analysis import analyse
from isthmus.signs.inscriptions import read
from isthmus.signs.page import write
from isthmus.studio.server import make, make_signs
from isthmus.studio.signs import Report
from isthmus.studio.space import Space

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
expect = playwright.expect
expect.set_options(timeout=10_000)
HOSTILE = "<img src=x onerror=\"alert('no')\"> <b>a</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = chromium()
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a report on signs: "a" and "b" are one shape, "c" is two."""
    folder = tmp_path_factory.mktemp("signs")
    generator = np.random.default_rng(0)
    exact = generator.random((4, 8, 8)) < 0.4
    files = [f"{shape}{drawing}" for shape in range(4) for drawing in range(4)]
    names = ["a", "a", "b", "b", *"cccc", *"cccc", *"dddd"]
    for place, file in enumerate(files):
        ink = np.kron(exact[place // 4], np.ones((8, 8))) * generator.uniform(0.6, 1, (64, 64))
        Image.fromarray(np.uint8(255 * (1 - ink))).save(folder / f"{file}.png")
    lines = [" ".join(generator.choice(files, 12)) for _ in range(4)] + [" ".join(files)]
    (folder / "order.txt").write_text("\n".join(lines), encoding="utf-8")
    rows = [f"{file}\t{name}\n" for file, name in zip(files, names, strict=True)]
    (folder / "names.tsv").write_text("".join(rows), encoding="utf-8")
    signs = read(str(folder))
    codes = np.stack([picture.ravel() for picture in signs.pictures]).astype(np.float32)
    write(analyse(signs, codes, "pixels", 4, "kmeans", 2), folder / "report")
    return folder / "report"


@pytest.fixture(scope="module")
def addresses(runs, report, tmp_path_factory) -> Iterator[Callable[[str], str]]:
    """Addresses of servers by the kind of run; each is started once."""
    with ExitStack() as stack:
        known: dict[str, str] = {}

        def address(name: str) -> str:
            if name in known:
                return known[name]
            if name == "signs":
                application = make_signs(Report(str(report)))
            elif name == "joint":
                space = Space(*map(str, joint_run(tmp_path_factory.mktemp("joint"))))
                application = make(space)
            else:
                space = Space(runs[name], "digits" if name == "picture" else runs["corpus"])
                application = make(space)
            known[name] = stack.enter_context(serving(application))
            if name != "signs" and space.map is not None:
                wait(lambda: space.map._crowd is not None)
            return known[name]

        yield address


@pytest.fixture
def visit(browser, addresses) -> Iterator[Callable]:
    """Opens the page of a run at a part of its address; then check what it must not do."""
    with ExitStack() as stack:

        def opened(name: str, part: str = "", **options):
            page = browser.new_page(viewport={"width": 1280, "height": 800}, **options)
            stack.callback(page.close)
            page.watch = Watch(page)
            stack.callback(page.watch.check)
            page.set_default_timeout(10_000)
            page.goto(addresses(name) + part)
            expect(page.locator("#rail a[aria-current]")).to_be_visible()
            return page

        yield opened


def panels(page) -> list[str]:
    return page.locator("#rail a span").all_inner_texts()


def decoded(panel):
    """The text that a panel shows as its result, once there is one."""
    text = panel.locator(".now .text").first
    expect(text).to_be_visible()
    return text


NAMELESS = """() => [...document.querySelectorAll(
    "button, a, input, select, textarea, summary, [tabindex='0'], meter, progress")]
    .filter((it) => !(it.getAttribute("aria-label") || it.title || it.innerText?.trim()
        || it.getAttribute("aria-hidden") || it.getAttribute("aria-labelledby")
        || it.labels?.length || it.textContent.trim()))
    .map((it) => it.outerHTML.slice(0, 120))"""
"""Controls that have no name for a screen reader."""
LATENT = ["Map", "Walk", "Arithmetic", "Dimensions", "Neighbours", "Sample"]


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("text", [*LATENT, "Health"]),
        ("labels", [*LATENT, "Control", "Health"]),
        ("grid", [*LATENT[:2], "Exchange", *LATENT[2:], "Health"]),
        ("codebook", [*LATENT[:2], "Exchange", "Codebook", *LATENT[2:], "Health"]),
        ("codes", ["Control", "Health"]),
        ("language", ["Health"]),
        ("picture", [*LATENT, "Health"]),
        ("signs", ["Signs"]),
    ],
)
def test_a_run_has_the_panels_that_it_can_offer_and_all_are_fit_to_use(visit, name, offered):
    page = visit(name)
    assert panels(page) == offered
    page.set_viewport_size({"width": 390, "height": 844})
    for words in offered:
        page.locator("#rail a", has_text=words).click()
        panel = page.locator(".panel:visible")
        expect(page.get_by_role("heading", level=1, name=words, exact=True)).to_be_visible()
        expect(panel.locator(".busy")).to_have_count(0)
        expect(panel.get_by_role("alert")).to_have_count(0)
        wide = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
        assert wide <= 0, f"{words} is {wide} pixels too wide for a phone"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate(NAMELESS) == []


def middle(page):
    box = page.locator(".stage").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shown_map(page):
    """The map, once its points are there."""
    expect(page.locator(".map-state")).to_be_hidden()
    expect(page.locator(".legend > *").first).to_be_visible()
    return page.locator(".stage")


def test_the_map_is_pointed_at_pressed_and_lassoed(visit):
    page = visit("text")
    stage, here = shown_map(page), page.locator("section.here")
    x, y = middle(page)
    page.mouse.click(x, y)
    expect(here.locator(".text").first).to_be_visible()
    expect(page).to_have_url(re.compile("map.here="))
    here.get_by_role("button", name="Close").click()
    expect(here).to_be_hidden()

    box = stage.bounding_box()
    corners = [(0.98, 0.98), (0.98, 0.02), (0.02, 0.02), (0.02, 0.98), (0.45, 0.99)]
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.99 * box["height"])
    page.mouse.down()
    for across, down in corners:
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.get_by_role("heading", name="90 texts selected")).to_be_visible()
    expect(page.locator(".shares li")).to_have_count(2)
    expect(page).to_have_url(re.compile("lasso="))
    link = page.url[page.url.index("#") :]
    expect(page.locator(".list .line")).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".list .line")).to_have_count(90)
    first = page.locator(".list .line").first
    first.hover()
    expect(page.locator(".mark.ring")).to_have_count(1)
    first.click()
    expect(here.locator(".original .text")).to_have_text(first.locator(".text").inner_text())
    again = visit("text", link)
    expect(again.get_by_role("heading", name="90 texts selected")).to_be_visible()


def test_a_point_under_the_cursor_is_read_and_pressed(visit):
    page = visit("text", "#map?map.here=%237")
    shown_map(page)
    here = page.locator("section.here")
    expect(here.get_by_role("heading", name="Text 7")).to_be_visible()
    mark = page.locator(".mark.here").bounding_box()
    here.get_by_role("button", name="Close").click()
    page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    expect(page.locator(".tip p")).to_have_text(re.compile("^[abc ]+$"))
    read = page.locator(".tip p").inner_text()
    page.mouse.down()
    page.mouse.up()
    expect(here.locator(".original .text")).to_have_text(read)


def test_texts_are_found_by_words_and_by_latent(visit):
    page = visit("text")
    shown_map(page)
    search = page.get_by_role("searchbox")
    search.fill("b b")
    expect(page.locator(".found h2")).to_have_text(re.compile(r"texts? with “b b”"))
    assert all("b b" in text for text in page.locator(".list .text").all_inner_texts())
    page.get_by_label("nearest latent").check()
    expect(page.locator(".found h2")).to_have_text("The 50 texts nearest in latent space")
    expect(page.get_by_role("button", name="Copy as Python")).to_be_visible()
    page.get_by_label("contains").check()
    search.fill("no such words")
    expect(page.locator(".found h2")).to_contain_text("No text contains “no such words”")


def test_the_map_by_keys_alone(visit):
    page = visit("text")
    stage = shown_map(page)
    stage.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"map.view=\d"))
    page.keyboard.press("0")
    expect(page).not_to_have_url(re.compile("map.view"))
    page.keyboard.press("Enter")
    expect(page.locator("section.here .text").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("section.here")).to_be_hidden()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="90 texts selected")).to_be_visible()


def test_a_category_is_seen_alone_and_colours_change(visit):
    page = visit("text")
    shown_map(page)
    keys = page.locator(".legend .key")
    expect(keys).to_have_text(["down", "up"], use_inner_text=True)
    keys.first.click()
    expect(keys.first).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile("map.only=down"))
    page.reload()
    expect(keys.first).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Colour the points by").select_option("length")
    expect(page.locator(".legend .number")).to_contain_text("words")
    expect(page).to_have_url(re.compile("map.by=length"))


def test_a_projection_that_is_not_ready_is_computed_and_shown(visit):
    page = visit("text")
    shown_map(page)
    page.get_by_role("button", name="t-SNE").click()
    pressed = page.locator(".segments [aria-pressed=true]")
    expect(pressed).to_have_text("t-SNE", timeout=30_000)
    expect(page).to_have_url(re.compile("map.projection=tsne"))


def test_a_walk_is_decoded_while_the_slider_moves_and_its_link_restores_it(visit):
    page = visit("text")
    page.locator("#rail a", has_text="Walk").click()
    panel = page.locator(".panel.walk")
    panel.get_by_label("A", exact=True).fill("a b c")
    panel.get_by_label("B", exact=True).fill("c b a b c")
    panel.get_by_label("Points between").fill("3")
    panel.get_by_label("Points between").press("Enter")
    expect(panel.locator(".stops li")).to_have_count(5)
    slider = panel.get_by_role("slider")
    slider.fill("0.31")
    expect(panel.locator(".slide output")).to_have_text("0.31")
    expect(slider).to_have_attribute("aria-valuetext", "31 % of the way from A to B")
    text = decoded(panel).inner_text()
    expect(panel.locator(".meters").first).to_contain_text("log p(z)")
    expect(page).to_have_url(re.compile("at=0.31"))

    other = visit("text", page.url[page.url.index("#") :])
    again = other.locator(".panel.walk")
    expect(again.get_by_label("A", exact=True)).to_have_value("a b c")
    expect(again.locator(".stops li")).to_have_count(5)
    expect(again.locator(".slide output")).to_have_text("0.31")
    expect(decoded(again)).to_have_text(text)


def test_a_walk_changes_sentence_by_sentence(visit):
    page = visit("text", "#walk?a=a+b.+c.&b=c+c.+b.+a.&path=sentences")
    panel = page.locator(".panel.walk")
    expect(panel.locator(".stops li")).to_have_count(4)
    expect(panel.get_by_label("Path")).to_have_value("sentences")
    expect(panel.get_by_label("Points between")).to_be_hidden()
    slider = panel.get_by_role("slider")
    slider.fill("0.7")  # nearest to the third of four points
    expect(panel.locator(".stops li").nth(2)).to_have_attribute("data-here", "")
    panel.get_by_label("Path").select_option("lerp")
    expect(panel.get_by_label("Points between")).to_be_visible()
    expect(panel.locator(".stops li")).to_have_count(9)


def test_code_and_links_are_copied(visit):
    page = visit("text", "#walk?a=a+b", permissions=["clipboard-read", "clipboard-write"])
    panel = page.locator(".panel.walk")
    panel.get_by_label("B", exact=True).fill("c")
    expect(panel.locator(".stops li").first).to_be_visible()
    for name, word in [("Python", "isthmus.load"), ("command", "isthmus interpolate")]:
        panel.get_by_role("button", name=f"Copy as {name}").click()
        expect(panel.locator(".code")).to_contain_text(word)
        assert word in page.evaluate("() => navigator.clipboard.readText()")
    panel.get_by_role("button", name="Copy link").click()
    expect(panel.locator(".copied")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()").endswith("#walk?a=a+b&b=c")


def test_the_way_back_goes_back(visit):
    page = visit("text", "#walk?a=a+b+c&b=c")
    page.locator("#rail a", has_text="Sample").click()
    expect(page.locator(".panel.sample .item")).to_have_count(6)
    page.go_back()
    expect(page.locator(".panel.walk")).to_be_visible()
    expect(page.get_by_label("A", exact=True)).to_have_value("a b c")


def test_arithmetic_with_weights(visit):
    page = visit("text", "#arithmetic?A=a+b+c&wA=1&B=c&wB=-1&C=b+b&wC=1")
    panel = page.locator(".panel.arithmetic")
    expect(panel.locator(".formula")).to_have_text("A − B + C")
    decoded(panel)
    expect(panel.locator(".parts li")).to_have_count(3)
    panel.get_by_label("Weight of B").fill("-0.5")
    expect(panel.locator(".formula")).to_have_text("A − 0.5 B + C")
    expect(page).to_have_url(re.compile(r"wB=-0\.5"))
    panel.get_by_role("button", name="Add a term").click()
    panel.get_by_label("D", exact=True).fill("a a")
    expect(panel.locator(".parts li")).to_have_count(4)
    panel.get_by_role("button", name="Remove A").click()
    expect(panel.locator(".parts li")).to_have_count(3)
    expect(panel.get_by_label("A", exact=True)).to_have_value("c")


def test_each_latent_of_one_text_comes_from_another(visit):
    page = visit("grid", "#exchange?a=a+b+c&b=c")
    rows = page.locator(".panel.exchange .parts li")
    expect(rows.locator(".at")).to_have_text(["none", "0", "1", "all"])
    expect(rows.first.locator("small")).to_have_text("+0.0 nats")
    page.get_by_label("B", exact=True).fill("a b c")
    expect(rows.locator("small")).to_have_text(["+0.0 nats"] * 4)


def test_a_summary_comes_from_another_text_as_a_whole(visit):
    page = visit("summary", "#exchange?a=a&b=c+b")
    rows = page.locator(".panel.exchange .parts li")
    expect(rows.locator(".at")).to_have_text(["none", "summary", "2", "3", "all"])
    page.goto(page.url.replace("#exchange?a=a&b=c+b", "#dimensions?at=a+b+c"))
    panel = page.locator(".panel.dimensions")
    decoded(panel)
    with page.expect_response("**/api/dimensions") as answer:
        panel.locator(".dial").first.get_by_role("slider").fill("2")
    assert answer.value.ok
    expect(panel.locator(".dial").first.locator("output")).to_have_text("+2.0")


def test_dimensions_are_moved_and_swept(visit):
    page = visit("text", "#dimensions?at=a+b+c")
    panel = page.locator(".panel.dimensions")
    decoded(panel)
    dials = panel.locator(".dial")
    expect(dials).to_have_count(3)
    kl = [float(words.split()[0]) for words in panel.locator(".kl").all_inner_texts()]
    assert kl == sorted(kl, reverse=True)
    with page.expect_response("**/api/dimensions") as answer:
        dials.first.get_by_role("slider").fill("2.5")
    assert list(json.loads(answer.value.request.post_data)["offsets"].values()) == [2.5]
    expect(dials.first.locator("output")).to_have_text("+2.5")
    expect(page).to_have_url(re.compile("offsets="))
    dials.first.get_by_role("button", name="Sweep").click()
    expect(dials.first.locator(".swept li")).to_have_count(5)
    expect(page).to_have_url(re.compile(r"sweep=\d"))
    page.reload()
    expect(dials.first.locator(".swept li")).to_have_count(5)
    expect(dials.first.locator("output")).to_have_text("+2.5")
    panel.get_by_role("button", name="Reset all to 0").click()
    expect(page).not_to_have_url(re.compile("offsets="))


def test_neighbours_of_a_text_and_of_a_place(visit):
    page = visit("text", "#neighbours?at=a+b+c&count=4")
    panel = page.locator(".panel.neighbours")
    expect(panel.locator(".line")).to_have_count(4)
    distances = [float(words) for words in panel.locator(".distance").all_inner_texts()]
    assert distances == sorted(distances)
    shown_map(page)
    panel.get_by_role("button", name="Pick Query on the map").click()
    expect(page.locator(".banner")).to_be_visible()
    box = page.locator(".stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 120, box["y"] + box["height"] - 40)
    expect(page).to_have_url(re.compile("at=z%3A"))
    expect(panel.locator(".line")).to_have_count(4)


def test_samples_from_the_prior_and_from_the_corpus(visit):
    page = visit("text", "#sample?count=3")
    panel = page.locator(".panel.sample")
    expect(panel.locator(".item")).to_have_count(3)
    before = panel.locator(".meters").all_inner_texts()
    panel.get_by_label("From").select_option("aggregate")
    expect(page).to_have_url(re.compile("source=aggregate"))
    expect(panel.locator(".meters").first).not_to_have_text(before[0], use_inner_text=True)
    panel.get_by_role("button", name="Another seed").click()
    expect(page).to_have_url(re.compile("seed=1"))
    panel.locator(".item").first.get_by_role("button", name="Neighbours").click()
    expect(page.locator(".panel.neighbours .line")).to_have_count(10)
    expect(page).to_have_url(re.compile("at=z%3A"))


def test_decoding_is_set_for_all_panels(visit):
    page = visit("text", "#sample?count=2")
    panel = page.locator(".panel.sample")
    expect(panel.locator(".item")).to_have_count(2)
    panel.locator(".decoding summary").click()
    with page.expect_response("**/api/sample") as answer:
        panel.get_by_label("Method").select_option("1")
    assert json.loads(answer.value.request.post_data)["decoding"] == {"sample": True}
    expect(panel.get_by_label("Temperature")).to_be_visible()
    expect(page).to_have_url(re.compile("decode.sample=1"))


@pytest.mark.parametrize("name", ["codes", "labels"])
def test_texts_are_written_under_codes_and_attributed(visit, name):
    page = visit(name, "#control")
    panel = page.locator(".panel.control")
    expect(panel.locator(".written .item")).to_have_count(4)
    panel.get_by_label("mix several codes").check()
    panel.get_by_role("group", name="Codes").get_by_role("button").nth(1).click()
    panel.get_by_label("Guidance").fill("1")
    with page.expect_response("**/api/generate") as answer:
        panel.get_by_role("button", name="Write", exact=True).click()
    assert len(json.loads(answer.value.request.post_data)["mixture"]) == 2
    expect(panel.locator(".written .item")).to_have_count(4)
    expect(panel.locator(".write [role=alert]")).to_have_count(0)

    panel.get_by_placeholder("A text to attribute").fill("a b c a")
    expect(panel.locator(".tokens")).to_contain_text("a b c a")
    shares = [float(words.split()[0]) for words in panel.locator(".bar b").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    expect(panel.locator(".token").first).to_have_attribute("title", re.compile("nats"))
    panel.get_by_label("Colour tokens by").select_option("1")
    panel.locator(".numbers summary").click()
    expect(panel.locator(".numbers tbody tr")).to_have_count(panel.locator(".token").count())


def test_a_run_of_pictures_walks_in_pictures(visit, tmp_path):
    page = visit("picture", "#walk")
    panel = page.locator(".panel.walk")
    expect(panel.locator(".stops img")).to_have_count(9)
    loaded = "image => image.complete && image.naturalWidth > 0"
    assert panel.locator(".stops img").first.evaluate(loaded)
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(tmp_path / "grey.png")
    with page.expect_response("**/api/walk") as answer:
        panel.locator("input[type=file]").first.set_input_files(tmp_path / "grey.png")
    assert json.loads(answer.value.request.post_data)["a"].startswith("data:image/png")
    page.locator("#rail a", has_text="Neighbours").click()
    expect(page.locator(".panel.neighbours .line img")).to_have_count(10)


def test_decisions_on_signs_by_click_and_by_key_reach_the_tables(visit, report):
    page = visit("signs")
    merge = page.locator(".candidate", has_text="one sign?").first
    expect(merge.locator("img").first).to_be_visible()
    merge.get_by_role("button", name="One sign").click()
    expect(merge.get_by_role("button", name="One sign")).to_have_attribute("aria-pressed", "true")
    split = page.locator(".candidate", has_text="several signs?").first
    split.focus()
    page.keyboard.press("s")
    expect(split.get_by_role("button", name="Several")).to_have_attribute("aria-pressed", "true")
    for table, word in [("merges.csv", "merge"), ("splits.csv", "split")]:
        with (report / table).open(encoding="utf-8", newline="") as file:
            assert next(row["decision"] for row in csv.DictReader(file)) == word
    page.get_by_role("button", name="Apply the decisions").click()
    expect(page.locator(".good")).to_contain_text("signlist.csv")
    split.get_by_role("button", name="Undo").click()
    expect(page.locator(".panel.signs .note").first).to_contain_text("1 of")
    page.get_by_text("All 4 clusters").click()
    expect(page.locator(".cluster")).to_have_count(4)


def test_health_draws_what_there_is_and_says_what_is_not(visit, runs):
    page = visit("language", "#health")
    expect(page.locator(".panel.health .empty").first).to_be_visible()
    page = visit("text", "#health")
    plots = page.locator(".plot")
    expect(plots.filter(has_text="KL of every dimension")).to_be_visible()
    expect(plots.locator(".barrect")).to_have_count(3)
    expect(plots.get_by_role("img")).not_to_have_count(0)


FIELDS = [
    ("walk", "a=%s&b=%s"),
    ("exchange", "a=%s&b=%s"),
    ("arithmetic", "A=%s&B=%s"),
    ("dimensions", "at=%s"),
    ("neighbours", "at=%s"),
    ("map", "find=%s"),
    ("control", "prompt=%s&detail=%s&of=%s"),
]


@pytest.mark.parametrize(("panel", "query"), FIELDS)
def test_markup_in_every_field_is_shown_as_text(visit, panel, query):
    name = "grid" if panel == "exchange" else "labels"
    page = visit(name, f"#{panel}?" + query.replace("%s", "%3Cimg%20src%3Dx%3E%3Cb%3E%20a"))
    page.watch.expected = "the server responded with a status of 4"
    shown = page.locator(f".panel.{panel}")
    for field in shown.locator("textarea, input[type=text], input[type=search]").all():
        field.fill(HOSTILE)
        field.press("Enter")
    expect(shown.locator(".busy")).to_have_count(0)
    page.evaluate("() => document.fonts.ready")
    assert page.locator("img[src=x], .panel b:has-text('a <')").count() == 0


def test_an_error_is_shown_where_the_user_acted(visit):
    page = visit("text", "#walk?a=a&b=c")
    panel = page.locator(".panel.walk")
    expect(panel.locator(".stops li").first).to_be_visible()
    page.watch.expected = "Failed to load resource"
    page.route("**/api/walk", lambda route: route.abort())
    panel.get_by_label("A", exact=True).fill("b")
    expect(panel.get_by_role("alert")).to_contain_text("Is isthmus studio still running?")
    page.unroute("**/api/walk")
    refusal = {"status": 422, "json": {"error": "a: got 1, expected words; write some"}}
    page.route("**/api/walk", lambda route: route.fulfill(**refusal))
    panel.get_by_label("A", exact=True).fill("b b")
    expect(panel.get_by_role("alert")).to_have_text("a: got 1, expected words; write some")
    page.unroute("**/api/walk")
    panel.get_by_label("A", exact=True).fill("b b b")
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_map_that_cannot_be_made_says_so(visit):
    page = visit("text", "#health")
    failed = {"state": "failed", "done": 0, "total": 90}
    about = {"count": 90, "projections": {"pca": failed}, "colours": []}
    page.route("**/api/map", lambda route: route.fulfill(json=about))
    page.locator("#rail a", has_text="Walk").click()
    page.reload()
    expect(page.locator(".map-state")).to_contain_text("The map could not be made")


def test_what_takes_long_says_so_and_can_be_stopped(visit):
    page = visit("text", "#sample?count=1")
    panel = page.locator(".panel.sample")
    expect(panel.locator(".item")).to_have_count(1)
    page.watch.expected = "404"  # the job that is asked about never reached the server
    page.route("**/api/sample", lambda route: None)
    panel.get_by_role("button", name="Another seed").click()
    expect(panel.locator(".busy progress")).to_be_visible()
    with page.expect_event("requestfailed"):
        panel.get_by_role("button", name="Stop").click()
    expect(panel.locator(".busy")).to_have_count(0)
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_light_and_dark_by_the_system_and_by_hand(visit):
    page = visit("text", color_scheme="dark")
    background = "() => getComputedStyle(document.body).backgroundColor"
    night = page.evaluate(background)
    toggle = page.locator("#theme")
    toggle.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert page.evaluate(background) != night
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    toggle.click()
    assert page.evaluate(background) == night


def test_the_glossary_explains_the_terms(visit):
    page = visit("text")
    page.get_by_role("button", name="Glossary").click()
    dialog = page.get_by_role("dialog", name="Glossary")
    expect(dialog).to_contain_text("Reconstruction loss")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_picture_in_and_a_picture_out(visit, tmp_path):
    page = visit("joint", "#pictures")
    assert "Pictures" in panels(page)
    panel = page.get_by_role("region", name="Caption")
    shades = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(shades).save(tmp_path / "given.png")
    page.locator("#caption-file").set_input_files(tmp_path / "given.png")
    expect(panel.locator(".text").first).to_be_visible()
    expect(panel.get_by_alt_text("The picture that was dropped")).to_be_visible()
    drawing = page.get_by_role("form", name="Draw")
    drawing.get_by_label("Sentence").fill("a b c")
    drawing.get_by_role("button", name="Draw", exact=True).click()
    expect(drawing.locator("img.picture")).to_be_visible()
    source = drawing.locator("img.picture").get_attribute("src")
    expect(page).to_have_url(re.compile(r"#pictures\?text=a"))
    page.reload()  # the link restores what was asked for
    expect(page.get_by_role("form", name="Draw").locator("img.picture")).to_have_attribute(
        "src", source
    )


def test_a_file_that_is_not_a_picture_is_reported_where_it_was_dropped(visit, tmp_path):
    page = visit("joint", "#pictures")
    page.watch.expected = "400"
    (tmp_path / "no.png").write_bytes(b"no picture")
    page.locator("#caption-file").set_input_files(tmp_path / "no.png")
    expect(page.get_by_role("region", name="Caption").get_by_role("alert")).to_be_visible()
