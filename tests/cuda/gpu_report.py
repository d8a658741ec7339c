"""What tests/run-gpu has found so far, and how it runs programs: each within its step's share of the time, all of a program's processes ended with it, everything
kept in report.json as soon as it is known. When the whole run is out of time, whatever hangs, the table is printed and the run ends."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBS = ROOT / "build" / "gpu-libs"
GRACE_MINUTES = 1  # from where nothing begins any more to the end
# Seconds that a step may take at most: one that hangs leaves time for the others. The estimates for an H100 with 16 cores are in tests/bench/RESULTS.md.
SHARES = {"build": 150, "ops": 75, "goldens": 45, "parity": 60, "sanitize": 75, "bench": 200, "kernels": 30, "decode": 30}


def python_folder(header, *folders):
    """Where a Python package has a library of NVIDIA's, for a toolkit without it; or None."""
    found = (pathlib.Path(entry) / folder for entry in sys.path for folder in folders)
    return next((folder for folder in found if (folder / "include" / header).exists()), None)


class Report:
    def __init__(self, a):
        self.a, self.start, self.step, self.step_end = a, time.monotonic(), None, None
        self.lock, self.groups = threading.RLock(), set()
        self.data = {"seed": a.seed, "checks": [], "parity": [], "bench": []}
        self.env = dict(os.environ, MF_TEST_SEED=str(a.seed), MF_TEST_NEEDS_GPU="1")
        self.device = "cpu" if a.dry_run else "cuda"
        a.out.mkdir(parents=True, exist_ok=True)
        self.find_libraries()
        timer = threading.Timer(60 * (a.minutes + GRACE_MINUTES), self.give_up)
        timer.daemon = True
        timer.start()

    def find_libraries(self):
        if (ROOT / "build" / "gpu-libs.tar.xz").exists() and not LIBS.exists():
            with tarfile.open(ROOT / "build" / "gpu-libs.tar.xz") as archive:
                archive.extractall(LIBS, **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}))  # before Python 3.12 there may be none
        # cuDNN is looked for when a program runs, and NVRTC by cuDNN, whose fused kernels it compiles
        wanted = (("nvrtc.h", "nvidia/cu13", "nvidia/cuda_nvrtc"), ("cudnn_graph.h", "nvidia/cudnn"))
        for folder in filter(None, (python_folder(*names) for names in wanted)):
            self.env["LD_LIBRARY_PATH"] = os.pathsep.join([str(folder / "lib"), *filter(None, [self.env.get("LD_LIBRARY_PATH")])])
        if LIBS.exists():
            for name, folder in (("CPATH", "include"), ("LIBRARY_PATH", "lib"), ("LD_LIBRARY_PATH", "lib"), ("CMAKE_PREFIX_PATH", "")):
                self.env[name] = os.pathsep.join([str(LIBS / folder), *filter(None, [self.env.get(name)])])

    def begin(self, step):
        self.step = step
        self.step_end = time.monotonic() + (1e9 if self.a.dry_run else SHARES[step])

    def minutes(self):
        return (time.monotonic() - self.start) / 60

    def left(self):
        """Seconds in which this step may begin something."""
        return min(self.step_end, self.start + 60 * self.a.minutes) - time.monotonic()

    def run(self, command, limit, **options):
        """As subprocess.run with a limit that the step's share may shorten; what it started ends with it. OSError, TimeoutExpired."""
        limit = min(limit, max(self.left(), 0) + 5)
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **options) as child:
            with self.lock:
                self.groups.add(child.pid)
            try:
                out, err = child.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                self.kill(child.pid)
                raise
            finally:
                with self.lock:
                    self.groups.discard(child.pid)
            return subprocess.CompletedProcess(command, child.returncode, out, err)

    def missing(self, command):
        """Whether a program of the build that a command wants is not there."""
        programs = self.a.build / "tests" / "cuda"
        return any(pathlib.Path(part).parent == programs and not pathlib.Path(part).exists() for part in command)

    def output(self, command, limit):
        """What a program printed; RuntimeError with its own words when it fails or takes too long."""
        if self.missing(command):
            raise RuntimeError("not built")
        try:
            done = self.run(command, limit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)
        except subprocess.TimeoutExpired as why:
            raise RuntimeError(f"more than {why.timeout:.0f} s") from None
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"status {done.returncode}")
        return done.stdout

    @staticmethod
    def kill(group):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def check(self, name, command, limit=300, **env):
        """One counted check; its output goes to a log. True when it passed."""
        if self.missing(command):
            self.note(name, "not built")
            return False
        begin = time.monotonic()
        log = self.a.out / ("".join(c if c.isalnum() else "_" for c in name) + ".log")
        with open(log, "w") as out:
            try:
                status = self.run(command, limit, stdout=out, stderr=out, env={**self.env, **env}).returncode if self.left() > 0 else "no time left"
            except subprocess.TimeoutExpired as why:
                status = f"more than {why.timeout:.0f} s"
            except OSError as why:
                status = str(why)
        self.note(name, status, time.monotonic() - begin, log)
        return status == 0

    def note(self, name, status, seconds=0.0, log=None):
        """Counts a check; 0 is a success."""
        with self.lock:
            self.data["checks"].append({"name": name, "status": status, "seconds": round(seconds, 1)})
            print(f"{'ok  ' if status == 0 else 'FAIL'}  {name:<44} {seconds:6.1f} s{'' if status == 0 else f'   {status}' + (f', {log}' if log else '')}", flush=True)
            if status != 0 and log:
                print("".join(f"    | {line}" for line in open(log, errors="replace").readlines()[-25:]), flush=True)
            self.save()

    def save(self):
        with self.lock:
            self.data["minutes"] = round(self.minutes(), 2)
            part = self.a.out / "report.part"
            part.write_text(json.dumps(self.data, indent=1) + "\n")
            part.rename(self.a.out / "report.json")

    def give_up(self):
        """Out of time: ends what runs, tells what is known, and ends the process, which may hang in a library."""
        with self.lock:
            for group in self.groups:
                self.kill(group)
            self.note(f"{self.step} (the whole run)", f"not over after {self.minutes():.1f} minutes", 60 * self.minutes())
            try:
                table(self)
            finally:
                sys.stdout.flush()
                os._exit(1)


def number(value, form="{:.3f}"):
    return form.format(value) if value else "-"


def table_networks(r):
    card = r.data.get("card") or {}
    if not r.data["bench"]:
        return
    if card.get("tflops"):
        print(f"\n{card['name']}, PyTorch {card['torch']}; ceilings: {card['tflops']:.0f} TFLOP/s bfloat16, copy {card['copy_gbs']:.0f} GB/s\n")
    print(f"{'case, bf16, median ms':<30}{'ours':>9}{'eager':>9}{'compiled':>10}{'TFLOP/s':>9}{'of ceiling':>12}{'work MB':>9}{'own':>9}{'cuDNN':>9}{'fp8':>9}")
    for row in r.data["bench"]:
        ours = row["ours"].get("median_ms")
        rate = row["gflop"] / ours if ours and row["gflop"] else None
        print(f"{row['case']:<30}{number(ours):>9}{number(row.get('eager_ms')):>9}{number(row.get('compiled_ms')):>10}{number(rate, '{:.0f}'):>9}"
              f"{number(rate and card.get('tflops') and rate / card['tflops'], '{:.0%}'):>12}{number(row['ours'].get('work_bytes', 0) / 2**20, '{:.0f}'):>9}"
              + "".join(f"{number(row.get(kind, {}).get('median_ms')):>9}" for kind in ("own", "cudnn", "fp8"))
              + "".join(f"   {kind}: {row[kind]['none']}" for kind in ("ours", "own", "cudnn", "fp8") if "none" in row.get(kind, {})))


def table_kernels(r):
    copy = (r.data.get("card") or {}).get("copy_gbs")
    print(f"\n{'own kernels, ms':<30}{'ours':>9}{'eager':>9}{'compiled':>10}{'GB/s':>9}{'of copy':>12}")
    for name, row in r.data["kernels"].items():
        rate, form = row["bytes"] / row["ms"] / 1e6, "{:.4f}"
        print(f"{name:<30}{number(row['ms'], form):>9}{number(row.get('eager_ms'), form):>9}{number(row.get('compiled_ms'), form):>10}"
              f"{rate:>9.0f}{number(copy and rate / copy, '{:.0%}'):>12}")


def table_decoders(r):
    deep, decode = r.data.get("decode_2000", {}), r.data.get("decode", {})
    if "pays" in deep:
        print(f"\nJPEG 2000 {deep['side']}², 16 bits: OpenJPEG {deep['cpu_ms']:.2f} ms and copy {deep['copy_ms']:.2f} ms, nvJPEG2000 {deep['gpu_ms']:.2f} ms: "
              f"{'pays' if deep['pays'] else 'does not pay'}")
    elif deep:
        print(f"\nJPEG 2000 {deep['side']}², 16 bits: OpenJPEG {deep['cpu_ms']:.2f} ms; nvJPEG2000 not measured: {deep['none']}")
    if "pays" in decode:
        print(f"\nJPEG baseline {decode['side']}²: CPU {decode['cpu_ms']:.2f} ms and copy {decode['copy_ms']:.2f} ms, nvJPEG {decode['gpu_ms']:.2f} ms: "
              f"{'pays' if decode['pays'] else 'does not pay'}, for 8-bit baseline images")


def table(r):
    """The short table; the exit status."""
    table_networks(r)
    if "kernels" in r.data:
        table_kernels(r)
    table_decoders(r)
    failed = [c["name"] for c in r.data["checks"] if c["status"] != 0] + [f"parity {p['network']} {p['dtype']}" for p in r.data["parity"] if not p["ok"]]
    counted = len(r.data["checks"]) + len(r.data["parity"])
    print(f"\n{counted - len(failed)} of {counted} checks passed, seed {r.a.seed}, {r.minutes():.1f} minutes{': failed ' + ', '.join(failed) if failed else ''}")
    return 1 if failed or not counted else 0
