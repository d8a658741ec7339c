"""Whole networks: bundles with random weights, stage by stage (golden files only)."""

from __future__ import annotations

from pathlib import Path

import torch
from medfusion import bundle as bundles
from medfusion.network import Ehr, MedFusion

from .sam2_video import TINY
from .sink import Sink
from .tiny import (
    ehr_config,
    fusion_config,
    segmenter_config,
    temporal_config,
    vision_config,
)
from .tiny_bundle import FEATURES, bundle_json, frame
from .weights import generator, random_module


def expected_of(
    model: MedFusion,
    frames: list[torch.Tensor],
    ehr: Ehr | None,
    where: torch.Tensor | None,
    lean: bool,
) -> dict:
    """Everything Network.forward says; `lean` drops the large stages of long series."""
    out = model(frames, ehr, where)
    expected = {"logits": out.logits[None], **out.stages}
    if out.boxes is not None:
        expected |= {
            "boxes": out.boxes,
            "mask_logits": out.mask_logits,
            "iou_scores": out.iou,
            "object_score_logits": out.object_score,
        }
    status = {"ok": 1, "fallback": 0, "off": 2}
    expected["region_status"] = torch.tensor([status[region.status] for region in out.regions])
    expected["region_box"] = torch.tensor([region.box for region in out.regions])
    for i, region in enumerate(out.regions):
        if region.weight is not None and not lean:
            expected[f"region_weight.{i}"] = region.weight
    if lean:
        for key in ("mask_logits", "pixel_values", "fused_image", "temporal"):
            expected.pop(key, None)
    return expected


def write_stack(sink: Sink) -> None:
    """Slices: boxes from Otsu's threshold on the middle one, the others through SAM 2's memory.
    The segmenter is a link to modules/sam2-video.
    """
    name = "bundles/stack"
    if not sink.wants(name):
        return
    folder, g = sink.fresh(name), generator(name)
    switches = dict(segmenter="sam2", vision="dinov2", temporal="none", ehr="none")
    bundle = bundle_json("golden-stack", **switches)
    bundle["segmentation"]["propagate"] = True
    bundle["sequence"]["position"] = "slice"
    bundle["preprocessing"]["segmenter"]["size"] = [TINY, TINY]
    (folder / "segmenter").mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / "segmenter" / file).symlink_to(f"../../../modules/sam2-video/{file}")
    segmenter = bundles.load_module("segmenter", folder / "segmenter")
    configs = {
        "vision": vision_config("dinov2"),
        "temporal": temporal_config("none", "slice"),
        "ehr": None,
        "fusion": fusion_config(False),
    }
    modules = {
        kind: config and random_module(kind, config, folder / kind, f"{name}/{kind}")
        for kind, config in configs.items()
    }
    model = MedFusion(bundle, segmenter=segmenter, **modules).eval()
    bundles.write_json(folder / "bundle.json", bundle)
    for count in (1, 4):
        frames = [frame(60 + i, 70 - i, g) for i in range(count)]
        where = torch.linspace(0, 1, count)
        inputs = {f"frame.{i}": f for i, f in enumerate(frames)} | {"where": where}
        sink.case(folder, f"slices-{count}", inputs, expected_of(model, frames, None, where, False))
    flat = [torch.full((40, 40), 0.5), torch.full((30, 40), 0.25)]
    where = torch.linspace(0, 1, 2)
    inputs = {f"frame.{i}": f for i, f in enumerate(flat)} | {"where": where}
    sink.case(folder, "nothing-dark", inputs, expected_of(model, flat, None, where, False))


@torch.no_grad()
def write(sink: Sink) -> None:
    kinds = {
        "full": dict(segmenter="sam2", vision="dinov2", temporal="mamba", ehr="ft_transformer"),
        "no-segmenter": dict(
            segmenter="none", vision="dinov2", temporal="mamba", ehr="ft_transformer"
        ),
        "no-ehr": dict(segmenter="sam2", vision="dinov2", temporal="mamba", ehr="none"),
        "transformer": dict(
            segmenter="none", vision="dinov2", temporal="transformer", ehr="ft_transformer"
        ),
        "temporal-none": dict(
            segmenter="none", vision="dinov2", temporal="none", ehr="ft_transformer"
        ),
        "vit-clahe": dict(
            segmenter="none", vision="vit", temporal="none", ehr="none", equalisation="clahe"
        ),
    }
    write_stack(sink)
    for short, switches in kinds.items():
        name = f"bundles/{short}"
        if not sink.wants(name):
            continue
        folder, g = sink.fresh(name), generator(name)
        has_ehr = switches["ehr"] != "none"
        configs = {
            "segmenter": segmenter_config(),
            "vision": vision_config(switches["vision"]),
            "temporal": temporal_config(switches["temporal"]),
            "ehr": ehr_config(),
            "fusion": fusion_config(has_ehr),
        }
        modules = {}
        for kind, config in configs.items():
            off = kind in ("segmenter", "ehr") and switches[kind] == "none"
            modules[kind] = (
                None if off else random_module(kind, config, folder / kind, f"{name}/{kind}")
            )
        model = MedFusion(bundle_json(f"golden-{short}", **switches), **modules).eval()
        settle(model, g)
        bundles.save_bundle(model, FEATURES if has_ehr else None, folder)
        model = bundles.load_bundle(folder)
        write_bundle_cases(sink, folder, model, has_ehr, short, g)


def settle(model: MedFusion, g: torch.Generator) -> None:
    """Makes a random segmenter useful: boxes near the ellipses, and an IoU gate in the widest gap
    of what it says of sample frames, so that some frames pass and some fall back, none of them at
    the edge.
    """
    if model.segmenter is None:
        return
    model.segmenter.box_head.size.bias.copy_(torch.tensor([-0.6, 0.4, -0.6, 0.4]))
    scores = sorted(model([frame(40 + 3 * i, 70 - 2 * i, g)]).regions[0].iou for i in range(16))[
        4:-4
    ]
    gap, low = max((high - low, low) for low, high in zip(scores, scores[1:]))
    model.bundle["segmentation"]["gate"]["iou_score"] = round(low + gap / 2, 5)


def write_bundle_cases(
    sink: Sink, folder: Path, model: MedFusion, has_ehr: bool, short: str, g: torch.Generator
) -> None:
    sizes = {1: [(60, 70)], 2: [(60, 70), (75, 50)], 3: [(48, 48), (90, 41), (50, 66)]}
    for count in (1, 2, 3, 31, 32) if short in ("full", "no-segmenter") else (1, 3):
        frames = [
            frame(*size, g)
            for size in sizes.get(count, [(30 + i % 5, 34 - i % 7) for i in range(count)])
        ]
        ehr = Ehr(
            torch.randn(3, generator=g),
            torch.tensor([count % 2, count % 5]),
            torch.tensor([count == 3, count == 2, False, count == 2, False]),
        )
        variants = {f"frames-{count}": ehr if has_ehr else None}
        if has_ehr and count == 1:
            variants["no-ehr"] = None
            variants["all-missing"] = Ehr(ehr.x_cont, ehr.x_cat, torch.ones(5, dtype=torch.bool))
        for case, features in variants.items():
            inputs = {f"frame.{i}": f for i, f in enumerate(frames)}
            if features is not None:
                inputs |= {
                    "x_cont": features.x_cont[None],
                    "x_cat": features.x_cat[None],
                    "missing": features.missing[None],
                }
            sink.case(folder, case, inputs, expected_of(model, frames, features, None, count > 3))
