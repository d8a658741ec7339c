#!/usr/bin/env python3
"""The same random weights in PyTorch and in the engine, for every family of networks.

    python models/parity                       small models, every family, as a table
    python models/parity --big                 the published sizes (16 GB, an hour of two cores)
    python models/parity --golden              writes tests/golden from the small models

Checking saves each model as its library does (`save_pretrained`; rtdl: a state dict), computes what
it says in float32, and runs `medfusion module run` on the same directory and inputs. The table has
max|a−b|, max|a−b| / max|reference| and cosine per output and dtype; the exit status is 1 when one
is out of its limits. Weights are random from fixed seeds and everything that starts at 0 or 1
(norms, gates, LayerScale, biases, BatchNorm statistics) is perturbed, so that a part that is left
out or swapped shows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))

from parity import (  # noqa: E402
    ehr,
    explanations,
    fusion,
    hiera,
    pipeline,
    preprocessing,
    sam2,
    sam2_video,
    sequence,
    vision,
)
from parity.sink import Check, Golden  # noqa: E402

MODULES = (vision, hiera, sam2, sam2_video, sequence, ehr, fusion)


def check(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        dtypes = options.dtype.split(",")
        sink = Check(Path(folder), options.only, options.program, dtypes, options.table)
        for module in MODULES:
            module.write_big(sink) if options.big else module.write(sink)
    print(sink.table())
    print(f"{len(sink.rows)} outputs compared, {len(sink.failures)} failures")
    for failure in sink.failures:
        print(failure, file=sys.stderr)
    return 1 if sink.failures or not sink.rows else 0


def golden(options: argparse.Namespace) -> int:
    sink = Golden(options.out or ROOT / "tests" / "golden", options.only)
    for module in (preprocessing, *MODULES, pipeline, explanations):
        module.write(sink)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big", action="store_true", help="the published sizes")
    parser.add_argument("--golden", action="store_true", help="write tests/golden")
    parser.add_argument("--only", help="only what has this in its name")
    parser.add_argument("--dtype", default="f32", help="f32, bf16, int8, or several with commas")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/medfusion")
    parser.add_argument("--out", type=Path, help="golden: where to; else: for temporary files")
    parser.add_argument("--table", type=Path, help="also keep the table in this file, from the first row on")
    options = parser.parse_args()
    torch.backends.mkldnn.enabled = not options.golden  # golden: the same on every processor
    if options.golden:
        torch.set_num_threads(1)
    return golden(options) if options.golden else check(options)


if __name__ == "__main__":
    sys.exit(main())
