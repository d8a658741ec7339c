#!/usr/bin/env python3
"""Writes tests/golden: tiny random models of every module and of whole networks, with what the
reference says.

    python models/parity.py [--out tests/golden] [--only NAME]

Weights are random from fixed seeds and everything that starts at 0 or 1 (norms, gates, LayerScale,
biases, BatchNorm statistics) is perturbed, so that a part that is left out or swapped shows. They
are stored as float16 and the expected values are computed from the stored ones, in float32.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2WithRegistersConfig,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    ViTConfig,
)

sys.path.insert(0, str(Path(__file__).parent))
from medfusion import bundle as bundles  # noqa: E402
from medfusion import preprocess  # noqa: E402
from medfusion.network import Ehr, MedFusion  # noqa: E402
from medfusion.segmenter import (  # noqa: E402
    blur,
    dilate,
    fill_hull,
    largest_component,
    region_of,
)
from medfusion.vision import region_tokens  # noqa: E402

D, DV, DE = 48, 64, 32
SEGMENTER_SIZE = 96


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def randomise(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """Every parameter and statistic random: matrices ~ N(0, 1/fan-in), the rest spread around where
    it starts.
    """
    g = generator(name)

    def noise(shape: torch.Size, scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=g) * scale

    with torch.no_grad():
        for key, p in list(module.named_parameters()) + list(module.named_buffers()):
            if not p.is_floating_point():
                continue
            if key.endswith(("running_var",)):
                p.copy_(0.5 + torch.rand(p.shape, generator=g))
            elif key.endswith("A_log"):
                p.add_(noise(p.shape, 0.2))
            elif key.endswith("dt_proj.bias"):
                p.add_(noise(p.shape, 0.5))
            elif "gate_" in key:
                p.copy_(0.4 + 0.3 * torch.rand(p.shape, generator=g))
            elif "positional_embedding" in key:
                p.copy_(noise(p.shape, 1.0))
            elif (
                p.dim() >= 2
                and "embedding" not in key
                and "token" not in key
                and "pos_embed" not in key
            ):
                p.copy_(noise(p.shape, (p[0].numel()) ** -0.5))
            elif key.endswith("weight") and p.dim() == 1 or "lambda1" in key or key.endswith(".D"):
                p.copy_(1 + noise(p.shape, 0.2))
            else:
                p.copy_(noise(p.shape, 0.3))
    return module.eval()


def vision_config(kind: str) -> dict:
    size = dict(
        hidden_size=DV, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    if kind == "vit":
        return ViTConfig(
            intermediate_size=2 * DV, hidden_act="gelu", qkv_bias=True, **size
        ).to_dict()
    if kind == "dinov2_with_registers":
        return Dinov2WithRegistersConfig(num_register_tokens=4, mlp_ratio=2, **size).to_dict()
    return Dinov2Config(mlp_ratio=2, use_swiglu_ffn=kind == "dinov2-swiglu", **size).to_dict()


def segmenter_config(size: int = SEGMENTER_SIZE) -> dict:
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[size, size],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=[16, 32, 48, 64],
        num_attention_heads_per_stage=[1, 2, 3, 4],
        window_size_per_stage=[8, 4, 6, 4],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[4],
        mlp_ratio=2.0,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 48, 32, 16],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[size // 4] * 2, [size // 8] * 2, [size // 16] * 2],
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=32, image_size=size, patch_size=16)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=48, num_attention_heads=2, iou_head_hidden_dim=24
    )
    config = Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    return {**config.to_dict(), "box_head_hidden_size": 12}


def temporal_config(kind: str, position: str = "rank", bidirectional: bool = True) -> dict:
    common = {
        "model_type": kind,
        "hidden_size": D,
        "vision_hidden_size": DV,
        "max_frames": 32,
        "tokens_per_frame": 17,
        "position": position,
        "bidirectional": bidirectional and kind == "mamba",
    }
    if kind == "mamba":
        common |= {
            "state_size": 8,
            "conv_kernel": 4,
            "expand": 2,
            "time_step_rank": 3,
            "num_hidden_layers": 2,
            "layer_norm_epsilon": 1e-5,
            "use_bias": False,
            "use_conv_bias": True,
        }
    if kind == "transformer":
        common |= {
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 80,
            "layer_norm_eps": 1e-5,
        }
    return common


def ehr_config(tokens: str = "all") -> dict:
    return {
        "model_type": "ft_transformer",
        "d_token": DE,
        "n_blocks": 2,
        "attention_n_heads": 4,
        "ffn_d_hidden": 40,
        "n_cont": 3,
        "cat_cardinalities": [2, 5],
        "output_tokens": tokens,
    }


def fusion_config(ehr: bool = True) -> dict:
    return {
        "model_type": "fusion",
        "hidden_size": D,
        "num_layers": 2 if ehr else 0,
        "num_attention_heads": 4,
        "intermediate_size": 72,
        "layer_norm_eps": 1e-5,
        "ehr_hidden_size": DE if ehr else None,
        "head_hidden_size": 40,
        "num_labels": 5,
        "batch_norm_eps": 1e-5,
    }


FEATURES = {
    "schema": "medfusion.features/1",
    "features": [
        {
            "id": "age",
            "display": "Age",
            "kind": "numeric",
            "unit": "a",
            "conversions": {},
            "sources": ["fhir:Patient.birthDate", "dicom:PatientAge", "dicom:PatientBirthDate"],
            "pick": "last",
            "window": None,
            "range": [0, 120],
            "mean": 50.0,
            "std": 17.0,
        },
        {
            "id": "crp",
            "display": "C-reactive protein",
            "kind": "numeric",
            "unit": "mg/L",
            "conversions": {"mg/dL": 10},
            "sources": [{"fhir": [{"system": "http://loinc.org", "code": "1988-5"}]}],
            "pick": "last",
            "window": "P7D",
            "range": [0, 600],
            "mean": 40.0,
            "std": 60.0,
        },
        {
            "id": "temperature",
            "display": "Body temperature",
            "kind": "numeric",
            "unit": "Cel",
            "conversions": {"[degF]": [0.5555556, -17.7777778]},
            "sources": [{"fhir": [{"system": "http://loinc.org", "code": "8310-5"}]}],
            "pick": "max",
            "window": "P1D",
            "range": [25, 45],
            "mean": 37.2,
            "std": 0.8,
        },
        {
            "id": "sex",
            "display": "Sex",
            "kind": "categorical",
            "sources": ["fhir:Patient.gender", "dicom:PatientSex"],
            "categories": ["female", "male"],
            "map": {"F": "female", "M": "male"},
        },
        {
            "id": "view",
            "display": "View",
            "kind": "categorical",
            "sources": ["dicom:ViewPosition"],
            "categories": ["PA", "AP", "LL", "RL", "LATERAL"],
            "map": {},
        },
    ],
}


def bundle_json(
    name: str, segmenter: str, vision: str, temporal: str, ehr: str, equalisation: str = "none"
) -> dict:
    return {
        "schema": "medfusion.bundle/1",
        "name": name,
        "version": "0.0.1",
        "licence": "CC0-1.0",
        "intended_use": "Parity tests only: the weights are random.",
        "accepts": {"modalities": ["CR", "DX"], "views": [], "body_parts": [], "require": []},
        "labels": [{"id": f"L{i}", "display": f"Label {i}", "coding": []} for i in range(5)],
        "modules": {"segmenter": segmenter, "vision": vision, "temporal": temporal, "ehr": ehr},
        "directories": {
            "segmenter": "segmenter",
            "vision": "vision",
            "temporal": "temporal",
            "ehr": "ehr",
            "fusion": "fusion",
        }
        if segmenter != "none" and ehr != "none"
        else {
            k: k
            for k in ("segmenter", "vision", "temporal", "ehr", "fusion")
            if not (k == "segmenter" and segmenter == "none") and not (k == "ehr" and ehr == "none")
        },
        "preprocessing": {
            "equalisation": equalisation,
            "segmenter": {
                "size": [SEGMENTER_SIZE, SEGMENTER_SIZE],
                "mean": [0.5, 0.45, 0.4],
                "std": [0.25, 0.22, 0.2],
            },
            "vision": {"size": [70, 56], "mean": [0.5, 0.48, 0.46], "std": [0.25, 0.27, 0.29]},
            "voxel_spacing_mm": None,
        },
        "segmentation": {
            "mask_dilation": 0.03,
            "mask_blur": 0.02,
            "background": 0.3,
            "roi_margin": 0.05,
            "refine": True,
            "gate": {
                "iou_score": 0.05,
                "object_score": -20.0,
                "stability": 0.3,
                "area": [0.002, 0.98],
                "ratio": 0.01,
            },
        },
        "regions": 4,
        "sequence": {"max_frames": 32, "position": "rank"},
    }


def frame(rows: int, cols: int, g: torch.Generator) -> torch.Tensor:
    """A smooth grey picture with two dark ellipses and noise, in [0, 1]."""
    y = (torch.arange(rows)[:, None] + 0.5) / rows
    x = (torch.arange(cols)[None, :] + 0.5) / cols
    shift = (torch.rand(6, generator=g) - 0.5) * 0.1
    image = 0.75 - 0.3 * (y - 0.5 + shift[4]) ** 2 + 0.1 * torch.sin(7 * x + shift[5])
    for centre, k in ((0.3, 0), (0.7, 2)):
        inside = ((x - centre - shift[k]) / 0.14) ** 2 + ((y - 0.45 - shift[k + 1]) / 0.28) ** 2
        image = image - 0.5 * torch.sigmoid((1 - inside) * 8)
    return (image + 0.03 * torch.randn(rows, cols, generator=g)).clamp(0, 1)


class Writer:
    """Collects the cases of one model directory."""

    def __init__(self, root: Path, only: str | None) -> None:
        self.root, self.only = root, only

    def wants(self, name: str) -> bool:
        return self.only is None or self.only in name

    def fresh(self, name: str) -> Path:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    @staticmethod
    def case(folder: Path, name: str, inputs: dict, expected: dict) -> None:
        target = folder / "cases" / name
        target.mkdir(parents=True)
        for file, tensors in (("input", inputs), ("expected", expected)):
            save_file({k: as_stored(v) for k, v in tensors.items()}, target / f"{file}.safetensors")


def as_stored(value) -> torch.Tensor:
    """Booleans as uint8, indices as int64, numbers as one-element tensors."""
    value = value if torch.is_tensor(value) else torch.tensor([value])
    value = value.to(torch.uint8) if value.dtype == torch.bool else value
    return value.detach().contiguous().clone()


def stored(kind: str, module: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """The module as it is read back from its 16-bit file."""
    bundles.save_module(kind, module, folder)
    return bundles.load_module(kind, folder)


def random_module(kind: str, config: dict, folder: Path, name: str) -> torch.nn.Module:
    torch.manual_seed(zlib.crc32(name.encode()))
    return stored(kind, randomise(bundles.make_module(kind, config), name), folder)


@torch.no_grad()
def write_vision(writer: Writer) -> None:
    for kind in ("dinov2", "dinov2-swiglu", "dinov2_with_registers", "vit"):
        name = f"modules/{kind}"
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
        model = random_module("vision", vision_config(kind), folder, name)
        for case, shape in {
            "native": (1, 3, 56, 56),
            "batch": (2, 3, 56, 56),
            "larger": (1, 3, 98, 98),
            "tall": (1, 3, 84, 42),
            "wide-not-divisible": (1, 3, 60, 100),
        }.items():
            pixels = torch.randn(shape, generator=g)
            options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
            out = model(pixel_values=pixels, **options)
            expected = {
                "last_hidden_state": out.last_hidden_state,
                "region_tokens": region_tokens(model, pixels, 4),
            }
            if out.pooler_output is not None:
                expected["pooler_output"] = out.pooler_output
            writer.case(folder, case, {"pixel_values": pixels}, expected)


@torch.no_grad()
def write_sam2(writer: Writer) -> None:
    for name, size in (("modules/sam2", SEGMENTER_SIZE), ("modules/sam2-128", 128)):
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
        model = random_module("segmenter", segmenter_config(size), folder, name)
        sam2 = model.sam2
        pixels = torch.randn((2, 3, size, size), generator=g)
        boxes = torch.tensor([[[8.0, 15, 40.5, 80]], [[50.25, 12, 90, 70]]])
        points = torch.rand((2, 1, 3, 2), generator=g) * size
        labels = torch.tensor([[[1, 0, -1]], [[1, 1, -10]]])
        low = torch.randn((2, 1, size // 4, size // 4), generator=g) * 4

        def run(case: str, pixels: torch.Tensor, multimask: bool, **prompts) -> None:
            out = sam2(pixel_values=pixels, multimask_output=multimask, **prompts)
            embeddings = {f"image_embeddings.{i}": e for i, e in enumerate(out.image_embeddings)}
            expected = {
                "pred_masks": out.pred_masks,
                "iou_scores": out.iou_scores,
                "object_score_logits": out.object_score_logits,
            }
            if case == "box":
                expected |= embeddings | {"boxes": model.boxes(model.embed(pixels))}
            writer.case(
                folder,
                case,
                {
                    "pixel_values": pixels,
                    "multimask_output": torch.tensor([int(multimask)]),
                    **prompts,
                },
                expected,
            )

        run("box", pixels, False, input_boxes=boxes)
        run("box-multimask", pixels[:1], True, input_boxes=boxes[:1])
        if size != SEGMENTER_SIZE:
            continue
        run("two-boxes", pixels[:1], True, input_boxes=torch.cat([boxes[:1], boxes[1:]], 1))
        run("box-and-mask", pixels, False, input_boxes=boxes, input_masks=low)
        run("points", pixels, True, input_points=points, input_labels=labels)
        run(
            "points-and-box",
            pixels,
            False,
            input_points=points,
            input_labels=labels,
            input_boxes=boxes,
        )
        run("no-prompt", pixels[:1], True)


@torch.no_grad()
def write_temporal(writer: Writer) -> None:
    kinds = {
        "mamba": ("mamba", "rank", True),
        "mamba-forward": ("mamba", "rank", False),
        "mamba-days": ("mamba", "days", True),
        "transformer": ("transformer", "rank", False),
        "transformer-slice": ("transformer", "slice", False),
        "temporal-none": ("none", "rank", False),
    }
    for short, (kind, position, both) in kinds.items():
        name = f"modules/{short}"
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
        model = random_module("temporal", temporal_config(kind, position, both), folder, name)
        for frames in (1, 2, 3, 31, 32) if short in ("mamba", "transformer") else (1, 3):
            tokens = torch.randn((frames, 17, DV), generator=g)
            inputs, where = {"region_tokens": tokens}, None
            if position != "rank":
                where = torch.sort(
                    torch.rand(frames, generator=g), descending=position == "days"
                ).values
                where = where * 900 if position == "days" else where
                where[-1] = 0 if position == "days" else where[-1]
                if frames > 2:
                    where[1] = float("nan")
                inputs["position"] = where
            writer.case(
                folder,
                f"frames-{frames}",
                inputs,
                {"last_hidden_state": model(tokens[None], where)},
            )
        if kind != "none":
            for length in (1, 5, 51):
                x = torch.randn((1, length, D), generator=g)
                writer.case(
                    folder,
                    f"embeds-{length}",
                    {"inputs_embeds": x},
                    {"last_hidden_state": model.mix(x)},
                )


@torch.no_grad()
def write_ehr(writer: Writer) -> None:
    for short, tokens in (("ft_transformer", "all"), ("ft_transformer-cls", "cls")):
        name = f"modules/{short}"
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
        model = random_module("ehr", ehr_config(tokens), folder, name)
        for case, missing in {
            "complete": [0, 0, 0, 0, 0],
            "some-missing": [0, 1, 0, 1, 0],
            "all-missing": [1] * 5,
        }.items():
            batch = 1 if case == "all-missing" else 2
            inputs = {
                "x_cont": torch.randn((batch, 3), generator=g),
                "x_cat": torch.tensor([[1, 4], [0, 2]])[:batch],
                "missing": torch.tensor([missing] * batch).bool(),
            }
            writer.case(folder, case, inputs, {"last_hidden_state": model(**inputs)})


@torch.no_grad()
def write_fusion(writer: Writer) -> None:
    for short, ehr in (("fusion", True), ("fusion-no-ehr", False)):
        name = f"modules/{short}"
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
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
            writer.case(folder, f"frames-{frames}", inputs, expected)


@torch.no_grad()
def write_preprocessing(writer: Writer) -> None:
    """Resizing, equalisation, hull, dilation, blur, region: no weights."""
    name = "preprocess"
    if not writer.wants(name):
        return
    folder, g = writer.fresh(name), generator(name)
    for rows, cols, size in (
        (40, 50, (20, 20)),
        (37, 53, (64, 48)),
        (100, 31, (14, 90)),
        (64, 64, (64, 64)),
    ):
        image = frame(rows, cols, g)
        writer.case(
            folder,
            f"resize-{rows}x{cols}-{size[0]}x{size[1]}",
            {"image": image, "size": torch.tensor(size)},
            {"image": preprocess.resize(image, size)},
        )
    image = frame(61, 83, g)
    for kind in ("global", "clahe"):
        writer.case(
            folder,
            f"equalise-{kind}",
            {"image": image},
            {"image": preprocess.EQUALISE[kind](image)},
        )
    flat = torch.full((16, 16), 0.25)
    writer.case(
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
    writer.case(folder, "component-specks", {"mask": specks}, {"mask": largest_component(specks)})
    ties = (x % 9 < 4) & (y % 7 < 3)
    writer.case(folder, "component-ties", {"mask": ties}, {"mask": largest_component(ties)})
    for case, pair in masks.items():
        box, weight = region_of(pair, (90, 75), options)
        hull = fill_hull(pair.any(0))
        wide = dilate(hull, options["mask_dilation"] * size)
        writer.case(
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


@torch.no_grad()
def write_bundles(writer: Writer) -> None:
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
    for short, switches in kinds.items():
        name = f"bundles/{short}"
        if not writer.wants(name):
            continue
        folder, g = writer.fresh(name), generator(name)
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
        write_bundle_cases(writer, folder, model, has_ehr, short, g)


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
    writer: Writer, folder: Path, model: MedFusion, has_ehr: bool, short: str, g: torch.Generator
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
            writer.case(folder, case, inputs, expected_of(model, frames, features, None, count > 3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "tests" / "golden"
    )
    parser.add_argument("--only", help="write only what has this in its name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False  # plain float32 arithmetic, the same on every processor
    writer = Writer(options.out, options.only)
    for step in (
        write_preprocessing,
        write_vision,
        write_sam2,
        write_temporal,
        write_ehr,
        write_fusion,
        write_bundles,
    ):
        step(writer)


if __name__ == "__main__":
    main()
