"""The report in a real browser: headless Chromium, driven by selenium.

With LTU_SCREENSHOTS=DIR the pages are left there as pictures.
"""

import base64
import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltu_jax.report.write import write_report
from ltu_jax.runs.outputs import audit_outputs
from tests.audit.outputs.made import arrays

from .conftest import make_content

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OVERFLOW = """
  const width = document.documentElement.clientWidth;
  return [document.documentElement.scrollWidth - width, width];
"""
AXE = """
  const done = arguments[arguments.length - 1];
  axe.run().then(found => done(found.violations.map(
    v => `${v.impact} ${v.id}: ${v.nodes.map(node => node.target).join(" ")}`)), done);
"""
A4 = (718, 1047)  # CSS pixels inside Chromium's default margins of about 1 cm

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and chromedriver: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def _show(browser, page, *, width=1280, scheme="light", media="screen"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    emulated = {"features": features, "media": media}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.resolve().as_uri())


def _elements(browser, selector):
    from selenium.webdriver.common.by import By

    return browser.find_elements(By.CSS_SELECTOR, selector)


def _severe(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_report_opens_whole(browser, page, width, scheme):
    _show(browser, page, width=width, scheme=scheme)
    assert _severe(browser) == []
    images = _elements(browser, "figure img")
    assert len(images) == 4
    for image in images:
        assert image.is_displayed()
        assert int(image.get_property("naturalWidth")) > 0
        assert min(width / 3, 500) < image.size["width"] <= width
    names = [cell.text.split("\n")[0] for cell in _elements(browser, ".results tbody th")]
    assert names == ["Original", "Retrain", "Second Retrain", "LTU"]
    overflow, shown = browser.execute_script(OVERFLOW)
    assert overflow <= 0
    assert shown <= width


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_picture_of_the_whole_page(browser, page, tmp_path, width, scheme):
    _show(browser, page, width=width, scheme=scheme)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    folder = Path(os.environ.get("LTU_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"report-{width}-{scheme}.png"
    path.write_bytes(base64.b64decode(shot["data"]))
    with Image.open(path) as picture:
        assert picture.size == (width, height)
        assert len(picture.convert("L").getcolors()) > 50  # not an empty page


@pytest.mark.slow
@pytest.mark.parametrize("audited", [False, True], ids=["run", "audited"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_barrier(browser, content, audit, tmp_path, width, scheme, audited):
    page = write_report(content._replace(audit=audit if audited else None), tmp_path)
    _show(browser, page, width=width, scheme=scheme)
    _add_axe(browser)
    assert browser.execute_async_script(AXE) == []
    # That it can find one:
    browser.execute_script("document.querySelector('img').removeAttribute('alt')")
    assert any("image-alt" in found for found in browser.execute_async_script(AXE))


def _add_axe(browser):
    """Load axe-core into the page that is shown, as the driver may in spite of its policy."""
    browser.execute_script((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))


def test_plain_words_fill_one_printed_page_and_tables_begin_on_the_next(browser, page):
    _show(browser, page, width=A4[0], media="print")
    style = "const e = document.querySelector('.first'); const s = getComputedStyle(e);"
    height, after = browser.execute_script(f"{style} return [e.offsetHeight, s.breakAfter]")
    assert after == "page"
    assert height <= A4[1]
    text = browser.execute_script("return document.querySelector('.first').innerText")
    for part in ("Request", "Actions", "You can claim", "You cannot claim", "Confidence"):
        assert part in text


@pytest.fixture
def signed_page(tmp_path):
    """A page with all that identifies a run: digests, ledger, recipes, times, warnings."""
    content = make_content()
    recipe = "trained from scratch by the recipe of this run (20 epochs of SGD, batch size 128)"
    drift = {"sentence": "Retraining is not recommended.", "earlier": 0, "models": {}}
    run = {
        **content.run,
        "sha256": {name: "0123456789abcdef" * 4 for name in ("data", "original", "unlearned")},
        "time": {
            "date": "2026-01-02T03:04:05Z",
            "seconds": 61.0,
            "compile_seconds": dict.fromkeys(("original", "retrain", "retrain_2", "ltu"), 9.1),
        },
        "made_by": dict.fromkeys(("original", "retrain", "retrain_2"), recipe),
        "warnings": ["Two held-out examples are training examples too."],
    }
    ledger = {"entry": 1, "sha256": "fedcba9876543210" * 4, "drift": drift}
    return write_report(content._replace(run=run, ledger=ledger), tmp_path)


WIDER = """
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > width + 1)
    .map(e => e.outerHTML.slice(0, 80));
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_element_is_wider_than_the_screen(browser, signed_page, width):
    _show(browser, signed_page, width=width)
    assert browser.execute_script(WIDER) == []
    assert browser.execute_script(OVERFLOW)[0] <= 0
    first = browser.execute_script("return document.querySelector('.first').innerText")
    assert all(text in first for text in ("0123456789abcdef", "fedcba98", "recipe of this run"))
    assert "2026-01-02" in browser.execute_script("return document.body.innerText")
    _add_axe(browser)
    assert browser.execute_async_script(AXE) == []


@pytest.mark.slow
def test_the_first_page_with_all_facts_prints_on_one_sheet(browser, signed_page):
    _show(browser, signed_page, width=A4[0], media="print")
    height = browser.execute_script("return document.querySelector('.first').offsetHeight")
    assert height <= A4[1]


def test_dark_scheme_darkens_the_page_but_not_the_figures(browser, page):
    colour = "return getComputedStyle(document.querySelector('{}')).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        _show(browser, page, scheme=scheme)
        seen[scheme] = [browser.execute_script(colour.format(s)) for s in ("body", "figure img")]
    assert seen["light"][0] == "rgb(246, 247, 248)"
    assert seen["dark"][0] == "rgb(20, 23, 26)"
    assert seen["light"][1] == seen["dark"][1] == "rgb(255, 255, 255)"


def test_the_desktop_table_needs_no_scrolling(browser, page):
    _show(browser, page)
    hidden = "const e = document.querySelector('.scroll'); return e.scrollWidth - e.clientWidth"
    assert browser.execute_script(hidden) <= 0


@pytest.mark.slow
def test_long_and_hostile_names_neither_run_nor_overflow(browser, tmp_path):
    content = make_content()
    name = "<img src=x onerror=alert(1)>" + "long" * 60
    hostile = content._replace(
        run=content.run | {"data": name, "command": name}, config={name: name}
    )
    _show(browser, write_report(hostile, tmp_path), width=390)
    assert _severe(browser) == []
    assert len(_elements(browser, "img")) == 4
    assert browser.execute_script(OVERFLOW)[0] <= 0


def test_the_console_check_can_fail(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>throw new Error('seen')</script>")
    browser.get(page.as_uri())
    assert "seen" in _severe(browser)[0]["message"]


@pytest.mark.slow
def test_the_answers_print_on_one_sheet(browser, content, audit, tmp_path):
    _show(
        browser, write_report(content._replace(audit=audit), tmp_path), width=A4[0], media="print"
    )
    height = browser.execute_script("return document.querySelector('.answers').offsetHeight")
    assert height <= A4[1]


@pytest.fixture(scope="module")
def outputs_page(tmp_path_factory):
    """The report of an audit of outputs, with warnings and much left out."""
    half = arrays()["unlearned"].astype(np.float16)
    folder = tmp_path_factory.mktemp("outputs") / "audit"
    audit_outputs(arrays("retrain", "retrain_2", unlearned=half), out=folder)
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_an_audit_of_outputs_fits_phone_and_desktop(browser, outputs_page, width):
    _show(browser, outputs_page, width=width)
    overflow, shown = browser.execute_script(OVERFLOW)
    assert overflow <= 0
    assert width - 20 <= shown <= width
    assert not _severe(browser)


@pytest.mark.slow
def test_no_table_is_cut_on_paper(browser, outputs_page, content, audit, tmp_path):
    whole = write_report(content._replace(audit=audit), tmp_path)
    hidden = (
        "return [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    )
    for page in (outputs_page, whole):
        _show(browser, page, width=A4[0], media="print")
        assert max(browser.execute_script(hidden)) <= 0


def test_an_audit_of_outputs_prints_its_summary_on_one_sheet(browser, outputs_page):
    _show(browser, outputs_page, width=A4[0], media="print")
    height = browser.execute_script("return document.querySelector('.first').offsetHeight")
    assert height <= A4[1]
