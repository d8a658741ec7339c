#!/usr/bin/env python3
"""Takes docs/page.png: the sample patient's newest study in the page, from the real daemon in a real browser.

    docs/screenshot.py [PROGRAM] [BUNDLE]        needs the tests' environment (tests/run setup)
"""
import io
import pathlib
import shutil
import sys
import tempfile

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402

SAMPLE = ROOT / "tests/data/sample"
OUT = ROOT / "docs/page.png"
COLOURS = 256  # a palette keeps the file small; it is to reach the few pixels of a chip too, not the many greys alone


def picture(page, url):
    page.set_default_timeout(300000)
    files = sorted((SAMPLE / "dicom").glob("*.dcm"))
    for n in range(1, len(files) + 1):  # one after the other, as they were made: the findings get a trend
        page.goto(url + "/ui/#/")
        page.set_input_files("#files", [*files[:n], SAMPLE / "ehr.json"])
        page.click("#analyse")
        page.wait_for_url("**/#/study/*")
    page.wait_for_function("(n) => [...document.querySelectorAll('.view .tag.br')].filter((e) => e.textContent).length === n", arg=len(files))
    page.wait_for_function("(n) => document.querySelectorAll('.strip img').length === n", arg=len(files))
    page.locator(".finding summary").nth(6).click()
    page.wait_for_timeout(300)
    return page.screenshot()


def main():
    bundles.PROGRAM = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/medfusion")
    model = sys.argv[2] if len(sys.argv) > 2 else ROOT / "models/thorax-nih"
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        running = daemons.Daemon(directory, model).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium-headless-shell") or shutil.which("chromium"), args=["--no-sandbox"])
        shot = picture(browser.new_page(viewport={"width": 1440, "height": 960}), running.url)
        browser.close()
        running.stop()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
