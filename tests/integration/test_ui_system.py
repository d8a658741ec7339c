"""The page for who runs the service: queue, workers, models, failures, and what it shows without rights or without a server."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

import bundles
import daemon as daemons
from chromium import check_accessibility, dicom

IMAGE = dicom()[0].read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory, frontal_bundle):
    """A crash fails a job at once; a worker that is held keeps its job."""
    running = daemons.Daemon(tmp_path_factory.mktemp("system"), frontal_bundle, **{"jobs.max_crashes": 1, "jobs.lease_s": 3600}).start()
    yield running
    assert running.stop() == 0


def signal_workers(server, number):
    for pid in server.pids("mf-worker"):
        os.kill(pid, number)


@pytest.fixture
def held(server):
    """A job that runs and does not end until the test does: its worker is stopped. A worker that was between two claims is let go again."""
    for _ in range(20):
        signal_workers(server, signal.SIGSTOP)
        job = server.post([IMAGE]).json()["id"]
        deadline = time.monotonic() + 3
        while server.get(f"/v1/jobs/{job}").json()["state"] == "queued" and time.monotonic() < deadline:
            time.sleep(0.05)
        if server.get(f"/v1/jobs/{job}").json()["state"] == "running":
            yield job
            signal_workers(server, signal.SIGCONT)
            return
        signal_workers(server, signal.SIGCONT)
        server.wait(f"/v1/jobs/{job}")
    raise RuntimeError("the worker took no job")


def rows(page, name):
    return [re.sub(r"\s+", " ", text).strip() for text in page.locator(f'section[aria-label="{name}"] tbody tr').all_inner_texts()]


def tile(page, label):
    return page.locator(f'.tile:has(.label:text-is("{label}")) .value').inner_text()


def test_what_waits_is_shown_in_the_order_it_will_run(page, server, held):
    later = server.post([IMAGE], options=json.dumps({"priority": "routine"})).json()["id"]
    sooner = server.post([IMAGE], options=json.dumps({"priority": "stat"})).json()["id"]
    page.goto("/ui/#/system")
    page.wait_for_selector('section[aria-label="Queue"] tbody tr')
    shown = rows(page, "Queue")
    assert [text.rsplit(" ", 1)[1] for text in shown] == [held[:8], sooner[:8], later[:8]]
    assert shown[0].startswith("running 0 % routine frontal")
    assert shown[1].startswith("position 1 stat frontal") and shown[2].startswith("position 2 routine frontal")
    assert (tile(page, "jobs queued"), tile(page, "jobs running")) == ("2", "1")
    assert "the oldest waits for" in page.locator('section[aria-label="Queue"] h2').inner_text()
    for theme in ("light", "dark"):
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        check_accessibility(page)
    server.delete(f"/v1/jobs/{later}")
    page.wait_for_function("() => document.querySelectorAll('section[aria-label=\"Queue\"] tbody tr').length === 2")  # it follows by itself
    chart = page.locator('section[aria-label="Queue"] svg')
    assert re.fullmatch(r"Jobs in work over \d+ minutes?: now 2, at most 3", chart.get_attribute("aria-label"))


def test_the_page_of_a_job_that_runs_shows_the_result_when_it_has_ended(page, server, held):
    page.goto(f"/ui/#/study/{held}")
    page.wait_for_selector("text=The job is running.")
    signal_workers(server, signal.SIGCONT)
    page.wait_for_selector(".finding")


def test_a_failed_job_tells_why_and_crashes_are_counted(page, server, held):
    signal_workers(server, signal.SIGSEGV)
    signal_workers(server, signal.SIGCONT)
    assert server.wait(f"/v1/jobs/{held}")["state"] == "failed"
    page.goto("/ui/#/system")
    page.wait_for_selector('section[aria-label="Failures"] tbody tr')
    newest = rows(page, "Failures")[0]
    assert "processing this job alone crashed the worker 1 times" in newest and held[:8] in newest
    assert page.locator('section[aria-label="Workers"] dl').inner_text().split() == "Attempts that crashed 1 Attempts that were lost 0".split()
    assert tile(page, "jobs failed") == "1"


def test_models_are_shown_before_a_job_ran(page, server):
    page.goto("/ui/#/system")
    page.wait_for_selector('section[aria-label="Models"] tbody tr')
    [model] = rows(page, "Models")
    digest = server.get("/v2/models/frontal").json()["digest"]
    assert re.fullmatch(rf"frontal \S+ ready \d+ \d+ none {digest[:12]}", model)
    page.wait_for_selector('section[aria-label="Workers"] tbody tr')  # it may just have been started again
    [worker] = rows(page, "Workers")
    assert re.fullmatch(r"0 cpu (ready|starting) \d+ (– –|[\d.]+ [\d.]+ m?s)", worker)


def test_reading_by_keyboard_goes_on_when_figures_change(page, server):
    page.goto("/ui/#/system")
    region = page.locator('.scroll[aria-label="Requests"]')
    region.focus()
    region.evaluate("(e) => e.classList.add('before')")
    page.wait_for_selector('.scroll[aria-label="Requests"]:not(.before)')
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Requests"


def test_a_reader_without_the_right_to_metrics_sees_the_rest(browser, frontal_bundle, tmp_path):
    keys = tmp_path / "keys.json"
    made = subprocess.run([bundles.PROGRAM, "key", "add", keys, "--name", "reader", "--scopes", "jobs.read"], capture_output=True, text=True, check=True)
    guarded = daemons.Daemon(tmp_path / "guarded", frontal_bundle, **{"auth.keys": keys}).start()
    context = browser.new_context(base_url=guarded.url)
    page = context.new_page()
    page.set_default_timeout(20000)
    page.goto("/ui/#/system")
    page.fill("#token", made.stdout.split()[-1])
    page.press("#token", "Enter")
    page.wait_for_selector("text=This needs the scope metrics.read.")
    assert tile(page, "jobs queued") == "0"
    assert rows(page, "Models")[0].startswith("frontal")
    assert page.locator('section[aria-label="Requests"]').count() == 0
    context.close()
    assert guarded.stop() == 0


def test_old_figures_say_that_they_are_old(browser, frontal_bundle, tmp_path):
    """The server goes away while the page is open."""
    running = daemons.Daemon(tmp_path / "d", frontal_bundle).start()
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.set_default_timeout(20000)
    page.goto("/ui/#/system")
    page.wait_for_selector(".tile")
    assert running.stop() == 0
    page.wait_for_selector("text=These figures are old: The server cannot be reached.")
    assert page.locator(".tile").count() > 2
    context.close()
