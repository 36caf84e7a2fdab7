"""The page of `bertlite explain` in headless Chromium: real clicks and keys."""

import re
import shutil

import pytest
import torch
from inspection_cases import tiny_bert, tiny_tokenizer, tiny_translator

from bertlite.inspection import AttentionMaps, explain
from bertlite.inspection.explanation import Explanation
from bertlite.inspection.html import explanation_page, page_data

TOKENIZER = tiny_tokenizer()
TEXTS = ["abc film is </script> good.", "😀 bad film <b>"]


@pytest.fixture(scope="module")
def explained() -> Explanation:
    torch.manual_seed(0)
    return explain(TEXTS, tiny_bert(), TOKENIZER)


@pytest.fixture(scope="module")
def translated() -> Explanation:
    methods = ("attention_x_gradient", "gradient_x_input")
    return explain("a b c", tiny_translator(), TOKENIZER, written="d e", methods=methods)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("neither Chromium nor Chrome is installed here, with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as started:
        yield started


def open_page(browser, explanation, path, width=1000):
    explanation.save(path / "page.html")
    browser.set_window_size(width, 900)
    browser.get((path / "page.html").as_uri())
    return Page(browser)


class Page:
    """What a reader does with the page."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.all(selector)[0]

    def text(self, selector) -> str:
        return self.one(selector).text

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def hover(self, element):
        from selenium.webdriver import ActionChains

        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser).move_to_element(element).move_by_offset(2, 1).perform()

    def choose(self, selector, text):
        from selenium.webdriver.support.select import Select

        Select(self.one(selector)).select_by_visible_text(text)

    def focused(self):
        return self.browser.switch_to.active_element

    def tab_to(self, test):
        """Press Tab until what has the focus passes the test."""
        from selenium.webdriver import Keys

        for _ in range(40):
            self.press(Keys.TAB)
            if test(self.focused()):
                return
        raise AssertionError("Tab never comes there")


def signed(score: float) -> str:
    return f"{'−' if score < 0 else '+'}{abs(score):.2f}"


def says(word, target: str) -> str:
    side = "against" if word.score < 0 else "for"
    return f"{word.word}: {signed(word.score)} log-odds, {side} {target}"


@pytest.mark.slow
def test_words_by_keys_and_by_the_mouse(browser, explained, tmp_path):
    from selenium.webdriver import Keys

    page = open_page(browser, explained, tmp_path)
    assert page.text("h1") == "Inside BertLiteForSequenceClassification"
    target = explained.texts[0].targets[0]
    words = target.attributions["integrated_gradients"].words()
    assert [each.text for each in page.all(".card:first-child .w")] == [w.word for w in words]
    page.tab_to(lambda element: "w" in element.get_attribute("class").split())
    assert page.text("#word-says") == says(words[0], target.name)
    page.press(Keys.ARROW_RIGHT)
    assert page.focused().text == "film"
    assert page.text("#word-says") == says(words[1], target.name)
    page.hover(page.all(".card:first-child .w")[-1])
    assert page.text("#word-says") == says(words[-1], target.name)

    page.choose("#method", "occlusion")
    page.hover(page.all(".card:first-child .w")[1])
    occluded = target.attributions["occlusion"].words()
    assert page.text("#word-says") == says(occluded[1], target.name)

    other = explained.texts[0].targets[1]
    page.one("#target-0").send_keys(Keys.ARROW_DOWN)
    page.hover(page.all(".card:first-child .w")[1])
    expected = other.attributions["occlusion"].words()[1]
    assert page.text("#word-says") == says(expected, other.name)
    assert "integrated gradients" in page.text("#faith")
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.slow
def test_heads_by_keys_and_by_the_mouse(browser, explained, tmp_path):
    from selenium.webdriver import Keys

    page = open_page(browser, explained, tmp_path)
    maps = explained.texts[0].maps[""]
    cells = page.all("#grid .cell")
    assert len(cells) == 2 * 4
    cells[6].click()
    assert page.text("#h-head") == "Layer 2, head 3"
    token = page.all("#head .tokens")[0].find_elements("css selector", ".t")[1]
    page.hover(token)
    told = page.text("#token-says")
    weights = maps.encoder[1][2]
    best = int(weights[1].argmax())
    assert told.startswith(
        f"a attends to {maps.source.tokens[best]} ({float(weights[1, best]):.0%}".replace("%", " %")
    )
    strongest = int(weights[:, 1].argmax())
    assert f"a is attended to by {maps.source.tokens[strongest]} (" in told

    page.tab_to(lambda element: "cell" in element.get_attribute("class").split())
    page.press(Keys.ARROW_DOWN)  # from the head that was chosen last: it is in the last layer
    page.press(Keys.ARROW_UP, Keys.ENTER)
    assert page.text("#h-head") == "Layer 1, head 3"
    assert page.focused().get_attribute("aria-pressed") == "true"
    page.tab_to(lambda element: "t" in element.get_attribute("class").split())
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.text("#token-says").startswith("##b attends to ")
    page.choose("#text", f"2: {TEXTS[1]}")
    assert len(page.all("#head .tokens:first-of-type .t")) == len(explained.texts[1].tokens)


@pytest.mark.slow
def test_a_translation_looks_at_its_source(browser, translated, tmp_path):
    page = open_page(browser, translated, tmp_path)
    assert page.text("#target-0").count("probability") == 4  # [CLS] d e [SEP]
    page.choose("#kind", "what is written to the source")
    page.all("#grid .cell")[0].click()
    written, source = page.all("#head .tokens")
    assert [each.text for each in source.find_elements("css selector", ".t")] == list(
        translated.texts[0].maps[""].source.tokens
    )
    page.hover(written.find_elements("css selector", ".t")[2])
    row = translated.texts[0].maps[""].cross[0][0, 2]
    best = translated.texts[0].maps[""].source.tokens[int(row.argmax())]
    assert page.text("#token-says").startswith(f"d attends to {best} (")
    assert page.all(".w.unread"), "the last words are not read by the first target"


def luminance(colour: str, ground: tuple[float, ...] = (255, 255, 255)) -> float:
    """Of WCAG, of a CSS colour laid on a ground."""
    red, green, blue, *alpha = (float(each) for each in re.findall(r"[\d.]+", colour))
    share = alpha[0] if alpha else 1.0
    mixed = [share * c + (1 - share) * g for c, g in zip((red, green, blue), ground, strict=True)]
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (each / 255 for each in mixed)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark_and_by_a_screen_reader(
    scheme, browser, explained, tmp_path
):
    emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    page = open_page(browser, explained, tmp_path)
    ground = page.one("body").value_of_css_property("background-color")
    levels = tuple(float(each) for each in re.findall(r"[\d.]+", ground)[:3])
    assert (levels[0] > 128) == (scheme == "light")
    for element in [*page.all(".w"), *page.all(".quiet"), page.one("select")]:
        ink = luminance(element.value_of_css_property("color"), levels)
        behind = luminance(element.value_of_css_property("background-color"), levels)
        light, dark = max(ink, behind), min(ink, behind)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, element.text
    for element in filter(lambda each: each.is_displayed(), page.all("button, select")):
        assert element.accessible_name, element.get_attribute("outerHTML")
    lined = {
        (kind, each.value_of_css_property("border-bottom-style"))
        for kind in ("for", "against")
        for each in page.all(f".w.{kind}")
    }
    assert lined == {("for", "solid"), ("against", "dotted")}, "told apart without colour"


@pytest.mark.slow
def test_it_fits_a_telephone(browser, explained, tmp_path):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        open_page(browser, explained, tmp_path)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_file_is_one_and_no_text_of_it_is_markup(explained):
    page = explanation_page(explained)
    assert not re.search(r"https?://|src=|<link|@import|url\(", page)
    assert page.count("</script>") == 2
    assert "<b>" not in page
    assert "{data}" not in page
    data = page_data(explained)
    first = data["texts"][1]["words"][1]  # a face counts twice in a script
    assert (first["start"], first["end"]) == (3, 6)


def test_a_long_text_is_under_two_megabytes(explained):
    """512 tokens in BERT-base's twelve layers of twelve heads."""
    weights = torch.softmax(3 * torch.randn(12, 512, 512), dim=-1)
    text = explained.texts[0]
    tokens = type(text.tokens)(
        ("film " * 510,),
        {},
        ("[CLS]", *["film"] * 510, "[SEP]"),
        (None, *[(5 * n, 5 * n + 4) for n in range(510)], None),
        (None, *range(510), None),
        (None, *[0] * 510, None),
    )
    attributions = {}
    for method, found in text.targets[0].attributions.items():
        scores = tuple(torch.randn(512).tolist())
        attributions[method] = type(found)(tokens, scores, method, "good", "log-odds", 1.0)
    target = type(text.targets[0])(attributions, {})
    long = type(text)(
        tokens, ("Text",), (target,) * 3, {"": AttentionMaps(tokens, (weights,) * 12)}
    )
    page = explanation_page(Explanation("model", explained.methods, (long,)))
    assert 500_000 < len(page.encode()) < 2_000_000


def test_it_prints_and_draws(explained):
    import matplotlib

    matplotlib.use("Agg")
    printed = str(explained)
    assert printed.count("faithful?") == 2
    best = explained.texts[0].targets[0]
    assert f"{best.name}: probability" in printed
    panels = explained.plot()
    assert [panel.get_title().split("\n")[0] for panel in panels] == list(explained.methods)
    heights = [patch.get_width() for patch in panels[0].patches]
    words = best.attributions["integrated_gradients"].words()
    assert heights == pytest.approx([word.score for word in words])
    assert "srcdoc=" in explained._repr_html_()
