#!/usr/bin/env python3
"""Our engine beside ONNX Runtime, OpenVINO and PyTorch (eager, compiled), and beside its matrix products alone (oneDNN).

Same machine, weights, input size, threads; every side runs in a process of its own, sides take turns in rounds, each reports its
times of N runs. The table gives the minimum and median over all rounds, our ratio to the best peer and to the products.

    tests/bench/engine.py [--cases A,B] [--dtypes f32,bf16,int8] [--threads 1,2] [--rounds N] [--seconds S] [--bench PATH]
    tests/bench/engine.py --accuracy      cosine and largest relative difference to PyTorch in fp32
    tests/bench/engine.py --sequence      Mamba against a Transformer of the same width, 17 … 8,704 tokens, with sequence.svg

Needs build/venv-bench with tests/bench/requirements-engine.txt, and bench_engine of a build with tests (--bench). int8 of the peers:
dynamic quantisation (PyTorch, ONNX Runtime); OpenVINO has none without a calibration tool of its own.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "build" / "bench-models"
CASES = {  # name: directory, --size or --length
    "vit-s/14 224": ("vits", 224), "vit-s/14 518": ("vits", 518), "vit-b/14 224": ("vitb", 224), "vit-b/14 518": ("vitb", 518),
    "sam2.1-t encoder 512": ("sam2t512", 512), "sam2.1-t encoder 1024": ("sam2t1024", 1024), "mamba 4 layers, 544": ("mamba", 544),
}
PEERS = ("torch", "compile", "onnxruntime", "openvino")


def make_model(name):
    """A network with random weights, as save_pretrained writes it."""
    import torch
    import transformers as hf
    torch.manual_seed(0)
    if name.startswith("vit"):
        d, heads = (384, 6) if name == "vits" else (768, 12)
        m = hf.Dinov2Model(hf.Dinov2Config(hidden_size=d, num_hidden_layers=12, num_attention_heads=heads, image_size=518, patch_size=14))
    elif name == "mamba":
        m = hf.MambaModel(hf.MambaConfig(hidden_size=768, num_hidden_layers=4, vocab_size=64))
    else:
        config = hf.Sam2Config()
        size = int(name[5:])
        config.vision_config.backbone_config.image_size = [size, size]
        config.vision_config.backbone_feature_sizes = [[size // 4] * 2, [size // 8] * 2, [size // 16] * 2]
        config.prompt_encoder_config.image_size = size
        m = hf.Sam2Model(config)
    for p in m.parameters():
        p.data.add_(torch.randn_like(p) * 0.01)
    m.eval().save_pretrained(MODELS / name)


def load(name, size):
    """The network as a function of one tensor, and its input."""
    import torch
    import transformers as hf
    if not (MODELS / name / "config.json").exists():
        make_model(name)
    torch.manual_seed(1)
    if name == "mamba":
        m = hf.MambaModel.from_pretrained(MODELS / name).eval()

        class Sequence(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = m

            def forward(self, x):
                return self.inner(inputs_embeds=x, use_cache=False).last_hidden_state
        return Sequence().eval(), torch.randn(1, size, 768)
    if name.startswith("vit"):
        m = hf.Dinov2Model.from_pretrained(MODELS / name).eval()

        class Image(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = m

            def forward(self, x):
                return self.inner(x).last_hidden_state
        return Image().eval(), torch.randn(1, 3, size, size)
    m = hf.Sam2Model.from_pretrained(MODELS / name).eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = m.vision_encoder

        def forward(self, x):
            return tuple(self.inner(x).fpn_hidden_states)
    return Encoder().eval(), torch.randn(1, 3, size, size)


def times(run, seconds):
    run()
    run()
    ms, start = [], time.perf_counter()
    while len(ms) < 3 or (time.perf_counter() - start < seconds and len(ms) < 100):
        t = time.perf_counter()
        run()
        ms.append((time.perf_counter() - t) * 1e3)
    return {"ms": ms}


def exported(name, size, module, x, quantised):
    import torch
    path = MODELS / f"{name}-{size}.onnx"
    if not path.exists():
        torch.onnx.export(module, (x,), path, input_names=["x"], dynamo=False, opset_version=17)
    if not quantised:
        return path
    small = MODELS / f"{name}-{size}-int8.onnx"
    if not small.exists():
        from onnxruntime.quantization import quantize_dynamic
        quantize_dynamic(path, small)
    return small


def peer(which, name, size, dtype, threads, seconds):
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    module, x = load(name, size)
    if which in ("torch", "compile"):
        if dtype == "bf16":
            module, x = module.to(torch.bfloat16), x.to(torch.bfloat16)
        if dtype == "int8":
            module = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear})
        if which == "compile":
            module = torch.compile(module)
        return times(lambda: module(x), seconds)
    if which == "onnxruntime":
        import onnxruntime as ort
        if dtype == "bf16":
            return None  # its CPU provider has no bf16 kernels
        o = ort.SessionOptions()
        o.intra_op_num_threads = threads
        s = ort.InferenceSession(exported(name, size, module, x, dtype == "int8"), o, providers=["CPUExecutionProvider"])
        feed = {"x": x.numpy()}
        return times(lambda: s.run(None, feed), seconds)
    import openvino as ov
    if dtype == "int8":
        return None
    c = ov.Core().compile_model(ov.Core().read_model(exported(name, size, module, x, False)), "CPU",
                                {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": "LATENCY"})
    r, feed = c.create_infer_request(), {0: x.numpy()}
    return times(lambda: r.infer(feed), seconds)


def ours(bench, verb, name, size, dtype, threads, seconds):
    option = "--length" if name == "mamba" else "--size"
    out = subprocess.run([bench, verb, str(MODELS / name), "--dtype", dtype, "--threads", str(threads), option, str(size),
                          "--seconds", str(seconds), "--runs", "100"], capture_output=True, text=True)
    if out.returncode:
        print(out.stderr.strip(), file=sys.stderr)
        return None
    r = json.loads(out.stdout)
    return {"ms": [r["min_ms"], r["median_ms"]]}


def side(a, which, name, size, dtype, threads):
    if which in ("ours", "products"):
        return ours(a.bench, "run" if which == "ours" else "products", name, size, dtype, threads, a.seconds)
    out = subprocess.run([sys.executable, __file__, "--one", json.dumps([which, name, size, dtype, threads, a.seconds])],
                         capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    lines = [line for line in out.stdout.splitlines() if line.startswith("{") or line == "null"]
    if not lines:
        print(f"{which} {name} {size} {dtype}: {out.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    return json.loads(lines[-1]) if lines else None


def compare(a):
    sides = ("ours", "products") + PEERS
    print("| network | dtype | threads | ours, ms (min / median) | products | " + " | ".join(PEERS) + " | to best peer | to products |")
    print("|---|---|--:|--:|--:|" + "--:|" * len(PEERS) + "--:|--:|")
    for dtype in a.dtypes.split(","):
        for case in a.cases.split(",") if a.cases else CASES:
            name, size = CASES[case] if case in CASES else next(v for k, v in CASES.items() if f"{v[0]}-{v[1]}" == case)
            if not (MODELS / name / "config.json").exists():
                make_model(name)
            for threads in map(int, a.threads.split(",")):
                got = {s: [] for s in sides}
                for _ in range(a.rounds):
                    for s in sides:
                        r = side(a, s, name, size, dtype, threads) if got[s] is not None else None
                        got[s] = None if r is None else got[s] + [r["ms"]]
                low = {s: min(min(r) for r in v) for s, v in got.items() if v}
                middle = {s: sorted(sorted(r)[len(r) // 2] for r in v)[len(v) // 2] for s, v in got.items() if v}
                best = min((low[s] for s in PEERS if s in low), default=None)
                cell = [f"{low[s]:.1f} / {middle[s]:.1f}" if s in low else "–" for s in sides]
                label = next(k for k, v in CASES.items() if v == (name, size))
                print(f"| {label} | {dtype} | {threads} | " + " | ".join(cell) +
                      f" | {low['ours'] / best:.2f} | {low['ours'] / low['products']:.2f} |" if best and "ours" in low else f"| {label} | {cell}",
                      flush=True)


def accuracy(a):
    """`module run` in every dtype against PyTorch in fp32 (SAM 2's outputs are compared by models/parity)."""
    import torch
    from safetensors.torch import load_file, save_file
    torch.set_grad_enabled(False)
    print("| network | dtype | cosine | max relative |\n|---|---|--:|--:|")
    for case, (name, size) in CASES.items():
        if name.startswith("sam2") or (a.cases and f"{name}-{size}" not in a.cases.split(",")):
            continue
        module, x = load(name, size)
        want = module(x).flatten().double()
        given, got = MODELS / "in.safetensors", MODELS / "out.safetensors"
        save_file({"inputs_embeds" if name == "mamba" else "pixel_values": x.contiguous()}, given)
        for dtype in a.dtypes.split(","):
            subprocess.run([a.medfusion, "module", "run", str(MODELS / name), "--input", given, "--output", got, "--dtype", dtype], check=True)
            y = load_file(got)["last_hidden_state"].flatten().double()
            print(f"| {case} | {dtype} | {float(torch.dot(y, want) / y.norm() / want.norm()):.6f} | "
                  f"{float((y - want).abs().max() / want.abs().max()):.1e} |", flush=True)


def make_sequence(name, d=768, layers=4):
    """Mamba or a Transformer of the same width and depth, in the layout of a bundle's temporal directory."""
    import torch
    from safetensors.torch import save_file
    if name == "mamba":
        return make_model(name)
    torch.manual_seed(0)
    shapes = {"encoder.norm.weight": (d,), "encoder.norm.bias": (d,)}
    for i in range(layers):
        at = f"encoder.layers.{i}."
        for part, out, width in (("attention.query", d, d), ("attention.key", d, d), ("attention.value", d, d), ("attention.output", d, d),
                                 ("mlp.fc1", 4 * d, d), ("mlp.fc2", d, 4 * d)):
            shapes[at + part + ".weight"] = (out, width)
            shapes[at + part + ".bias"] = (out,)
        for part in ("norm1", "norm2"):
            shapes[at + part + ".weight"] = shapes[at + part + ".bias"] = (d,)
    (MODELS / name).mkdir(parents=True, exist_ok=True)
    save_file({k: torch.randn(s) * 0.02 for k, s in shapes.items()}, MODELS / name / "model.safetensors")
    config = {"model_type": "transformer", "hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 12, "intermediate_size": 4 * d}
    (MODELS / name / "config.json").write_text(json.dumps(config))


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
    rows = []
    print("| tokens | Mamba, ms | Transformer, ms | Mamba, MiB of work | Transformer, MiB of work | Mamba's memory, weights included |")
    print("|--:|--:|--:|--:|--:|--:|")
    for name in ("mamba", "transformer"):
        if not (MODELS / name / "config.json").exists():
            make_sequence(name)
    for n in (17, 34, 68, 136, 272, 544, 1088, 2176, 4352, 8704):
        got = []
        for name in ("mamba", "transformer"):
            out = subprocess.run([a.bench, "run", str(MODELS / name), "--threads", a.threads.split(",")[-1], "--length", str(n), "--seconds", str(a.seconds),
                                  "--runs", "50"], capture_output=True, text=True, check=True)
            r = json.loads(out.stdout)
            got.append((r["min_ms"], r["work_bytes"] / 2**20, (r["work_bytes"] + r["weight_bytes"]) / 2**20))
        rows.append((n, *got))
        print(f"| {n} | {got[0][0]:.2f} | {got[1][0]:.2f} | {got[0][1]:.1f} | {got[1][1]:.1f} | {100 * (got[0][2] / got[1][2] - 1):+.0f} % |", flush=True)
    plot(rows)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cases", default="")
    p.add_argument("--dtypes", default="f32,bf16,int8")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--bench", default=str(ROOT / "build/release/tests/engine/bench_engine"))
    p.add_argument("--medfusion", default=str(ROOT / "build/release/medfusion"))
    p.add_argument("--accuracy", action="store_true")
    p.add_argument("--sequence", action="store_true")
    p.add_argument("--one")
    a = p.parse_args()
    MODELS.mkdir(parents=True, exist_ok=True)
    if a.one:
        print(json.dumps(peer(*json.loads(a.one))))
    elif a.accuracy:
        accuracy(a)
    elif a.sequence:
        sequence(a)
    else:
        compare(a)


main()
