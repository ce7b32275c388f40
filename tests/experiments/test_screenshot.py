"""The picture of a report: the whole page or its head, in the size that was asked for."""

import io
import shutil

import pytest
from PIL import Image

from experiments import screenshot

CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


@pytest.mark.skipif(
    not (CHROMIUM and shutil.which("chromedriver")),
    reason="needs Chromium and chromedriver: apt-get install chromium chromium-driver",
)
@pytest.mark.parametrize(("height", "expected"), [("0", (640, 2000)), ("300", (640, 300))])
def test_the_picture_has_the_size_and_the_colours_of_the_page(tmp_path, height, expected):
    page, out = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text('<body style="margin:0;height:2000px;background:#123456"></body>')
    screenshot.main([str(page), str(out), "--width", "640", "--height", height])
    image = Image.open(io.BytesIO(out.read_bytes()))
    assert image.size == expected
    assert image.convert("RGB").getpixel((320, 290)) == (0x12, 0x34, 0x56)


def test_a_report_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"gone\.html: no such file"):
        screenshot.main([str(tmp_path / "gone.html"), str(tmp_path / "out.png")])
    assert not (tmp_path / "out.png").exists()
