"""Fusion and head against models/medfusion/fusion.py."""

from __future__ import annotations

import torch

from .sink import Sink
from .tiny import DE, D, fusion_config
from .weights import generator, random_module


@torch.no_grad()
def write(sink: Sink) -> None:
    for short, ehr in (("fusion", True), ("fusion-no-ehr", False)):
        name = f"modules/{short}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = random_module("fusion", fusion_config(ehr), folder, name)
        for frames in (1, 3, 32):
            inputs = {"image_tokens": torch.randn((1, frames * 17, D), generator=g)}
            if ehr:
                inputs["ehr_tokens"] = torch.randn((1, 6, DE), generator=g)
            image, context = model.fuse(inputs["image_tokens"], inputs.get("ehr_tokens"))
            readout = model.readout(image, context, 17)
            expected = {
                "image_hidden_state": image,
                "readout": readout,
                "logits": model.head(readout),
            }
            if context is not None:
                expected["ehr_hidden_state"] = context
            sink.case(folder, f"frames-{frames}", inputs, expected)
        sink.done(folder)


def write_big(sink: Sink) -> None:
    """Fusion has no published size."""
    write(sink)
