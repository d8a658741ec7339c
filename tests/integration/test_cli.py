"""The command line as a user meets it: results, every kind of bad input with its exact sentence, exit statuses."""
import csv
import json
import subprocess
import xml.etree.ElementTree

import pydicom
import pytest

import bad_input
import bundles

STUDIES = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))
FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return bundles.make_bundle(tmp_path_factory.mktemp("model") / "frontal", name="frontal", accepts=FRONTAL)


def run(*arguments):
    return subprocess.run(
        [str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def results(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def newest_uid():
    return str(pydicom.dcmread(bad_input.NEWEST, stop_before_pixels=True).StudyInstanceUID)


# --- what works ---


def test_a_directory_gives_one_result_a_study_with_the_earlier_ones_as_priors(model):
    done = run("predict", "--model", model, "--ehr", bad_input.SAMPLE / "ehr.json", bad_input.SAMPLE)
    assert done.returncode == 0
    # README.md and ehr.json of that directory
    assert done.stderr == "medfusion predict: 2 files skipped, not DICOM\n"
    found = results(done)
    assert [len(r["study"]["frames"]) for r in found] == [1, 2, 3, 4]
    assert [r["study"]["frames"][-1]["acquired"][:10] for r in found] == [f.stem for f in STUDIES]
    assert all(f["role"] == "prior" for f in found[3]["study"]["frames"][:-1])


def test_the_order_of_the_files_does_not_change_the_numbers(model):
    one = results(run("predict", "--model", model, *STUDIES))
    two = results(run("predict", "--model", model, *reversed(STUDIES)))
    assert [r["predictions"] for r in one] == [r["predictions"] for r in two]


def test_no_priors_runs_each_study_alone(model):
    found = results(run("predict", "--model", model, "--no-priors", *STUDIES))
    assert [len(r["study"]["frames"]) for r in found] == [1, 1, 1, 1]


def test_a_zip_is_read_and_what_is_not_dicom_in_it_is_counted(model, tmp_path):
    archive = tmp_path / "study.zip"
    archive.write_bytes(bad_input.zip_of([("a/image", bad_input.NEWEST.read_bytes()), ("note.txt", b"hello")]))
    done = run("predict", "--model", model, archive)
    assert (done.returncode, len(results(done))) == (0, 1)
    assert done.stderr == "medfusion predict: 1 file skipped, not DICOM\n"


def test_patients_are_kept_apart(model, tmp_path):
    other = tmp_path / "other.dcm"
    other.write_bytes(bad_input.changed(PatientID="somebody else", StudyInstanceUID="2.25.77", SOPInstanceUID="2.25.78"))
    found = results(run("predict", "--model", model, STUDIES[0], other))
    assert [len(r["study"]["frames"]) for r in found] == [1, 1]


def test_alpha_and_formats(model, tmp_path):
    out = tmp_path / "result.json"
    done = run("predict", "--model", model, "--alpha", "0.2", "-o", out, bad_input.NEWEST)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(out.read_text())["alpha"] == 0.2
    bundle = json.loads(run("predict", "--model", model, "--format", "fhir", bad_input.NEWEST).stdout)
    assert bundle["resourceType"] == "Bundle"
    text = run("predict", "--model", model, "--format", "text", bad_input.NEWEST).stdout
    assert "Label 0" in text and "frontal" in text


def test_a_failed_study_does_not_stop_the_others(model, tmp_path):
    lateral = tmp_path / "lateral.dcm"
    lateral.write_bytes(bad_input.changed(ViewPosition="LL", StudyInstanceUID="2.25.77", SOPInstanceUID="2.25.78"))
    done = run("predict", "--model", model, bad_input.NEWEST, lateral)
    schemas = sorted(r["schema"] for r in results(done))
    assert (done.returncode, schemas) == (1, ["medfusion.problem/1", "medfusion.result/1"])


# --- bad input: file, status, sentence ---

NO_USABLE = "no usable image: {file}: "
BAD_FILES = {
    "not DICOM": (bad_input.not_dicom, 400, "{file}: not a DICOM file"),
    "truncated": (
        bad_input.truncated,
        400,
        "{file}: truncated: (7FE0,0010) claims 262144 bytes, 130250 are left",
    ),
    "no pixels": (bad_input.without_pixels, 422, NO_USABLE + "it has no pixel data"),
    "SR": (bad_input.structured_report, 422, NO_USABLE + "a structured report"),
    "RT": (bad_input.rt_plan, 422, NO_USABLE + "a radiotherapy object"),
    "wrong modality": (
        lambda: bad_input.changed(Modality="CT"),
        422,
        NO_USABLE + "the modality CT is not accepted (CR, DX)",
    ),
    "lateral view": (
        lambda: bad_input.changed(ViewPosition="LL"),
        422,
        NO_USABLE + "the view position LL is not accepted (PA, AP)",
    ),
    "absurd size": (
        bad_input.absurd_size,
        413,
        "{file}: a frame of 65535 x 65535 x 1 samples, at most 134217728 samples are accepted",
    ),
    "a million nested sequences": (
        bad_input.nested_sequences,
        400,
        "{file}: sequences are nested deeper than 64 levels",
    ),
    "deflate bomb": (
        bad_input.deflate_bomb,
        413,
        "{file}: compressed data grows past 208730200 bytes, the ratio of a decompression bomb",
    ),
    "zip that escapes": (bad_input.zip_escape, 400, "{file}: member 1: its name leads out of the zip"),
    "zip bomb": (
        bad_input.zip_bomb,
        413,
        "{file}, member 1: compressed data grows past 208745000 bytes, the ratio of a decompression bomb",
    ),
    "zip without DICOM": (
        lambda: bad_input.zip_of([("note.txt", b"hello")]),
        400,
        "{file}: the zip holds no DICOM file",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_with_one_sentence(model, tmp_path, name):
    make, status, sentence = BAD_FILES[name]
    file = tmp_path / "input"
    file.write_bytes(make())
    done = run("predict", "--model", model, file)
    assert done.returncode == 1
    (problem,) = results(done)
    short = str(file)
    short = short if len(short) <= 120 else "..." + short[-120:]
    assert problem["detail"] == sentence.format(file=short)
    assert (problem["schema"], problem["status"]) == ("medfusion.problem/1", status)
    study = f"study {problem['study']}: " if "study" in problem else ""
    assert done.stderr == f"medfusion predict: {study}{problem['detail']}\n"


BAD_EHR = {
    "invalid JSON": (lambda: b'{"a":', "{file}: not valid JSON (line 1, column 5)"),
    "10,000 levels": (bad_input.deep_json, "{file}: JSON is nested deeper than 64 levels"),
}


@pytest.mark.parametrize("name", BAD_EHR)
def test_bad_fhir_ends_the_command_with_one_line(model, tmp_path, name):
    make, sentence = BAD_EHR[name]
    file = tmp_path / "ehr.json"
    file.write_bytes(make())
    done = run("predict", "--model", model, "--ehr", file, bad_input.NEWEST)
    short = str(file) if len(str(file)) <= 120 else "..." + str(file)[-120:]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "medfusion predict: " + sentence.format(file=short) + "\n"


def test_fhir_of_another_patient_fails_the_study(model, tmp_path):
    file = tmp_path / "ehr.json"
    file.write_bytes(bad_input.ehr_of_another_patient())
    done = run("predict", "--model", model, "--ehr", file, bad_input.NEWEST)
    (problem,) = results(done)
    assert (done.returncode, problem["status"], problem["study"]) == (1, 422, newest_uid())
    assert (
        problem["detail"]
        == "the FHIR data is of another patient: no identifier in it equals the study's PatientID"
    )


def features(done):
    (result,) = results(done)
    return {f["id"]: f["status"] for f in result["ehr"]["features"]}


def test_wrong_units_are_implausible_and_not_used(model, tmp_path):
    file = tmp_path / "ehr.json"
    file.write_bytes(bad_input.ehr_with_unit("furlong"))
    found = features(run("predict", "--model", model, "--ehr", file, bad_input.NEWEST))
    assert (found["crp"], found["temperature"], found["age"]) == ("implausible", "implausible", "used")


def test_observations_after_the_study_are_not_used(model, tmp_path):
    file = tmp_path / "ehr.json"
    file.write_bytes(bad_input.ehr_at("2030-01-01"))
    found = features(run("predict", "--model", model, "--ehr", file, bad_input.NEWEST))
    assert (found["crp"], found["temperature"], found["sex"]) == ("missing", "missing", "used")


# --- usage ---

USAGE = {
    "no command": ((), None),
    "unknown command": (("conjure",), 'medfusion: unknown command "conjure", see medfusion --help'),
    "unknown option": (
        ("predict", "--bogus", "x"),
        "medfusion predict: unknown option --bogus, see --help",
    ),
    "no value": (("predict", "--model"), "medfusion predict: --model needs a value, see --help"),
    "no model": (("predict", "x"), "medfusion predict: --model DIR is needed, see --help"),
    "no path": (("predict", "--model", "x"), "medfusion predict: at least one PATH is needed, see --help"),
    "alpha": (
        ("predict", "--model", "x", "--alpha", "2", "x"),
        'medfusion predict: --alpha: must be a number from 0 to 0.5, not "2"',
    ),
    "format": (
        ("predict", "--model", "x", "--format", "doc", "x"),
        'medfusion predict: --format: json, fhir, text, sr, html or pdf, not "doc"',
    ),
    "calibrate": (
        ("calibrate", "--model", "x"),
        "medfusion calibrate: --model, --manifest and -o are needed, see --help",
    ),
    "model": (
        ("model", "frobnicate", "x"),
        "medfusion model: expected inspect, verify, sign or smooth, and one DIR; see --help",
    ),
    "smooth": (
        ("model", "smooth", "x", "-o", "y"),
        "medfusion model: smooth needs DIR, -o OUT and at least one PATH",
    ),
    "unknown key": (
        ("serve", "--http.prot", "80"),
        "medfusion serve: unknown option --http.prot, see --help-config",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_mistakes_exit_2_with_one_line(name):
    arguments, line = USAGE[name]
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    if line:
        assert done.stderr == line + "\n"


COMMANDS = ("serve", "worker", "predict", "calibrate", "bench", "model", "module", "dicom", "fhir")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: medfusion {command}")
    assert f"\n  {command} " in run("--help").stdout


def test_a_path_that_is_not_there_fails(model):
    done = run("predict", "--model", model, "/nonexistent/study")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "medfusion predict: /nonexistent/study: No such file or directory\n"


def test_a_device_that_is_not_there_fails(model):
    done = run("predict", "--model", model, "--device", "cuda:77", bad_input.NEWEST)
    assert done.returncode == 1
    assert "cuda:77" in done.stderr and done.stderr.count("\n") == 1


# --- bundles ---


def test_a_bundle_is_inspected_and_verified(model):
    described = json.loads(run("model", "inspect", model).stdout)
    assert (described["name"], len(described["labels"])) == ("frontal", 5)
    done = run("model", "verify", model)
    assert done.returncode == 0 and "files are right" in done.stdout


def test_a_changed_file_is_found(tmp_path):
    model = bundles.make_bundle(tmp_path / "m")
    weights = model / "fusion/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = run("model", "verify", model)
    assert done.returncode == 1
    assert "fusion/model.safetensors" in done.stderr and done.stderr.count("\n") == 1


def test_a_signature_holds_until_the_manifest_changes(tmp_path):
    model = bundles.make_bundle(tmp_path / "m")
    private, public, other = (tmp_path / n for n in ("private.pem", "public.pem", "other.pem"))
    for key in (private, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    assert run("model", "sign", model, "--key", private).returncode == 0
    assert (model / "manifest.sig").stat().st_size == 64
    done = run("model", "verify", model, "--key", public)
    assert done.returncode == 0 and "signature are right" in done.stdout
    (model / "MODEL_CARD.md").write_text("changed")
    bundles.write_manifest(model)
    done = run("model", "verify", model, "--key", public)
    assert done.returncode == 1 and "manifest.sig is not this key's signature" in done.stderr
    done = run("model", "sign", model, "--key", public)
    assert done.returncode == 1 and "not a private Ed25519 key" in done.stderr


# --- calibrate ---


def write_manifest(directory, rows):
    path = directory / "manifest.csv"
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    return path


def make_patients(directory, count):
    """`count` patients with one study each; every third has an older one too. Labels alternate."""
    rows = [("path", "patient_id", "ehr", "group", "L0", "L1")]
    for i in range(count):
        for k in range(2 if i % 3 == 0 else 1):
            name = f"p{i}-{k}.dcm"
            changes = {
                "PatientID": f"p{i}",
                "StudyInstanceUID": f"2.25.{1000 + 10 * i + k}",
                "SOPInstanceUID": f"2.25.{5000 + 10 * i + k}",
                "StudyDate": f"201{5 + k}0101",
                "WindowCenter": 100 + i,
                "WindowWidth": 200,
            }
            (directory / name).write_bytes(bad_input.changed(**changes))
            rows.append((name, f"p{i}", "", "site", i % 2, "" if i % 5 else 1))
    return rows


def test_calibrate_writes_a_complete_bundle_that_predict_uses(model, tmp_path):
    manifest = write_manifest(tmp_path, make_patients(tmp_path, 24))
    out = tmp_path / "calibrated"
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", out, "--source", "a test")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == f"calibrated on 24 patients: {out}"
    names = [label["id"] for label in json.loads((out / "bundle.json").read_text())["labels"]]
    assert second == f"no promise at 90 %, for want of 9 patients with and 9 without: {names[1]} (5 and 0)" + "".join(f", {n} (0 and 0)" for n in names[2:])
    assert run("model", "verify", out).returncode == 0
    (result,) = results(run("predict", "--model", out, bad_input.NEWEST))
    assert result["calibration"]["patients"] == 24
    first = result["predictions"][0]
    assert (first["n_cal_pos"], first["n_cal_neg"], first["guarantee"]) == (12, 12, "valid")
    assert result["predictions"][1]["guarantee"] == "insufficient_calibration"


def test_calibrate_does_not_depend_on_the_number_of_threads(model, tmp_path):
    manifest = write_manifest(tmp_path, make_patients(tmp_path, 6))
    for threads in (1, 3):
        out = tmp_path / f"out{threads}"
        assert (
            run("calibrate", "--model", model, "--manifest", manifest, "-o", out, "--threads", threads).returncode
            == 0
        )
    logits = [json.loads((tmp_path / f"out{n}/conformal.json").read_text())["labels"] for n in (1, 3)]
    assert logits[0] == logits[1]


BAD_MANIFESTS = {
    "unknown column": (
        [("path", "patient_id", "L0", "colour"), ("x", "p", "1", "red")],
        'column "colour" is neither path, patient_id, ehr, group nor a label of the model',
    ),
    "no labels": ([("path", "patient_id"), ("x", "p")], "no label of the model"),
    "no patient": ([("path", "L0"), ("x", "1")], 'no column "patient_id"'),
    "no rows": ([("path", "patient_id", "L0")], "no rows"),
    "wrong label": (
        [("path", "patient_id", "L0"), ("x", "p", "yes")],
        "row 1, column L0: not 1, 0 or blank",
    ),
    "blank path": ([("path", "patient_id", "L0"), ("", "p", "1")], "row 1: path is blank"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_wrong_manifests_are_refused(model, tmp_path, name):
    rows, sentence = BAD_MANIFESTS[name]
    manifest = write_manifest(tmp_path, rows)
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == f"medfusion calibrate: {manifest}: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_a_missing_file_ends_calibration_and_names_the_row(model, tmp_path):
    manifest = write_manifest(tmp_path, [("path", "patient_id", "L0"), ("absent.dcm", "p", "1")])
    done = run("calibrate", "--model", model, "--manifest", manifest, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == f"medfusion calibrate: row 1: {tmp_path}/absent.dcm: No such file or directory\n"


# --- bench ---


def test_bench_measures_the_engine_and_a_study(model):
    done = run("bench", "--model", model, "--runs", "1", "--size", "64", "--json")
    document = json.loads(done.stdout)
    assert [c["case"].split(",")[1].split()[0] for c in document["cases"]] == ["1", "3", "32"]
    done = run("bench", "--model", model, "--runs", "2", "--json", *STUDIES[:2])
    (case,) = json.loads(done.stdout)["cases"]
    assert case["stages"]["decode"]["median_ms"] > 0
    assert case["stages"]["total"]["median_ms"] > case["stages"]["vision"]["median_ms"]


def test_bench_draws_what_it_measured(model, tmp_path):
    picture = tmp_path / "bench.svg"
    done = run("bench", "--model", model, "--runs", "2", "--size", "64", "--json", "--picture", picture)
    document = json.loads(done.stdout)
    svg = "{http://www.w3.org/2000/svg}"
    root = xml.etree.ElementTree.parse(picture).getroot()
    texts = ["".join(e.itertext()) for e in root.iter(f"{svg}text")]
    assert f"{document['model']} {document['version']} on cpu (f32)" in texts
    assert [f"{c['case']} · 2 runs" for c in document["cases"]] == [t for t in texts if t.endswith("runs")]
    bars = [e for e in root.iter(f"{svg}rect") if e.find(f"{svg}title") is not None]
    widths = {}
    for bar in bars:
        widths[bar.get("y")] = widths.get(bar.get("y"), 0) + float(bar.get("width"))
    totals = [c["stages"]["total"]["median_ms"] for c in document["cases"]]
    parts = [sum(s["median_ms"] for name, s in c["stages"].items() if name != "total") for c in document["cases"]]
    for width, part in zip(widths.values(), parts, strict=True):  # a tenth of a pixel each
        assert abs(width - 628 * part / max(totals)) < 0.7
    done = run("bench", "--model", model, "--runs", "1", "--frames", "1", "--size", "64", "--picture", tmp_path / "absent/bench.svg")
    assert done.returncode == 1
    assert done.stderr == f"medfusion bench: {tmp_path}/absent/bench.svg: No such file or directory\n"
