"""The asynchronous pattern of $infer answer by answer, as a client meets it: while the job waits, cancelled, failed, ended, let go of."""
import io
import time

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

import bad_input
import daemon as daemons
from test_fhir import infer, outcome, parameters, result


@pytest.fixture(scope="module")
def server(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("async"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def waiting(server):
    """Addresses of two jobs that wait, because the worker stands still."""
    assert server.kill("mf-worker", 19)  # SIGSTOP
    addresses = [infer(server, parameters()).headers["Content-Location"] for _ in range(2)]
    yield addresses
    for address in addresses:
        server.delete(address)
    assert server.kill("mf-worker", 18)  # SIGCONT


def test_while_it_waits(server, waiting):
    answer = server.get(waiting[1])
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (202, b"", "1")
    assert answer.headers["X-Progress"].startswith("queued, position ")


def test_who_polls_too_often_is_told_to_wait(server, waiting):
    for _ in range(500):  # more than ten of them fall into one second
        answer = server.get(waiting[0])
        if answer.status_code != 202:
            break
    issue = outcome(answer, 429)
    assert issue["code"] == "throttled" and int(answer.headers["Retry-After"]) > 0


def test_what_was_deleted_is_not_found(server, waiting):
    deleted = server.delete(waiting[1])
    assert (deleted.status_code, deleted.content) == (202, b"")
    issue = outcome(server.get(waiting[1]), 404)
    assert (issue["code"], issue["diagnostics"]) == ("not-found", "the job was cancelled")
    outcome(server.delete(waiting[1] + "0"), 404)


def damaged():
    """A radiograph whose header is right and whose compressed pixels are not."""
    dataset = pydicom.dcmread(bad_input.NEWEST)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([bytes(64) + b"\x7f\x00"])
    dataset["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_failed_job_answers_with_its_reason(server):
    address = infer(server, parameters(image=damaged())).headers["Content-Location"]
    deadline = time.monotonic() + 60
    while (answer := server.get(address)).status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert outcome(answer, 400)["diagnostics"]


def test_what_was_let_go_of_is_gone(server):
    address = infer(server, parameters()).headers["Content-Location"]
    assert result(server, address)["type"] == "collection"
    assert server.delete(address).status_code == 202
    issue = outcome(server.get(address), 410)
    assert issue["diagnostics"] == "the job's data was purged"


@pytest.mark.parametrize("query, status", [("type=history", 400), ("colour=red", 400)])
def test_questions_that_are_not_understood(server, query, status):
    address = infer(server, parameters()).headers["Content-Location"]
    result(server, address)
    outcome(server.get(f"{address}?{query}"), status)


def test_other_forms_are_not_acceptable(server):
    assert outcome(infer(server, parameters(), Accept="application/fhir+xml"), 406)["code"] == "not-supported"
