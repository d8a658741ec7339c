"""Fairness: a tenant that floods the queue delays itself; shares, positions and room in a full queue; on both engines."""
import contextlib
import json
import os
import signal

import pytest
import requests

import bad_input
import daemon as daemons
import postgres
from fhir_server import wait_until
from test_auth import add_key, bearer

IMAGE = bad_input.NEWEST.read_bytes()
SCOPES = "jobs.read jobs.write"


class Site:
    def __init__(self, directory, model, database=None, **options):
        keys = directory / "keys.json"
        self.keys = {tenant: add_key(keys, SCOPES, tenant, tenant) for tenant in ("north", "south", "west")}
        if database:
            (directory / "database").write_text(database + "\n")
            options["store.database_file"] = directory / "database"
        self.daemon = daemons.Daemon(directory / "d", model, **{"auth.keys": keys, "worker.count": 1, **options}).start()

    def ask(self, tenant, method, path, **arguments):
        return requests.request(method, self.daemon.url + path, headers=bearer(self.keys[tenant]), timeout=60, **arguments)

    def post(self, tenant, **options):
        return self.ask(tenant, "post", "/v1/jobs", files=[("dicom", ("1.dcm", IMAGE)), ("options", ("options.json", json.dumps(options)))])

    def submit(self, tenant, n):
        return [self.post(tenant).json()["id"] for _ in range(n)]

    def job(self, tenant, job):
        return self.ask(tenant, "get", f"/v1/jobs/{job}").json()

    @contextlib.contextmanager
    def stopped(self):
        """The worker claims nothing; yields how many jobs are before all others: a STAT job of west's, unless the worker had asked for it before."""
        [pid] = self.daemon.pids("mf-worker")
        os.kill(pid, signal.SIGSTOP)
        try:
            first = self.post("west", priority="stat").json()["id"]
            yield 0 if wait_until(lambda: self.job("west", first)["state"] == "running", 2) else 1
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(params=["sqlite", "postgres"])
def make(request, tmp_path, frontal_bundle):
    """Makes a site on this engine; stops it in the end."""
    with contextlib.ExitStack() as stack:
        database = None
        if request.param == "postgres":
            if postgres.missing():
                pytest.skip(str(postgres.missing()))
            database = stack.enter_context(postgres.Cluster()).url

        def made(**options):
            site = Site(tmp_path, frontal_bundle, database, **{"jobs.lease_s": 600, **options})
            stack.callback(lambda: site.daemon.stop())
            return site

        yield made


def test_a_flood_of_one_tenant_does_not_hold_up_another(make):
    site = make()
    with site.stopped() as before:
        flood = site.submit("north", 20)
        few = site.submit("south", 3)
        assert [site.job("south", job)["position"] for job in few] == [before + n for n in (2, 4, 6)]
        assert [site.job("north", job)["position"] for job in flood[:4]] == [before + n for n in (1, 3, 5, 7)]
    assert wait_until(lambda: all(site.job("north", job)["state"] == "succeeded" for job in flood), 120), site.daemon.log()
    started = sorted([(site.job(tenant, job)["started"], tenant) for tenant, jobs in (("north", flood), ("south", few)) for job in jobs])
    assert [tenant for _, tenant in started[:7]].count("south") == 3  # the eighth claim disregards priorities, and the STAT job was one


def test_shares_are_kept(make):
    site = make(**{"jobs.shares": "south=3"})
    with site.stopped() as before:
        north, south = site.submit("north", 8), site.submit("south", 8)
        positions = sorted([(site.job(tenant, job)["position"], tenant) for tenant, jobs in (("north", north), ("south", south)) for job in jobs])
    assert [position for position, _ in positions] == [before + n for n in range(1, 17)]
    assert [tenant for _, tenant in positions[:8]].count("south") == 6


def test_a_full_queue_has_room_for_the_others(make):
    site = make(**{"jobs.max_queued": 8})
    with site.stopped() as before:
        site.submit("north", 8 - before)
        for _ in range(2):  # by the store, then before the body is read
            refused = site.post("north")
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0, refused.text
        assert [site.post("south").status_code for _ in range(3)] == [202, 202, 429]
        assert site.post("west").status_code == 429  # an eighth in all: the queue is bounded


@pytest.mark.parametrize("shares, entry", [("north", "north"), ("south=1 north=0", "north=0"), ("north=1=1", "north=1=1")])
def test_wrong_shares_are_refused_at_the_start(tmp_path, frontal_bundle, shares, entry):
    with pytest.raises(RuntimeError, match=f'jobs.shares: "{entry}" is not TENANT=SHARE with a share from 1 to 1000'):
        daemons.Daemon(tmp_path / "d", frontal_bundle, **{"jobs.shares": shares}).start()
