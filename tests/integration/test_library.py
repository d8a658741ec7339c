"""libmedfusion, installed: the header, pkg-config, the examples in C and in Python, on the sample patient."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

import bad_input
import bundles

BUILD = bundles.PROGRAM.resolve().parent
SAMPLE = bad_input.SAMPLE
EXAMPLES = bundles.ROOT / "library"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("installed")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)
    return prefix


@pytest.fixture(scope="module")
def environment(installed):
    library = next(installed.rglob("libmedfusion.so")).parent
    paths = {"PKG_CONFIG_PATH": str(library / "pkgconfig"), "LD_LIBRARY_PATH": str(library)}
    return {**{k: v for k, v in os.environ.items() if not k.startswith("MEDFUSION")}, **paths}


@pytest.fixture(scope="module")
def example(installed, environment, tmp_path_factory):
    program = tmp_path_factory.mktemp("example") / "example"
    flags = subprocess.run(["pkg-config", "--define-prefix", "--cflags", "--libs", "medfusion"], env=environment, check=True,
                           capture_output=True, text=True).stdout.split()
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / "example.c", "-o", program, *flags], check=True)
    return program


def run(arguments, environment):
    return subprocess.run([str(a) for a in arguments], env=environment, capture_output=True, text=True, timeout=120)


def files():
    return [*sorted((SAMPLE / "dicom").glob("*.dcm")), SAMPLE / "ehr.json"]


def test_the_c_example_says_what_predict_says(example, environment, frontal_bundle):
    done = run([example, frontal_bundle, *files()], environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    newest = run([bundles.PROGRAM, "predict", "--model", frontal_bundle, "--ehr", SAMPLE / "ehr.json", SAMPLE / "dicom"], None)
    expected = next(r for r in map(json.loads, newest.stdout.splitlines())
                    if r["study"]["study_instance_uid"] == result["study"]["study_instance_uid"])
    assert len(result["study"]["frames"]) == 4
    for member in ("study", "model", "alpha", "predictions", "finding_set", "calibration", "ehr"):
        assert result[member] == expected[member], member


def test_the_python_example(installed, environment, frontal_bundle):
    done = run([sys.executable, EXAMPLES / "example.py", frontal_bundle, *files()], environment)
    assert done.returncode == 0, done.stderr
    bundle = json.loads((frontal_bundle / "bundle.json").read_text())
    assert len(done.stdout.splitlines()) == len(bundle["labels"])


@pytest.mark.parametrize("name, content, detail", [
    ("not.dcm", b"hello", "part 1: not a DICOM file"),
    ("gone.dcm", None, "gone.dcm: No such file or directory"),
])
def test_problems_are_told(example, environment, frontal_bundle, tmp_path, name, content, detail):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = run([example, frontal_bundle, path], environment)
    problem = json.loads(done.stderr)
    assert (done.returncode, done.stdout) == (1, "")
    assert problem["schema"] == "medfusion.problem/1"
    assert problem["detail"].endswith(detail)


def test_no_bundle_and_no_program(example, environment, tmp_path):
    problem = json.loads(run([example, tmp_path, files()[0]], environment).stderr)
    assert str(tmp_path) in problem["detail"]
    problem = json.loads(run([example, tmp_path, files()[0]], {**environment, "MEDFUSION_PROGRAM": "/nowhere"}).stderr)
    assert problem["detail"] == "/nowhere: cannot be executed"


def test_threads_share_a_handle(installed, environment, frontal_bundle):
    """Eight threads that come and go, one handle: the same answer each time, and the decoders outlive the thread that opened it."""
    script = f"""
import sys, threading, pathlib
sys.path.insert(0, {str(EXAMPLES)!r})
import example
opened, results = [], []
opener = threading.Thread(target=lambda: opened.append(example.Medfusion({str(frontal_bundle)!r})))
opener.start(); opener.join()
data = [pathlib.Path({str(files()[0])!r}).read_bytes()]
threads = [threading.Thread(target=lambda: results.append(opened[0].predict(data)["predictions"])) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
opened[0].__exit__()
assert len(results) == 8 and all(r == results[0] for r in results)
"""
    done = run([sys.executable, "-c", script], environment)
    assert done.returncode == 0, done.stderr


def test_nothing_else_is_exported(installed):
    library = next(installed.rglob("libmedfusion.so"))
    listed = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    assert names == {f"medfusion_{name}" for name in ("version", "open", "close", "predict", "free")}


def test_schemas_are_installed(installed):
    names = {path.name for path in (installed / "share/medfusion/schemas").glob("*.json")}
    assert {"result.schema.json", "job.schema.json", "problem.schema.json", "features.schema.json", "bundle.schema.json"} <= names
    assert pathlib.Path(installed / "include/medfusion.h").exists()
