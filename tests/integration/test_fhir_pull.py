"""Data pulled from a FHIR server gives the features that the same data gives when it is uploaded; only configured servers are asked."""
import base64
import json
import subprocess

import pytest
import requests

import bad_input
import bundles
import daemon as daemons
import fhir_server
from dicom_net import JSON, part10, related, sample, wait_for_study

IMAGE = bad_input.NEWEST.read_bytes()
UPLOAD = json.loads((bad_input.SAMPLE / "ehr.json").read_text())
OWN = [e["resource"] for e in UPLOAD["entry"]]
PATIENT = "Patient/sample-patient"
VISIT = {"resourceType": "Encounter", "id": "visit", "status": "finished", "class": {"code": "EMER"}, "subject": {"reference": PATIENT},
         "period": {"start": "2016-07-08"}}


def noise(count):
    """What no feature needs, of this patient and of another."""
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
    rows = [{"resourceType": "Observation", "id": f"noise-{i}", "status": "final", "code": code, "effectiveDateTime": "2016-07-08",
             "subject": {"reference": PATIENT if i % 2 else "Patient/other"}, "valueQuantity": {"value": 13.5, "unit": "g/dL"}} for i in range(count)]
    return rows + [{"resourceType": "Patient", "id": "other", "identifier": [{"value": "stranger"}]}]


def write_servers(path, **servers):
    path.write_text(json.dumps(servers))
    return path


def run(tmp_path, model, servers, **options):
    file = write_servers(tmp_path / "servers.json", **servers)
    return daemons.Daemon(tmp_path / "d", model, **{"fhir.servers": file, "fhir.timeout_s": 5, **options}).start()


@pytest.fixture(scope="module")
def ehr():
    server = fhir_server.FhirServer(OWN + noise(20) + [VISIT], page=1)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def everything():
    server = fhir_server.FhirServer(OWN + noise(20) + [VISIT], everything=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle, ehr, everything):
    running = run(tmp_path_factory.mktemp("pull"), frontal_bundle, {
        "ehr": {"url": ehr.url + "/"}, "all": {"url": everything.url}, "down": {"url": "http://127.0.0.1:1/fhir"},
        "never": {"url": everything.url, "everything": False}}, **{"http.max_ehr_bytes": 20000})
    yield running
    assert running.stop() == 0


def pulled(daemon, wanted, status=200, **options):
    response = daemon.post([IMAGE], options=json.dumps({"ehr": wanted, **options}), headers={"Prefer": "wait=30"})
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture(scope="module")
def uploaded(daemon):
    response = daemon.post([IMAGE], ehr=json.dumps(UPLOAD), headers={"Prefer": "wait=30"})
    assert response.status_code == 200, response.text
    features = response.json()["ehr"]["features"]
    assert {f["status"] for f in features} >= {"used"} and any(f["source"].startswith("Observation/") for f in features)
    return features


@pytest.mark.parametrize("reference", [PATIENT, "sample-patient", PATIENT + "/_history/1"])
def test_a_patient_is_pulled(daemon, ehr, uploaded, reference):
    ehr.asked.clear()
    assert pulled(daemon, {"source": "ehr", "patient": reference})["ehr"]["features"] == uploaded
    searches = [path for _, path in ehr.asked if "Observation?" in path]
    assert all("combo-code=http%3A%2F%2Floinc.org%7C" in path and "patient=sample-patient" in path for path in searches if "_offset" not in path)
    assert len(searches) == 2  # two Observations are needed, a page holds one; none of the noise


def test_an_encounter_stands_for_its_patient(daemon, ehr, uploaded):
    assert pulled(daemon, {"encounter": "Encounter/visit"})["ehr"]["features"] == uploaded
    assert ("GET", "/fhir/Encounter/visit") in ehr.asked


def test_everything_where_it_is_offered(daemon, everything, uploaded):
    everything.asked.clear()
    assert pulled(daemon, {"source": "all", "patient": PATIENT})["ehr"]["features"] == uploaded
    assert any("$everything" in path for _, path in everything.asked) and not any("Observation?" in path for _, path in everything.asked)
    everything.asked.clear()
    assert pulled(daemon, {"source": "never", "patient": PATIENT})["ehr"]["features"] == uploaded
    assert not any("$everything" in path for _, path in everything.asked)


def test_everything_that_is_too_much_becomes_searches(daemon, everything, uploaded):
    more = {("Observation", r["id"]): r for r in noise(200)[:-1]}
    everything.resources.update(more)
    everything.asked.clear()
    assert pulled(daemon, {"source": "all", "patient": PATIENT})["ehr"]["features"] == uploaded
    assert any("Observation?" in path for _, path in everything.asked)
    for key in more:
        everything.resources.pop(key)


def test_only_what_was_known_then(daemon, ehr, uploaded):
    late = next(r for r in OWN if r["resourceType"] == "Observation" and r["code"]["coding"][0]["code"] == "8310-5")
    late["meta"] = {**late["meta"], "lastUpdated": "2020-01-01T00:00:00Z"}
    ehr.asked.clear()
    features = pulled(daemon, {"source": "ehr", "patient": PATIENT, "as_of": "2019-01-01T00:00:00Z"})["ehr"]["features"]
    assert f"Observation/{late['id']}" in [f["source"] for f in uploaded] and f"Observation/{late['id']}" not in [f["source"] for f in features]
    assert any("_lastUpdated=le2019-01-01T00%3A00%3A00Z" in path for _, path in ehr.asked)


def test_by_reference_altogether(daemon):
    body = {"study": {"study_instance_uid": "1.2.3"}, "ehr": {"patient": "1"}, "options": {"ehr": {"patient": "2"}}}
    response = requests.post(daemon.url + "/v1/jobs", json=body, timeout=30)
    assert response.status_code == 422  # there is no DICOM source; the EHR is not asked first


def test_a_repeated_request_is_one_job(daemon):
    def post():
        return daemon.post([IMAGE], options=json.dumps({"ehr": {"source": "ehr", "patient": PATIENT}}), headers={"Idempotency-Key": "pull-1"})
    assert len({post().headers["Location"] for _ in range(2)}) == 1


@pytest.mark.parametrize("wanted, status, message", [
    ({"source": "ehr", "patient": "Patient/nobody"}, 404, "the patient: the FHIR server answered 404"),
    ({"source": "all", "patient": "Patient/other"}, 422, "another patient"),
    ({"source": "elsewhere", "patient": "1"}, 422, "no such FHIR server"),
    ({"source": "http://169.254.169.254/", "patient": "1"}, 422, "no such FHIR server"),
    ({"url": "http://169.254.169.254/", "patient": "1"}, 422, "url"),
    ({"source": "ehr", "patient": "../admin"}, 422, "not a reference to a Patient"),
    ({"source": "ehr", "patient": ".."}, 422, "not a reference to a Patient"),
    ({"source": "ehr", "patient": "http://169.254.169.254/Patient/1"}, 422, "not a reference to a Patient"),
    ({"source": "ehr", "encounter": "Encounter/1?x"}, 422, "not a reference to an Encounter"),
    ({"source": "ehr", "encounter": "Encounter/none"}, 404, "the encounter"),
    ({"source": "ehr"}, 422, "either"), ({"patient": "1", "encounter": "1"}, 422, "either"), ([], 422, "must be a JSON object"),
    ({"source": "ehr", "patient": PATIENT, "as_of": "yesterday"}, 422, "as_of"),
    ({"source": "down", "patient": "1"}, 503, "cannot be reached"),
])
def test_mistakes(daemon, wanted, status, message):
    assert message in pulled(daemon, wanted, status)["detail"]


def test_beside_an_upload(daemon):
    response = daemon.post([IMAGE], ehr=json.dumps(UPLOAD), options=json.dumps({"ehr": {"source": "ehr", "patient": PATIENT}}))
    assert response.status_code == 422


def test_pages_stay_on_the_server(daemon, ehr):
    stranger = fhir_server.FhirServer()
    for url in (stranger.url + "/Observation?page=2", ehr.origin + "/fhirother/x", ehr.url.replace("http://", "http://user@") + "/x",
                ehr.url + "/../admin", "file:///etc/passwd"):
        ehr.next_url = url
        assert "not its own" in pulled(daemon, {"source": "ehr", "patient": PATIENT}, 503)["detail"]
    ehr.next_url = None
    assert stranger.asked == [] and not any("admin" in path or "other/x" in path for _, path in ehr.asked)
    stranger.stop()


def test_a_server_that_fails(daemon, ehr):
    for status, ours in ((500, 503), (429, 503), (400, 422), (302, 422)):
        ehr.fail = [status]
        assert pulled(daemon, {"source": "ehr", "patient": PATIENT}, ours)["detail"].endswith(f"answered {status}")
    assert ehr.fail == []


def test_a_secret_gives_a_token(tmp_path, frontal_bundle, uploaded):
    server = fhir_server.FhirServer(OWN, secret="s:3 cret")
    (tmp_path / "secret").write_text("s:3 cret\n")
    daemon = run(tmp_path, frontal_bundle, {"ehr": {"url": server.url, "token_url": server.origin + "/token", "client_id": "medfusion",
                                                    "client_secret_file": str(tmp_path / "secret"), "scope": "system/*.read"}})
    wanted = {"patient": PATIENT}
    assert pulled(daemon, wanted)["ehr"]["features"] == uploaded
    assert pulled(daemon, wanted)["ehr"]["features"] == uploaded and server.issued == 1
    server.tokens.clear()  # revoked
    assert pulled(daemon, wanted)["ehr"]["features"] == uploaded and server.issued == 2
    server.tokens.clear()
    server.secret = "another"
    assert pulled(daemon, wanted, 503)["detail"].endswith("the authorization server answered 401")
    assert "cret" not in daemon.log() and "token-" not in daemon.log()
    assert daemon.stop() == 0
    server.stop()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def to_der(signature):
    """Both numbers of an ES384 signature as DER."""
    numbers = b""
    for half in (signature[:48], signature[48:]):
        value = half.lstrip(b"\0")
        value = b"\0" + value if value[0] > 127 else value
        numbers += bytes([2, len(value)]) + value
    return bytes([48, len(numbers)]) + numbers


@pytest.mark.parametrize("algorithm, command", [
    ("ES384", ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("RS384", ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])])
def test_a_key_gives_a_token(tmp_path, frontal_bundle, uploaded, algorithm, command):
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", *command, "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    server, seen = fhir_server.FhirServer(OWN), []

    def verify(form):
        text, _, signature = form["client_assertion"][0].rpartition(".")
        head, claims = (json.loads(decode(part)) for part in text.split("."))
        raw = decode(signature)
        (tmp_path / "signature").write_bytes(to_der(raw) if algorithm == "ES384" else raw)
        (tmp_path / "text").write_text(text)
        good = subprocess.run(["openssl", "dgst", "-sha384", "-verify", public, "-signature", tmp_path / "signature", tmp_path / "text"],
                              capture_output=True, check=False).returncode == 0
        seen.append(claims["jti"])
        return (good and head == {"alg": algorithm, "typ": "JWT", "kid": "k1"} and claims["iss"] == claims["sub"] == "us"
                and claims["aud"] == server.origin + "/token"
                and form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"])

    server.verify = verify
    server.life = 0  # every request needs a new one
    daemon = run(tmp_path, frontal_bundle, {"ehr": {"url": server.url, "token_url": server.origin + "/token", "client_id": "us",
                                                    "private_key_file": str(key), "key_id": "k1", "scope": "system/*.read"}})
    assert pulled(daemon, {"patient": PATIENT})["ehr"]["features"] == uploaded
    assert len(seen) == len(set(seen)) > 1
    assert daemon.stop() == 0
    server.stop()


def test_stored_studies_get_their_patients_data(tmp_path, frontal_bundle, ehr, uploaded):
    daemon = run(tmp_path, frontal_bundle, {"ehr": {"url": ehr.url, "identifier_system": "urn:medfusion:nih-cxr14"}},
                 **{"fhir.source": "ehr", "intake.quiet_s": 0})
    ds = sample()
    body, kind = related([part10(ds)])
    assert requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).status_code == 200
    job = daemon.wait(f"/v1/jobs/{wait_for_study(daemon, ds.StudyInstanceUID)['jobs'][0]}")
    assert daemon.get(f"/v1/jobs/{job['id']}/result").json()["ehr"]["features"] == uploaded
    stranger = sample()
    stranger.PatientID, stranger.StudyInstanceUID, stranger.SOPInstanceUID = "unknown there", "1.2.3.4", "1.2.3.4.5"
    stranger.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    body, kind = related([part10(stranger)])
    requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).raise_for_status()
    job = daemon.wait(f"/v1/jobs/{wait_for_study(daemon, '1.2.3.4')['jobs'][0]}")
    assert job["state"] == "succeeded" and "study.ehr_failed" in daemon.log()
    assert not any((f["source"] or "").startswith("Obs") for f in daemon.get(f"/v1/jobs/{job['id']}/result").json()["ehr"]["features"])
    assert daemon.stop() == 0


@pytest.mark.parametrize("servers, message", [
    ({"ehr": {}}, '"url" is missing'), ({"ehr": {"url": "ftp://x/fhir"}}, "must be an http or https URL"),
    ({"ehr": {"url": "http://u@x/fhir"}}, "must be an http or https URL"), ({"ehr": {"url": "http://x/", "colour": 1}}, "colour"),
    ({"a b": {"url": "http://x/"}}, "no space"), ({"ehr": {"url": "http://x/", "client_id": "i"}}, '"token_url" is needed'),
    ({"ehr": {"url": "https://x/", "token_url": "https://x/t", "client_id": "i"}}, "needs client_secret_file or private_key_file"),
    ({"ehr": {"url": "https://x/", "token_url": "http://x/t", "client_id": "i", "client_secret_file": "/etc/hostname"}}, "must be https"),
    ({"ehr": {"url": "http://x/", "token_url": "https://x/t", "client_id": "i", "client_secret_file": "/etc/hostname"}}, "must be https"),
    ({"ehr": {"url": "https://x/", "token_url": "https://x/t", "client_id": "i", "client_secret_file": "/nowhere"}}, "client_secret_file"),
    ({"ehr": {"url": "https://x/", "token_url": "https://x/t", "client_id": "i", "private_key_file": "/etc/hostname"}}, "not a private key"),
    ({"ehr": {"url": "https://x/", "everything": 1}}, "true or false"), ([], "must be an object")])
def test_mistakes_in_the_file_of_servers(tmp_path, frontal_bundle, servers, message):
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--http.listen", "127.0.0.1:0", "--fhir.servers", tmp_path / "servers.json"], capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
