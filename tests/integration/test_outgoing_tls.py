"""What we send by DICOM over TLS (dicoms://): results to DCMTK's storescp, reports of commitments to pynetdicom."""
import queue
import ssl
import subprocess
import time

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as COMMITMENT

import bad_input
import daemon as daemons
import orthanc
from dicom_net import radiograph
from test_commitment import EXPLICIT, ask, association, request
from test_dimse import start


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """Certificates that sign themselves: {name: (key, certificate)}."""
    directory = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs", "stranger"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
                        directory / f"{name}.key", "-out", directory / f"{name}.pem"], check=True, capture_output=True)
    return {name: (directory / f"{name}.key", directory / f"{name}.pem") for name in ("ours", "theirs", "stranger")}


def settings(identity, **options):
    return {"dimse.tls_certificate": identity["ours"][1], "dimse.tls_key": identity["ours"][0], "dimse.tls_ca": identity["theirs"][1], **options}


def wait_for_log(daemon, event, seconds=40):
    deadline = time.monotonic() + seconds
    while event not in daemon.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    return event in daemon.log()


def storescp(directory, port, key, certificate, trusted):
    directory.mkdir()
    return subprocess.Popen(["storescp", "-od", directory, "+tls", key, certificate, "+cf", trusted, "-rc", str(port)])


def send_a_result(directory, bundle, port, options):
    running = daemons.Daemon(directory, bundle, **{**options, "outbox.destinations": f"dicoms://PACS@127.0.0.1:{port}", "outbox.retry_s": 1}).start()
    assert running.post([bad_input.NEWEST.read_bytes()], headers={"Prefer": "wait=60"}).status_code == 200
    return running


def test_results_go_out_over_tls(tmp_path, frontal_bundle, identity):
    port = orthanc.free_port()
    pacs = storescp(tmp_path / "pacs", port, *identity["theirs"], identity["ours"][1])
    running = send_a_result(tmp_path / "d", frontal_bundle, port, settings(identity))
    assert wait_for_log(running, "outbox.delivered"), running.log()
    assert len(list((tmp_path / "pacs").iterdir())) >= 3
    assert running.stop() == 0
    pacs.terminate()
    pacs.wait()


@pytest.mark.parametrize("change", ["their certificate", "our certificate", "no TLS there"])
def test_nothing_goes_to_whom_the_certificates_do_not_name(tmp_path, frontal_bundle, identity, change):
    port = orthanc.free_port()
    if change == "no TLS there":
        (tmp_path / "pacs").mkdir()
        pacs = subprocess.Popen(["storescp", "-od", tmp_path / "pacs", str(port)])
    elif change == "their certificate":
        pacs = storescp(tmp_path / "pacs", port, *identity["stranger"], identity["ours"][1])
    else:
        pacs = storescp(tmp_path / "pacs", port, *identity["theirs"], identity["stranger"][1])
    running = send_a_result(tmp_path / "d", frontal_bundle, port, settings(identity, **{"outbox.timeout_s": 5}))
    assert wait_for_log(running, "outbox.failed"), running.log()
    assert "outbox.delivered" not in running.log() and not list((tmp_path / "pacs").iterdir())
    assert running.stop() == 0
    pacs.terminate()
    pacs.wait()


def test_reports_go_out_over_tls(tmp_path, frontal_bundle, identity):
    reports = queue.Queue()

    def take(event):
        reports.put(event.event_type)
        return 0x0000, None

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=identity["ours"][1])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certfile=identity["theirs"][1], keyfile=identity["theirs"][0])
    ae = AE(ae_title="MODALITY")
    ae.add_supported_context(COMMITMENT, [EXPLICIT], scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    running = start(tmp_path, frontal_bundle, **{
        "dimse.tls_ca": identity["theirs"][1], "dimse.tls_certificate": identity["ours"][1], "dimse.tls_key": identity["ours"][0],
        "dimse.report_to": f"dicoms://MODALITY@127.0.0.1:{server.server_address[1]}"})
    theirs = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=identity["ours"][1])
    theirs.check_hostname = False
    theirs.load_cert_chain(certfile=identity["theirs"][1], keyfile=identity["theirs"][0])
    with association(running, tls_args=(theirs, None)) as (made, here):
        assert ask(made, request(radiograph())) == 0
        assert reports.get(timeout=10) == 2 and here.empty()
    assert running.stop() == 0
    server.shutdown()


@pytest.mark.parametrize("key", ["outbox.destinations", "dimse.report_to"])
def test_an_address_with_tls_needs_authorities(tmp_path, frontal_bundle, key):
    refused = daemons.Daemon(tmp_path, frontal_bundle, **{key: "dicoms://PACS@127.0.0.1:104"})
    with pytest.raises(RuntimeError):
        refused.start()
    assert f"{key}: \"dicoms://PACS@127.0.0.1:104\" needs dimse.tls_ca" in refused.log()
