"""Vision transformers: Dinov2Model, Dinov2WithRegistersModel and ViTModel."""

from __future__ import annotations

from pathlib import Path

import torch
from medfusion.vision import region_tokens
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from .sink import Sink
from .tiny import vision_config
from .weights import generator, published, random_module

TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14)

# hidden_size, layers, heads of the published sizes
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "g": (1536, 40, 24)}


def run(sink: Sink, folder: Path, case: str, model: torch.nn.Module, pixels: torch.Tensor) -> None:
    vit, full = isinstance(model, ViTModel), pixels.float()
    out = model(pixel_values=full, **({"interpolate_pos_encoding": True} if vit else {}))
    expected = {
        "last_hidden_state": out.last_hidden_state,
        "region_tokens": region_tokens(model, full, 4),
    }
    if out.pooler_output is not None:
        expected["pooler_output"] = out.pooler_output
    sink.case(folder, case, {"pixel_values": pixels}, expected)


@torch.no_grad()
def write(sink: Sink) -> None:
    for kind in ("dinov2", "dinov2-swiglu", "dinov2_with_registers", "vit"):
        name = f"modules/{kind}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        model = random_module("vision", vision_config(kind), folder, name)
        for case, shape in {
            "native": (1, 3, 56, 56),
            "batch": (2, 3, 56, 56),
            "larger": (1, 3, 98, 98),
            "tall": (1, 3, 84, 42),
            "wide-not-divisible": (1, 3, 60, 100),
        }.items():
            run(sink, folder, case, model, torch.randn(shape, generator=g))
        sink.done(folder)
    write_published(sink)


def write_published(sink: Sink) -> None:
    """Directories as save_pretrained leaves them: shards, bf16, a model's prefix, a pooler."""
    config = Dinov2Config(mlp_ratio=2, image_size=42, **TINY)
    name = "modules/dinov2-shards-bf16"
    if sink.wants(name):
        folder, g = sink.fresh(name), generator(name)
        model = published(Dinov2Model, config, folder, name, torch.bfloat16, "20KB")
        run(sink, folder, "odd", model, torch.randn((1, 3, 70, 43), generator=g).half())
        run(sink, folder, "batch-33", model, torch.randn((33, 3, 14, 28), generator=g).half())
        for batch in () if sink.golden else (3, 7, 8, 9, 16, 17, 31, 32):
            run(sink, folder, f"batch-{batch}", model, torch.randn((batch, 3, 42, 42), generator=g))
        sizes = ((14, 14), (14, 518), (28, 42), (518, 14), (224, 224), (182, 98))
        for rows, cols in () if sink.golden else sizes:
            pixels = torch.randn((1, 3, rows, cols), generator=g)
            run(sink, folder, f"size-{rows}x{cols}", model, pixels)
        sink.done(folder)
    name = "modules/dinov2-classifier-f16"
    if sink.wants(name) and not sink.golden:
        folder, g = sink.fresh(name), generator(name)
        model = published(Dinov2ForImageClassification, config, folder, name, torch.float16)
        run(sink, folder, "native", model.dinov2, torch.randn((1, 3, 42, 42), generator=g))
        sink.done(folder)
    write_vit_pooler(sink)


def write_vit_pooler(sink: Sink) -> None:
    name = "modules/vit-pooler"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    config = ViTConfig(intermediate_size=64, image_size=42, qkv_bias=True, **TINY)
    model = published(ViTModel, config, folder, name, torch.float16)
    run(sink, folder, "wide", model, torch.randn((2, 3, 42, 56), generator=g).half())
    sink.done(folder)


@torch.no_grad()
def write_big(sink: Sink) -> None:
    for size in SIZES:
        for registers in (False, True):
            write_big_dinov2(sink, size, registers)
    write_rad_dino(sink)
    write_big_vit(sink)


def write_big_dinov2(sink: Sink, size: str, registers: bool) -> None:
    name = f"dinov2-{size}{'-registers' if registers else ''}"
    if not sink.wants(name):
        return
    d, layers, heads = SIZES[size]
    folder, g = sink.fresh(name), generator(name)
    common = dict(
        hidden_size=d,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        patch_size=14,
        image_size=518,
        use_swiglu_ffn=size == "g",
    )
    if registers:
        config = Dinov2WithRegistersConfig(**common)
        model_class = Dinov2WithRegistersModel
    else:
        config, model_class = Dinov2Config(**common), Dinov2Model
    dtype = {"L": torch.float16, "g": torch.bfloat16}.get(size, torch.float32)
    shard = {"L": "200MB", "g": "1GB"}.get(size)
    model = published(model_class, config, folder, name, dtype, shard)
    shapes = [(1, 518, 518), (1, 224, 224), (2, 266, 434)]
    if size == "g":
        shapes = shapes[:1] if registers else shapes[:2]
    if size == "S":
        shapes += [(33, 98, 112), (1, 1036, 1036)]
    for batch, rows, cols in shapes:
        pixels = torch.randn((batch, 3, rows, cols), generator=g)
        run(sink, folder, f"{batch}x{rows}x{cols}", model, pixels)
    sink.done(folder)


def write_rad_dino(sink: Sink) -> None:
    """microsoft/rad-dino: DINOv2 B at 518 with its preprocessor_config.json beside the weights."""
    name = "rad-dino"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    config = Dinov2Config(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=14, image_size=518
    )
    model = published(Dinov2Model, config, folder, name)
    processor = BitImageProcessor(
        size={"shortest_edge": 518},
        crop_size={"height": 518, "width": 518},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    )
    processor.save_pretrained(folder)
    image = (torch.rand((600, 700, 3), generator=g) * 255).to(torch.uint8).numpy()
    run(sink, folder, "518", model, processor(image, return_tensors="pt")["pixel_values"])
    sink.done(folder)


def write_big_vit(sink: Sink) -> None:
    name = "vit-B-16"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    model = published(ViTModel, ViTConfig(), folder, name)
    for batch, rows, cols in ((2, 224, 224), (1, 384, 384), (1, 240, 400)):
        pixels = torch.randn((batch, 3, rows, cols), generator=g)
        run(sink, folder, f"{batch}x{rows}x{cols}", model, pixels)
    sink.done(folder)
