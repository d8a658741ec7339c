#!/usr/bin/env python3
"""Whether nvJPEG2000 would pay: a lossless 16-bit radiograph (JPEG 2000, reversible 5/3: what DICOM archives hold) decoded on the card by nvJPEG2000 and on one core
by OpenJPEG, which is MedFusion's decoder too (here in Pillow's build), with what is left of the way to the card.

    tests/cuda/jpeg2000.py [--side 2048] [--rounds 20]      prints one line of JSON; tests/run-gpu's step `decode` takes it into its table

nvJPEG2000 is no part of MedFusion. It is looked for when this runs: the file that NVJPEG2K_LIBRARY names, a Python package (nvidia-nvjpeg2k-cu12 or -cu13), the loader's
path. Without it, or without a card, only the CPU is measured and "none" says what is missing.
It pays if gpu_ms < cpu_ms + copy_ms for one frame, and a server whose decoders already keep every core busy gains as many times more; the figures decide, none are assumed.
"""
import argparse
import ctypes
import ctypes.util
import io
import json
import os
import pathlib
import statistics
import sys
import time

import numpy
from PIL import Image

UINT16 = 1  # nvjpeg2kImageType_t


class NvImage(ctypes.Structure):
    """nvjpeg2kImage_t"""

    _fields_ = [("pixel_data", ctypes.POINTER(ctypes.c_void_p)), ("pitch_in_bytes", ctypes.POINTER(ctypes.c_size_t)), ("pixel_type", ctypes.c_int), ("num_components", ctypes.c_uint32)]


def library():
    """nvJPEG2000 as it is found, or None and why."""
    named = os.environ.get("NVJPEG2K_LIBRARY")
    places = [named] if named else [str(path) for entry in sys.path if entry for path in sorted(pathlib.Path(entry).glob("nvidia/*/lib/libnvjpeg2k.so*"))]
    places += [] if named else filter(None, [ctypes.util.find_library("nvjpeg2k")])
    for place in places:
        try:
            return ctypes.CDLL(place), None
        except OSError as why:
            if named:
                return None, f"{named} cannot be loaded: {why}"
    return None, "nvJPEG2000 is not installed (pip install nvidia-nvjpeg2k-cu13, or NVJPEG2K_LIBRARY=FILE)"


class Decoder:
    """nvJPEG2000 on the current card; frames of one component of 16 bits."""

    def __init__(self, lib):
        self.lib, self.handle, self.state, self.stream = lib, *(ctypes.c_void_p() for _ in range(3))
        self.call("nvjpeg2kCreateSimple", ctypes.byref(self.handle))
        self.call("nvjpeg2kDecodeStateCreate", self.handle, ctypes.byref(self.state))
        self.call("nvjpeg2kStreamCreate", ctypes.byref(self.stream))

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: status {status}")

    def decode(self, data, pointer, pitch):
        """Into device memory, on the default stream."""
        pixels, pitches = (ctypes.c_void_p * 1)(pointer), (ctypes.c_size_t * 1)(pitch)
        image = NvImage(pixels, pitches, UINT16, 1)
        self.call("nvjpeg2kStreamParse", self.handle, data, ctypes.c_size_t(len(data)), 0, 0, self.stream)
        self.call("nvjpeg2kDecode", self.handle, self.state, self.stream, ctypes.byref(image), None)


def radiograph(side):
    """Smooth anatomy, fine noise, 16 bits; and its lossless codestream."""
    draw = numpy.random.default_rng(1)
    coarse = Image.fromarray(draw.random((side // 16, side // 16), dtype=numpy.float32)).resize((side, side), Image.Resampling.BICUBIC)
    image = (numpy.clip(numpy.asarray(coarse), 0, 1) * 50000 + draw.integers(0, 200, (side, side))).astype(numpy.uint16)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    return image, stream.getvalue()


def milliseconds(call, rounds):
    times = []
    for _ in range(rounds + 1):
        begin = time.monotonic()
        call()
        times.append(1e3 * (time.monotonic() - begin))
    return statistics.median(times[1:])


def on_card(data, image, rounds, torch):
    """What the card adds to the row."""
    lib, why = library()
    if lib is None:
        return {"none": why}
    if torch is None or not torch.cuda.is_available():
        return {"none": "no card, or no PyTorch to reach it"}
    decoder, out = Decoder(lib), torch.empty(image.shape, dtype=torch.int16, device="cuda")
    host = torch.from_numpy(image.view(numpy.int16)).pin_memory()

    def decode():
        decoder.decode(data, out.data_ptr(), 2 * image.shape[1])
        torch.cuda.synchronize()

    def copy():
        out.copy_(host, non_blocking=True)
        torch.cuda.synchronize()

    row = {"gpu_ms": milliseconds(decode, rounds)}
    row["equal"] = bool((out.cpu().numpy().view(numpy.uint16) == image).all())
    row["copy_ms"] = milliseconds(copy, rounds)
    return row


def measure(side, rounds, torch=None):
    image, data = radiograph(side)
    decoded = numpy.asarray(Image.open(io.BytesIO(data)))
    row = {"side": side, "bytes": len(data), "cpu_equal": bool((decoded == image).all())}
    row["cpu_ms"] = milliseconds(lambda: Image.open(io.BytesIO(data)).load(), rounds)
    row.update(on_card(data, image, rounds, torch))
    if "gpu_ms" in row:
        row["pays"] = row["equal"] and row["gpu_ms"] < row["cpu_ms"] + row["copy_ms"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=20)
    a = parser.parse_args()
    if a.side < 64 or a.rounds < 1:
        parser.error("--side is at least 64, --rounds at least 1")
    try:
        import torch
    except ImportError:
        torch = None
    print(json.dumps(measure(a.side, a.rounds, torch)))


if __name__ == "__main__":
    main()
