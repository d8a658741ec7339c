"""All that a GPU machine needs to run tests/run-gpu, in one file: sources of the engine and its tests, goldens, and the C libraries of this Debian."""
import pathlib
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST = 64 * 10**6  # bytes that can be brought to a borrowed machine
PACKAGES = ("libjansson-dev", "libjansson4", "libssl-dev", "libssl3", "libcmocka-dev", "libcmocka0", "libdnnl-dev", "libdnnl2", "ocl-icd-libopencl1")
WANTED = ("libjansson", "libcrypto", "libcmocka", "libdnnl", "libOpenCL")
SOURCES = ("CMakeLists.txt", "cmake", "core", "engine", "models/medfusion", "models/parity", "models/thorax-nih/vision", "tests/CMakeLists.txt", "tests/run-gpu",
           "tests/expect.h", "tests/core", "tests/engine", "tests/cuda", "tests/golden", "tests/bench/engine.c", "tests/bench/peer")


def collect_libraries():
    listed = subprocess.run(["dpkg", "-L", *PACKAGES], capture_output=True, text=True, check=True).stdout.split("\n")
    target = ROOT / "build" / "gpu-libs.tar.xz"
    part = target.with_suffix(".part")
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(part, "w:xz", preset=6) as archive:
        for path in sorted({pathlib.Path(line) for line in listed if line}):
            if path.is_dir():
                continue
            parts = [p for p in path.parts if not p.endswith("-linux-gnu")]
            if "include" in parts:
                archive.add(path, pathlib.Path(*parts[parts.index("include"):]))
            elif path.name.startswith(WANTED) and ".so" in path.name:
                archive.add(path, pathlib.Path("lib") / path.name)
    part.rename(target)
    return target


def is_source(entry):
    return None if "__pycache__" in entry.name.split("/") else entry


def collect():
    """Writes both archives; 1 when what is to travel is too large."""
    libraries, target = collect_libraries(), ROOT / "build" / "gpu.tar.xz"
    part = target.with_suffix(".part")
    with tarfile.open(part, "w:xz", preset=1) as archive:
        for name in SOURCES:
            archive.add(ROOT / name, f"medfusion/{name}", filter=is_source)
        archive.add(libraries, "medfusion/build/gpu-libs.tar.xz")
    part.rename(target)
    for path in (libraries, target):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if target.stat().st_size > MOST:
        print(f"{target} is larger than {MOST // 10**6} MB", file=sys.stderr)
        return 1
    return 0
