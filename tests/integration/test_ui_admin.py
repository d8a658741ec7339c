"""The page for the administrator: what runs, reload, keys, the audit trail; nothing of it without the scope."""
import pathlib
import re

import pytest

from chromium import check_accessibility
from fhir_server import wait_until
from test_dead_letters import Site as DeadLetterSite
from test_reload import Site

LAYOUT = (pathlib.Path(__file__).parent / "ui_layout.js").read_text()
WIDTHS = (1440, 820, 360)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("admin"))
    yield made
    assert made.daemon.stop() == 0


@pytest.fixture
def admin(browser, site):
    """The page, signed in as the administrator."""
    context = browser.new_context(base_url=site.daemon.url)
    page = context.new_page()
    page.set_default_timeout(30000)
    sign_in(page, site.admin)
    page.wait_for_selector('section[aria-label="Models"] tbody tr')
    yield page
    context.close()


def sign_in(page, credential):
    page.goto("/ui/#/admin")
    page.fill("#token", credential["Authorization"].removeprefix("Bearer "))
    page.press("#token", "Enter")


def rows(page, name):
    return [re.sub(r"\s+", " ", text).strip() for text in page.locator(f'section[aria-label="{name}"] tbody tr').all_inner_texts()]


def test_models_and_reload(admin, site):
    [model] = rows(admin, "Models")
    assert re.fullmatch(r"frontal 1\.0\.0 cpu not asked for \S+/current [0-9a-f]{12}", model)
    bad = site.directory / "broken"
    if not bad.exists():
        bad.mkdir()
    site.put(bad)
    admin.click('section[aria-label="Models"] button')
    admin.wait_for_selector('section[aria-label="Models"] .chip.danger:text("failed")')
    assert "manifest.json" in admin.locator('section[aria-label="Models"] [role=status]').inner_text()
    assert rows(admin, "Models") == [model]  # what ran goes on
    site.use("2.0.0")
    admin.click('section[aria-label="Models"] button')
    admin.wait_for_selector('section[aria-label="Models"] .chip.absent:text("succeeded")')
    assert rows(admin, "Models")[0].startswith("frontal 2.0.0 ")
    for theme in ("light", "dark"):
        admin.click("#theme")
        assert admin.evaluate("document.documentElement.dataset.theme") == theme
        check_accessibility(admin)


def check_layout(page):
    """Nothing overlaps or sticks out at any width: what is wider than the page scrolls in its own box."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(LAYOUT) == [], width
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_it_fits_into_every_width(admin):
    check_layout(admin)
    wide = admin.locator(".scroll").evaluate_all("(all) => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.getAttribute('aria-label'))")
    assert "Served models" in wide  # which is seen by scrolling, not lost
    for link in admin.locator(".bar nav a").all():  # nor is the way to any page, at this width
        box = link.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= WIDTHS[-1]


def test_a_key_is_made_and_revoked(admin, site):
    admin.fill("input[name=name]", "orthanc")
    admin.fill("input[name=scopes]", "jobs.everything")
    admin.click("text=Make the key")
    admin.wait_for_selector('text="jobs.everything" is no scope')
    admin.fill("input[name=scopes]", "jobs.read")
    admin.click("text=Make the key")
    key = admin.locator("#new-key").inner_text()
    assert key.startswith("mfk_")
    assert rows(admin, "API keys")[-1].startswith("orthanc default jobs.read valid ")
    admin.click('section[aria-label="API keys"] tbody tr:last-child button')
    admin.wait_for_selector('section[aria-label="API keys"] tbody tr:last-child .chip:text("revoked")')
    assert key not in (site.directory / "keys.json").read_text()


def test_dead_letters_are_delivered_again_or_dropped(browser, tmp_path, frontal_bundle):
    site = DeadLetterSite(tmp_path, frontal_bundle)
    for n in (1, 2):
        site.run()
        assert wait_until(lambda n=n: len(site.letters()) == n, 60), site.daemon.log()
    context = browser.new_context(base_url=site.daemon.url)
    page = context.new_page()
    page.set_default_timeout(30000)
    sign_in(page, site.admin)
    card = 'section[aria-label="Dead letters"]'
    page.wait_for_selector(f"{card} tbody tr")
    assert all(re.match(r"webhook:ris default .+ 2 the webhook answered 503 [0-9a-f]{8} ", row) for row in rows(page, "Dead letters"))
    check_accessibility(page)
    check_layout(page)
    page.click(f'{card} tbody tr:first-child button:text("Drop")')
    page.wait_for_selector(f"{card} tbody tr:nth-child(2)", state="detached")
    site.recover()
    page.click(f'{card} button:text("Deliver all again")')
    page.wait_for_selector(f'{card} p:text("There are none.")')
    assert wait_until(lambda: len(site.receiver.messages) == 1, 60), site.daemon.log()
    context.close()
    assert site.daemon.stop() == 0
    site.receiver.stop()


def test_the_audit_trail_is_checked(admin):
    admin.click('section[aria-label="Audit trail"] button')
    admin.wait_for_selector('section[aria-label="Audit trail"] .chip.absent:text("intact")')


def test_without_the_scope_it_says_so(browser, site):
    context = browser.new_context(base_url=site.daemon.url)
    page = context.new_page()
    sign_in(page, site.user)
    page.wait_for_selector("text=this needs the scope admin")
    context.close()
