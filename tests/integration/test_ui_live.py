"""The worklist follows the server: by events, after an interruption, and by listing where events do not come."""
import re

import pytest

import daemon as daemons
from chromium import dicom

IMAGE = dicom()[0].read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("live"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


def watch(page):
    """The requests that the page has made, by path, and those that have ended."""
    made, ended = [], []
    page.on("request", lambda r: made.append(re.sub(r"^http://[^/]+", "", r.url)))
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda r: ended.append(re.sub(r"^http://[^/]+", "", r.url)))
    return made, ended


def open_list(page):
    with page.expect_response(lambda r: r.url.endswith("/v1/events")):
        page.goto("/ui/#/")
    page.wait_for_selector("#live[data-state=on]")


def wait_for_row(page, job, text):
    page.wait_for_function("([id, text]) => document.querySelector(`.worklist tr[data-id=\"${id}\"]`)?.innerText.includes(text)", arg=[job, text])


def test_changes_come_as_events(page, server):
    open_list(page)
    page.route("**/v1/jobs?**", lambda route: route.abort())  # from here on only events can tell
    page.expected = "ERR_FAILED"
    job = server.post([IMAGE]).json()["id"]
    wait_for_row(page, job, "Done")


def test_an_interruption_loses_nothing(page, server):
    page.expected = "ERR_|503"
    open_list(page)
    with page.expect_response(lambda r: r.url.endswith("/v1/events") and r.status == 200):
        assert server.kill("mf-front")
        job = server.post([IMAGE]).json()["id"]  # the listening socket outlives the front
    wait_for_row(page, job, "Done")
    other = server.post([IMAGE]).json()["id"]
    wait_for_row(page, other, "Done")


def test_without_events_the_list_is_asked_for(page, server):
    page.expected = "429"
    page.route("**/v1/events", lambda route: route.fulfill(status=429, content_type="application/problem+json", body='{"detail": "too many", "status": 429}'))
    open_list(page)
    job = server.post([IMAGE]).json()["id"]
    wait_for_row(page, job, "Done")


def test_a_page_that_nobody_sees_holds_no_stream(page, server):
    made, ended = watch(page)
    open_list(page)
    assert made.count("/v1/events") == 1 and "/v1/events" not in ended
    with page.expect_event("requestfailed", lambda r: r.url.endswith("/v1/events")):
        page.evaluate("""() => {
            Object.defineProperty(document, 'hidden', {value: true, configurable: true});
            document.dispatchEvent(new Event('visibilitychange'));
        }""")
    job = server.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"]
    with page.expect_response(lambda r: r.url.endswith("/v1/events")) as again:
        page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    assert again.value.request.header_value("last-event-id")  # it goes on where it was
    wait_for_row(page, job, "Done")
