"""The page to try a server in, by real clicks and keys in a headless Chromium."""

import shutil
import urllib.request

import pytest
from inference_cases import TEXTS
from seq2seq_folders import make_folder
from serving_cases import Running, save_models

import bertlite

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1100",
)
KEY = "a-key-of-the-tests"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="Chromium is not installed: apt install chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folders):
    running = Running(folders, keys=[KEY])
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for each in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture
def page(browser, server):
    browser.get(f"http://127.0.0.1:{server.port}/")
    found = Page(browser)
    found.wait(lambda: "asks for a key" in found.reply)
    assert found.focused == "key"
    found.type("key", KEY + found.keys.TAB)
    found.wait(lambda: len(found.options("task")) == 7)
    return found


class Page:
    """The page, by the ids of its parts."""

    def __init__(self, browser):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import Select, WebDriverWait

        self.browser, self.keys, self.select = browser, Keys, Select
        self.find = lambda name: browser.find_element(By.ID, name)
        self.all = lambda rule: browser.find_elements(By.CSS_SELECTOR, rule)
        self.waiting = WebDriverWait(browser, 10)

    def wait(self, happens):
        self.waiting.until(lambda _: happens())

    @property
    def reply(self):
        return self.find("reply").text

    @property
    def focused(self):
        return self.browser.switch_to.active_element.get_attribute("id")

    def options(self, name):
        return [each.text for each in self.select(self.find(name)).options]

    def choose(self, task):
        self.select(self.find("task")).select_by_value(task)

    def type(self, name, words):
        self.find(name).clear()
        self.find(name).send_keys(words)

    def ask(self, words):
        """Type and click; the reply's text when it is there."""
        self.type("text", words)
        self.find("ask").click()
        self.wait(lambda: "tokens," in self.reply)
        return self.reply

    def cells(self):
        return [each.text for each in self.all("#reply td")]


def test_classes(page, folders):
    page.choose("classify")
    assert page.options("model") == ["classes"]
    assert not page.find("language-part").is_displayed()
    page.ask("\n".join(TEXTS[:2]))
    for text, found in zip(
        TEXTS[:2], bertlite.classify(TEXTS[:2], folders["classes"]), strict=True
    ):
        cells = page.cells()
        place = cells.index(text)
        assert cells[place + 1 : place + 3] == [found["label"], f"{found['score']:.4f}"]


def test_answers_by_keys_alone(page, folders):
    """From the first field to the reply without a mouse; an emoji before the answer moves none."""
    page.choose("answer")
    keys = page.keys
    page.find("task").send_keys(keys.TAB)
    assert page.focused == "model"
    page.find("model").send_keys(keys.TAB)
    assert page.focused == "question"
    context = "\U0001f600 Anna went to Paris"
    page.type("question", "who went?" + keys.TAB)
    assert page.focused == "text"
    page.find("text").send_keys("Anna went to Paris" + keys.CONTROL + keys.ENTER)
    page.wait(lambda: "tokens," in page.reply)
    page.browser.execute_script("arguments[0].value = arguments[1]", page.find("text"), context)
    page.find("ask").click()
    found = bertlite.answer("who went?", context, folders["answers"])
    page.wait(lambda: f"{found['score']:.4f}" in page.reply)
    assert [each.text for each in page.all("#reply mark")] == [found["answer"]]


def test_vectors_entities_and_words(page, folders):
    page.choose("embed")
    page.select(page.find("model")).select_by_value("vectors")
    page.ask("\n".join(TEXTS[:2]))
    first, second = bertlite.encode(TEXTS[:2], folders["vectors"])
    assert f"{first @ second:.3f}" in page.cells()
    page.choose("tag")
    page.ask(TEXTS[0])
    found = bertlite.tag(TEXTS[0], folders["tags"])
    assert [each.text.split(" ")[-1] for each in page.all("#reply mark")] == [
        each["entity_group"] for each in found
    ]
    page.choose("fill-mask")
    page.ask("the [MASK] sat")
    assert len(page.all("#reply tbody tr")) == 5


def test_an_error_is_shown_and_markup_is_text(page):
    page.choose("fill-mask")
    page.type("text", "<img src=x onerror=document.title='bad'>")
    page.find("ask").click()
    page.wait(lambda: "must hold [MASK]" in page.reply)
    assert page.all("#reply [role=alert]")
    page.choose("classify")
    page.ask("<b id=evil>anna</b>")
    assert not page.all("#evil")
    assert page.browser.title == "bertlite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(page, scheme):
    """Text against what is behind it: a contrast of at least 4.5, as WCAG 2 (1.4.3) asks."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.choose("classify")
    page.ask(TEXTS[0])
    pairs = page.browser.execute_script(CONTRASTS)
    assert len(pairs) > 8
    assert min(contrast(*each) for each in pairs) >= 4.5
    dark = luminance(page.find("form").value_of_css_property("background-color")) < 0.2
    assert dark == (scheme == "dark")


CONTRASTS = """
const found = [];
for (const each of document.querySelectorAll("h1, h2, p, label, a, td, th, button, option")) {
  let behind = each;
  const color = () => getComputedStyle(behind).backgroundColor;
  while (color() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  found.push([getComputedStyle(each).color, color()]);
}
return found;
"""


def luminance(color):
    """Relative luminance, as WCAG 2 defines it."""
    parts = [float(each) / 255 for each in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_comes_from_elsewhere(browser, page, server):
    """Neither the page nor the description of the interface asks another machine, or complains."""
    import json

    browser.get(f"http://127.0.0.1:{server.port}/docs")
    Page(browser).wait(lambda: "/embed" in browser.page_source)
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    home = f"http://127.0.0.1:{server.port}/"
    assert any(each.startswith(home) for each in asked)
    assert all(each.startswith((home, "data:", "chrome:")) for each in asked), asked


def test_it_is_sent_with_a_policy_that_forbids_others(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/") as reply:
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert b"http" not in reply.read()


def test_languages_are_chosen(browser, tmp_path):
    """Of a model that writes several; of others nobody is asked for one."""
    _, _, (first, second, _) = make_folder("nllb", tmp_path)
    running = Running({"many": str(tmp_path)})
    try:
        browser.get(f"http://127.0.0.1:{running.port}/")
        page = Page(browser)
        page.wait(lambda: page.options("task") == ["Translation", "Summary"])
        assert page.options("target")[:1] == ["the model's own"]
        page.type("text", "abc")
        page.find("ask").click()
        page.wait(lambda: "target_language must be given" in page.reply)
        for name, code in (("source", first), ("target", second)):
            page.select(page.find(name)).select_by_value(code)
        page.ask("abc")
        languages = {"source_language": first, "target_language": second}
        assert page.cells()[1] == bertlite.translate("abc", str(tmp_path), **languages).strip()
    finally:
        running.stop()
