"""A real browser for tests of the page (Debian's headless Chromium, driven by Playwright), and what a user does in it."""
import base64
import contextlib
import pathlib
import re
import shutil

import bad_input

CHROMIUM = next((path for name in ("chromium-headless-shell", "chromium", "chromium-browser") if (path := shutil.which(name))), None)
CHECKS = (pathlib.Path(__file__).parent / "ui_checks.js").read_text()


@contextlib.contextmanager
def opened():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no Chromium is installed, see deploy/packages"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def quiet_page(browser, server):
    """A page whose console must stay silent, unless the test says what it expects in page.expected, and that asks its own server only."""
    context = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 900}, accept_downloads=True, timezone_id="UTC", locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(20000)
    heard, outside = [], []
    page.expected = None
    page.on("console", lambda m: heard.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(f"uncaught: {error}"))
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((server.url, "blob:", "data:")) else None)
    yield page
    unexpected = [text for text in heard if not (page.expected and re.search(page.expected, text))]
    context.close()
    assert unexpected == []
    assert outside == []


def upload(page, *files):
    page.goto("/ui/#/")
    page.wait_for_selector("#files", state="attached")
    page.set_input_files("#files", [str(file) for file in files])
    page.click("#analyse")


def drop(page, *files):
    """Drops files on the page as a mouse would."""
    page.evaluate("""(files) => {
        const transfer = new DataTransfer();
        for (const [name, content] of files) transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
        for (const type of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""", [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files])


def analyse(page, *files):
    """The way from the files to the study's page; returns the job."""
    upload(page, *files)
    page.wait_for_url("**/#/study/*")
    page.wait_for_selector(".findings, .finding")
    return page.url.rsplit("/", 1)[1]


def dicom(*years):
    """The sample patient's files, oldest first."""
    return [file for file in sorted((bad_input.SAMPLE / "dicom").glob("*.dcm")) if not years or file.name.startswith(years)]


def check_accessibility(page):
    problems = page.evaluate(CHECKS)
    assert problems == []
