"""What the pages look like, as far as it can be said without pixels, which differ with fonts and browsers: each page's tree of roles, names
and texts is that of tests/golden/ui (fixed answers of the service, fixed clock), and nothing overlaps, is cut off or sticks out.

After a wanted change:  UPDATE_GOLDEN=1 python -m pytest tests/integration/test_ui_pictures.py, and read the difference.
"""
import difflib
import json
import os
import pathlib

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import bundles
import daemon as daemons
import page_answers
from chromium import dicom

GOLDEN = bundles.ROOT / "tests/golden/ui"
LAYOUT = (pathlib.Path(__file__).parent / "ui_layout.js").read_text()
PAGES = {"worklist": ("/", ".worklist tbody tr:nth-child(5)"), "study": ("/study/{job}", ".finding"), "quality": ("/quality", ".tile"), "system": ("/system", ".tile"),
         "missing": ("/nowhere", "h1")}


@pytest.fixture(scope="module")
def server(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("pictures"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def real(server):
    """The result of the job whose images are shown."""
    return server.post([file.read_bytes() for file in dicom()[:2]], headers={"Prefer": "wait=60"}).json()


@pytest.fixture(scope="module")
def explained(server):
    """The same with heat maps."""
    return server.post([file.read_bytes() for file in dicom()[:2]], options='{"explain": true}', headers={"Prefer": "wait=60"}).json()


def show(page, real, name):
    page_answers.install(page, real)
    address, ready = PAGES[name]
    page.goto("/ui/#" + address.format(job=real["job"]))
    page.wait_for_selector(ready)
    page.wait_for_selector("#live[data-state=on]")
    if name == "study":
        page.wait_for_function("() => [...document.querySelectorAll('.view .tag.br')].filter((e) => e.textContent.startsWith('W ')).length === 2")
        page.wait_for_function("() => document.querySelectorAll('.strip img').length === 2")
        for finding in page.locator(".finding > summary").all():
            finding.click()
        page.click('section[aria-label="Feedback"] summary')
    if name == "worklist":
        page.wait_for_selector(".found .chip")
    page.evaluate("document.fonts.ready")


def test_the_answers_are_ones_that_the_service_could_give(real):
    schemas = [json.loads(path.read_text()) for path in (bundles.ROOT / "schemas").glob("*.json")]
    registry = Registry().with_resources([(s["$id"], Resource.from_contents(s)) for s in schemas])
    by_name = {s["$id"].split(":")[2]: s for s in schemas}
    answers = page_answers.answers(real)
    documents = [*answers["/v1/jobs"]({})["jobs"], *(a for a in answers.values() if isinstance(a, dict) and "schema" in a)]
    assert len(documents) == 9
    for document in documents:
        kind = document["schema"].removeprefix("medfusion.").removesuffix("/1")
        errors = [f"{kind}: {e.json_path}: {e.message[:200]}" for e in Draft202012Validator(by_name[kind], registry=registry).iter_errors(document)]
        assert errors == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_says_what_it_said(page, real, name):
    show(page, real, name)
    if name == "system":
        page.wait_for_selector('section[aria-label="Queue"] svg')  # from the second look on
    now = page.locator("body").aria_snapshot().replace(real["job"], "JOB") + "\n"
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(now)
        pytest.skip(f"{golden} is written")
    before = golden.read_text()
    assert now == before, "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "golden", "now", lineterm=""))


@pytest.mark.parametrize("width", [1920, 1280, 800, 360])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_overlaps_or_is_cut_off(page, real, name, width):
    page.set_viewport_size({"width": width, "height": 900})
    show(page, real, name)
    assert page.evaluate(LAYOUT) == []


@pytest.mark.parametrize("width", [1920, 1280, 800, 360])
def test_the_tools_of_heat_maps_fit(page, explained, width):
    page.set_viewport_size({"width": width, "height": 900})
    show(page, explained, "study")
    assert page.evaluate(LAYOUT) == []
    legend = page.locator(".tools .legend")
    assert legend.inner_text().split() == ["for", "against"]
    page.select_option('select[aria-label="Heat map of"]', "Attention, all findings")
    assert legend.inner_text() == "attention"


def test_the_check_of_the_layout_finds_what_is_wrong(page, real):
    show(page, real, "system")
    for style, what in (("button { position: fixed; left: 0; top: 0 }", "lies on"), ("h1 { width: 20px; overflow: hidden }", "text is cut off"),
                        (".tiles { width: 3000px }", "sticks out of the page"), (".scroll { height: 5px }", "has no height")):
        page.evaluate("(text) => { const s = new CSSStyleSheet(); s.replaceSync(text); document.adoptedStyleSheets = [s]; }", style)
        assert any(problem.startswith(what) for problem in page.evaluate(LAYOUT)), what
