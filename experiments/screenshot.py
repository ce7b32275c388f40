"""A picture of a report, as the README shows it.

    python -m experiments.screenshot RUN/report.html docs/report.png

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and selenium,
which comes with the `[test]` extra.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Options:
    """Open a report in headless Chromium and write what is seen as a PNG.

    Attributes:
      report: the `report.html` of a run.
      out: the PNG file to write.
      width: of the window, in CSS pixels.
      height: how much of the page to show, in CSS pixels; 0 shows all of it.
      scale: picture pixels per CSS pixel.
    """

    report: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    width: int = 1100
    height: int = 0
    scale: float = 1.0


def main(args: list[str] | None = None) -> None:
    """Write the picture."""
    options = tyro.cli(Options, args=args)
    if not options.report.is_file():
        raise SystemExit(f"{options.report}: no such file; give the report.html of a run")
    options.out.write_bytes(screenshot(options))


def screenshot(options: Options) -> bytes:
    """Return the page as PNG, in the light colour scheme."""
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(profile)
        try:
            browser.get(options.report.resolve().as_uri())
            _set_window(browser, options.width, options.height or 900)
            height = options.height or browser.execute_script(
                "return document.documentElement.scrollHeight"
            )
            clip = {"x": 0, "y": 0, "width": options.width, "height": height}
            shot = browser.execute_cdp_cmd(
                "Page.captureScreenshot",
                {"clip": {**clip, "scale": options.scale}, "captureBeyondViewport": True},
            )
        finally:
            browser.quit()
    return base64.b64decode(shot["data"])


def open_browser(profile: str):
    """Start headless Chromium with a profile folder of its own."""
    from selenium import webdriver

    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit(
            "Chromium or chromedriver is missing; on Debian: apt-get install chromium "
            "chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def _set_window(browser, width: int, height: int) -> None:
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


if __name__ == "__main__":
    main()
