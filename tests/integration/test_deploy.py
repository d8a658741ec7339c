"""What deploy/ ships: the Debian package runs from its own files, the manual says what --help says, the service unit is one that systemd
takes, and alerts and dashboard ask for metrics that exist."""
import gzip
import hashlib
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import requests
import yaml

import bundles
import daemon as daemons
import monitoring

ROOT = pathlib.Path(__file__).parents[2]
BUILD = bundles.PROGRAM.parent
SAMPLE = ROOT / "tests/data/sample"


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no {tool} here")


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", folder)
    (deb,) = folder.glob("*.deb")
    return deb


@needs("dpkg-deb")
def test_the_package_runs_from_its_own_files(package, tmp_path):
    run("dpkg-deb", "-R", package, tmp_path)
    program, share = tmp_path / "usr/bin/medfusion", tmp_path / "usr/share/medfusion"
    out = run(program, "predict", "--model", share / "models/thorax-nih", "--format", "text", SAMPLE / "dicom/2016-07-08.dcm")
    assert "Cardiomegaly" in out
    depends = re.search(r"^Depends: (.*)$", (tmp_path / "DEBIAN/control").read_text(), re.M).group(1)
    assert "libmicrohttpd12" in depends and "adduser" in depends
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", tmp_path / "DEBIAN" / script)
    documents = tmp_path / "usr/share/doc/medfusion"
    assert "thorax-nih" in (documents / "copyright").read_text()
    version = re.search(r"^Version: (.*)$", (tmp_path / "DEBIAN/control").read_text(), re.M).group(1)
    assert gzip.decompress((documents / "changelog.gz").read_bytes()).decode().startswith(f"medfusion ({version}) ")
    assert gzip.decompress((tmp_path / "usr/share/man/man1/medfusion-serve.1.gz").read_bytes()).decode() == (BUILD / "man/medfusion-serve.1").read_text()
    assert "activate-noawait ldconfig" in (tmp_path / "DEBIAN/triggers").read_text()
    assert "libmedfusion 0 medfusion" in (tmp_path / "DEBIAN/shlibs").read_text()
    config = json.loads((share / "config.json").read_text())
    assert config["models"]["directories"] == ["/usr/share/medfusion/models/thorax-nih"]
    unit = (tmp_path / "usr/lib/systemd/system/medfusion.service").read_text()
    assert "--config /etc/medfusion/config.json" in unit
    decoder = tmp_path / "usr/libexec/medfusion/medfusion-decoder"
    assert "has no use of its own" in subprocess.run([decoder], capture_output=True, text=True).stderr
    decoder.write_text("no program")  # it is this one that decodes, and no other
    broken = subprocess.run([program, "predict", "--model", share / "models/thorax-nih", SAMPLE / "dicom/2016-07-08.dcm"],
                            capture_output=True, text=True)
    assert broken.returncode == 1 and "the decoder process did not start" in broken.stderr


def test_the_packaged_configuration_starts_the_daemon(tmp_path):
    """With its own keys and no others, but for where things lie in a test."""
    config = json.loads((ROOT / "deploy/systemd/config.json").read_text())
    config["data"]["directory"], config["http"]["listen"] = str(tmp_path / "data"), "127.0.0.1:0"
    config["models"]["directories"] = [str(ROOT / "models/thorax-nih")]
    (tmp_path / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen([bundles.PROGRAM, "serve", "--config", tmp_path / "config.json"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL)
    try:
        assert process.stdout.readline().startswith(daemons.READY)
    finally:
        process.terminate()
        assert process.wait(60) == 0


@needs("dpkg-query")
@needs("readelf")
def test_the_bill_of_materials_names_all_that_is_loaded(package, tmp_path):
    run("dpkg-deb", "-R", package, tmp_path)
    document = json.loads((tmp_path / "usr/share/doc/medfusion/medfusion.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    components = {c["bom-ref"]: c for c in document["components"]}
    assert len(components) == len(document["components"]) and all(c["name"] and c["version"] and c["supplier"]["name"] for c in components.values())
    listed = {p["value"].split()[0] for c in components.values() for p in c.get("properties", []) if p["name"] == "medfusion:file"}
    for program in ("bin/medfusion", "libexec/medfusion/medfusion-decoder"):
        assert set(re.findall(r"^\s*(\S+) => /", run("ldd", tmp_path / "usr" / program), re.M)) <= listed
        build = re.search(r"Build ID: (\w+)", run("readelf", "-n", tmp_path / "usr" / program))[1]
        assert {"name": "medfusion:build-id", "value": build} in components[f"program:{pathlib.Path(program).name}"]["properties"]
    for c in components.values():
        if c["type"] == "library":
            assert run("dpkg-query", "-W", "-f", "${Version}", c["name"]) == c["version"] and c["purl"].startswith("pkg:deb/")
    manifest = tmp_path / "usr/share/medfusion/models/thorax-nih/manifest.json"
    assert components["model:thorax-nih"]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(manifest.read_bytes()).hexdigest()}]
    known = set(components) | {document["metadata"]["component"]["bom-ref"]}
    depends = {d["ref"]: d["dependsOn"] for d in document["dependencies"]}
    assert known >= set(depends) and known >= {ref for refs in depends.values() for ref in refs}
    seen, open_refs = set(), ["medfusion"]
    while open_refs:
        ref = open_refs.pop()
        if ref not in seen:
            seen.add(ref)
            open_refs += depends.get(ref, [])
    assert seen == known  # nothing hangs in the air


@needs("groff")
def test_manual_pages_say_what_help_says():
    pages = sorted((BUILD / "man").glob("*.1"))
    assert "medfusion-config (5)" in (BUILD / "man/medfusion-serve.1").read_text().replace("\\-", "-")
    commands = re.findall(r"^  ([a-z]+) ", run(bundles.PROGRAM, "--help"), re.M)
    assert sorted(page.stem for page in pages) == sorted(["medfusion", *(f"medfusion-{command}" for command in commands)])
    for page in pages:
        command = [part for part in page.stem.split("-")[1:]]
        shown = subprocess.run(["groff", "-k", "-ww", "-man", "-Tutf8", "-P-c", str(page)], capture_output=True, text=True, check=True)
        assert shown.stderr == ""
        text = re.sub(r".\x08", "", shown.stdout)
        for line in run(bundles.PROGRAM, *command, "--help").splitlines()[1:]:
            assert line.strip() in text, (page.name, line)


@needs("groff")
def test_the_manual_of_the_configuration_has_every_key(package, tmp_path):
    run("dpkg-deb", "-R", package, tmp_path)
    source = gzip.decompress((tmp_path / "usr/share/man/man5/medfusion-config.5.gz").read_bytes())
    shown = subprocess.run(["groff", "-k", "-ww", "-man", "-Tutf8", "-P-c", "-rLL=1000n"], input=source, capture_output=True, check=True)
    assert shown.stderr == b""
    text = re.sub(r".\x08", "", shown.stdout.decode())
    rows = [[cell.strip(" `") for cell in row.split(" | ")] for row in run(bundles.PROGRAM, "serve", "--help-config").splitlines()[2:]]
    assert len(rows) > 100 and {len(row) for row in rows} == {6}  # no cell holds what would be one more column
    for key, variable, kind, default, limits, meaning in ((c.strip("| `") for c in row) for row in rows):
        for said in (key, variable, default, meaning, limits):
            assert " ".join(said.split()) in text, key


@needs("systemd-analyze")
def test_the_unit_is_one_that_systemd_takes(tmp_path):
    unit = (ROOT / "deploy/systemd/medfusion.service").read_text()
    (tmp_path / "medfusion.service").write_text(unit.replace("/usr/bin/medfusion", str(bundles.PROGRAM)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "medfusion.service")], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "medfusion.service" in line]
    assert complaints == []


@needs("bash")
def test_completion_knows_commands_options_and_keys():
    def complete(*words):
        script = (f'PATH="{BUILD}:$PATH"; source "{ROOT}/deploy/completion/medfusion.bash"; COMP_WORDS=({" ".join(words)}); '
                  f"COMP_CWORD={len(words) - 1}; _medfusion; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
        return run("bash", "-c", script).split()

    assert complete("medfusion", "pre") == ["predict"]
    assert "--alpha" in complete("medfusion", "predict", "--al")
    assert complete("medfusion", "serve", "--http.lis") == ["--http.listen"]
    assert complete("medfusion", "serve", "--payloads.s3_reg") == ["--payloads.s3_region"]
    assert complete("medfusion", "model", "ver") == ["verify"]
    assert complete("medfusion", "outbox", "''") == ["list", "retry", "drop"]
    assert complete("medfusion", "key", "''") == ["add", "list", "revoke"]
    assert complete("medfusion", "dicom", "frame", "--stage", "mo") == ["modality"]
    assert complete("medfusion", "predict", "--model", "''") == []  # files, which the shell completes itself


@needs("promtool")
def test_alerts_fire_when_they_should_and_only_then():
    tests = ROOT / "deploy/prometheus/medfusion.rules.test.yaml"
    run("promtool", "test", "rules", tests)
    tested = [case for test in yaml.safe_load(tests.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in monitoring.alerts()}
    assert {case["alertname"] for case in tested if case.get("exp_alerts")} == names  # each is seen to fire
    assert {case["alertname"] for case in tested if not case.get("exp_alerts")} == names  # and to keep quiet


@needs("promtool")
def test_the_dashboard_asks_in_prometheus_language(tmp_path):
    rules = [{"record": f"shown:{i}", "expr": expression} for i, expression in enumerate(monitoring.shown())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", tmp_path / "rules.yaml")


def test_alerts_and_dashboard_ask_for_metrics_that_exist(daemon):
    """Of standalone workers: test_postgres.py, where there is one."""
    names = monitoring.asked()
    standalone = {name for name in names if name.startswith(monitoring.STANDALONE)}
    assert len(names) > 20 and len(standalone) == 5
    assert names - standalone - monitoring.exported(requests.get(daemon.url + "/metrics", timeout=10).text) == set()
