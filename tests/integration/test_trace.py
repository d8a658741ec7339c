"""Traces at an OpenTelemetry collector: spans of requests and jobs, which trace they belong to, a collector that is away."""
import http.server
import json
import subprocess
import threading
import time

import pytest
import requests

import bad_input
import bundles
import daemon as daemons
from fhir_server import wait_until

IMAGE = bad_input.NEWEST.read_bytes()
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes OTLP/HTTP JSON; answers with the statuses of `behave` in turn, then 200."""

    def __init__(self, behave=(), port=0):
        self.behave, self.spans, self.asked = list(behave), [], 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                collector.asked += 1
                status = collector.behave.pop(0) if collector.behave else 200
                if status == 200:
                    assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                    for group in body["resourceSpans"]:
                        resource = {a["key"]: a["value"]["stringValue"] for a in group["resource"]["attributes"]}
                        for scope in group["scopeSpans"]:
                            collector.spans += [{**span, "resource": resource, "attributes": attributes(span)} for span in scope["spans"]]
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1/traces"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def named(self, name):
        return [span for span in list(self.spans) if span["name"] == name]

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def attributes(span):
    return {a["key"]: a["value"].get("stringValue") or int(a["value"]["intValue"]) for a in span["attributes"]}


def start(tmp_path, model, collector, **options):
    return daemons.Daemon(tmp_path, model, **{"trace.endpoint": collector.url, **options}).start()


def test_a_clients_trace_goes_on_and_links_to_the_job(tmp_path, frontal_bundle):
    collector = Collector()
    daemon = start(tmp_path, frontal_bundle, collector)
    before = time.time()
    job = daemon.post([IMAGE], headers={"Prefer": "wait=30", "traceparent": f"00-{TRACE}-{SPAN}-01"}).json()["job"]
    after = time.time()
    assert wait_until(lambda: collector.named("POST /v1/jobs") and collector.named("job"))
    [request], [run] = collector.named("POST /v1/jobs"), collector.named("job")
    assert (request["traceId"], request["parentSpanId"], request["kind"]) == (TRACE, SPAN, 2)
    assert request["attributes"]["http.route"] == "/v1/jobs" and request["attributes"]["http.response.status_code"] == 200
    assert request["attributes"]["medfusion.job.id"] == job and request["resource"]["service.name"] == "front"
    assert request["links"] == [{"traceId": job, "spanId": run["spanId"]}]
    assert (run["traceId"], run["parentSpanId"], run["kind"], run["resource"]["service.name"]) == (job, "", 5, "worker")
    assert run["attributes"]["medfusion.job.attempt"] == 1 and run["status"]["code"] == 0
    for span in (request, run):
        begin, end = (int(span[f"{which}TimeUnixNano"]) / 1e9 for which in ("start", "end"))
        assert before - 0.1 < begin <= end < after + 0.5
        assert len(span["spanId"]) == 16 and span["spanId"] != SPAN
    assert daemon.stop() == 0
    collector.stop()


def test_which_requests_are_recorded(tmp_path, frontal_bundle):
    collector = Collector()
    daemon = start(tmp_path, frontal_bundle, collector, **{"trace.percent": 0})
    unknown = "/v1/jobs/00112233445566778899aabbccddeeff"
    for parent in (None, "no parent", f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-01"):  # not wanted, none, not sampled, sampled
        assert requests.get(daemon.url + unknown, headers={"traceparent": parent} if parent else {}, timeout=30).status_code == 404
    daemon.get("/v2/health/live", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    daemon.get("/v1/jobs", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert wait_until(lambda: collector.named("GET /v1/jobs"))
    assert [(span["name"], span["status"]["code"]) for span in collector.spans] == [("GET /v1/jobs/{id}", 0), ("GET /v1/jobs", 0)]
    assert daemon.stop() == 0
    collector.stop()


def test_a_collector_that_is_away_costs_nothing_but_time(tmp_path, frontal_bundle):
    collector = Collector([503, 400])
    daemon = start(tmp_path, frontal_bundle, collector)
    assert daemon.get("/v1/jobs").status_code == 200
    assert wait_until(lambda: collector.asked == 2)  # refused for now, then for good
    assert daemon.get("/v1/jobs?limit=3").status_code == 200
    assert wait_until(lambda: len(collector.spans) == 1)
    collector.stop()
    assert daemon.post([IMAGE], headers={"Prefer": "wait=30"}).status_code == 200
    begin = time.monotonic()
    assert daemon.stop() == 0 and time.monotonic() - begin < 20
    assert '"trace.not_sent"' in daemon.log()


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://x/", "http://u@x/"])
def test_an_endpoint_that_is_none(tmp_path, frontal_bundle, endpoint):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--trace.endpoint", endpoint], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and f'trace.endpoint: "{endpoint}"' in done.stderr


def lines(daemon, event):
    return [line for line in map(json.loads, daemon.log().splitlines()) if line["event"] == event]


def test_log_lines_name_the_trace_and_the_job(tmp_path, frontal_bundle):
    """By which the lines of front and worker are found, and the spans to a line; without a collector, too, where the client has a trace."""
    collector = Collector()
    daemon = start(tmp_path / "a", frontal_bundle, collector)
    job = daemon.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"]
    assert wait_until(lambda: collector.named("POST /v1/jobs"))
    assert wait_until(lambda: lines(daemon, "http.request") and lines(daemon, "job.ran"))  # of two processes, after the answer
    [request], [ran] = lines(daemon, "http.request"), lines(daemon, "job.ran")
    assert (request["trace"], request["job"], ran["job"]) == (collector.named("POST /v1/jobs")[0]["traceId"], job, job)
    assert daemon.stop() == 0
    collector.stop()
    daemon = daemons.Daemon(tmp_path / "b", frontal_bundle).start()
    parents = {f"00-{TRACE}-{SPAN}-01": TRACE, "nonsense": "", None: ""}
    for parent in parents:
        daemon.get("/v1/jobs", headers={"traceparent": parent} if parent else {})
    assert wait_until(lambda: len(lines(daemon, "http.request")) == len(parents))
    assert sorted(line["trace"] for line in lines(daemon, "http.request")) == sorted(parents.values()) and daemon.stop() == 0
