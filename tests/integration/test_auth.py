"""Who may do what: API keys, tokens of issuers, tokens of ours, scopes of routes."""
import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fhir"))

import bundles  # noqa: E402
import daemon as daemons  # noqa: E402
import jwt  # noqa: E402
import rules  # noqa: E402

PUBLIC = {"/v2/health/live", "/v2/health/accepting", "/v2/health/ready", "/openapi.json", "/fhir/metadata", "/cds-services", "/oauth2/token",
          "/fhir/.well-known/smart-configuration", "/", "/ui", "/ui/", "/ui/{file}", "/schemas/", "/schemas/{name}"}
ALL = "jobs.read jobs.write dicom.read dicom.write fhir.read fhir.write metrics.read admin"


def key_command(*arguments):
    return subprocess.run([str(bundles.PROGRAM), "key", *map(str, arguments)], capture_output=True, text=True, timeout=30)


def add_key(path, scopes=ALL, tenant="default", name="test", *more):
    done = key_command("add", path, "--name", name, "--scopes", scopes, "--tenant", tenant, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(credential):
    return {"Authorization": f"Bearer {credential}"}


class KeySetServer:
    """Serves a JWK set over HTTP on loopback, and counts how often it is asked."""

    def __init__(self, keys):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                if outer.redirect:
                    self.send_response(302)
                    self.send_header("Location", outer.redirect)
                    self.end_headers()
                    return
                body = json.dumps({"keys": outer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.keys, self.asked, self.redirect = keys, 0, None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Guarded:
    """A daemon with keys, two issuers (an address, a file) and a client."""

    def __init__(self, directory, bundle):
        self.rsa, self.ec, self.p256, self.weak = (jwt.Key(directory, kid, kind) for kid, kind in
                                                   (("k-rsa", "rsa"), ("k-ec", "ec"), ("k-p256", "p256"), ("k-weak", "rsa1024")))
        self.client = jwt.Key(directory, "client-key")
        self.keys = directory / "keys.json"
        self.key = add_key(self.keys)
        self.set_server = KeySetServer([k.public() for k in (self.rsa, self.ec, self.p256, self.weak)])
        self.set_file = directory / "jwks.json"
        self.set_file.write_text(json.dumps({"keys": [self.ec.public()]}))
        (directory / "trust.json").write_text(json.dumps({
            "schema": "medfusion.trust/1", "token_url": "https://medfusion.test/oauth2/token",
            "issuers": [{"issuer": "https://idp.test", "audience": "https://medfusion.test", "jwks_url": self.set_server.url, "tenant": "default",
                         "scopes": "jobs.read metrics.read system/*.rs"},
                        {"issuer": "https://file.test", "audience": "https://medfusion.test", "jwks_file": str(self.set_file),
                         "tenant_claim": "hospital", "scopes": "jobs.read", "scopeless": True}],
            "clients": [{"client_id": "ehr", "jwks": {"keys": [self.client.public()]}, "tenant": "default",
                         "scopes": "system/Observation.rs jobs.read"}]}))
        self.daemon = daemons.Daemon(directory / "daemon", bundle, **{
            "auth.keys": self.keys, "auth.trust": directory / "trust.json", "auth.jwks_hosts": "127.0.0.1"}).start()
        self.until(lambda: self.status(self.rsa.token(jwt.claims())) == 200)

    def get(self, credential=None, path="/v1/jobs", **headers):
        return self.daemon.get(path, headers={**(bearer(credential) if credential else {}), **headers})

    def status(self, credential=None, path="/v1/jobs"):
        return self.get(credential, path).status_code

    @staticmethod
    def until(condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def assertion(self, key=None, header=None, **changes):
        now = int(time.time())
        good = {"iss": "ehr", "sub": "ehr", "aud": "https://medfusion.test/oauth2/token", "exp": now + 120, "jti": f"{time.monotonic_ns()}"}
        return (key or self.client).token({k: v for k, v in {**good, **changes}.items() if v is not None}, header)

    def exchange(self, assertion, scope="system/Observation.rs", **changes):
        form = {"grant_type": "client_credentials", "scope": scope, "client_assertion": assertion,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", **changes}
        return requests.post(self.daemon.url + "/oauth2/token", data={k: v for k, v in form.items() if v is not None}, timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, frontal_bundle):
    g = Guarded(tmp_path_factory.mktemp("guarded"), frontal_bundle)
    yield g
    assert g.daemon.stop() == 0


# --- routes ---

def routes():
    source = (bundles.ROOT / "server/router.c").read_text()
    names = re.findall(r"\{&mf_endpoint_(\w+), MF_ACCESS_(\w+)\}", source)
    assert len(names) > 30
    return names


def contract(daemon):
    """Every method and path of the contract, with values in place of {…}."""
    for path, operations in daemon.get("/openapi.json").json()["paths"].items():
        for method in operations:
            if method in ("get", "post", "put", "delete", "patch"):
                yield method, path, re.sub(r"\{\w+\}", "1", path)


def test_every_route_that_is_not_public_needs_a_credential(guarded):
    asked = 0
    for method, pattern, path in contract(guarded.daemon):
        answer = requests.request(method, guarded.daemon.url + path, timeout=30)
        if pattern in PUBLIC:
            assert answer.status_code not in (401, 403), (method, pattern)
            continue
        asked += 1
        assert answer.status_code == 401, (method, pattern, answer.status_code)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="medfusion"'
        kind = "application/fhir+json" if path.startswith("/fhir/") else "application/problem+json"
        assert answer.headers["Content-Type"] == kind, pattern
    assert asked >= 28


def test_every_route_that_is_not_public_needs_its_scope(guarded):
    nothing = add_key(guarded.keys, "metrics.read", name="metrics only")
    guarded.until(lambda: guarded.status(nothing, "/metrics") == 200)
    free = PUBLIC | {"/metrics", "/v2", "/v2/models/{model}", "/v2/models/{model}/ready"}
    for method, pattern, path in contract(guarded.daemon):
        if pattern in free:
            continue
        answer = requests.request(method, guarded.daemon.url + path, headers=bearer(nothing), timeout=30)
        assert answer.status_code == 403, (method, pattern, answer.status_code)
        assert 'error="insufficient_scope", scope="' in answer.headers["WWW-Authenticate"]


def test_the_table_names_a_right_for_every_endpoint():
    assert not [name for name, access in routes() if access == "NONE"]
    public = {name for name, access in routes() if access == "PUBLIC"}
    assert public <= {"live", "accepting", "ready", "openapi", "fhir_metadata", "cds_list", "token", "smart_configuration", "root", "ui_bare", "ui", "ui_file",
                      "schemas", "schema"}


@pytest.mark.parametrize("scope, method, path, status", [
    ("jobs.read", "get", "/v1/jobs", 200), ("jobs.write", "get", "/v1/jobs", 403), ("jobs.read", "delete", "/v1/jobs/1", 403),
    ("jobs.write", "delete", "/v1/jobs/1", 404), ("metrics.read", "get", "/metrics", 200), ("jobs.read", "get", "/metrics", 403),
    ("fhir.read", "get", "/fhir/Observation/x", 404), ("system/Observation.r", "get", "/fhir/Observation/x", 404),
    ("system/Observation.read", "get", "/fhir/Observation/x", 404), ("system/Observation.s", "get", "/fhir/Observation/x", 403),
    ("system/DiagnosticReport.rs", "get", "/fhir/Observation/x", 403), ("system/*.rs", "get", "/fhir/Observation/x", 404),
    ("system/Observation.r", "get", "/fhir/Observation", 403), ("system/Observation.rs", "post", "/fhir/$infer", 403),
    ("system/*.cruds", "post", "/fhir/$infer", 415), ("dicom.read", "get", "/v1/jobs", 403)])
def test_what_scopes_allow(guarded, scope, method, path, status):
    key = add_key(guarded.keys, scope, name=scope)
    guarded.until(lambda: guarded.status(key, "/v2") == 200)
    assert requests.request(method, guarded.daemon.url + path, headers=bearer(key), timeout=30).status_code == status


# --- keys ---

def test_a_key_works_in_both_fields(guarded):
    assert guarded.status(guarded.key) == 200
    assert guarded.get(**{"X-API-Key": guarded.key}).status_code == 200
    assert guarded.get(guarded.key, **{"X-API-Key": guarded.key}).status_code == 400


@pytest.mark.parametrize("change", [lambda k: k[:-1] + ("A" if k[-1] != "A" else "B"), lambda k: k[:-1], lambda k: k + "A", lambda k: k[:21],
                                    lambda k: k.replace(k[4:20], "0" * 16), lambda k: "mfk_", lambda k: k.upper(), lambda k: "x"])
def test_a_wrong_key_is_refused(guarded, change):
    answer = guarded.get(change(guarded.key))
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == 'Bearer realm="medfusion", error="invalid_token"'


def test_other_schemes_are_refused(guarded):
    for value in ("Basic YTpi", "Bearer", "bearer", guarded.key, ""):
        assert guarded.daemon.get("/v1/jobs", headers={"Authorization": value}).status_code == 401


def test_keys_are_hashed_listed_and_revoked(guarded):
    key = add_key(guarded.keys, "jobs.read", "default", "to be revoked", "--days", 1)
    text = guarded.keys.read_text()
    assert key.split("_", 2)[2] not in text and guarded.keys.stat().st_mode & 0o77 == 0
    identity = key.split("_")[1]
    line = next(line for line in key_command("list", guarded.keys).stdout.splitlines() if line.startswith(identity))
    assert "  valid  " in line and "to be revoked" in line and key not in line
    guarded.until(lambda: guarded.status(key) == 200)
    assert key_command("revoke", guarded.keys, identity).returncode == 0
    guarded.until(lambda: guarded.status(key) == 401, 5)
    assert "  revoked  " in key_command("list", guarded.keys).stdout


def test_an_expired_key_is_refused(guarded):
    key = add_key(guarded.keys, "jobs.read", "default", "late", "--days", 1)
    document = json.loads(guarded.keys.read_text())
    document["keys"][-1]["expires"] = 1
    guarded.keys.write_text(json.dumps(document))
    time.sleep(2)
    assert guarded.status(key) == 401 and guarded.status(guarded.key) == 200


def test_a_broken_file_changes_nothing(guarded):
    good = guarded.keys.read_text()
    guarded.keys.write_text("{")
    time.sleep(2)
    assert guarded.status(guarded.key) == 200 and "auth.keys_unreadable" in guarded.daemon.log()
    guarded.keys.write_text(good)


@pytest.mark.parametrize("arguments, message", [
    ([], "add FILE, list FILE or revoke FILE ID, see --help"), (["add", "F"], "a key needs a name and scopes"),
    (["add", "F", "--name", "n", "--scopes", "root"], '"root" is no scope'),
    (["add", "F", "--name", "n", "--scopes", "jobs.read", "--tenant", "../x"], "a tenant is 1 to 64 of a-z, 0-9, '-', '_' and '.'"),
    (["add", "F", "--name", "n" * 65, "--scopes", "jobs.read"], "--name: longer than 64 bytes"),
    (["revoke", "KEYS", "0"], 'there is no key "0"'), (["list", "F"], None)])
def test_wrong_use_of_the_command(tmp_path, arguments, message):
    keys = tmp_path / "keys.json"
    add_key(keys)
    places = {"F": str(tmp_path / "new.json"), "KEYS": str(keys)}
    done = key_command(*[places.get(a, a) for a in arguments])
    assert done.returncode in (1, 2) and not done.stdout
    assert message is None or done.stderr == f"medfusion key: {message}\n"


# --- tokens of issuers ---

def test_good_tokens(guarded):
    for key in (guarded.rsa, guarded.ec):
        for typ in ("JWT", "at+jwt", "application/at+jwt"):
            assert guarded.status(key.token(jwt.claims(), {"typ": typ})) == 200
    assert guarded.status(guarded.ec.token(jwt.claims(aud=["https://other", "https://medfusion.test"]))) == 200
    assert guarded.status(guarded.ec.token(jwt.claims(exp=int(time.time()) - 30))) == 200  # a minute of skew
    assert guarded.status(guarded.ec.token(jwt.claims(scope="metrics.read openid unknown/*.x")), "/metrics") == 200


def bad_tokens(g):
    now, ec, rsa, claims = int(time.time()), g.ec, g.rsa, jwt.claims
    good = ec.token(claims())
    head, body, sign = good.split(".")
    public = g.rsa.public()
    yield "none", jwt.part({"alg": "none", "typ": "JWT"}) + "." + jwt.part(claims()) + "."
    yield "none with kid", jwt.part({"alg": "none", "typ": "JWT", "kid": "k-ec"}) + "." + jwt.part(claims()) + "."
    yield "None with a signature", ec.token(claims(), {"alg": "None"})
    for algorithm in ("HS256", "HS384"):
        for secret in (public["n"].encode(), json.dumps(public).encode(), b"", g.rsa.path.read_bytes()):
            yield f"{algorithm} with {secret[:8]}", jwt.hmac_token(secret, claims(), {"alg": algorithm, "kid": "k-rsa", "typ": "JWT"})
    yield "RS256", rsa.token(claims(), {"alg": "RS256"}, digest="sha256")
    yield "RS512", rsa.token(claims(), {"alg": "RS512"}, digest="sha512")
    yield "PS384", rsa.token(claims(), {"alg": "PS384"})
    yield "ES256", g.p256.token(claims(), {"alg": "ES256"}, digest="sha256")
    yield "ES384 with P-256", g.p256.token(claims())
    yield "a short RSA key", g.weak.token(claims())
    yield "RS384 named, EC key", ec.token(claims(), {"alg": "RS384"})
    yield "ES384 named, RSA key", rsa.token(claims(), {"alg": "ES384"})
    yield "RSA signature, kid of the EC key", rsa.token(claims(), {"kid": "k-ec", "alg": "ES384"})
    yield "another's key", g.client.token(claims(), {"kid": "k-ec"})
    yield "unknown kid", ec.token(claims(), {"kid": "nobody"})
    yield "no kid", ec.token(claims(), drop=("kid",))
    yield "kid a path", ec.token(claims(), {"kid": "../../../dev/null"})
    yield "kid SQL", ec.token(claims(), {"kid": "x' OR '1'='1"})
    yield "kid a number", ec.token(claims(), {"kid": 1})
    yield "jku", g.client.token(claims(), {"kid": "client-key", "jku": "http://127.0.0.1:1/jwks"})
    yield "jwk in the header", g.client.token(claims(), {"kid": "client-key", "jwk": g.client.public()})
    yield "x5u", g.client.token(claims(), {"kid": "client-key", "x5u": "http://127.0.0.1:1/"})
    yield "crit", ec.token(claims(), {"crit": ["exp"]})
    yield "b64", ec.token(claims(), {"b64": False, "crit": ["b64"]})
    yield "no typ", ec.token(claims(), drop=("typ",))
    yield "another typ", ec.token(claims(), {"typ": "logout+jwt"})
    yield "no alg", ec.token(claims(), drop=("alg",))
    yield "expired", ec.token(claims(exp=now - 90))
    yield "no exp", ec.token(claims(exp=None))
    yield "exp a text", ec.token(claims(exp=str(now + 300)))
    yield "exp too far", ec.token(claims(exp=now + 10 * 86400))
    yield "exp infinite", ec.token(claims(exp=1e300))
    yield "negative exp", ec.token(claims(exp=-1))
    yield "not yet", ec.token(claims(nbf=now + 600))
    yield "issued in the future", ec.token(claims(iat=now + 600))
    yield "another issuer", ec.token(claims(iss="https://evil.test"))
    yield "no issuer", ec.token(claims(iss=None))
    yield "issuer a list", ec.token(claims(iss=["https://idp.test"]))
    yield "another audience", ec.token(claims(aud="https://other.test"))
    yield "no audience", ec.token(claims(aud=None))
    yield "audience a prefix", ec.token(claims(aud="https://medfusion.tes"))
    yield "no scope", ec.token(claims(scope=None))
    yield "scope a list", ec.token(claims(scope=["jobs.read"]))
    yield "claims changed", ".".join((head, jwt.part(claims(sub="admin")), sign))
    yield "header changed", ".".join((jwt.part({"alg": "ES384", "kid": "k-ec", "typ": "JWT", "x": 1}), body, sign))
    yield "signature cut", good[:-4]
    yield "signature empty", f"{head}.{body}."
    yield "signature of zeros", f"{head}.{body}.{jwt.b64(bytes(96))}"
    yield "signature twice", f"{good}{sign}"
    yield "two parts", f"{head}.{body}"
    yield "four parts", f"{good}.{sign}"
    yield "padding", f"{head}==.{body}.{sign}"
    yield "plain base64", good.replace("-", "+").replace("_", "/") + "+/"
    yield "claims no object", ec.token([1, 2])
    yield "claims no JSON", ec.token(b"{")
    yield "claims twice the same member", ec.token(json.dumps(claims())[:-1].encode() + b', "aud": "https://medfusion.test"}')
    yield "deep", ec.token(claims(x=json.loads("[" * 50 + "]" * 50)))
    yield "empty", ".."
    yield "long", ec.token(claims(x="y" * 9000))


def test_bad_tokens_are_refused(guarded):
    tried = 0
    for name, token in bad_tokens(guarded):
        answer = guarded.get(token)
        assert answer.status_code == 401, f"{name}: {answer.status_code}"
        assert answer.json()["type"].endswith("unauthorized") and token not in answer.text
        tried += 1
    assert tried >= 60
    assert guarded.status(guarded.ec.token(jwt.claims())) == 200


def test_a_token_can_do_no_more_than_its_issuer_may(guarded):
    assert guarded.status(guarded.ec.token(jwt.claims(scope="jobs.write jobs.read"))) == 200
    token = guarded.ec.token(jwt.claims(scope="jobs.write dicom.read"))
    assert guarded.status(token) == 403
    assert requests.delete(guarded.daemon.url + "/v1/jobs/1", headers=bearer(token), timeout=30).status_code == 403


def test_the_tenant_comes_from_the_claim(guarded):
    claims = jwt.claims(iss="https://file.test", scope=None)
    assert guarded.status(guarded.ec.token({**claims, "hospital": "north"})) == 200
    for hospital in (None, "", "../x", "NORTH", 3, "a" * 65):
        assert guarded.status(guarded.ec.token({**claims, "hospital": hospital})) == 401


def test_rotation_in_a_file(guarded, tmp_path):
    new = jwt.Key(tmp_path, "k-new")
    token = new.token(jwt.claims(iss="https://file.test", hospital="north"))
    assert guarded.status(token) == 401
    guarded.set_file.write_text(json.dumps({"keys": [guarded.ec.public(), new.public()]}))
    guarded.until(lambda: guarded.status(token) == 200, 5)
    guarded.set_file.write_text(json.dumps({"keys": [guarded.ec.public()]}))
    guarded.until(lambda: guarded.status(new.token(jwt.claims(iss="https://file.test", hospital="south"))) == 401, 5)


def test_rotation_at_an_address(guarded, tmp_path):
    new = jwt.Key(tmp_path, "k-later", "rsa")
    asked, token = guarded.set_server.asked, new.token(jwt.claims())
    guarded.set_server.keys = [guarded.ec.public(), new.public()]
    guarded.until(lambda: guarded.status(token) == 200, 25)
    assert guarded.set_server.asked - asked <= 3  # however often an unknown key is named
    assert guarded.status(guarded.rsa.token(jwt.claims(sub="rotated away"))) == 401
    guarded.set_server.redirect = "http://127.0.0.1:1/"  # is not followed, and the keys stay
    time.sleep(1)
    assert guarded.status(new.token(jwt.claims(sub="still"))) == 200
    guarded.set_server.redirect = None


# --- tokens of ours ---

def test_a_client_gets_a_token_and_uses_it(guarded):
    described = guarded.get(path="/fhir/.well-known/smart-configuration").json()
    assert described["token_endpoint"] == "https://medfusion.test/oauth2/token"
    assert described["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    statement = guarded.get(path="/fhir/metadata").json()
    assert rules.schema_errors(rules.validated(statement)) == [] and rules.mistakes(statement) == []
    security = statement["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert security["extension"][0]["extension"] == [{"url": "token", "valueUri": described["token_endpoint"]}]
    answer = guarded.exchange(guarded.assertion(), "system/Observation.rs system/Patient.rs jobs.write")
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    token = answer.json()
    assert token["token_type"] == "bearer" and token["expires_in"] == 300 and token["scope"] == "system/Observation.rs"
    assert guarded.status(token["access_token"], "/fhir/Observation") == 200
    assert guarded.status(token["access_token"]) == 403
    for wrong in (token["access_token"][:-2] + "AA", token["access_token"].split(".")[0], "mft_." + token["access_token"].split(".")[1]):
        assert guarded.status(wrong, "/fhir/Observation") == 401


def test_an_assertion_is_used_once_even_when_the_front_starts_again(guarded):
    used = guarded.assertion()
    token = guarded.exchange(used).json()["access_token"]
    assert guarded.exchange(used).json() == {"error": "invalid_client", "error_description": "the token was used before (jti)"}
    assert guarded.daemon.kill("mf-front")
    guarded.until(lambda: alive(guarded))
    assert guarded.exchange(used).status_code == 401
    assert guarded.status(token, "/fhir/Observation") == 200


def alive(guarded):
    try:
        return guarded.status(path="/v2/health/live") == 200
    except requests.exceptions.ConnectionError:
        return False


@pytest.mark.parametrize("changes", [
    {"iss": "other"}, {"sub": "other"}, {"iss": None}, {"aud": "https://medfusion.test"}, {"aud": None}, {"exp": 1}, {"exp": None},
    {"exp": int(time.time()) + 3600}, {"jti": None}, {"jti": ""}, {"jti": "x" * 300}, {"jti": 5}, {"nbf": int(time.time()) + 3600}])
def test_wrong_assertions(guarded, changes):
    answer = guarded.exchange(guarded.assertion(**changes))
    assert answer.status_code == 401 and answer.json()["error"] == "invalid_client"


def test_assertions_with_a_wrong_header_or_key(guarded):
    for assertion in (guarded.assertion(header={"typ": "at+jwt"}), guarded.assertion(header={"alg": "RS384"}), guarded.assertion(header={"kid": "k-ec"}),
                      guarded.assertion(guarded.ec, {"kid": "client-key"}), "x", ""):
        assert guarded.exchange(assertion).status_code == 401


@pytest.mark.parametrize("changes, error", [
    ({"grant_type": "password"}, "unsupported_grant_type"), ({"grant_type": None}, "invalid_request"), ({"scope": None}, "invalid_request"),
    ({"client_assertion_type": "x"}, "invalid_request"), ({"client_assertion": None}, "invalid_request"), ({"extra": "1"}, "invalid_request"),
    ({"scope": "dicom.read root"}, "invalid_scope")])
def test_wrong_token_requests(guarded, changes, error):
    answer = guarded.exchange(guarded.assertion(), **changes)
    assert answer.status_code == 400 and answer.json()["error"] == error


def test_wrong_content_of_token_requests(guarded):
    url = guarded.daemon.url + "/oauth2/token"
    assert requests.post(url, json={}, timeout=30).status_code == 415
    assert requests.post(url, data="x" * 40000, headers={"Content-Type": "application/x-www-form-urlencoded"}, timeout=30).status_code == 413
    assert requests.post(url, data="a=%00", headers={"Content-Type": "application/x-www-form-urlencoded"}, timeout=30).status_code == 400


# --- the files ---

def refused(tmp_path, model, trust, *more):
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    done = subprocess.run([str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path / "data"), "--models.directories", str(model),
                           "--http.listen", "127.0.0.1:0", "--auth.trust", str(tmp_path / "trust.json"), *more],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    return done.stderr.strip().splitlines()[-1].split("trust.json: ")[-1]


def test_mistakes_in_the_file_of_trust(tmp_path, frontal_bundle):
    base = {"schema": "medfusion.trust/1", "token_url": "https://a/t"}
    key = jwt.Key(tmp_path, "k")
    issuer = {"issuer": "https://i", "audience": "a", "tenant": "t", "scopes": "jobs.read"}

    def say(**changes):
        return refused(tmp_path, frontal_bundle, {**base, "issuers": [{**issuer, **changes}]})

    assert refused(tmp_path, frontal_bundle, {}) == '"schema" must be "medfusion.trust/1"'
    assert say() == 'issuer https://i: needs one of "jwks", "jwks_file" and "jwks_url"'
    assert say(jwks_url="http://idp.test/x") == 'issuer https://i: "jwks_url" must be https'
    assert say(jwks_url="file:///etc/passwd") == 'issuer https://i: "jwks_url" is no address'
    assert say(jwks_url="ftp://idp.test/x") == 'issuer https://i: "jwks_url" must be https'
    assert say(jwks_url="https://a@b/") == 'issuer https://i: "jwks_url" is no address'
    assert say(jwks_url="https://169.254.169.254/x") == 'issuer https://i: the host of "jwks_url" is not in auth.jwks_hosts'
    assert say(jwks={"keys": [{**key.public(), "d": "AA"}]}) == "issuer https://i: holds a private or secret key"
    assert say(jwks={"keys": [key.public(), key.public()]}) == "issuer https://i: two keys have the same kid"
    assert say(jwks={"keys": []}, scopes="root") == 'issuer https://i: "root" is no scope'
    assert say(jwks={"keys": []}, tenant="A") == 'issuer https://i: "tenant" is missing or no name'
    assert '"colour"' in say(jwks={"keys": []}, colour="red")


def test_keys_must_be_there(tmp_path, frontal_bundle):
    done = subprocess.run([str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path / "data"), "--models.directories", str(frontal_bundle),
                           "--auth.keys", str(tmp_path / "none.json")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "auth.keys: " in done.stderr
