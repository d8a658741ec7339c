#!/usr/bin/env python3
"""Our engine beside ONNX Runtime, OpenVINO and PyTorch (eager, compiled), and beside its matrix products alone (oneDNN).

Same machine, weights, input size, threads. Every side is a process of its own (peers: peer/runtimes.py), loaded and warmed up beforehand; in every round
each runs for some time, in turn. The table gives the minimum and median of all runs, our ratio to the best peer and to the products.

    tests/bench/engine.py [--cases A,B] [--dtypes f32,bf16,int8] [--threads 1,2] [--rounds N] [--seconds S] [--bench PATH]
    tests/bench/engine.py --table         the table of what has been measured
    tests/bench/engine.py --prepare       makes networks, exports and compiled code, so that rows are short
    tests/bench/engine.py --accuracy      cosine and largest relative difference to PyTorch in fp32
    tests/bench/engine.py --sequence      Mamba against a Transformer of the same width, 17 … 8,704 tokens, with sequence.svg

A row is kept in --results (build/bench-engine.jsonl) as soon as it is measured and is not measured again, unless with --again: a long run may be cut at any
time, or made of short ones (--minutes). Needs the Python of build/venv-bench with tests/bench/requirements-engine.txt (tests/bench/run makes it), and a build
with tests (--build).
"""
import argparse
import datetime
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = ROOT / "tests" / "bench" / "peer"
MODELS = ROOT / "build" / "bench-models"
CASES = {  # name: directory, --size or --length or frames
    "vit-s/14 224": ("vits", 224), "vit-s/14 518": ("vits", 518), "vit-b/14 224": ("vitb", 224), "vit-b/14 518": ("vitb", 518),
    "sam2.1-t encoder 512": ("sam2t512", 512), "sam2.1-t encoder 1024": ("sam2t1024", 1024), "mamba 4 layers, 544": ("mamba", 544),
    "study thorax-nih, 1 frame": ("thorax-nih", 1), "study thorax-nih, 32 frames": ("thorax-nih", 32),
    "study foundation, 1 frame": ("foundation", 1), "study foundation, 32 frames": ("foundation", 32),
}
STUDIES = ("thorax-nih", "foundation")
PEERS = ("torch", "compile", "onnxruntime", "openvino")
SIDES = ("ours", "products", *PEERS)
sys.path.insert(0, str(PEER))


class Missing(Exception):
    """A side has no such row; the message says why."""


class Peer:
    """A process of peer/runtimes.py."""

    def __init__(self, side):
        self.side, self.process = side, None

    def ask(self, request):
        if self.process is None:
            command = [sys.executable, str(PEER / "runtimes.py"), self.side]
            log = open(MODELS / f"{self.side}.log", "w")
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def answer(self, limit_s):
        ready, _, _ = select.select([self.process.stdout], [], [], limit_s)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise Missing("ended without an answer" if ready else f"was not ready in {limit_s} s")
        answer = json.loads(line)
        if "none" in answer:
            raise Missing(answer["none"])
        return answer

    def measure(self, seconds, realtime):
        pid = str(self.process.pid)
        if realtime:
            subprocess.run(["chrt", "-a", "-f", "-p", "10", pid], check=True)
        self.ask({"measure": seconds})
        ms = self.answer(900)["ms"]
        if realtime:
            subprocess.run(["chrt", "-a", "-o", "-p", "0", pid], check=True)
        return ms

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


def program_json(a, command):
    out = subprocess.run((["chrt", "-f", "10"] if a.realtime else []) + command, capture_output=True, text=True)
    if out.returncode:
        raise Missing((out.stderr.strip().splitlines() or ["failed"])[-1])
    return json.loads(out.stdout)


def ours(a, verb, name, size, dtype, threads):
    """ms of our runs (verb "run") or of oneDNN's products alone ("products")."""
    common = ["--dtype", dtype, "--threads", str(threads), "--seconds", str(a.seconds), "--runs", "100"]
    if name in STUDIES:
        if verb == "products":
            raise Missing("measured network by network only")
        folder = MODELS / name if name == "foundation" else ROOT / "models" / name
        stages = program_json(a, [f"{a.build}/medfusion", "bench", "--json", "--model", folder, "--frames", str(size), *common])["cases"][0]["stages"]
        return [stages["total"]["min_ms"], stages["total"]["median_ms"]]
    option = "--length" if name == "mamba" else "--size"
    return program_json(a, [f"{a.build}/tests/engine/bench_engine", verb, MODELS / name, option, str(size), *common])["ms"]


def measure_row(a, peers, name, size, dtype, threads, only_load):
    """What every side says: {"min", "median", "runs"} or {"none"}."""
    ms, none = {side: [] for side in ("ours", "products", *peers)}, {}
    for peer in peers.values():
        peer.ask({"load": [name, size, dtype, threads]})
    for side, peer in peers.items():
        try:
            peer.answer(a.load_limit)
        except Missing as why:
            none[side] = str(why)
    for _ in range(0 if only_load else a.rounds):
        for side in ms:
            if side in none:
                continue
            time.sleep(0.2)  # threads of the side before stop spinning
            try:
                verb = "run" if side == "ours" else side
                ms[side] += peers[side].measure(a.seconds, a.realtime) if side in peers else ours(a, verb, name, size, dtype, threads)
            except Missing as why:
                none[side] = str(why)
    found = {side: {"min": min(v), "median": statistics.median(v), "runs": len(v)} for side, v in ms.items() if v and side not in none}
    return {**found, **{side: {"none": why} for side, why in none.items()}}


def label_of(name, size):
    return next(label for label, case in CASES.items() if case == (name, size))


def read_rows(path):
    """The newest measurement of every row, in the table's order."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        rows[row["case"], row["dtype"], row["threads"]] = row
    order = list(CASES)
    return dict(sorted(rows.items(), key=lambda item: (order.index(item[0][0]), ["f32", "bf16", "int8"].index(item[0][1]), item[0][2])))


def wanted(a):
    for case, (name, size) in CASES.items():
        if a.cases and case not in a.cases.split(";") and f"{name}-{size}" not in a.cases.split(","):
            continue
        for dtype in a.dtypes.split(","):
            for threads in map(int, a.threads.split(",")):
                yield case, name, size, dtype, threads


def compare(a):
    import networks

    networks.MODELS.mkdir(parents=True, exist_ok=True)
    done, end = read_rows(a.results), time.monotonic() + 60 * a.minutes
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    peers = {side: Peer(side) for side in PEERS if side in a.peers.split(",")}
    for case, name, size, dtype, threads in wanted(a):
        if (case, dtype, threads) in done and not (a.again or a.prepare) or time.monotonic() > end:
            continue
        if name != "thorax-nih":
            networks.make(name)
        sides = measure_row(a, peers, name, size, dtype, threads, a.prepare)
        row = {"case": case, "dtype": dtype, "threads": threads, "commit": commit, "date": datetime.datetime.now().isoformat(timespec="seconds"),
               "load": round(os.getloadavg()[0], 1), "realtime": a.realtime, "sides": sides}
        if not a.prepare:
            with open(a.results, "a") as f:
                print(json.dumps(row), file=f)
        print(table_row(row) if not a.prepare else f"{case} {dtype} {threads}: {sides}", flush=True)
    for peer in peers.values():
        peer.stop()


def table_row(row):
    sides = row["sides"]
    low = {side: v["min"] for side, v in sides.items() if "min" in v}
    best = min((low[side] for side in PEERS if side in low), default=None)
    cells = [f"{sides[s]['min']:.4g} / {sides[s]['median']:.4g}" if s in low else "–" for s in SIDES]
    ratios = [f"{low['ours'] / other:.2f}" if other and "ours" in low else "–" for other in (best, low.get("products"))]
    return f"| {row['case']} | {row['dtype']} | {row['threads']} | " + " | ".join(cells + ratios) + " |"


def table(a):
    print("| network | dtype | threads | ours | products | torch | compile | onnxruntime | openvino | to best peer | to products |")
    print("|---|---|--:|" + "--:|" * (len(SIDES) + 2))
    rows, why = read_rows(a.results), {}
    for row in rows.values():
        print(table_row(row))
        for side, v in row["sides"].items():
            if "none" in v:
                why.setdefault((side, v["none"]), []).append(f"{row['case']} {row['dtype']}")
    for (side, reason), cases in why.items():
        print(f"- no {side}: {reason} ({', '.join(dict.fromkeys(cases))})")


def accuracy(a):
    """`module run` in every dtype against PyTorch in fp32 (SAM 2's outputs are compared by models/parity)."""
    import networks
    import torch
    from safetensors.torch import load_file, save_file
    torch.set_grad_enabled(False)
    print("| network | dtype | cosine | max relative |\n|---|---|--:|--:|")
    for case, (name, size) in CASES.items():
        if name.startswith("sam2") or name in STUDIES or (a.cases and f"{name}-{size}" not in a.cases.split(",")):
            continue
        module, x = networks.load(name, size)
        want = module(x).flatten().double()
        given, got = MODELS / "in.safetensors", MODELS / "out.safetensors"
        save_file({"inputs_embeds" if name == "mamba" else "pixel_values": x.contiguous()}, given)
        for dtype in a.dtypes.split(","):
            subprocess.run([a.medfusion, "module", "run", str(MODELS / name), "--input", given, "--output", got, "--dtype", dtype], check=True)
            y = load_file(got)["last_hidden_state"].flatten().double()
            print(f"| {case} | {dtype} | {float(torch.dot(y, want) / y.norm() / want.norm()):.6f} | "
                  f"{float((y - want).abs().max() / want.abs().max()):.1e} |", flush=True)


def plot(rows):
    """Time and work memory against tokens, both axes logarithmic, as a small SVG."""
    import math
    panels = [("ms of a run", 0), ("MiB of work memory", 1)]
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="640" height="260" font-family="sans-serif" font-size="11">']
    for p, (title, field) in enumerate(panels):
        left, right, top, bottom = 50 + 320 * p, 300 + 320 * p, 30, 215
        values = [v[field] for r in rows for v in r[1:]]
        low, high = math.log10(min(values)), math.log10(max(values))
        first, last = math.log10(rows[0][0]), math.log10(rows[-1][0])
        x = lambda n: left + (math.log10(n) - first) / (last - first) * (right - left)
        y = lambda v: bottom - (math.log10(v) - low) / (high - low) * (bottom - top)
        out.append(f'<text x="{left}" y="18">{title}</text><path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>')
        for n in (rows[0][0], 544, rows[-1][0]):
            out.append(f'<text x="{x(n):.0f}" y="{bottom + 15}" text-anchor="middle">{n}</text>')
        for v in (min(values), max(values)):
            out.append(f'<text x="{left - 4}" y="{y(v) + 4:.0f}" text-anchor="end">{v:.3g}</text>')
        for k, colour in ((1, "#06c"), (2, "#c30")):
            line = " ".join(f"{x(r[0]):.1f},{y(r[k][field]):.1f}" for r in rows)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    out.append('<text x="50" y="250" fill="#06c">Mamba</text><text x="110" y="250" fill="#c30">Transformer</text>'
               '<text x="300" y="250">tokens, both axes logarithmic</text></svg>')
    (ROOT / "tests/bench/sequence.svg").write_text("\n".join(out) + "\n")


def sequence(a):
    import networks

    rows = []
    print("| tokens | Mamba, ms | Transformer, ms | Mamba, MiB of work | Transformer, MiB of work | Mamba's memory, weights included |")
    print("|--:|--:|--:|--:|--:|--:|")
    for name in ("mamba", "transformer"):
        networks.make(name)
    for n in (17, 34, 68, 136, 272, 544, 1088, 2176, 4352, 8704):
        got = []
        for name in ("mamba", "transformer"):
            out = subprocess.run([f"{a.build}/tests/engine/bench_engine", "run", str(MODELS / name), "--threads", a.threads.split(",")[-1], "--length", str(n), "--seconds", str(a.seconds),
                                  "--runs", "50"], capture_output=True, text=True, check=True)
            r = json.loads(out.stdout)
            got.append((r["min_ms"], r["work_bytes"] / 2**20, (r["work_bytes"] + r["weight_bytes"]) / 2**20))
        rows.append((n, *got))
        print(f"| {n} | {got[0][0]:.2f} | {got[1][0]:.2f} | {got[0][1]:.1f} | {got[1][1]:.1f} | {100 * (got[0][2] / got[1][2] - 1):+.0f} % |", flush=True)
    plot(rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cases", default="", help="directory-size, as vitb-518, with commas; default: all")
    p.add_argument("--dtypes", default="f32,bf16,int8")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--peers", default=",".join(PEERS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1, help="of each side in each round, and 3 runs at least")
    p.add_argument("--minutes", type=float, default=1e6, help="begin no row after this time")
    p.add_argument("--load-limit", type=float, default=600, help="seconds that a peer may take to load, export or compile")
    p.add_argument("--results", type=pathlib.Path, default=ROOT / "build/bench-engine.jsonl")
    p.add_argument("--build", default=str(ROOT / "build/release"))
    p.add_argument("--realtime", action="store_true", help="each side runs ahead of all other work (chrt) while it is measured: for a shared machine")
    for flag in ("again", "prepare", "table", "accuracy", "sequence"):
        p.add_argument(f"--{flag}", action="store_true")
    a = p.parse_args()
    a.medfusion = f"{a.build}/medfusion"
    (accuracy if a.accuracy else sequence if a.sequence else table if a.table else compare)(a)


main()
