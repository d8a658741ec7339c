"""The page in a real browser (Debian's headless Chromium, driven by Playwright): from upload to feedback, errors, both themes,
accessibility, what it stores and what it may load."""
import io
import json
import pathlib
import re
import subprocess
import zipfile

import numpy
import pydicom
import pytest
from PIL import Image

import bad_input
import bundles
import daemon as daemons
from chromium import analyse, check_accessibility, dicom, drop, quiet_page, upload

SAMPLE = bad_input.SAMPLE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    bundle = bundles.make_bundle(tmp_path_factory.mktemp("bundle") / "frontal", name="frontal",
                                 accepts={"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []})
    running = daemons.Daemon(tmp_path_factory.mktemp("ui"), bundle).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def jobs(browser, server):
    """The sample patient's studies, uploaded one after the other as a clinic would."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    made = [analyse(page, *dicom()[:n], SAMPLE / "ehr.json") for n in (1, 2, 4)]
    context.close()
    return made


def test_from_upload_to_feedback(page, server, jobs):
    page.goto(f"/ui/#/study/{jobs[-1]}")
    page.wait_for_selector(".finding")
    result = server.get(f"/v1/jobs/{jobs[-1]}/result").json()
    assert page.locator(".finding").count() == len(result["predictions"])
    for prediction in result["predictions"]:
        row = page.locator(f'.finding[data-label="{prediction["label"]}"] > summary')
        shown = {"present": "Present", "absent": "Absent", "uncertain": "Uncertain", "empty": "Neither"}[prediction["state"]]
        assert shown in row.inner_text()
        assert f'{100 * prediction["probability"]:.0f}' in row.locator(".p").inner_text() or prediction["probability"] < 0.0995
    assert page.locator(".view").count() == 4
    assert "00007007" in page.locator(".study-head").inner_text()

    page.click('section[aria-label="Feedback"] summary')
    label = result["predictions"][0]["label"]
    page.check(f'input[name="truth-{label}"][value="present"]')
    page.fill("#reader", "AB")
    page.click('section[aria-label="Feedback"] button[type="submit"]')
    page.wait_for_selector("text=Saved. Thank you.")
    kept = server.get(f"/v1/jobs/{jobs[-1]}/feedback").json()
    assert [(f["reader"], f["labels"]) for f in kept["feedback"]] == [("AB", {label: "present"})]


def test_progress_is_shown_and_the_list_follows(page, server):
    upload(page, *dicom("2015-03"))
    page.wait_for_url("**/#/study/*")
    page.goto("/ui/#/")
    page.wait_for_selector(".worklist tbody tr")
    before = page.locator(".worklist tbody tr").count()
    server.post([dicom()[1].read_bytes()], options=json.dumps({"priority": "stat"}))  # somebody else's
    page.wait_for_function("(n) => document.querySelectorAll('.worklist tbody tr').length === n", arg=before + 1)
    first = page.locator(".worklist tbody tr").first
    assert "Stat" in first.inner_text()
    page.wait_for_function("() => document.querySelector('.worklist tbody tr').innerText.includes('00007007')")


def test_a_zip_and_a_fhir_bundle_are_dropped(page, server, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in dicom()[:2]:
            archive.write(file, file.name)
    page.goto("/ui/#/quality")  # anywhere in the page
    page.wait_for_selector(".tile")
    drop(page, tmp_path / "study.zip", SAMPLE / "ehr.json")
    page.wait_for_selector("#analyse")
    assert [re.sub(r"\s+", " ", text).strip() for text in page.locator(".files li").all_inner_texts()] == [
        f"Zip study.zip {(tmp_path / 'study.zip').stat().st_size / 1000:.0f} kB", f"FHIR ehr.json {(SAMPLE / 'ehr.json').stat().st_size / 1000:.0f} kB"]
    assert page.locator('select[name="model"]').count() == 0  # there is but one
    page.click("#analyse")
    page.wait_for_url("**/#/study/*")
    page.wait_for_selector(".finding")
    result = server.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}/result").json()
    assert len(result["study"]["frames"]) == 2
    assert "Patient/sample-patient" in page.locator('section[aria-label="Patient data"]').inner_text()


def test_one_of_several_models_is_chosen(browser, frontal_bundle, tmp_path):
    """Where more than one accepts the study the service asks for a choice, and the page has one."""
    other = bundles.make_bundle(tmp_path / "other", name="other")
    server = daemons.Daemon(tmp_path / "several", f"{frontal_bundle}:{other}").start()
    with quiet_page(browser, server) as page:
        page.expected = "422"
        upload(page, dicom()[0])
        assert "choose one" in page.locator('.upload [role="alert"]').inner_text()
        page.select_option('select[name="model"]', "other")
        page.click("#analyse")
        page.wait_for_url("**/#/study/*")
        page.wait_for_selector(".finding")
        assert server.get(f"/v1/jobs/{page.url.rsplit('/', 1)[1]}/result").json()["model"]["name"] == "other"
    assert server.stop() == 0


def test_search_and_filters(page, jobs):
    page.goto("/ui/#/")
    page.wait_for_function("(n) => document.querySelectorAll('.worklist tbody tr a').length >= n", arg=len(jobs))
    page.wait_for_function("() => [...document.querySelectorAll('.worklist tbody tr')].every((r) => r.innerText.includes('00007007') || !r.querySelector('a'))")
    page.fill('input[type="search"]', "00007007 dx")
    assert page.locator(".worklist tbody tr:visible").count() >= len(jobs)
    page.fill('input[type="search"]', "nobody")
    assert page.locator(".worklist tbody tr:visible").count() == 0
    assert page.locator("text=No job matches.").is_visible()
    page.fill('input[type="search"]', "")
    page.click('.segments button:has-text("Failed")')
    assert page.locator(".worklist tbody tr:visible:has-text('Done')").count() == 0


def test_trends_join_earlier_results(page, jobs):
    page.goto(f"/ui/#/study/{jobs[-1]}")
    page.locator(".finding summary").first.click()
    chart = page.locator(".finding[open] .trend")
    assert chart.locator("circle").count() == 3  # two earlier results and this one
    assert "16 Mar 2015" in chart.get_attribute("aria-label")


def test_the_image_is_what_the_service_renders(page, server, jobs):
    """The 16-bit samples through the page's own window show what the 8-bit picture shows."""
    page.goto(f"/ui/#/study/{jobs[0]}")
    page.wait_for_selector(".view .tag.br:has-text('W ')")
    page.uncheck('.tools label:has-text("Lung mask") input')
    page.evaluate("() => document.querySelectorAll('.view .tag').forEach((e) => (e.style.visibility = 'hidden'))")
    page.wait_for_timeout(100)
    shown = numpy.asarray(Image.open(io.BytesIO(page.locator(".view").screenshot())).convert("L"), dtype=float)
    frame = server.get(f"/v1/jobs/{jobs[0]}/frames").json()["frames"][0]
    truth = Image.open(io.BytesIO(server.get(frame["href"]).content))
    height, width = shown.shape
    aspect = frame["spacing_mm"][1] / frame["spacing_mm"][0]
    scale = min(width / (truth.width * aspect), height / truth.height)
    size = (round(truth.width * aspect * scale), round(truth.height * scale))
    want = numpy.asarray(truth.resize(size, Image.Resampling.BICUBIC), dtype=float)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    difference = numpy.abs(shown[y:y + size[1], x:x + size[0]] - want)
    assert want.std() > 20
    assert difference.mean() < 2.5


def test_window_zoom_and_overlays_by_keyboard_and_mouse(page, jobs):
    page.goto(f"/ui/#/study/{jobs[-1]}")
    page.wait_for_function("() => [...document.querySelectorAll('.view .tag.br')].filter((e) => e.textContent.startsWith('W ')).length === 4")
    view = page.locator(".view").last
    readout = view.locator(".tag.br")
    before, picture = readout.text_content(), view.screenshot()
    box = view.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 130, steps=4)
    page.mouse.up()
    page.wait_for_function("(was) => [...document.querySelectorAll('.view .tag.br')].at(-1).textContent !== was", arg=before)
    texts = page.locator(".view .tag.br").all_text_contents()
    assert len(set(texts)) == 1  # all images move together
    view.focus()
    page.keyboard.press("+")
    page.wait_for_function("() => [...document.querySelectorAll('.view .tag.bl')].at(-1).textContent === '120 %'")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    page.wait_for_function("(was) => [...document.querySelectorAll('.view .tag.br')].at(-1).textContent === was", arg=before)
    page.wait_for_timeout(60)
    mask = page.locator('.tools label:has-text("Lung mask") input')
    assert mask.is_checked()
    page.keyboard.press("m")
    assert not mask.is_checked()
    page.wait_for_timeout(60)
    assert view.screenshot() != picture
    page.keyboard.press("b")
    assert page.locator('.tools label:has-text("Analysed region") input').is_checked()
    page.keyboard.press("PageUp")
    assert page.locator(".view").count() == 4


def test_results_can_be_taken_along(page, jobs):
    page.goto(f"/ui/#/study/{jobs[-1]}")
    for name, begin in (("JSON", b'{"schema":"medfusion.result/1"'), ("FHIR", b'{"resourceType":"Bundle"'), ("SR", b"\0" * 128 + b"DICM")):
        with page.expect_download() as download:
            page.click(f'.links button:text-is("{name}")')
        content = pathlib.Path(download.value.path()).read_bytes()
        assert content.startswith(begin)


def test_problems_are_told_in_one_sentence(page, tmp_path):
    page.expected = r"400 \(Bad Request\)|415|422"
    bad = tmp_path / "broken.dcm"
    bad.write_bytes(dicom()[0].read_bytes()[:5000])
    upload(page, bad)
    alert = page.locator('.upload [role="alert"]')
    alert.wait_for()
    assert "part 1" in alert.inner_text()
    assert page.locator(".files li").count() == 1  # what was chosen is still there
    page.click('button:has-text("Clear")')
    note = tmp_path / "note.txt"
    note.write_text("hello")
    page.set_input_files("#files", [str(note)])
    page.wait_for_selector("text=Add at least one DICOM file or zip.")
    assert page.locator("#analyse").is_disabled()


def test_what_is_not_there(page):
    page.expected = "404"
    page.goto(f"/ui/#/study/{'0' * 32}")
    page.wait_for_selector("text=there is no such job")
    page.goto("/ui/#/nowhere")
    page.wait_for_selector("text=There is no such page")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1440, 820, 360])
def test_pages_are_accessible(page, jobs, theme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/ui/#/")
    if page.evaluate("document.documentElement.dataset.theme") != theme:
        page.click("#theme")
    page.expected = "403"  # /admin where nobody signs in
    for address, ready in (("/", ".worklist tbody tr a"), (f"/study/{jobs[-1]}", ".finding"), ("/quality", ".tile"), ("/system", ".tile"), ("/admin", "h1")):
        page.goto(f"/ui/#{address}")
        page.wait_for_selector(ready)
        page.wait_for_timeout(150)
        check_accessibility(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} is wider than {width} pixels"
        assert "Not a medical device" in page.locator("footer").inner_text()


def test_keys_lead_everywhere(page, jobs):
    page.goto("/ui/#/")
    page.wait_for_selector(".worklist tbody tr a")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.locator(".worklist tbody tr a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".finding")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/#/quality")


def test_nothing_sensitive_is_kept_in_the_browser(page, server, jobs):
    page.goto(f"/ui/#/study/{jobs[-1]}")
    page.wait_for_selector(".finding")
    page.click("#theme")
    stored = page.evaluate("""async () => ({local: {...localStorage}, session: {...sessionStorage}, cookies: document.cookie,
        databases: (await indexedDB.databases()).length, caches: window.caches ? (await caches.keys()).length : 0})""")
    assert stored == {"local": {"theme": "light"}, "session": {}, "cookies": "", "databases": 0, "caches": 0}


def test_purging_asks_first(page, server, jobs):
    job = server.post([dicom()[0].read_bytes()], headers={"Prefer": "wait=30"}).json()["job"]
    page.goto(f"/ui/#/study/{job}")
    page.click('button:has-text("Remove data")')
    page.click('dialog button:text-is("Keep")')
    assert server.get(f"/v1/jobs/{job}/result").status_code == 200
    page.click('button:has-text("Remove data")')
    page.click('dialog button:text-is("Remove")')
    page.wait_for_url("**/#/")
    assert server.get(f"/v1/jobs/{job}/result").status_code == 410


def test_files_are_served_strictly(server):
    answer = server.get("/ui/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert server.get("/", allow_redirects=False).headers["Location"] == "/ui/"
    again = server.get("/ui/", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["Cache-Control"] == "no-cache"
    for name in re.findall(r'(?:src|href)="([\w.]+)"', answer.text):
        assert server.get(f"/ui/{name}").status_code == 200
    assert server.get("/ui/..%2fapp.js").status_code == 404
    for path in server.get("/schemas/").json()["schemas"]:
        schema = server.get(path)
        assert schema.headers["Content-Type"] == "application/schema+json"
        assert schema.json()["$schema"].startswith("https://json-schema.org/")


def test_the_report_is_one_page_without_scripts(page, server, jobs, tmp_path):
    answer = server.get(f"/v1/jobs/{jobs[-1]}/report")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<script" not in answer.text and "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", answer.text)
    page.goto(f"/v1/jobs/{jobs[-1]}/report")
    result = server.get(f"/v1/jobs/{jobs[-1]}/result").json()
    text = page.inner_text("body")
    for part in ("00007007", result["model"]["model_hash"], "Not a medical device", *(p["display"] for p in result["predictions"])):
        assert part in text
    assert page.evaluate("() => [...document.images].map((i) => i.complete && i.naturalWidth > 0)") == [True] * 4
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # its tables scroll by themselves
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
    assert server.get(f"/v1/jobs/{jobs[-1]}/report", headers={"Accept": "application/pdf"}).status_code == 406


def test_predict_writes_the_same_report(page, frontal_bundle, tmp_path):
    out = tmp_path / "report.html"
    done = subprocess.run([bundles.PROGRAM, "predict", "--model", frontal_bundle, "--ehr", SAMPLE / "ehr.json", "--format", "html", "-o", out,
                           SAMPLE / "dicom"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_text().count("<figure>") == 4
    evil = tmp_path / "evil.dcm"
    data = pydicom.dcmread(dicom()[0])
    data.PatientName = "<script>alert(1)</script>^\"&"
    data.save_as(evil)
    subprocess.run([bundles.PROGRAM, "predict", "--model", frontal_bundle, "--format", "html", "-o", out, evil], check=True)
    assert "<script" not in out.read_text() and "&lt;script&gt;alert(1)&lt;/script&gt;, &quot;&amp;" in out.read_text()


def test_names_from_files_are_only_text(page, server, tmp_path):
    """What DICOM says becomes text in the page, never markup."""
    data = pydicom.dcmread(dicom()[0])
    data.PatientName = "<img id'x'>^Eve"
    data.StudyDescription = "<b>bold</b>"
    data.save_as(tmp_path / "evil.dcm")
    analyse(page, tmp_path / "evil.dcm")
    assert page.locator("h1").inner_text() == "<img id'x'>, Eve"
    assert page.locator("h1 img, .study-head b").count() == 0


def test_signing_in_with_a_key(browser, frontal_bundle, tmp_path):
    """Where the service wants a credential the page asks for it, says so when it is wrong, and forgets it with the page."""
    keys = tmp_path / "keys.json"
    made = subprocess.run([bundles.PROGRAM, "key", "add", keys, "--name", "reader", "--scopes", "jobs.read jobs.write metrics.read"],
                          capture_output=True, text=True, check=True)
    key = made.stdout.split()[-1]
    guarded = daemons.Daemon(tmp_path / "guarded", frontal_bundle, **{"auth.keys": keys}).start()
    context = browser.new_context(base_url=guarded.url)
    page = context.new_page()
    page.set_default_timeout(20000)
    page.goto("/ui/")
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    page.wait_for_function("() => document.querySelector('#token')?.value === ''")  # asked again
    page.fill("#token", key)
    page.press("#token", "Enter")
    page.wait_for_selector("#live[data-state=on]")
    job = analyse(page, *dicom())
    assert page.locator(".view").count() == 4
    assert page.evaluate("() => [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]") == [[], [], ""]
    page.reload()
    page.wait_for_selector("#token")
    page.click('dialog button:text-is("Cancel")')
    page.wait_for_selector('#sign:has-text("Sign in")')
    assert page.locator(".finding").count() == 0
    assert guarded.get(f"/v1/jobs/{job}/frames/0").status_code == 401
    context.close()
    assert guarded.stop() == 0
