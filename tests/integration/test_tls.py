"""TLS of the front: profile, mutual TLS, and what it refuses to listen to without."""
import subprocess
import urllib.parse

import pytest
import requests

import bundles
import certificates
import daemon as daemons

EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=[EC, RSA], ids=["ec", "rsa"])
def secure(request, tmp_path_factory, frontal_bundle, authority):
    certificate, key = authority.issue(f"server-{request.param[0][:3]}", algorithm=request.param)
    running = daemons.Daemon(tmp_path_factory.mktemp("tls"), frontal_bundle,
                             **{"http.tls_certificate": certificate, "http.tls_key": key}).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def mutual(tmp_path_factory, frontal_bundle, authority):
    certificate, key = authority.issue("server-mutual")
    running = daemons.Daemon(tmp_path_factory.mktemp("mtls"), frontal_bundle,
                             **{"http.tls_certificate": certificate, "http.tls_key": key, "http.tls_client_ca": authority.certificate}).start()
    yield running
    assert running.stop() == 0


def handshake(url, *arguments, text=""):
    """openssl s_client; returns what it printed, and whether the handshake succeeded."""
    address = urllib.parse.urlsplit(url).netloc
    done = subprocess.run(["openssl", "s_client", "-connect", address, *map(str, arguments)], input=text, text=True,
                          capture_output=True, timeout=20)
    return done.stdout + done.stderr, "Verify return code" in done.stdout and "Cipher is (NONE)" not in done.stdout and "Cipher    : 0000" not in done.stdout


def test_a_job_over_tls(secure, authority):
    assert secure.url.startswith("https://127.0.0.1:")
    files = [("dicom", ("1.dcm", daemons.sample()[-1]))]
    answer = requests.post(secure.url + "/v1/jobs", files=files, headers={"Prefer": "wait=60"}, verify=str(authority.certificate), timeout=90)
    assert answer.status_code == 200 and answer.json()["schema"] == "medfusion.result/1"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions_spoken(secure, version):
    said, worked = handshake(secure.url, version)
    assert worked, said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_refused(secure, version):
    said, worked = handshake(secure.url, version, "-cipher", "ALL:@SECLEVEL=0")
    assert not worked and "no peer certificate available" in said, said


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES128-SHA256", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256",
                                    "DHE-RSA-AES128-GCM-SHA256", "NULL-SHA256", "ADH-AES128-GCM-SHA256"])
def test_weak_ciphers_refused(secure, cipher):
    said, worked = handshake(secure.url, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert not worked, said


def test_strong_ciphers_spoken(secure):
    worked = [handshake(secure.url, "-tls1_2", "-cipher", f"ECDHE-{kind}-AES128-GCM-SHA256")[1] for kind in ("RSA", "ECDSA")]
    assert sum(worked) == 1  # that of the certificate


def test_no_renegotiation(secure):
    said, worked = handshake(secure.url, "-tls1_2", text="GET /v2/health/live HTTP/1.1\r\nHost: a\r\nR\nR\n")
    assert worked
    process = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", urllib.parse.urlsplit(secure.url).netloc],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process.stdin.write("R\n")  # s_client's command: renegotiate
    process.stdin.flush()
    said = process.communicate(timeout=30)[0]
    assert "RENEGOTIATING" in said and ("no renegotiation" in said or "error" in said), said


def test_plain_http_is_not_answered(secure):
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(secure.url.replace("https:", "http:") + "/v2/health/live", timeout=10)


def ask(url, authority, certificate=None):
    cert = tuple(map(str, certificate)) if certificate else None
    return requests.get(url + "/v2/health/live", verify=str(authority.certificate), cert=cert, timeout=10)


def test_mutual_tls_lets_in_who_has_a_certificate(mutual, authority):
    assert ask(mutual.url, authority, authority.issue("client")).status_code == 200


def test_mutual_tls_keeps_out_everybody_else(mutual, authority, tmp_path):
    strangers = {"none": None, "of another authority": certificates.Authority(tmp_path, "stranger").issue("client"),
                 "expired": authority.issue("late", days=-1)}
    for name, certificate in strangers.items():
        with pytest.raises(requests.exceptions.ConnectionError):
            pytest.fail(f"{name}: {ask(mutual.url, authority, certificate).status_code}")


# --- starting ---

def refused(tmp_path, model, **options):
    """Starts a daemon that must refuse; its message."""
    arguments = [str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path / "data"), "--models.directories", str(model)]
    for key, value in {"http.listen": "127.0.0.1:0", **options}.items():
        arguments += [f"--{key}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1].removeprefix("medfusion serve: ")


def test_wrong_certificates_are_told_at_the_start(tmp_path, frontal_bundle, authority):
    certificate, key = authority.issue("server")
    other = authority.issue("other")[1]
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    assert refused(tmp_path, frontal_bundle, **{"http.tls_certificate": certificate}) == "http.tls_certificate needs http.tls_key"
    assert refused(tmp_path, frontal_bundle, **{"http.tls_certificate": certificate, "http.tls_key": tmp_path / "none"}).startswith("http.tls_key: ")
    assert refused(tmp_path, frontal_bundle, **{"http.tls_certificate": certificate, "http.tls_key": other}).startswith("http.tls_certificate and http.tls_key: ")
    assert refused(tmp_path, frontal_bundle, **{"http.tls_certificate": certificate, "http.tls_key": key, "http.tls_client_ca": empty}) == \
        "http.tls_client_ca: there is no certificate in it"
    assert refused(tmp_path, frontal_bundle, **{"http.tls_client_ca": authority.certificate}) == "http.tls_client_ca needs http.tls_certificate"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_it_listens_beyond_loopback_only_with_authentication_and_tls(tmp_path, frontal_bundle, authority, address):
    certificate, key = authority.issue("server")
    tls = {"http.tls_certificate": certificate, "http.tls_key": key}
    keys = tmp_path / "keys.json"
    keys.write_text('{"schema": "medfusion.keys/1", "keys": []}')
    nobody = f"http.listen: {address} is reached from other machines, and nobody would have to authenticate"
    assert refused(tmp_path, frontal_bundle, **{"http.listen": address}).startswith(nobody)
    assert refused(tmp_path, frontal_bundle, **{"http.listen": address, "http.expose": "plain"}).startswith(nobody)
    assert refused(tmp_path, frontal_bundle, **{"http.listen": address, **tls}).startswith(nobody)
    assert refused(tmp_path, frontal_bundle, **{"http.listen": address, "auth.keys": keys}).startswith(
        f"http.listen: {address} is reached from other machines without TLS")
    assert refused(tmp_path, frontal_bundle, **{"http.listen": address, "http.expose": "yes"}) == "http.expose: must be safe, plain or open"


@pytest.mark.parametrize("allowed", ["open", "plain with keys", "mutual"])
def test_it_listens_beyond_loopback_when_told_so(tmp_path, frontal_bundle, authority, allowed):
    certificate, key = authority.issue("server")
    keys = tmp_path / "keys.json"
    keys.write_text('{"schema": "medfusion.keys/1", "keys": []}')
    options = {"open": {"http.expose": "open"}, "plain with keys": {"http.expose": "plain", "auth.keys": keys},
               "mutual": {"http.tls_certificate": certificate, "http.tls_key": key, "http.tls_client_ca": authority.certificate}}[allowed]
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"http.listen": "0.0.0.0:0", **options}).start()
    assert running.stop() == 0
