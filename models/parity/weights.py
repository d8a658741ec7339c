"""Random weights that hide nothing, stored as files, read back."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from medfusion import bundle as bundles
from safetensors.torch import load_file, save_file


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


def stored(kind: str, module: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """The module as it is read back from its 16-bit file."""
    bundles.save_module(kind, module, folder)
    return bundles.load_module(kind, folder)


def random_module(kind: str, config: dict, folder: Path, name: str) -> torch.nn.Module:
    torch.manual_seed(zlib.crc32(name.encode()))
    return stored(kind, randomise(bundles.make_module(kind, config), name), folder)


def published(
    model_class: type,
    config: object,
    folder: Path,
    name: str,
    dtype: torch.dtype = torch.float32,
    shard: str | None = None,
    settle: Callable[[torch.nn.Module], None] | None = None,
) -> torch.nn.Module:
    """A random model, changed by `settle`, as Hugging Face's `save_pretrained` leaves it in
    `folder`, in `dtype` and in shards of at most `shard` ("50MB"); returned as `from_pretrained`
    reads it, in float32.
    """
    torch.manual_seed(zlib.crc32(name.encode()))
    model = randomise(model_class(config), name)
    if settle:
        settle(model)
    model = model.to(dtype)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    del model
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    return model_class.from_pretrained(folder, dtype=torch.float32).eval()


def save_state(module: torch.nn.Module, config: dict, folder: Path, dtype: torch.dtype) -> None:
    """A plain module's state dict beside its config.json; the module is rounded to `dtype` too."""
    tensors = {key: value.to(dtype).contiguous() for key, value in module.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    bundles.write_json(folder / "config.json", config)
    loaded = load_file(folder / "model.safetensors")
    module.load_state_dict({key: value.float() for key, value in loaded.items()})
