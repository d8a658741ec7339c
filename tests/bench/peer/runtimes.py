"""One peer of tests/bench/engine.py in a process of its own: PyTorch (eager, compiled), ONNX Runtime or OpenVINO.

    python runtimes.py torch|compile|onnxruntime|openvino

Each line of the standard input is a request, each answer a line of the standard output:
    {"load": [network, size, dtype, threads]}   → {"loaded": true} or {"none": "why"}
    {"measure": seconds}                        → {"ms": […]}, three runs at least
Networks are those of networks.py; `size` of "foundation" and "thorax-nih", the whole study, is the number of frames (study.py).

8 bits: PyTorch and ONNX Runtime quantise linear layers dynamically, as the engine does; OpenVINO quantises with its own tool (NNCF, calibrated, transformer
preset). bf16: PyTorch's own type, OpenVINO's precision hint; ONNX Runtime's CPU provider has none. Compiled means `torch.compile` with frozen weights.
"""

import json
import os
import pathlib
import sys
import time

import networks
import torch

STUDIES = ("foundation", "thorax-nih")


class Unavailable(Exception):
    """This peer has no such thing; the message says why."""


def quantised(module):
    return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear})


def in_torch(module, x, dtype):
    """module(x) in a dtype, eager."""
    if dtype == "bf16":
        module, x = module.to(torch.bfloat16), x.to(torch.bfloat16)
    if dtype == "int8":
        module = quantised(module)
    return lambda: module(x)


def in_compiled_torch(module, x, dtype):
    import torch._inductor.config

    if dtype == "int8":
        raise Unavailable("dynamically quantised modules do not compile")
    if x.dim() == 3 and x.shape[1] > 64:
        raise Unavailable("an unrolled loop over so many steps compiles for more than ten minutes")
    torch._inductor.config.freezing = True
    if dtype == "bf16":
        module, x = module.to(torch.bfloat16), x.to(torch.bfloat16)
    compiled = torch.compile(module)
    return lambda: compiled(x)


def onnx_file(key, module, x):
    path = networks.MODELS / f"{key}.onnx"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")  # two peers may export at once
        names = [f"x{i}" for i in range(len(x))]
        torch.onnx.export(module, x, part, input_names=names, dynamo=False, opset_version=17)
        part.rename(path)
    return path


def onnx_session(key, module, x, dtype, threads):
    """The exported module as a function of tensors."""
    import onnxruntime as ort

    if dtype == "bf16":
        raise Unavailable("its CPU provider has no bf16 kernels")
    path = onnx_file(key, module, x)
    if dtype == "int8":
        small = path.with_name(f"{key}-int8.onnx")
        if not small.exists():
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(path, small)
        path = small
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda *y: session.run(None, {f"x{i}": t.numpy() for i, t in enumerate(y)})


def openvino_model(key, module, x, dtype):
    import openvino as ov

    if dtype != "int8":
        return ov.Core().read_model(onnx_file(key, module, x))
    path = networks.MODELS / f"{key}-nncf.xml"
    if not path.exists():
        import nncf

        samples = [tuple((t + torch.randn_like(t) * 0.1 * (i > 0)).numpy() for t in x) for i in range(8)]
        data = nncf.Dataset(samples, lambda s: {i: a for i, a in enumerate(s)})
        model = ov.Core().read_model(onnx_file(key, module, x))
        ov.save_model(nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)), path)
    return ov.Core().read_model(path)


def openvino_session(key, module, x, dtype, threads):
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(openvino_model(key, module, x, dtype), "CPU", hints).create_infer_request()
    return lambda *y: list(request.infer({i: t.numpy() for i, t in enumerate(y)}).values())


SESSIONS = {"onnxruntime": onnx_session, "openvino": openvino_session}


def load(side, name, size, dtype, threads):
    """A function of no arguments that runs the network once."""
    torch.set_num_threads(threads)
    if name in STUDIES:
        import study

        return study.load(side, name, size, dtype, threads)
    module, x = networks.load(name, size)
    if side in SESSIONS:
        if dtype == "int8" and side == "openvino" and name == "mamba":
            raise Unavailable("an unrolled loop over so many steps is not quantised in reasonable time")
        run = SESSIONS[side](f"{name}-{size}", module, (x,), dtype, threads)
        return lambda: run(x)
    return (in_torch if side == "torch" else in_compiled_torch)(module, x, dtype)


def measure(run, seconds):
    ms, start = [], time.perf_counter()
    while len(ms) < 3 or (time.perf_counter() - start < seconds and len(ms) < 100):
        begin = time.perf_counter()
        run()
        ms.append((time.perf_counter() - begin) * 1e3)
        if ms[-1] > 20e3:
            break  # a study of many frames is measured once a round
    return ms


def main():
    side, run = sys.argv[1], None
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print what they like
    torch.set_grad_enabled(False)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                run = None
                run = load(side, *request["load"])
                run()
                run()
                answer = {"loaded": True}
            else:
                answer = {"ms": measure(run, request["measure"])}
        except Unavailable as why:
            answer = {"none": str(why)}
        except Exception as error:  # a peer that cannot is a result, too
            answer = {"none": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    main()
