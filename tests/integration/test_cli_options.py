"""The command line's options: what each command says to wrong usage, in one line; options that change how, not what; a terminal sees how far it is."""
import csv
import json
import os
import pty
import subprocess

import bad_input
import bundles
import pydicom
import pytest

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
STUDIES = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.make_bundle(tmp_path_factory.mktemp("options") / "frontal", name="frontal", accepts=FRONTAL)


def run(*arguments, **more):
    return subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **more)


# --- wrong usage ---

DEAD_LETTERS = "list, retry or drop, then --id or --all, and one DIRECTORY, see --help"
TRAIL = "verify DIRECTORY or list DIRECTORY, see --help"
USAGE = [
    ("audit", TRAIL),
    ("audit list", TRAIL),
    ("audit what /none", TRAIL),
    ("audit list /none --head 1:aa", TRAIL),
    ("audit verify /none --database host=db", TRAIL),
    ("audit verify --head", "--head needs a value, see --help"),
    ("audit --colour", "unknown option --colour, see --help"),
    ("audit verify /none", "/none: there is no store.db in it"),
    ("outbox", DEAD_LETTERS),
    ("outbox list /none --all", DEAD_LETTERS),
    ("outbox list /none more", DEAD_LETTERS),
    ("outbox retry /none", DEAD_LETTERS),
    ("outbox forget /none --all", DEAD_LETTERS),
    ("outbox retry /none --id 1 --all", DEAD_LETTERS),
    ("outbox drop /none --id 1 --tenant north", DEAD_LETTERS),
    ("outbox drop /none --id 1 --destination http://a", DEAD_LETTERS),
    ("outbox drop --database host=db /none --all", DEAD_LETTERS),
    ("outbox drop /none --id abc", '--id: "abc" is no id of a dead letter'),
    ("outbox list /none --tenant BAD", '--tenant: "BAD" is no tenant\'s name'),
    ("outbox list /none --destination http://a", "/none: there is no store.db in it"),
    ("outbox -x", "unknown option -x, see --help"),
    ("model", "expected inspect, verify, sign or smooth, and one DIR; see --help"),
    ("model verify", "expected inspect, verify, sign or smooth, and one DIR; see --help"),
    ("model verify a b", "expected inspect, verify, sign or smooth, and one DIR; see --help"),
    ("model sign a", "sign needs --key PRIVATE.pem"),
    ("model smooth", "smooth needs DIR, -o OUT and at least one PATH"),
    ("model smooth a b", "smooth needs DIR, -o OUT and at least one PATH"),
    ("model smooth a -o b --ehr e", "smooth needs DIR, -o OUT and at least one PATH"),
    ("model --alpha 2", '--alpha: must be a number from 0 to 1, not "2"'),
    ("model --studies 0", '--studies: must be a number from 1 to 100000, not "0"'),
    ("model --studies 1x", '--studies: must be a number from 1 to 100000, not "1x"'),
    ("bench --threads -1", '--threads: must be a number from 0 to 4096, not "-1"'),
    ("bench --runs 0", '--runs: must be a number from 1 to 10000, not "0"'),
    ("bench --seconds nan", '--seconds: must be a number from 0 to 86400, not "nan"'),
    ("bench --size 4", '--size: must be a number from 16 to 8192, not "4"'),
    ("bench --frames 65", '--frames: must be a number from 1 to 64, not "65"'),
    ("bench --kernels", "--kernels needs a value, see --help"),
    ("predict --adaptation sometimes", "--adaptation must be off, shadow, episodic or site"),
    ("predict --site=", "--site must be a name of at most 64 bytes"),
    ("predict --site " + "s" * 65, "--site must be a name of at most 64 bytes"),
    ("predict --threads x", '--threads: must be a number from 0 to 4096, not "x"'),
    ("predict --alpha 0", "--alpha must be above 0"),
    ("predict -z", "unknown option -z, see --help"),
    ("calibrate x", 'unexpected argument "x", see --help'),
    ("calibrate --group-by colour", "--group-by must be view, sex, age or site"),
    ("calibrate --threads 65", '--threads: must be a number from 0 to 64, not "65"'),
    ("calibrate --model a --manifest b", "--model, --manifest and -o are needed, see --help"),
    ("calibrate --model a -o c", "--model, --manifest and -o are needed, see --help"),
    ("calibrate --model a --manifest b -o c --target d --group-by sex", "--target and --group-by exclude each other"),
    ("dicom", "expected info, frame, study, volume or deidentify, see --help"),
    ("dicom frame", "frame takes one FILE and -o OUT, see --help"),
    ("fhir", 'expected "features" or "check", see --help'),
    ("fhir what", 'expected "features" or "check", see --help'),
    ("module", 'expected "run" DIR --input FILE --output FILE, see --help'),
    ("key", "add FILE, list FILE or revoke FILE ID, see --help"),
    ("key add", "add FILE, list FILE or revoke FILE ID, see --help"),
    ("key list a b", "add FILE, list FILE or revoke FILE ID, see --help"),
    ("key revoke a", "add FILE, list FILE or revoke FILE ID, see --help"),
    ("vault", "add FILE, status DIRECTORY, rewrap or seal DIRECTORY, see --help"),
    ("backup", "name the directory first, see --help"),
    ("restore", "name the directory first, see --help"),
    ("reload", "name one data directory, see --help"),
    ("serve extra", 'unexpected argument "extra", see --help'),
    ("serve --", 'unexpected argument "--", see --help'),
    ("serve --=x", "unknown option --, see --help-config"),
    ("serve --http.listen", "--http.listen needs a value"),
    ("serve --config", "--config needs a value"),
    ("serve --config=/none.json", "/none.json: No such file or directory"),
    ("serve --config /none.json", "/none.json: No such file or directory"),
    ("serve --" + "x" * 200, "unknown option --" + "x" * 127 + ", see --help-config"),
    ("serve --http.handlers=0", 'command line: "http.handlers" must lie between 1 and 256'),
]


@pytest.mark.parametrize("line,sentence", USAGE, ids=[line[:60] for line, _ in USAGE])
def test_wrong_usage_is_one_line_and_status_2(line, sentence):
    words = line.split()
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"medfusion {words[0]}: {sentence}\n"


@pytest.mark.parametrize("command", ["audit", "outbox", "key", "vault", "backup", "restore", "reload"])
def test_commands_of_the_administrator_have_help(command):
    for option in ("--help", "-h"):
        done = run(command, option)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"medfusion {command}" in done.stdout


def test_the_configuration_is_explained_and_exemplified():
    example = json.loads(run("serve", "--example-config").stdout)
    table = run("worker", "--help-config").stdout
    assert all(f"| `{section}.{key}` |" in table for section, keys in example.items() for key in keys)
    assert run("serve", "-h").stdout == run("serve", "--help").stdout


def test_output_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "w") as full:
        for words in (("predict", "--help"), ("serve", "--example-config"), ("worker", "--help-config"), ("--version",), ("--help",)):
            done = subprocess.run([str(bundles.PROGRAM), *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            assert done.returncode != 0, words


# --- how, not what ---

def numbers(done):
    assert done.returncode == 0, done.stderr
    return [(p["label"], round(p["logit"], 4)) for line in done.stdout.splitlines() for p in json.loads(line)["predictions"]]


def test_how_it_is_computed_does_not_change_the_answer(model):
    plain = numbers(run("predict", "--model", model, bad_input.NEWEST))
    assert numbers(run("predict", "--model", model, "--device", "cpu", "--dtype", "f32", "--threads", 1, "--kernels", "auto", "--site", "north",
                       "--adaptation", "off", bad_input.NEWEST)) == plain
    done = run("predict", "--model", model, "--dtype", "f8", bad_input.NEWEST)
    assert done.returncode != 0 and done.stderr.count("\n") == 1


def test_bench_takes_its_options(model):
    done = run("bench", "--model", model, "--device", "cpu", "--dtype", "f32", "--kernels", "auto", "--threads", 1, "--runs", 2, "--seconds", 0,
               "--frames", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_a_terminal_sees_how_far_it_is(model):
    """The bar is on the terminal only: standard output stays results."""
    master, slave = pty.openpty()
    process = subprocess.Popen([str(bundles.PROGRAM), "predict", "--model", str(model), *map(str, STUDIES)], stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    out = process.stdout.read()
    assert process.wait(60) == 0
    os.close(master)
    assert len([json.loads(line) for line in out.splitlines()]) == len(STUDIES)
    assert f"]  {len(STUDIES)}/{len(STUDIES)}".encode() in shown and b"left" in shown
    assert shown.rstrip().endswith(b"\x1b[K")  # and it is taken away at the end


# --- tables of calibrate ---

def table(path, rows):
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    return path


def patients(directory, count):
    rows = [("path", "patient_id", "L0", "L1")]
    for i in range(count):
        name = directory / f"p{i}.dcm"
        name.write_bytes(bad_input.changed(PatientID=f"p{i}", StudyInstanceUID=f"2.25.{1000 + i}", SOPInstanceUID=f"2.25.{5000 + i}",
                                           WindowCenter=100 + i, WindowWidth=200))
        rows.append((name if i % 2 else name.name, f"p{i}", "1.0" if i % 2 else "0.0", str(i % 2)))
    return rows


def test_paths_are_relative_to_the_table_and_labels_may_be_decimals(model, tmp_path):
    manifest = table(tmp_path / "m.csv", patients(tmp_path, 12))
    prevalence = table(tmp_path / "prevalence.csv", [("label", "prevalence"), ("L1", "0.25")])
    out = tmp_path / "out"
    done = run("calibrate", "--model", model, "--manifest", "m.csv", "-o", out, "--prevalence", prevalence, "--device", "cpu", "--dtype", "f32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert manifest.exists() and json.loads((out / "calibration.json").read_text())["patients"] == 12


BAD_PREVALENCE = {
    "no label": ([("name", "prevalence")], 'no column "label"'),
    "no prevalence": ([("label", "share")], 'no column "prevalence"'),
    "another label": ([("label", "prevalence"), ("L9", "0.5")], 'row 1: "L9" is no label of the model'),
    "nothing": ([("label", "prevalence"), ("L0", "")], "row 1, column prevalence: not a number above 0 and below 1"),
    "text": ([("label", "prevalence"), ("L0", "half")], "row 1, column prevalence: not a number above 0 and below 1"),
    "all": ([("label", "prevalence"), ("L0", "0.5"), ("L1", "1")], "row 2, column prevalence: not a number above 0 and below 1"),
    "none": ([("label", "prevalence"), ("L0", "0")], "row 1, column prevalence: not a number above 0 and below 1"),
}


@pytest.mark.parametrize("name", BAD_PREVALENCE)
def test_a_wrong_table_of_prevalences_is_refused(model, tmp_path, name):
    rows, sentence = BAD_PREVALENCE[name]
    manifest = table(tmp_path / "m.csv", patients(tmp_path, 12))
    prevalence = table(tmp_path / "prevalence.csv", rows)
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", tmp_path / "out", "--prevalence", prevalence)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"medfusion calibrate: {prevalence}: {sentence}")
    assert not (tmp_path / "out").exists()


def test_a_patient_needs_a_name_and_a_record_that_is_there(model, tmp_path):
    (tmp_path / "x.dcm").write_bytes(bad_input.NEWEST.read_bytes())
    manifest = table(tmp_path / "m.csv", [("path", "patient_id", "L0"), ("x.dcm", "", "1")])
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", tmp_path / "out")
    assert done.stderr == f"medfusion calibrate: {manifest}: row 1: patient_id is blank\n"
    patient = str(pydicom.dcmread(bad_input.NEWEST, stop_before_pixels=True).PatientID)
    manifest = table(tmp_path / "m.csv", [("path", "patient_id", "ehr", "L0"), ("x.dcm", patient, "none.json", "1")])
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", tmp_path / "out")
    assert done.returncode == 1 and f"{tmp_path}/none.json" in done.stderr
