"""Which bundles may run: signed by a trusted key, and none older than what has run here."""
import json
import shutil
import subprocess

import pytest

import bad_input
import bundles
import daemon as daemons

IMAGE = bad_input.NEWEST.read_bytes()
MAKER, SITE, STRANGER = "maker", "site", "stranger"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys")
    for name in (MAKER, SITE, STRANGER):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", directory / f"{name}.key"], check=True)
        subprocess.run(["openssl", "pkey", "-in", directory / f"{name}.key", "-pubout", "-out", directory / f"{name}.pem"], check=True)
    return directory


def make(directory, keys, signer, version="1.0.0", name="frontal"):
    model = bundles.make_bundle(directory, name=name, version=version)
    if signer:
        subprocess.run([bundles.PROGRAM, "model", "sign", model, "--key", keys / f"{signer}.key"], check=True, capture_output=True)
    return model


def refusal(tmp_path, keys, model, trusted=(MAKER,)):
    """What serve says when it refuses; it must refuse."""
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", model, "--http.listen", "127.0.0.1:0",
                           "--models.trusted_keys", ":".join(str(keys / f"{k}.pem") for k in trusted)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def serve(tmp_path, keys, model, trusted=(MAKER,)):
    daemon = daemons.Daemon(tmp_path, model, **{"models.trusted_keys": ":".join(str(keys / f"{k}.pem") for k in trusted)}).start()
    assert daemon.post([IMAGE], headers={"Prefer": "wait=30"}).status_code == 200
    return daemon


def test_only_what_a_trusted_key_signed_runs(tmp_path, keys):
    unsigned, strange, sites = (make(tmp_path / f"m{i}", keys, signer) for i, signer in enumerate((None, STRANGER, SITE)))
    assert "the bundle is not signed" in refusal(tmp_path, keys, unsigned)
    assert f"{strange}: manifest.sig is not this key's signature" in refusal(tmp_path, keys, strange)
    assert f"{strange}: manifest.sig is not one of these keys' signature" in refusal(tmp_path, keys, strange, (MAKER, SITE))
    assert not (tmp_path / "data").exists()  # nothing has run
    assert serve(tmp_path, keys, sites, (MAKER, SITE)).stop() == 0
    shutil.copy(unsigned / "manifest.json", sites)  # the same files, but not the manifest that was signed
    (sites / "MODEL_CARD.md").write_text("changed")
    bundles.write_manifest(sites)
    assert "manifest.sig is not one of these keys' signature" in refusal(tmp_path, keys, sites, (MAKER, SITE))


def test_a_key_that_is_none_is_named(tmp_path, keys):
    model = make(tmp_path / "m", keys, MAKER)
    assert "maker.key: not a public Ed25519 key in PEM" in subprocess.run(
        [bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", model, "--models.trusted_keys", keys / "maker.key"],
        capture_output=True, text=True, timeout=60, check=False).stderr


def test_no_model_goes_back(tmp_path, keys):
    versions = {v: make(tmp_path / v, keys, MAKER, v) for v in ("1.9.0", "1.10.0", "1.10.1")}
    other = make(tmp_path / "other", keys, MAKER, "0.1.0", "other")
    daemon = serve(tmp_path, keys, versions["1.10.0"])
    highest = daemon.directory / "data" / "models.json"
    assert json.loads(highest.read_text())["highest"] == {"frontal": "1.10.0"}
    daemon.kill("mf-worker")  # every process asks again
    assert daemon.post([IMAGE], headers={"Prefer": "wait=30"}).status_code == 200
    assert daemon.stop() == 0
    assert "version 1.9.0 of frontal is older than 1.10.0, which has run here" in refusal(tmp_path, keys, versions["1.9.0"])
    assert serve(tmp_path, keys, versions["1.10.0"]).stop() == 0  # the same again
    assert serve(tmp_path, keys, versions["1.10.1"]).stop() == 0
    assert "which has run here" in refusal(tmp_path, keys, versions["1.10.0"])
    assert serve(tmp_path, keys, other).stop() == 0
    assert json.loads(highest.read_text())["highest"] == {"frontal": "1.10.1", "other": "0.1.0"}
    highest.write_text("{}")
    assert '"highest" must be an object' in refusal(tmp_path, keys, other)


def test_without_trusted_keys_nothing_is_asked(tmp_path, keys):
    daemon = daemons.Daemon(tmp_path, make(tmp_path / "m", keys, None)).start()
    assert daemon.stop() == 0 and not (daemon.directory / "data" / "models.json").exists()
