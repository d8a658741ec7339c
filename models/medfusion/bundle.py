"""Reads and writes bundle directories (../FORMAT.md): JSON and 16-bit safetensors."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    Sam2Config,
    Sam2VideoConfig,
    ViTConfig,
    ViTModel,
)

from .ehr import FtTransformer
from .fusion import Fusion
from .network import MedFusion
from .segmenter import Segmenter
from .temporal import Temporal

VISION = {
    "dinov2": (Dinov2Config, Dinov2Model),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel),
    "vit": (ViTConfig, ViTModel),
}


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def make_vision(config: dict) -> nn.Module:
    config_class, model_class = VISION[config["model_type"]]
    options = {"add_pooling_layer": False} if config["model_type"] == "vit" else {}
    return model_class(config_class.from_dict(config), **options)


def make_module(kind: str, config: dict) -> nn.Module:
    """One module from its config.json; `kind` is its key in bundle.json's `directories`."""
    if kind == "segmenter":
        video = config["model_type"] == "sam2_video"
        config_class = Sam2VideoConfig if video else Sam2Config
        return Segmenter(config_class.from_dict(config), config.get("box_head_hidden_size"))
    return {"vision": make_vision, "temporal": Temporal, "ehr": FtTransformer, "fusion": Fusion}[
        kind
    ](config)


def config_of(kind: str, module: nn.Module) -> dict:
    """The content of a module's config.json."""
    if kind == "segmenter":
        head = module.box_head
        own = {"box_head_hidden_size": head.conv1.out_channels} if head is not None else {}
        return module.config.to_dict() | own
    if kind == "vision":
        return {**module.config.to_dict(), "_name_or_path": ""}  # else the folder it was read from
    return module.config


def tensors_of(kind: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Floating-point tensors by their names in a bundle. Inside, transformers 5 has its own names
    for the attention of a ViT; `save_pretrained` writes the ones that the published weights have,
    and those are a bundle's.
    """
    if kind == "vision":
        with tempfile.TemporaryDirectory() as folder:
            module.save_pretrained(folder)
            return load_file(Path(folder) / "model.safetensors")
    return {
        name.removeprefix("sam2."): value
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }


def save_module(
    kind: str, module: nn.Module, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """config.json and model.safetensors in `dtype`; integer bookkeeping is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.to(dtype).contiguous() for name, value in tensors_of(kind, module).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    write_json(folder / "config.json", config_of(kind, module))


def load_vision(folder: Path) -> nn.Module:
    config_class, model_class = VISION[read_json(folder / "config.json")["model_type"]]
    options = {"add_pooling_layer": False} if model_class is ViTModel else {}
    module, report = model_class.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **options
    )
    wrong = {
        key: sorted(report[key])
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report[key]
    }
    if wrong:
        raise ValueError(f"{folder}: {wrong}")
    return module.eval()


def load_module(kind: str, folder: Path) -> nn.Module:
    """The module in evaluation mode, float32; a missing or unknown tensor is an error."""
    if kind == "vision":
        return load_vision(folder)
    module = make_module(kind, read_json(folder / "config.json"))
    tensors = {
        name: value.float() for name, value in load_file(folder / "model.safetensors").items()
    }
    if kind == "segmenter":
        tensors = {
            name if name.startswith("box_head.") else "sam2." + name: value
            for name, value in tensors.items()
        }
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{folder}: missing {missing}, unexpected {unexpected}")
    return module.eval()


def save_bundle(
    model: MedFusion, features: dict | None, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """The trained parts of a bundle; calibration, conformal and manifest files are `medfusion`'s to
    write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "bundle.json", model.bundle)
    for kind, name in model.bundle["directories"].items():
        module = getattr(model, kind)
        if module is not None:
            save_module(kind, module, folder / name, dtype)
    if features is not None:
        write_json(folder / model.bundle["directories"]["ehr"] / "features.json", features)


def write_manifest(folder: Path) -> None:
    """manifest.json: the SHA-256 of every file; the signature of an older one is removed."""
    (folder / "manifest.sig").unlink(missing_ok=True)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "manifest.json")
    digests = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
    manifest = {"schema": "medfusion.manifest/1", "files": digests}
    write_json(folder / "manifest.json", manifest)


def load_bundle(folder: Path) -> MedFusion:
    bundle = read_json(folder / "bundle.json")
    modules = {kind: None for kind in ("segmenter", "vision", "temporal", "ehr", "fusion")}
    for kind in modules:
        if bundle["modules"].get(kind) != "none" or kind == "temporal":
            modules[kind] = load_module(kind, folder / bundle["directories"][kind])
    return MedFusion(bundle, **modules).eval()
