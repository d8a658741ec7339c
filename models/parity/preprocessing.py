"""Preprocessing against models/medfusion/preprocess.py and segmenter.py: no weights."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from medfusion import preprocess
from medfusion.prompts import lung_boxes
from medfusion.segmenter import blur, dilate, fill_hull, largest_component, region_of

from .sink import Sink
from .tiny_bundle import frame
from .weights import generator


def write_prompts(sink: Sink, folder: Path, g: torch.Generator) -> None:
    """Boxes from Otsu's threshold; no expected boxes: nothing is found."""
    lungs = preprocess.resize(frame(90, 75, g), (96, 96))
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    air = torch.where(((x - 48) / 44.0) ** 2 + ((y - 48) / 40.0) ** 2 < 1, lungs, lungs * 0.05)
    joined = torch.where((y > 20) & (y < 24) & (x > 25) & (x < 70), 0.1, air)  # through the trachea
    noise = torch.rand(96, 96, generator=g)
    for case, image in {
        "lungs": lungs,
        "air": air,
        "joined": joined,
        "noise": noise,
        "flat": torch.full((96, 96), 0.5),
        "one-side": torch.where(x > 48, 0.9, air),
    }.items():
        boxes = lung_boxes(image)
        sink.case(
            folder, f"prompt-{case}", {"image": image}, {} if boxes is None else {"boxes": boxes}
        )


@torch.no_grad()
def write(sink: Sink) -> None:
    """Resizing, equalisation, hull, dilation, blur, region: no weights."""
    name = "preprocess"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    for rows, cols, size in (
        (40, 50, (20, 20)),
        (37, 53, (64, 48)),
        (100, 31, (14, 90)),
        (64, 64, (64, 64)),
    ):
        image = frame(rows, cols, g)
        sink.case(
            folder,
            f"resize-{rows}x{cols}-{size[0]}x{size[1]}",
            {"image": image, "size": torch.tensor(size)},
            {"image": preprocess.resize(image, size)},
        )
    image = frame(61, 83, g)
    for kind in ("global", "clahe"):
        sink.case(
            folder,
            f"equalise-{kind}",
            {"image": image},
            {"image": preprocess.EQUALISE[kind](image)},
        )
    flat = torch.full((16, 16), 0.25)
    sink.case(
        folder, "equalise-global-flat", {"image": flat}, {"image": preprocess.equalise_global(flat)}
    )
    size = 64
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    left = ((x - 18) / 9.0) ** 2 + ((y - 30) / 20.0) ** 2 < 1
    right = ((x - 44) / 10.0) ** 2 + ((y - 33) / 17.0) ** 2 < 1
    options = {"mask_dilation": 0.03, "mask_blur": 0.02, "roi_margin": 0.05}
    masks = {
        "lungs": torch.stack([left, right]),
        "pixel": torch.stack([(x == 5) & (y == 7), (x == 5) & (y == 7)]),
        "segment": torch.stack([(x == y) & (x > 10) & (x < 20), (x == 30) & (y == 30)]),
        "border": torch.stack([left | (x < 3), right | (y > 60)]),
    }
    specks = F.avg_pool2d(torch.rand(1, 1, size, size, generator=g), 5, 1, 2)[0, 0] > 0.52
    sink.case(folder, "component-specks", {"mask": specks}, {"mask": largest_component(specks)})
    ties = (x % 9 < 4) & (y % 7 < 3)
    sink.case(folder, "component-ties", {"mask": ties}, {"mask": largest_component(ties)})
    for case, pair in masks.items():
        box, weight = region_of(pair, (90, 75), options)
        hull = fill_hull(pair.any(0))
        wide = dilate(hull, options["mask_dilation"] * size)
        sink.case(
            folder,
            f"region-{case}",
            {
                "masks": pair,
                "frame_size": torch.tensor([90, 75]),
                "options": torch.tensor(
                    [options["mask_dilation"], options["mask_blur"], options["roi_margin"]]
                ),
            },
            {
                "hull": hull,
                "dilated": wide,
                "blurred": blur(wide.float(), options["mask_blur"] * size),
                "box": torch.tensor(box),
                "weight": weight,
            },
        )
    write_prompts(sink, folder, g)
