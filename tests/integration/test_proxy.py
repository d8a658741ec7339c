"""deploy/haproxy before two fronts without workers of their own, workers beside them, one PostgreSQL, deploy/cluster/config.json for all:
ambiguous requests do not pass, a front that is killed is not missed, jobs are taken while no worker is there."""
import contextlib
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid

import pynetdicom
import pytest
import requests

import bundles
import certificates
import daemon as daemons
import helm
import postgres
import test_postgres

HAPROXY = pathlib.Path(__file__).parents[2] / "deploy/haproxy"
CONFIG = pathlib.Path(__file__).parents[2] / "deploy/cluster/config.json"
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))


def wait_until(what, true, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Proxy:
    """HAProxy with the shipped files; fronts: ports of http.listen and dimse.listen of two."""

    def __init__(self, directory, fronts):
        self.directory = directory
        self.authority = certificates.Authority(directory / "authority")
        certificate, key = self.authority.issue("proxy")
        (directory / "proxy.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        self.port, self.dicom = postgres.free_port(), postgres.free_port()
        self.environment = os.environ | {
            "MEDFUSION_BIND": f"127.0.0.1:{self.port}", "MEDFUSION_CERTIFICATE": str(directory / "proxy.pem"),
            "MEDFUSION_DICOM_BIND": f"127.0.0.1:{self.dicom}", "MEDFUSION_FRONTS": "front", "MEDFUSION_RESOLVER": "127.0.0.1:53"}
        for i, (http, dicom) in enumerate(fronts, 1):
            self.environment |= {f"MEDFUSION_FRONT_{i}": f"127.0.0.1:{http}", f"MEDFUSION_PORT_{i}": str(http),
                                 f"MEDFUSION_DICOM_{i}": f"127.0.0.1:{dicom}"}
        self.url = f"https://127.0.0.1:{self.port}"
        self.process = None

    def check(self, fronts="fronts-by-address.cfg"):
        done = subprocess.run(["haproxy", "-c", "-f", HAPROXY / "haproxy.cfg", "-f", HAPROXY / fronts], env=self.environment,
                              capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def start(self):
        with open(self.directory / "proxy.log", "ab") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", HAPROXY / "haproxy.cfg", "-f", HAPROXY / "fronts-by-address.cfg"],
                                            env=self.environment, stdout=log, stderr=log)
        wait_until("the proxy does not listen", lambda: self.process.poll() is None and self.listens())
        return self

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def log(self):
        return (self.directory / "proxy.log").read_text()

    def session(self, key):
        session = requests.Session()
        session.trust_env, session.verify = False, str(self.authority.certificate)
        session.headers["Authorization"] = f"Bearer {key}"
        return session

    def raw(self, text, seconds=PATIENCE_S):
        """The answers to these bytes, as far as they come before the connection is closed or `done` of them are there."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as c:
            c.sendall(text)
            answer = b""
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                while piece := c.recv(65536):
                    answer += piece
            return answer


# --- what passes, and how: a front that writes down what it gets ---

class Recorder:
    """Answers every request and the proxy's question for health; keeps the bytes of what it was sent."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.seen = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        data = b""
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                data += piece
                if not complete(data):
                    continue
                if b" /v2/health/accepting " not in data:
                    self.seen.append(data)
                data = b""
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def complete(data):
    """Whether a request is there whole, as the proxy writes requests."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if b"\r\ntransfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n") or b"\r\n0\r\n" in body and body.endswith(b"\r\n\r\n")
    length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= sum(length)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    fronts = Recorder(), Recorder()
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), [(front.port, front.port) for front in fronts]).start()
    wait_until("the proxy finds no front", lambda: proxy.raw(GET + b"Host: a\r\n" + CLOSE).startswith(b"HTTP/1.1 200"))
    yield proxy, fronts
    proxy.stop()
    for front in fronts:
        front.socket.close()


GET, POST, CLOSE = b"GET /v1/jobs HTTP/1.1\r\n", b"POST /v1/jobs HTTP/1.1\r\n", b"Connection: close\r\n\r\n"
HOST, CHUNKED, LENGTH = b"Host: a\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"
END = b"0\r\n\r\n"

REFUSED = {
    "two lengths that differ": POST + HOST + b"Content-Length: 0\r\n" + LENGTH + CLOSE,
    "a list of lengths that differ": POST + HOST + b"Content-Length: 0, 5\r\n" + CLOSE,
    "a length with a sign": POST + HOST + b"Content-Length: +5\r\n" + CLOSE + b"hello",
    "a negative length": POST + HOST + b"Content-Length: -1\r\n" + CLOSE,
    "a length in hexadecimal": POST + HOST + b"Content-Length: 0x5\r\n" + CLOSE + b"hello",
    "a length too large for 64 bits": POST + HOST + b"Content-Length: 18446744073709551617\r\n" + CLOSE,
    "a length of 2^64": POST + HOST + b"Content-Length: 18446744073709551616\r\n" + CLOSE + b"hello",
    "a length with zeros before it": POST + HOST + b"Content-Length: 005\r\n" + CLOSE + b"hello",
    "a blank before the colon": POST + HOST + b"Transfer-Encoding : chunked\r\n" + CLOSE + END,
    "another coding": POST + HOST + b"Transfer-Encoding: xchunked\r\n" + CLOSE + END,
    "two codings": POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n" + CLOSE + END,
    "chunked twice": POST + HOST + CHUNKED + CHUNKED + CLOSE + END,
    "chunked, and not": POST + HOST + CHUNKED + b"Transfer-Encoding: identity\r\n" + CLOSE + END,
    "chunked in HTTP/1.0": b"POST /v1/jobs HTTP/1.0\r\n" + HOST + CHUNKED + CLOSE + END,
    "a version of its own": b"GET /v1/jobs HTTP/2.0\r\n" + HOST + CLOSE,
    "no version": b"GET /v1/jobs\r\n\r\n",
    "no Host": GET + CLOSE,
    "two Hosts": GET + HOST + b"Host: b\r\n" + CLOSE,
    "a Host that contradicts the target": b"GET http://b/v1/jobs HTTP/1.1\r\n" + HOST + CLOSE,
    "a NUL in a header": GET + HOST + b"X: a\0b\r\n" + CLOSE,
    "a NUL in the target": b"GET /v1/\0jobs HTTP/1.1\r\n" + HOST + CLOSE,
    "an encoded NUL": b"GET /v1/jobs%00 HTTP/1.1\r\n" + HOST + CLOSE,
    "an encoded line feed": b"GET /v1/jobs%0aX HTTP/1.1\r\n" + HOST + CLOSE,
    "a carriage return alone": GET + b"Host: a\rX: b\r\n" + CLOSE,
    "a blank in a name": GET + HOST + b"X Y: a\r\n" + CLOSE,
    "a blank before the first name": GET + b" " + HOST + CLOSE,
    "an underscore in a name": POST + HOST + b"Content_Length: 5\r\n" + CLOSE,
    "dot segments": b"GET /v1/../jobs HTTP/1.1\r\n" + HOST + CLOSE,
    "encoded dot segments": b"GET /v1/%2e%2e/jobs HTTP/1.1\r\n" + HOST + CLOSE,
    "an upgrade": GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n" + CLOSE,
    "a length that the connection takes away": POST + HOST + b"Connection: Content-Length\r\n" + LENGTH + b"\r\nhello",
    "an expectation of its own": POST + HOST + b"Expect: tea\r\n" + CLOSE,
    "a chunk that is no number": POST + HOST + CHUNKED + CLOSE + b"zz\r\n" + END,
    "a chunk too large for 64 bits": POST + HOST + CHUNKED + CLOSE + b"f" * 17 + b"\r\n" + END,
}

# What passes is written anew: the request that a front gets (without its name for the connection).
PLAIN = {
    "a plain request": (GET + HOST + CLOSE, b"GET /v1/jobs HTTP/1.1\r\nhost: a\r\n\r\n"),
    "bare line feeds": (b"GET /v1/jobs HTTP/1.1\nHost: a\nConnection: close\n\n", b"GET /v1/jobs HTTP/1.1\r\nhost: a\r\n\r\n"),
    "a folded line": (GET + HOST + b"X: a\r\n Transfer-Encoding: chunked\r\n" + CLOSE,
                      b"GET /v1/jobs HTTP/1.1\r\nhost: a\r\nx: a   Transfer-Encoding: chunked\r\n\r\n"),
    "a folded coding": (POST + HOST + b"Transfer-Encoding:\r\n chunked\r\n" + CLOSE + END,
                        b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "length and coding": (POST + HOST + LENGTH + CHUNKED + CLOSE + END,
                          b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding and length": (POST + HOST + CHUNKED + LENGTH + CLOSE + END,
                          b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "two equal lengths": (POST + HOST + LENGTH + LENGTH + CLOSE + b"hello", b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"),
    "an extension of a chunk": (POST + HOST + CHUNKED + CLOSE + b"5;a=b\r\nhello\r\n" + END,
                                b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "chunks with bare line feeds": (POST + HOST + CHUNKED + CLOSE + b"5\nhello\n0\n\n",
                                    b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "what only a proxy may say": (GET + HOST + b"X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n" + CLOSE,
                                  b"GET /v1/jobs HTTP/1.1\r\nhost: a\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused(recorded, name):
    proxy, fronts = recorded
    before = sum(len(front.seen) for front in fronts)
    answer = proxy.raw(REFUSED[name])
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) and answer.count(b"HTTP/1.") == 1, answer
    assert sum(len(front.seen) for front in fronts) == before


@pytest.mark.parametrize("name", PLAIN)
def test_what_passes_has_one_meaning(recorded, name):
    proxy, fronts = recorded
    sent, expected = PLAIN[name]
    for front in fronts:
        front.seen.clear()
    assert proxy.raw(sent).startswith(b"HTTP/1.1 200")
    (seen,) = [data for front in fronts for data in front.seen]
    assert seen.replace(b"connection: close\r\n", b"") == expected


def test_both_ways_of_naming_fronts_are_valid(recorded):
    for fronts in ("fronts-by-address.cfg", "fronts-by-name.cfg"):
        code, said = recorded[0].check(fronts)
        assert code == 0 and "WARNING" not in said and "ALERT" not in said, said


def test_its_log_names_no_path(recorded):
    proxy, _ = recorded
    proxy.raw(b"GET /v1/studies/1.2.3.4.canary HTTP/1.1\r\n" + HOST + CLOSE)
    wait_until("the log says nothing", lambda: "medfusion~" in proxy.log())
    assert "canary" not in proxy.log() and "studies" not in proxy.log()


# --- the real fronts ---

class Service:
    """Two fronts and a proxy before them, on a database of their own; workers are started by the test."""

    def __init__(self, directory, model, database):
        self.directory, self.model, self.database = directory, model, database
        keys = directory / "keys.json"
        self.key = subprocess.run([bundles.PROGRAM, "key", "add", keys, "--name", "test", "--scopes", "jobs.read jobs.write metrics.read"],
                                  check=True, capture_output=True, text=True).stdout.split()[-1]
        self.ports = [(postgres.free_port(), postgres.free_port()) for _ in range(2)]
        self.common = {"config": CONFIG, "auth.keys": keys}
        self.hosts = [self.front(i) for i in range(2)]
        self.proxy = Proxy(directory, self.ports)
        self.session = self.proxy.session(self.key)
        self.proxy.start()

    def front(self, i):
        http, dicom = self.ports[i]
        return test_postgres.host(daemons.Daemon, self.directory / f"front-{i}", self.model, self.database, self.directory / "payloads",
                                  **self.common, **{"http.listen": f"127.0.0.1:{http}", "worker.count": 0,
                                                    "dimse.listen": f"127.0.0.1:{dicom}", "dimse.allow": "TESTER"})

    def worker(self, name):
        worker = test_postgres.host(test_postgres.Worker, self.directory / name, self.model, self.database, self.directory / "payloads",
                                    **self.common)
        self.hosts.append(worker)
        return worker

    def get(self, path):
        return self.session.get(self.proxy.url + path, timeout=PATIENCE_S)

    def post(self, data, session=None, **headers):
        return (session or self.session).post(self.proxy.url + "/v1/jobs", files=[("dicom", ("a.dcm", data))], headers=headers, timeout=2 * PATIENCE_S)

    def state(self, path):
        return self.get(path).json()["state"]

    def stop(self):
        for host in self.hosts:
            host.stop()
        self.proxy.stop()


@pytest.fixture(scope="module")
def cluster():
    with postgres.Cluster() as running:
        yield running


@pytest.fixture
def service(tmp_path, frontal_bundle, cluster):
    name = "p" + uuid.uuid4().hex
    cluster.sql(f"CREATE DATABASE {name}")
    running = Service(tmp_path, frontal_bundle, cluster.url.replace("dbname=postgres", f"dbname={name}"))
    try:
        wait_until("the proxy finds no front", lambda: running.get("/v2/health/accepting").status_code == 200)
        yield running
    finally:
        running.stop()


def query_of_the_scaler():
    triggers = [doc["spec"]["triggers"] for doc in helm.template("proxy.resolver=10.0.0.10:53") if doc["kind"] == "ScaledObject"]
    return triggers[0][0]["metadata"]["query"]


def test_jobs_are_taken_while_no_worker_is_there(service, cluster):
    """Workers may be scaled to zero: the job that waits is what calls for one."""
    assert service.get("/v2/health/ready").status_code == 503
    jobs = [service.post(image).headers["Location"] for image in daemons.sample()[:2]]
    count = cluster.sql(query_of_the_scaler(), service.database)
    assert count == [["2"]]
    service.worker("worker")
    wait_until("the jobs do not end", lambda: all(service.state(job) == "succeeded" for job in jobs))
    assert cluster.sql(query_of_the_scaler(), service.database) == [["0"]]
    wait_until("no worker is ready", lambda: service.get("/v2/health/ready").status_code == 200)
    assert service.get("/metrics").status_code == 200
    entity = pynetdicom.AE("TESTER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", service.proxy.dicom, ae_title="MEDFUSION")
    assert association.is_established and association.send_c_echo().Status == 0
    association.release()


def test_smuggled_requests_reach_no_front(service):
    """What follows a request that is refused, or is its body, is never run as a request of its own."""
    secret = b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"X-API-Key: " + service.key.encode() + b"\r\nContent-Type: application/zip\r\nContent-Length: 2\r\n\r\nPK"
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(secret), secret)
    for text in (POST + HOST + b"Content-Length: %d\r\n" % (len(secret) + 5) + CHUNKED + b"\r\n" + END + secret,
                 POST + HOST + CHUNKED + LENGTH + CLOSE + chunk,
                 POST + HOST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(secret) + secret,
                 POST + HOST + b"Transfer-Encoding : chunked\r\n\r\n" + END + secret,
                 GET + HOST + b"X: a\0\r\n\r\n" + secret,
                 GET + HOST + b"Content-Length: %d\r\n" % len(secret) + CLOSE + secret):
        service.proxy.raw(text)
    audited = subprocess.run([bundles.PROGRAM, "audit", "list", "--database", service.directory / "front-0/database"],
                             capture_output=True, text=True, check=True).stdout
    assert "POST /v1/jobs" not in audited and service.get("/v1/jobs").json()["jobs"] == []


class Client(threading.Thread):
    """Posts without pause, again with the same key where no answer came; keeps what was promised."""

    def __init__(self, service):
        super().__init__()
        self.service, self.stopping, self.accepted, self.surprises = service, threading.Event(), set(), []
        self.session = service.proxy.session(service.key)

    def run(self):
        image = daemons.sample()[0]
        while not self.stopping.is_set():
            key = str(uuid.uuid4())
            while not self.post(image, key) and not self.stopping.is_set():
                time.sleep(0.05)

    def post(self, image, key):
        with contextlib.suppress(requests.RequestException):
            answer = self.service.post(image, self.session, **{"Idempotency-Key": key})
            if answer.status_code == 202:
                self.accepted.add(answer.headers["Location"])
                return True
            if answer.status_code not in (409, 502, 503, 504):
                self.surprises.append((answer.status_code, answer.text))
        return False


def test_a_front_that_is_killed_is_not_missed(service):
    service.worker("worker")
    clients = [Client(service) for _ in range(2)]
    for client in clients:
        client.start()
    done = lambda: sum(len(client.accepted) for client in clients)
    wait_until("nothing is accepted", lambda: done() >= 4)
    for killed in (0, 1):  # one after the other, each back before the next one goes
        service.hosts[killed].process.send_signal(signal.SIGKILL)
        service.hosts[killed].process.wait(PATIENCE_S)
        answers = [service.get("/v1/jobs").status_code for _ in range(10)]
        assert answers == [200] * 10  # what can be repeated is, unseen
        before = done()
        wait_until("the other front takes nothing", lambda: done() >= before + 4)
        service.hosts[killed].start()
        wait_until("it does not come back", lambda: requests.get(
            f"http://127.0.0.1:{service.ports[killed][0]}/v2/health/accepting", timeout=PATIENCE_S).status_code == 200)
        wait_until("the proxy does not see it", lambda: f"Server fronts/front{killed + 1} is UP" in service.proxy.log())
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    assert [client.surprises for client in clients] == [[], []]
    promised = set().union(*(client.accepted for client in clients))
    wait_until("an accepted job does not succeed", lambda: all(service.state(path) == "succeeded" for path in promised), 180)
    listed = service.get("/v1/jobs?limit=1000").json()["jobs"]
    assert {"/v1/jobs/" + job["id"] for job in listed} >= promised and len(listed) - len(promised) <= len(clients)
