"""SIGKILL at random moments, 100 times: no accepted job is lost, none is doubled, every one ends succeeded.

Clients post without pause and repeat whatever was not answered, with an Idempotency-Key each. Processes of all roles are
killed meanwhile, each once it is back. MEDFUSION_TEST_KILLS sets another number of kills."""
import collections
import os
import random
import signal
import threading
import time
import uuid

import requests

import bad_input
import daemon as daemons

KILLS = int(os.environ.pop("MEDFUSION_TEST_KILLS", "100"))
VICTIMS = ("mf-front", "mf-worker", "mf-decoder", "mf-store", "mf-zygote")
CLIENTS = 3
BETWEEN_S = 0.4  # kills come at random within twice this time
JOB_S = 180      # within which an accepted job must have ended


class Client(threading.Thread):
    """Posts one upload after another until it is told to stop; remembers every address that was promised."""

    def __init__(self, running, seed):
        super().__init__()
        self.running, self.random = running, random.Random(seed)
        self.stopping = threading.Event()
        self.accepted = {}  # key → addresses
        self.surprises = collections.Counter()
        self.images = daemons.sample()

    def run(self):
        while not self.stopping.is_set():
            key = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
            upload = [self.random.choice(self.images)]
            wait = self.random.random() < 0.3
            while not self.post(key, upload, wait):
                time.sleep(0.05)

    def post(self, key, upload, wait):
        """Whether the job was accepted. Refusals other than "not now" are kept: there must be none."""
        headers = {"Idempotency-Key": key, **({"Prefer": "wait=5"} if wait else {})}
        try:
            response = self.running.post(upload, headers=headers)
        except requests.RequestException:
            return False
        if response.status_code == 202:
            self.accepted.setdefault(key, set()).add(response.headers["Location"])
            return True
        if response.status_code == 200:
            self.accepted.setdefault(key, set()).add("/v1/jobs/" + response.json()["job"])
            return True
        if response.status_code not in (409, 429, 500, 503):
            self.surprises[response.status_code, response.text] += 1
        return False


def wait_until_back(running, role, seconds=30):
    deadline = time.monotonic() + seconds
    while not running.pids(role):
        assert time.monotonic() < deadline, f"{role} does not come back"
        time.sleep(0.01)


def wait_until_ready(running, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if running.get("/v2/health/ready").status_code == 200:
                return
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline, "it does not become ready again"
        time.sleep(0.1)


def test_kills_lose_nothing_and_double_nothing(tmp_path, frontal_bundle):
    chance = random.Random(7)
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"jobs.max_queued": 200, "jobs.max_losses": 1000}).start()
    clients = [Client(running, seed) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    killed = collections.Counter()
    while sum(killed.values()) < KILLS:
        role = chance.choice(VICTIMS)
        wait_until_back(running, role)
        time.sleep(chance.uniform(0, 2 * BETWEEN_S))
        killed[role] += running.kill(role)
    for client in clients:
        client.stopping.set()
    wait_until_ready(running)
    for client in clients:
        client.join()
    accepted = {key: addresses for client in clients for key, addresses in client.accepted.items()}
    print(f"{dict(killed)}; {len(accepted)} jobs accepted")
    assert len(accepted) >= KILLS / 10
    assert not any(client.surprises for client in clients), [client.surprises for client in clients]

    assert all(len(addresses) == 1 for addresses in accepted.values()), "a key has two jobs"
    promised = {address.rsplit("/", 1)[1] for addresses in accepted.values() for address in addresses}
    assert len(promised) == len(accepted), "two keys have one job"
    for job in promised:
        ended = running.wait("/v1/jobs/" + job, JOB_S)
        assert ended["state"] == "succeeded", ended
        result = running.get(f"/v1/jobs/{job}/result").json()
        assert result["job"] == job and result["predictions"]
    assert running.stop() == 0
    check_store(running, promised)


def judge_store(promised, jobs, results, locators, payloads):
    """What is wrong with what is on disk: each job that was promised is there once, with one result, and all payloads; lists of ids and names."""
    wrong = [f"{job}: promised, and lost" for job in promised if job not in jobs]
    # A client that was cut off repeats until it hears 202, so the store holds nothing else either.
    wrong += [f"{job}: nobody was promised it" for job in set(jobs) - set(promised)]
    wrong += [f"{job}: {n} times there" for job, n in collections.Counter(jobs).items() if n != 1]
    counted = collections.Counter(results)
    wrong += [f"{job}: {counted[job]} results" for job in set(jobs) if counted[job] != 1]
    wrong += [f"{job}: a result of no job" for job in set(results) - set(promised)]
    return sorted(wrong + [f"{name}: no such payload" for name in set(locators) - set(payloads)])


def check_store(running, promised):
    if not daemons.ON_POSTGRESQL:
        assert running.rows("PRAGMA integrity_check") == [["ok"]]
    jobs, results, locators = ([row[0] for row in running.rows(f"SELECT {column} FROM {table}")]
                               for column, table in (("id", "jobs"), ("jobs.id", "results LEFT JOIN jobs ON jobs.seq = results.job"), ("locator", "inputs")))
    payloads = [file.name for file in (running.directory / "data" / "payloads").iterdir()]
    assert judge_store(promised, jobs, results, locators, payloads) == []


def test_the_verdict_catches_what_is_lost_and_what_is_doubled():
    fine = ({"a", "b"}, ["a", "b"], ["b", "a"], ["p", "p"], ["p", "q"])
    assert judge_store(*fine) == []
    for position, planted, wrong in ((1, ["a"], ["b: promised, and lost"]), (1, ["a", "b", "b"], ["b: 2 times there"]),
                                     (2, ["a", "b", "b"], ["b: 2 results"]), (2, ["a"], ["b: 0 results"]), (2, ["a", "b", None], ["None: a result of no job"]),
                                     (1, ["a", "b", "c"], ["c: 0 results", "c: nobody was promised it"]), (4, ["q"], ["p: no such payload"])):
        assert judge_store(*fine[:position], planted, *fine[position + 1:]) == wrong


def test_three_crashes_of_its_own_fail_a_job_and_no_other(tmp_path, frontal_bundle):
    """SIGSEGV to the worker while it runs one job: the job fails with its reason, the next one succeeds."""
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"worker.batch": 1}).start()
    poison = running.post(daemons.sample()).headers["Location"]
    crashes = 0  # one for each attempt
    deadline = time.monotonic() + 90
    job = running.get(poison).json()
    while job["state"] in ("queued", "running") and time.monotonic() < deadline:
        if job["state"] == "running" and job["attempts"] > crashes:
            crashes += running.kill("mf-worker", signal.SIGSEGV)
        time.sleep(0.01)
        job = running.get(poison).json()
    if job["state"] == "succeeded":  # it was faster than the signals
        assert crashes < 3
    else:
        assert job["state"] == "failed" and crashes == 3, job
        assert job["problem"]["detail"] == "processing this job alone crashed the worker 3 times"
    healthy = running.post([bad_input.NEWEST.read_bytes()]).headers["Location"]
    assert running.wait(healthy)["state"] == "succeeded"
    assert running.stop() == 0
