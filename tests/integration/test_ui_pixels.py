"""What the pages look like in pixels: each page in both themes beside tests/golden/ui, coarsely (each cell of 20 × 20 pixels as its mean colour)
and with a tolerance that other fonts keep to and lost styles, panels or images do not.

After a wanted change:  UPDATE_GOLDEN=1 python -m pytest tests/integration/test_ui_pixels.py, and look at the pictures.
"""
import io
import os

import numpy as np
import pytest
from PIL import Image

from test_ui_pictures import GOLDEN, PAGES, real, server, show  # noqa: F401

WIDTH, HEIGHT, CELL = 1280, 900, 20
MEAN, FAR, SHARE = 5, 48, 0.05  # of 255: the mean difference, what counts as far, and how many cells may be far


def coarse(page):
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled", caret="hide"))).convert("RGB")
    return np.asarray(shot.resize((WIDTH // CELL, HEIGHT // CELL), Image.Resampling.BOX))


def differences(page, name, theme):
    """(mean difference, share of cells that are far off) from the picture that is kept."""
    kept = np.asarray(Image.open(GOLDEN / f"{name}-{theme}.png").convert("RGB")).astype(int)
    off = np.abs(coarse(page).astype(int) - kept)
    return off.mean(), (off.max(2) > FAR).mean()


def dress(page, real, name, theme):  # noqa: F811
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    show(page, real, name)
    if name == "system":
        page.wait_for_selector('section[aria-label="Queue"] svg')  # from the second look on
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; window.scrollTo(0, 0); }", theme)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_looks_as_it_did(page, real, name, theme):  # noqa: F811
    dress(page, real, name, theme)
    if os.environ.get("UPDATE_GOLDEN"):
        Image.fromarray(coarse(page)).save(GOLDEN / f"{name}-{theme}.png", optimize=True)
        pytest.skip("the picture is written")
    mean, far = differences(page, name, theme)
    assert mean <= MEAN and far <= SHARE, f"mean difference {mean:.1f}, {100 * far:.1f} % of the cells far off"


@pytest.mark.parametrize(
    "style, kept",
    [("* { font-family: serif !important }", True),
     ("* { font-family: monospace !important; letter-spacing: -1px }", True),
     (".card { display: none !important }", False),
     ("canvas, img { visibility: hidden !important }", False),
     ("body { background: white !important; color: black !important }", False)],
)  # fmt: skip
def test_other_fonts_are_the_same_and_lost_parts_are_not(page, real, style, kept):  # noqa: F811
    dress(page, real, "study", "dark")
    page.evaluate("(text) => { const s = new CSSStyleSheet(); s.replaceSync(text); document.adoptedStyleSheets = [s]; }", style)
    mean, far = differences(page, "study", "dark")
    assert (mean <= MEAN and far <= SHARE) == kept, f"mean difference {mean:.1f}, {100 * far:.1f} % of the cells far off"
