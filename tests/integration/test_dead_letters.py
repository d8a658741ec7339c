"""Dead letters: what a destination does not take is kept, found, delivered again or dropped, by the administrator alone; on both engines."""
import json
import re
import subprocess

import pytest
import requests

import bad_input
import bundles
import daemon as daemons
import postgres
from fhir_server import wait_until
from test_reload import add_key
from test_webhooks import Receiver

IMAGE = bad_input.NEWEST.read_bytes()


class Site:
    """A daemon with one webhook, whose receiver refuses everything until it is told otherwise."""

    def __init__(self, directory, model, database=None):
        self.receiver = Receiver([503] * 1000)
        keys = directory / "keys.json"
        self.admin, self.user = add_key(keys, "admin metrics.read", "admin"), add_key(keys, "jobs.read jobs.write", "user")
        secret, hooks = directory / "secret", directory / "webhooks.json"
        secret.write_text("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX\n")
        hooks.write_text(json.dumps({"ris": {"url": self.receiver.url + "/hook", "secret_file": str(secret)}}))
        options = {"auth.keys": keys, "outbox.webhooks": hooks, "outbox.destinations": "webhook:ris", "outbox.retry_s": 1, "outbox.max_attempts": 2}
        self.database = directory / "database"
        if database:
            self.database.write_text(database + "\n")
            options["store.database_file"] = self.database
        self.daemon = daemons.Daemon(directory / "d", model, **options).start()

    def run(self):
        """A job's id; its result is ready."""
        return self.daemon.post([IMAGE], headers={**self.user, "Prefer": "wait=60"}).json()["job"]

    def ask(self, method, path, key=None):
        return requests.request(method, self.daemon.url + "/v1/admin/dead-letters" + path, headers=key or self.admin, timeout=60)

    def letters(self):
        return self.ask("get", "").json()["dead_letters"]

    def metric(self, name):
        text = self.daemon.get("/metrics", headers=self.admin).text
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))

    def command(self, *arguments):
        return subprocess.run([bundles.PROGRAM, "outbox", *arguments], capture_output=True, text=True, timeout=60, check=False)

    def audited(self, event):
        done = subprocess.run([bundles.PROGRAM, "audit", "list", self.daemon.directory / "data"], capture_output=True, text=True, timeout=60, check=True)
        return [(re.sub(r"^key:[0-9a-f]{16}$", "key", row["actor"]), row["detail"]) for row in map(json.loads, done.stdout.splitlines()) if row["event"] == event]

    def recover(self):
        """The receiver takes what it gets from now on; what it got before is forgotten."""
        self.receiver.behave.clear()
        self.receiver.messages.clear()


@pytest.fixture(params=["sqlite", "postgres"])
def site(request, tmp_path, frontal_bundle):
    if request.param == "sqlite":
        made = Site(tmp_path, frontal_bundle)
        yield made
        assert made.daemon.stop() == 0
    elif postgres.missing():
        pytest.skip(str(postgres.missing()))
    else:
        with postgres.Cluster() as cluster:
            made = Site(tmp_path, frontal_bundle, cluster.url)
            yield made
            assert made.daemon.stop() == 0
    made.receiver.stop()


def test_a_receiver_that_was_away_gets_everything_later(site):
    jobs = [site.run() for _ in range(2)]
    assert wait_until(lambda: len(site.letters()) == 2, 60), site.daemon.log()
    letter = site.letters()[0]
    assert site.ask("get", f"/{letter['id']}").json() == letter
    assert (letter["job"], letter["destination"], letter["tenant"], letter["attempts"]) == (jobs[0], "webhook:ris", "default", 2)
    assert letter["reason"] == "the webhook answered 503"
    assert site.metric("medfusion_dead_letters") == 2 and site.metric("medfusion_deliveries") == 0
    site.recover()
    assert site.ask("post", f"/{letter['id']}").json() == {"retried": 1}
    assert wait_until(lambda: len(site.receiver.messages) == 1, 60), site.daemon.log()
    again = site.command("retry", "--all", "--destination", "webhook:ris", site.daemon.directory / "data")
    assert (again.returncode, again.stdout) == (0, "1 dead letters are delivered again\n"), again.stderr
    assert wait_until(lambda: len(site.receiver.messages) == 2, 60), site.daemon.log()
    assert [json.loads(body)["data"]["job"]["id"] for _, _, body in site.receiver.messages] == jobs
    assert wait_until(lambda: site.metric("medfusion_deliveries") == 0) and site.letters() == []
    assert site.audited("delivery.retried") == [("key", "webhook:ris"), ("medfusion outbox", "webhook:ris")]


def test_what_is_dropped_is_never_sent(site):
    site.run()
    assert wait_until(lambda: len(site.letters()) == 1, 60), site.daemon.log()
    [letter] = site.letters()
    listed = site.command("list", "--tenant", "default", site.daemon.directory / "data")
    assert json.loads(listed.stdout) == letter
    assert site.ask("delete", f"/{letter['id']}").json() == {"dropped": 1}
    assert site.ask("delete", f"/{letter['id']}").status_code == 404
    site.recover()
    job = site.run()
    assert wait_until(lambda: len(site.receiver.messages) == 1, 60), site.daemon.log()
    assert json.loads(site.receiver.messages[0][2])["data"]["job"]["id"] == job  # and nothing of the first one before it
    assert site.letters() == [] and site.audited("delivery.dropped") == [("key", "webhook:ris")]


def test_they_outlive_a_restart_and_are_found_without_a_daemon(tmp_path, frontal_bundle):
    site = Site(tmp_path, frontal_bundle)
    job = site.run()
    assert wait_until(lambda: len(site.letters()) == 1, 60), site.daemon.log()
    assert site.daemon.stop() == 0
    listed = site.command("list", *site.daemon.place())
    assert json.loads(listed.stdout)["job"] == job, listed.stderr
    assert site.command("retry", "--id", json.loads(listed.stdout)["id"], *site.daemon.place()).returncode == 0
    site.recover()
    site.daemon.start()
    assert wait_until(lambda: len(site.receiver.messages) == 1, 60), site.daemon.log()
    assert site.daemon.stop() == 0
    site.receiver.stop()


@pytest.mark.parametrize("arguments, reason", [
    ((), "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"),
    (("retry", "DATA"), "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"),
    (("drop", "--tenant", "north", "DATA"), "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"),
    (("drop", "--id", "1", "--all", "DATA"), "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"),
    (("lists", "DATA"), "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"),
    (("drop", "--id", "0", "DATA"), '--id: "0" is no id of a dead letter'),
    (("drop", "--id", "1e3", "DATA"), '--id: "1e3" is no id of a dead letter'),
    (("list", "--tenant", "No/rth", "DATA"), '--tenant: "No/rth" is no tenant\'s name'),
    (("list", "DATA"), "DATA: there is no store.db in it"),
])
def test_wrong_usage_is_named(tmp_path, arguments, reason):
    given = [argument.replace("DATA", str(tmp_path)) for argument in arguments]
    done = subprocess.run([bundles.PROGRAM, "outbox", *given], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "medfusion outbox: " + reason.replace("DATA", str(tmp_path)) + "\n")


def test_nobody_else_may(tmp_path, frontal_bundle):
    site = Site(tmp_path, frontal_bundle)
    for method, path in (("get", ""), ("get", "/1"), ("post", ""), ("post", "/1"), ("delete", "?tenant=default"), ("delete", "/1")):
        assert site.ask(method, path, site.user).status_code == 403
        assert site.ask(method, path, {"X-API-Key": "x"}).status_code == 401
    assert site.daemon.stop() == 0
    site.receiver.stop()
