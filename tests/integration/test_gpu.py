"""Workers on a GPU, by the program whose CUDA backend runs on the host (tests/cuda/fake_cuda.h): studies of several jobs are computed together and
get what they get alone, a GPU that fails takes one worker with it and no job, one that is full fails one job, and the metrics tell."""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

import pytest

import bad_input
import bundles
import daemon as daemons
import fhir_server

EMULATED = bundles.PROGRAM.parent / "medfusion-emulated"
OPTIONS = {"worker.device": "cuda:0", "worker.batch": 4, "worker.batch_wait_ms": 1000, "worker.threads": 1}


class Emulated(daemons.Daemon):
    def start(self):
        program, bundles.PROGRAM = bundles.PROGRAM, EMULATED
        try:
            return super().start()
        finally:
            bundles.PROGRAM = program

    def metric(self, name, **labels):
        for line in self.get("/metrics").text.splitlines():
            match = re.fullmatch(name + r"\{(.*)\} (\S+)", line)
            if match and all(f'{key}="{value}"' in match[1] for key, value in labels.items()):
                return float(match[2])
        return None

    def fail(self, number, stays=False):
        """The next wait for the GPU ends with this error of CUDA (-1: it does not end); `stays`: every one does until the file is gone."""
        new = self.failure.with_suffix(".new")
        new.write_text(f"{number}{' stays' if stays else ''}\n")
        new.rename(self.failure)

    def ready(self):
        return self.get("/v2/health/ready").status_code


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    if not EMULATED.exists():
        pytest.skip("this build has no emulated GPU")
    directory = tmp_path_factory.mktemp("gpu")
    sequence = json.loads((bundles.GOLDEN / "bundle.json").read_text())["sequence"]
    accepts = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
    for version in ("1.0.0", "2.0.0"):  # few frames, because all counts are rehearsed
        bundles.make_bundle(directory / version, version=version, accepts=accepts, sequence=sequence | {"max_frames": 4})
    bundle = directory / "current"
    bundle.symlink_to(directory / "1.0.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_CUDA_FAIL", str(directory / "fail"))
        running = Emulated(directory / "daemon", bundle, **OPTIONS)
        running.failure = directory / "fail"
        running.start()
    yield running
    assert running.stop() == 0


def result(running, location):
    assert running.wait(location, 120)["state"] == "succeeded"
    return running.get(location + "/result").json()


def numbers(document):
    return [p["logit"] for p in document["predictions"]], [f["segmentation"] for f in document["study"]["frames"]]


def test_jobs_that_come_together_are_computed_together_and_get_what_they_get_alone(gpu):
    studies = daemons.sample()[:3]
    alone = [numbers(result(gpu, gpu.post([study]).headers["Location"])) for study in studies]
    before = gpu.metric("medfusion_worker_batches_total"), gpu.metric("medfusion_worker_studies_total")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda study: gpu.post([study]), studies))
    together = [result(gpu, answer.headers["Location"]) for answer in answers]
    assert [numbers(document) for document in together] == alone
    assert {document["model"]["device"] for document in together} == {"cuda:0"}
    batches, computed = gpu.metric("medfusion_worker_batches_total") - before[0], gpu.metric("medfusion_worker_studies_total") - before[1]
    assert computed == 3 and 1 <= batches <= 3
    assert gpu.metric("medfusion_worker_batch_limit", device="cuda:0") == 4
    assert gpu.metric("medfusion_worker_computing_seconds_total") > 0
    assert 0 < gpu.metric("medfusion_gpu_memory_bytes", kind="models") < gpu.metric("medfusion_gpu_memory_bytes", kind="total")


def test_an_explanation_is_computed_beside_others(gpu):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda options: gpu.post(daemons.sample()[:1], options=options), ('{"explain": true}', "{}")))
    first, second = (result(gpu, answer.headers["Location"]) for answer in answers)
    assert numbers(first) == numbers(second)
    assert gpu.get(answers[0].headers["Location"] + "/artifacts/explanation").status_code == 200


def test_a_gpu_without_memory_fails_or_tries_again_and_goes_on(gpu):
    gpu.fail(2)  # with fewer frames together it works
    assert gpu.wait(gpu.post([bad_input.NEWEST.read_bytes()]).headers["Location"], 120)["state"] == "succeeded"
    assert not gpu.failure.exists()
    assert len(gpu.pids("mf-worker")) == 1 and "worker.device_failed" not in gpu.log()


def test_a_gpu_that_fails_ends_its_worker_and_no_job(gpu):
    old = gpu.pids("mf-worker")
    gpu.fail(700)
    job = gpu.wait(gpu.post([bad_input.NEWEST.read_bytes()]).headers["Location"], 120)
    assert job["state"] == "succeeded" and job["attempts"] == 2
    assert gpu.pids("mf-worker") != old
    assert "GPU 0 failed while computing: an illegal memory access was encountered" in gpu.log()
    assert gpu.ready() == 200


def test_a_gpu_that_stays_broken_makes_the_service_unready_until_it_works_again(gpu):
    """Whoever asks is told the truth all the while, and the job is not lost."""
    gpu.fail(700, stays=True)
    location = gpu.post([bad_input.NEWEST.read_bytes()]).headers["Location"]
    assert fhir_server.wait_until(lambda: gpu.ready() == 503, 45), "the dead worker counts as ready until its announcement runs out"
    assert fhir_server.wait_until(lambda: gpu.log().count("process.died") >= 3, 120), "no worker was started again"
    assert gpu.ready() == 503 and gpu.get("/v2/health/live").status_code == 200
    assert gpu.get(location).json()["state"] in ("queued", "running")
    gpu.failure.unlink()
    assert gpu.wait(location, 120)["state"] == "succeeded"
    assert gpu.ready() == 200


def test_a_gpu_that_hangs_fails_one_job_and_ends_its_worker(tmp_path, monkeypatch):
    if not EMULATED.exists():
        pytest.skip("this build has no emulated GPU")
    monkeypatch.setenv("FAKE_CUDA_FAIL", str(tmp_path / "fail"))
    document = json.loads((bundles.GOLDEN / "bundle.json").read_text())
    accepts = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
    bundle = bundles.make_bundle(tmp_path / "model", accepts=accepts, sequence=document["sequence"] | {"max_frames": 1})
    running = Emulated(tmp_path / "daemon", bundle, **OPTIONS | {"worker.batch_wait_ms": 1, "worker.job_timeout_s": 15})
    running.failure = tmp_path / "fail"
    running.start()
    try:
        old = running.pids("mf-worker")
        running.fail(-1)
        job = running.wait(running.post([bad_input.NEWEST.read_bytes()]).headers["Location"], 120)
        assert job["state"] == "failed" and job["problem"]["detail"] == "the job took more than 15 seconds"
        assert '"worker.job_hangs"' in running.log()
        assert running.wait(running.post(daemons.sample()[:1]).headers["Location"], 120)["state"] == "succeeded"
        assert running.pids("mf-worker") != old and running.ready() == 200
    finally:
        assert running.stop() == 0


def test_another_model_loads_on_the_gpu_while_the_first_one_serves(gpu):
    """A reload: the next model's worker has loaded and rehearsed before the one that serves ends; jobs that come meanwhile are answered."""
    new = gpu.directory.parent / "new"
    new.symlink_to(gpu.directory.parent / "2.0.0")
    os.replace(new, gpu.directory.parent / "current")
    command = [str(EMULATED), "reload", str(gpu.directory / "data")]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reload = pool.submit(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
        locations = [gpu.post(daemons.sample()[:1]).headers["Location"]]
        while not reload.done():
            locations.append(gpu.post(daemons.sample()[:1]).headers["Location"])
            gpu.wait(locations[-1], 120)
    assert reload.result().returncode == 0, reload.result().stderr
    locations.append(gpu.post(daemons.sample()[:1]).headers["Location"])
    versions = [result(gpu, location)["model"]["version"] for location in locations]
    assert versions[-1] == "2.0.0" and versions == sorted(versions)
    assert gpu.metric("medfusion_gpu_memory_bytes", kind="models") > 0


def test_workers_take_the_gpus_that_are_named_by_turns(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    if not EMULATED.exists():
        pytest.skip("this build has no emulated GPU")
    sequence = json.loads((bundles.GOLDEN / "bundle.json").read_text())["sequence"]
    accepts = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
    bundle = bundles.make_bundle(tmp_path / "model", accepts=accepts, sequence=sequence | {"max_frames": 2})
    running = Emulated(tmp_path / "daemon", bundle, **OPTIONS | {"worker.device": "cuda:1,cuda:0", "worker.count": 2})
    running.start()
    try:
        assert fhir_server.wait_until(lambda: all(running.metric("medfusion_worker_batch_limit", device=f"cuda:{n}") == 4 for n in range(2)), 120)
        assert len(running.pids("mf-worker")) == 2
        answers = [result(running, running.post([study]).headers["Location"]) for study in daemons.sample()[:2]]
        assert {document["model"]["device"] for document in answers} <= {"cuda:0", "cuda:1"}
    finally:
        assert running.stop() == 0


def test_jpeg_2000_is_measured_without_the_library_too(tmp_path):
    """tests/cuda/jpeg2000.py says what is missing, and measures the rest."""
    command = [sys.executable, str(bundles.ROOT / "tests/cuda/jpeg2000.py"), "--side", "64", "--rounds", "2"]
    missing = str(tmp_path / "libnvjpeg2k.so")
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NVJPEG2K_LIBRARY": missing})
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["cpu_equal"] and row["cpu_ms"] > 0 and "gpu_ms" not in row and "pays" not in row
    assert row["none"].startswith(f"{missing} cannot be loaded: ")
    wrong = subprocess.run([*command, "--rounds", "0"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "--rounds at least 1" in wrong.stderr


def test_kernels_and_numbers_are_chosen_by_name(tmp_path):
    if not EMULATED.exists():
        pytest.skip("this build has no emulated GPU")
    bundles.make_bundle(tmp_path / "bundle")

    def bench(*options):
        command = [str(EMULATED), "bench", "--model", str(tmp_path / "bundle"), "--threads", "1", "--runs", "1", "--frames", "1", "--size", "64", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    wrong = bench("--device", "cuda:0", "--kernels", "fast")
    assert wrong.returncode == 2 and 'kernels "fast" are not known: auto, own and cudnn are' in wrong.stderr
    wrong = bench("--device", "cpu", "--kernels", "cudnn")
    assert wrong.returncode == 1 and 'kernels "cudnn" need a GPU, this is device cpu' in wrong.stderr
    wrong = bench("--device", "cuda:0", "--dtype", "fp8")
    assert wrong.returncode == 1 and 'dtype "fp8" needs a bundle whose layers\' inputs were observed' in wrong.stderr
    wrong = bench("--device", "cpu", "--dtype", "fp8")
    assert wrong.returncode == 1 and 'dtype "fp8" is not available on cpu: f32, bf16 and int8 are' in wrong.stderr
    own = bench("--device", "cpu", "--kernels", "own", "--json")
    assert own.returncode == 0 and json.loads(own.stdout)["kernels"] == "", own.stderr


def test_the_measurements_on_a_gpu_run_as_far_as_they_can_without_one(tmp_path):
    """tests/run-gpu with the emulated GPU; what wants PyTorch is skipped where there is none (CI)."""
    if not (EMULATED.parent / "tests/cuda/bench_emulated").exists():
        pytest.skip("this build has no emulated GPU")
    command = [sys.executable, str(bundles.ROOT / "tests/run-gpu"), "--dry-run", "--build", str(EMULATED.parent), "--out", str(tmp_path), "--seed", "3"]
    wrong = subprocess.run([*command, "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "steps are build ops goldens" in wrong.stderr
    done = subprocess.run([*command, "build", "ops"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("9 of 9 checks passed, seed 3, ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [check["status"] for check in report["checks"]] == [0] * 9 and report["seed"] == 3


def test_a_measurement_that_hangs_leaves_the_others_their_time_and_the_table(tmp_path):
    """Programs in the places of the real ones: one hangs with a child of its own, one fails, one is not there, the rest are well."""
    programs = tmp_path / "build" / "tests" / "cuda"
    programs.mkdir(parents=True)
    for name in ("ops", "layers", "conv", "frames", "masks", "head", "fp8", "batch"):  # attention could not be built
        body = {"conv": f"sleep 600 & echo $! >{tmp_path}/child; wait", "ops": "echo what it says; exit 3"}.get(name, "exit 0")
        (programs / f"test_cuda_{name}").write_text(f"#!/bin/sh\n{body}\n")
        (programs / f"test_cuda_{name}").chmod(0o755)
    command = [sys.executable, str(bundles.ROOT / "tests/run-gpu"), "--dry-run", "--build", str(tmp_path / "build"), "--out", str(tmp_path / "out"), "--minutes", "0.1"]
    done = subprocess.run([*command, "ops"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "    | what it says" in done.stdout
    checks = {check["name"]: check["status"] for check in json.loads((tmp_path / "out" / "report.json").read_text())["checks"]}
    assert len(checks) == 9 and checks["operations against the CPU backend"] == 3
    assert checks["attention against the CPU backend"] == "not built" and checks["layers against the CPU backend"] == 0
    assert checks["convolutions against the CPU backend"].startswith("more than ") and set(list(checks.values())[4:]) == {"no time left"}
    assert " of 9 checks passed" in done.stdout.splitlines()[-1]
    assert fhir_server.wait_until(lambda: not os.path.exists(f"/proc/{(tmp_path / 'child').read_text().strip()}"))


def test_a_measurement_that_cannot_be_ended_ends_with_its_run(tmp_path):
    """What hangs in a library of this very process, as a product on a broken card may."""
    code = """
import argparse, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import gpu_report
r = gpu_report.Report(argparse.Namespace(seed=5, minutes=0.02 - gpu_report.GRACE_MINUTES, dry_run=True, out=pathlib.Path(sys.argv[2])))
r.begin("bench")
r.data["bench"].append({"case": "known so far", "ours": {"median_ms": 1.5}, "gflop": None})
time.sleep(600)
"""
    done = subprocess.run([sys.executable, "-c", code, str(bundles.ROOT / "tests/cuda"), str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "known so far                      1.500" in done.stdout and "FAIL  bench (the whole run)" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 of 1 checks passed, seed 5, ")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bench"][0]["case"] == "known so far" and report["checks"][0]["status"].startswith("not over after ")
