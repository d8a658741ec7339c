"""`medfusion module run` on the golden networks: what a user gets equals what PyTorch gave."""
import json
import struct
import subprocess

import numpy as np
import pytest

import bundles

MODULES = sorted((bundles.ROOT / "tests/golden/modules").iterdir())
TYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "u1"}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in about["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], TYPES[about["dtype"]]).reshape(about["shape"])
    return tensors


def run(*arguments):
    return subprocess.run(
        [str(bundles.PROGRAM), "module", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.name)
def test_a_network_alone_equals_the_reference(module, tmp_path):
    case = sorted((module / "cases").iterdir())[0]
    out = tmp_path / "out.safetensors"
    done = run("run", module, "--input", case / "input.safetensors", "--output", out)
    assert (done.returncode, done.stderr) == (0, "")
    found, expected = read_safetensors(out), read_safetensors(case / "expected.safetensors")
    common = sorted(set(found) & set(expected))
    assert common
    for name in common:
        scale = max(np.abs(expected[name]).max(), 1e-30)
        assert np.abs(found[name].astype(float) - expected[name]).max() / scale <= 1e-4, name


def test_mistakes_are_named(tmp_path):
    module = bundles.ROOT / "tests/golden/modules/dinov2"
    out = tmp_path / "out.safetensors"
    assert run("run", module).returncode == 2
    done = run("run", module, "--input", tmp_path / "absent", "--output", out)
    assert done.returncode == 1 and str(tmp_path / "absent") in done.stderr
    wrong = tmp_path / "wrong"
    wrong.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    done = run("run", module, "--input", wrong, "--output", out)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert not out.exists()
    done = run("run", module, "--input", wrong, "--output", out, "--dtype", "int3")
    assert done.returncode in (1, 2) and "int3" in done.stderr
