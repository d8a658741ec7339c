"""Several daemons and workers on one PostgreSQL database: one queue, nothing lost or doubled when processes and the database are
killed, honest while it is away. MEDFUSION_TEST_CRASHES and MEDFUSION_TEST_DATABASE_KILLS set other numbers (tests/bench/outages.py adds up runs)."""
import collections
import json
import os
import random
import signal
import stat
import subprocess
import time

import pytest
import requests

import bundles
import certificates
import daemon as daemons
import monitoring
import postgres
import test_kill
from fhir_server import wait_until

CRASHES = int(os.environ.pop("MEDFUSION_TEST_CRASHES", "2"))
KILLS = int(os.environ.pop("MEDFUSION_TEST_DATABASE_KILLS", "12"))
SEED = os.environ.pop("MEDFUSION_TEST_SEED", "11")
PASSWORD = "s3cret-canary"

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))


@pytest.fixture(scope="module")
def cluster():
    with postgres.Cluster() as running:
        yield running


@pytest.fixture
def database(cluster, request):
    """A connection string of an empty database."""
    name = "t" + format(abs(hash(request.node.nodeid)), "x")
    cluster.sql(f"CREATE DATABASE {name}")
    return cluster.url.replace("dbname=postgres", f"dbname={name}")


class Worker(daemons.Daemon):
    """`medfusion worker` with a data directory of its own, as on another host."""

    def start(self):
        arguments = [str(bundles.PROGRAM), "worker", "--data.directory", str(self.directory / "data"), "--models.directories", str(self.model)]
        for key, value in self.options.items():
            arguments += [f"--{key}", str(value)]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        return self


def host(kind, directory, model, database, payloads, **options):
    """A daemon or worker as on a host of its own: only database and payloads are shared."""
    (directory / "data").mkdir(parents=True, mode=0o700)
    payloads.mkdir(exist_ok=True, mode=0o700)
    (directory / "data/payloads").symlink_to(payloads)
    secret = directory / "database"
    secret.write_text(database + "\n")
    return kind(directory, model, **{"store.database_file": secret, "jobs.lease_s": 5, "jobs.max_losses": 1000, **options}).start()


def sql(cluster, database, text):
    return [row for row in cluster.sql(text, database)]


def audit(*arguments):
    done = subprocess.run([bundles.PROGRAM, "audit", "verify", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_two_fronts_share_jobs_keys_and_events(cluster, database, tmp_path, frontal_bundle):
    one, two = (host(daemons.Daemon, tmp_path / name, frontal_bundle, database, tmp_path / "payloads") for name in ("one", "two"))
    headers = {"Idempotency-Key": "11111111-1111-4111-8111-111111111111"}
    first = one.post(daemons.sample()[:1], headers=headers)
    again = two.post(daemons.sample()[:1], headers=headers)
    assert first.status_code == again.status_code == 202 and first.headers["Location"] == again.headers["Location"]
    path = first.headers["Location"]
    assert two.wait(path)["state"] == "succeeded"
    assert one.get(path + "/result").json() == two.get(path + "/result").json()
    assert two.get(path + "/artifacts").status_code == 200  # the payload is there, too
    started = time.monotonic()
    assert two.post(daemons.sample()[:1], headers={"Prefer": "wait=30"}).status_code == 200
    assert time.monotonic() - started < 20  # it was woken, not timed out
    assert one.post(daemons.sample()[1:2], headers=headers).status_code == 422
    assert [row[0] for row in sql(cluster, database, "SELECT count(*) FROM jobs")] == ["2"]
    assert audit("--database", tmp_path / "one/database")[0] == audit(tmp_path / "one/data")[0] == 0
    assert one.stop() == 0 and two.stop() == 0


def test_a_database_of_the_first_migration_is_brought_up_to_date(cluster, database, tmp_path, frontal_bundle):
    """What it had queued runs in its order, and what it had given up delivering are dead letters."""
    one = host(daemons.Daemon, tmp_path / "one", frontal_bundle, database, tmp_path / "payloads")
    os.kill(one.pids("mf-worker")[0], signal.SIGSTOP)
    jobs = [one.post(daemons.sample()[:1]).json()["id"] for _ in range(3)]
    one.process.kill()
    one.process.wait()
    sql(cluster, database, "DROP INDEX jobs_turn; DROP INDEX jobs_tenant_turn; ALTER TABLE jobs DROP COLUMN turn;"
        " CREATE INDEX jobs_open ON jobs(priority, seq) WHERE state = 0; DROP INDEX outbox_failed; ALTER TABLE outbox DROP COLUMN failed;"
        " DELETE FROM store_migrations WHERE version = 2;"
        f" INSERT INTO outbox(tenant, job, destination, due, attempts, problem) VALUES('default', '{jobs[0]}', 'http://gone', 0, 60, 'it is gone'),"
        f" ('default', '{jobs[0]}', 'http://there', 0, 1, NULL)")
    two = host(daemons.Daemon, tmp_path / "two", frontal_bundle, database, tmp_path / "payloads")
    assert [two.wait(f"/v1/jobs/{job}")["state"] for job in jobs] == ["succeeded"] * 3
    listed = subprocess.run([bundles.PROGRAM, "outbox", "list", "--database", tmp_path / "two/database"], capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line)["destination"] for line in listed.stdout.splitlines()] == ["http://gone"]
    assert [row[0] for row in sql(cluster, database, "SELECT count(*) FROM store_migrations")] == ["2"]
    assert two.stop() == 0


def test_prometheus_sees_a_worker_on_another_host(cluster, database, tmp_path, frontal_bundle):
    """Its numbers come with its announcements: two fronts without workers show them, and go on when it was killed."""
    fronts = [host(daemons.Daemon, tmp_path / name, frontal_bundle, database, tmp_path / "payloads", **{"worker.count": 0}) for name in ("one", "two")]
    alone = host(Worker, tmp_path / "worker", frontal_bundle, database, tmp_path / "payloads")
    name = "".join(c if c.isalnum() and c.isascii() or c in ".-" else "-" for c in os.uname().nodename) + "-0"

    def studies(front):
        line = f'medfusion_standalone_worker_studies_total{{worker="{name}",device="cpu"}} '
        found = [text for text in front.get("/metrics").text.splitlines() if text.startswith(line)]
        assert len(found) <= 1
        return int(found[0].removeprefix(line)) if found else -1

    for expected in (1, 2):
        for front in fronts:
            wait_until(lambda: front.get("/v2/health/ready").status_code == 200, 60)
        done = fronts[0].post(daemons.sample()[:1], headers={"Prefer": "wait=60"})
        assert done.status_code == 200, done.text
        for front in fronts:
            assert wait_until(lambda: studies(front) == expected, 30), (studies(front), expected)
            metrics = front.get("/metrics").text
            assert "medfusion_worker_studies_total{" not in metrics  # that is of its own workers
            assert {name for name in monitoring.asked() if name.startswith(monitoring.STANDALONE)} <= monitoring.exported(metrics)  # the dashboard's
        if expected == 1:
            assert alone.kill("mf-worker")  # its successor goes on counting
    for running in (alone, *fronts):
        assert running.stop() == 0


def test_while_the_database_is_away_the_service_says_so(tmp_path, frontal_bundle):
    with postgres.Cluster() as own:
        running = host(daemons.Daemon, tmp_path / "one", frontal_bundle, own.url, tmp_path / "payloads")
        before = running.post(daemons.sample()[:1]).headers["Location"]
        own.stop("immediate")
        ready = running.get("/v2/health/ready")
        refused = running.post(daemons.sample()[:1])
        for answer in (ready, refused):
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0, answer.text
        assert running.get("/v2/health/live").status_code == 200
        own.start()
        test_kill.wait_until_ready(running)
        assert running.wait(before)["state"] == "succeeded"
        assert running.post(daemons.sample()[:1], headers={"Prefer": "wait=60"}).status_code == 200
        assert running.stop() == 0


def test_a_password_is_asked_for_and_never_told(tmp_path, frontal_bundle):
    with postgres.Cluster(tcp=True) as own:
        own.sql(f"ALTER ROLE medfusion PASSWORD '{PASSWORD}'")
        (own.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        own.sql("SELECT pg_reload_conf()")
        address = f"postgresql://medfusion:{{}}@127.0.0.1:{own.port}/postgres?sslmode=disable"
        running = host(daemons.Daemon, tmp_path / "one", frontal_bundle, address.format(PASSWORD), tmp_path / "payloads", **{"log.level": "debug"})
        assert running.post(daemons.sample()[:1], headers={"Prefer": "wait=60"}).status_code == 200
        own.stop("immediate")
        assert PASSWORD not in running.get("/v2/health/ready").text + running.post(daemons.sample()[:1]).text
        own.start()
        assert running.stop() == 0
        assert PASSWORD not in running.log()
        secret = tmp_path / "wrong"
        secret.write_text(address.format(PASSWORD + "x"))
        code, said = audit("--database", secret)
        assert code == 1 and "cannot be reached" in said and "password" in said and PASSWORD not in said


def test_sslmode_is_honoured(tmp_path):
    authority = certificates.Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    own = postgres.Cluster({"ssl": "on", "ssl_cert_file": "'server.crt'", "ssl_key_file": "'server.key'"}, tcp=True)
    try:
        for name, source in (("server.crt", certificate), ("server.key", key)):
            (own.data / name).write_bytes(source.read_bytes())
            os.chmod(own.data / name, stat.S_IRUSR)
            os.chown(own.data / name, (own.data / "base").stat().st_uid, -1)
        own.start()
        cases = [
            (f"sslmode=verify-full sslrootcert={authority.certificate}", 0, "rows are intact"),
            ("sslmode=verify-full sslrootcert=/nonexistent", 1, "root certificate"),
            (f"sslmode=verify-full sslrootcert={authority.certificate} hostaddr=127.0.0.1 host=other.example", 1, "does not match"),
        ]
        for more, expected, message in cases:
            secret = tmp_path / "database"
            secret.write_text(f"host=localhost port={own.port} user=medfusion dbname=postgres {more}")
            code, said = audit("--database", secret)
            assert code == expected and message in said, said
    finally:
        own.remove()
    with postgres.Cluster(tcp=True) as plain:
        secret = tmp_path / "plain"
        secret.write_text(f"host=127.0.0.1 port={plain.port} user=medfusion dbname=postgres sslmode=require")
        code, said = audit("--database", secret)
        assert code == 1 and "does not support SSL" in said


@pytest.mark.parametrize("change, message", [
    ("INSERT INTO store_migrations(version, sha256) SELECT max(version) + 1, 'x' FROM store_migrations", "this program knows"),
    ("UPDATE store_migrations SET sha256 = 'x' WHERE version = 1", "migration 1 is not the one that this program has"),
])
def test_a_schema_that_is_not_ours_is_left_alone(cluster, database, tmp_path, change, message):
    (tmp_path / "database").write_text(database)
    assert audit("--database", tmp_path / "database")[0] == 0
    sql(cluster, database, change)
    code, said = audit("--database", tmp_path / "database")
    assert code == 2 and message in said, said


@pytest.mark.parametrize("text, message", [
    ("", "its first line is empty"),
    ("host=/nonexistent-directory", "the database cannot be reached"),
    ("no equals sign", "the database cannot be reached"),
])
def test_a_bad_address_is_refused(tmp_path, text, message):
    (tmp_path / "database").write_text(text)
    code, said = audit("--database", tmp_path / "database")
    assert code in (1, 2) and message in said, said
    assert audit("--database", tmp_path / "absent")[0] == 1


class Client(test_kill.Client):
    """Goes to either front, and comes back with the same key to the other."""

    def __init__(self, fronts, seed):
        super().__init__(fronts[0], seed)
        self.fronts = fronts

    def post(self, key, upload, wait):
        self.running = self.random.choice(self.fronts)
        return super().post(key, upload, wait)


def wait_all_ready(fronts):
    for front in fronts:
        test_kill.wait_until_ready(front)


def judge(own, promised):
    """What is wrong with what the database holds of the jobs that clients were promised."""
    jobs, results, ran = ([row[0] for row in own.sql(text)] for text in (
        "SELECT id FROM jobs", "SELECT id FROM results LEFT JOIN jobs ON jobs.seq = results.job", "SELECT job FROM audit WHERE event = 'job.succeeded'"))
    counted = collections.Counter(ran)
    wrong = [f"{job}: succeeded {counted[job]} times by the audit trail" for job in promised | set(ran) if counted[job] != (job in promised)]
    return test_kill.judge_store(promised, jobs, results, (), ()) + sorted(wrong)


def endure(own, tmp_path, model, crashes, kills, planted=None):
    """2 fronts, 4 workers (2 beside the fronts, 2 alone), 3 clients; SIGKILLs at random, the database stopped in the middle: what is wrong afterwards.
    `planted`: a statement that makes the database one that forgets."""
    chance = random.Random(SEED)
    make = lambda kind, name: host(kind, tmp_path / name, model, own.url, tmp_path / "payloads", **{"jobs.max_queued": 200})
    fronts = [make(daemons.Daemon, "front-1"), make(daemons.Daemon, "front-2")]
    everybody = [*fronts, make(Worker, "worker-1"), make(Worker, "worker-2")]
    if planted:
        own.sql(planted)
    clients = [Client(fronts, seed) for seed in range(3)]
    for client in clients:
        client.start()
    assert wait_until(lambda: int(own.sql("SELECT count(*) FROM results")[0][0]) > 1, 120)  # there is something to lose
    killed, crashed = collections.Counter(), 0
    while crashed < crashes or sum(killed.values()) < kills:
        time.sleep(chance.uniform(0, 0.6))
        if crashed < crashes and chance.random() < crashes / (crashes + kills):
            own.stop("immediate")
            time.sleep(chance.uniform(0, 1))
            own.start()
            crashed += 1
            continue
        role = chance.choice(("mf-front", "mf-worker", "mf-decoder", "mf-store", "mf-zygote"))
        killed[role] += chance.choice(everybody).kill(role)
    for client in clients:
        client.stopping.set()
    wait_all_ready(fronts)
    for client in clients:
        client.join()
    accepted = {key: addresses for client in clients for key, addresses in client.accepted.items()}
    print(f"{dict(killed)}, {crashed} database crashes; {len(accepted)} jobs accepted")
    assert len(accepted) >= (kills + crashes) / 10
    assert not any(client.surprises for client in clients), [client.surprises for client in clients]
    assert all(len(addresses) == 1 for addresses in accepted.values()), "a key has two jobs"
    promised = {address.rsplit("/", 1)[1] for addresses in accepted.values() for address in addresses}
    assert len(promised) == len(accepted), "two keys have one job"
    for job in promised:
        ended = fronts[0].wait("/v1/jobs/" + job, test_kill.JOB_S)
        assert ended["state"] == "succeeded", ended
    wrong = judge(own, promised)
    assert audit("--database", tmp_path / "front-1/database")[0] == 0
    for running in everybody:
        assert running.stop() == 0
    return wrong


def test_kills_and_database_crashes_lose_nothing_and_double_nothing(tmp_path, frontal_bundle):
    with postgres.Cluster() as own:
        assert endure(own, tmp_path, frontal_bundle, CRASHES, KILLS) == []


def test_a_database_that_forgets_is_found(tmp_path, frontal_bundle):
    """The gate's control: results lie in a table that a crash empties."""
    with postgres.Cluster() as own:
        wrong = endure(own, tmp_path, frontal_bundle, 1, 0, "ALTER TABLE results SET UNLOGGED")
        assert len(wrong) > 1 and all(line.endswith(": 0 results") for line in wrong)
