"""deploy/haproxy/cds-sandbox.cfg: a page of another origin gets cards in a real browser, and nothing else; other origins get nothing."""
import http.server
import os
import pathlib
import socket
import subprocess
import threading
import time

import pytest
import requests

import postgres

CONFIG = pathlib.Path(__file__).parents[2] / "deploy/haproxy/cds-sandbox.cfg"
ASK = """([address, body]) => fetch(address, {method: body ? 'POST' : 'GET', body, headers: {Authorization: 'Bearer sandbox', 'Content-Type': 'application/json'}})
    .then((answer) => answer.json(), () => 'refused')"""
HOOK = """{"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": {"userId": "Practitioner/1", "patientId": "1"},
    "prefetch": {"patient": {"resourceType": "Patient", "identifier": [{"value": "nobody"}]}}}"""


@pytest.fixture(scope="module")
def origin():
    """Where a page of somebody else comes from."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>sandbox</title>")

        def log_message(self, *_):
            pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def proxy(daemon, origin):
    port = postgres.free_port()
    environment = os.environ | {"MEDFUSION_BIND": f"127.0.0.1:{port}", "MEDFUSION_FRONT": daemon.url.removeprefix("http://"), "MEDFUSION_ORIGIN": origin}
    running = subprocess.Popen(["haproxy", "-db", "-f", CONFIG], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        assert running.poll() is None and time.monotonic() < deadline, "the proxy does not listen"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    running.wait(60)


def test_a_page_of_another_origin_gets_cards(browser, daemon, origin, proxy):
    context = browser.new_context()
    page = context.new_page()
    page.goto(origin)
    services = page.evaluate(ASK, [f"{proxy}/cds-services", None])
    assert "medfusion-findings" in [service["id"] for service in services["services"]]
    assert page.evaluate(ASK, [f"{proxy}/cds-services/medfusion-findings", HOOK]) == {"cards": []}
    assert page.evaluate(ASK, [f"{proxy}/v1/jobs", None]) == "refused"
    assert page.evaluate(ASK, [f"{daemon.url}/cds-services", None]) == "refused"  # which is why it takes a proxy
    context.close()


def test_other_origins_and_other_paths_get_nothing(origin, proxy):
    asked = [requests.get(proxy + path, headers={"Origin": whose}, timeout=30).status_code for path, whose in
             (("/cds-services", origin), ("/cds-services", "http://evil.example"), ("/v1/jobs", origin), ("/cds-services/../v1/jobs", origin), ("/cds-servicesx", origin))]
    assert asked == [200, 403, 404, 404, 404]
    assert requests.get(proxy + "/cds-services", timeout=30).status_code == 403
