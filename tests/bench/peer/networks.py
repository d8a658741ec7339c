"""The networks of tests/bench/engine.py, with random weights, as Hugging Face's save_pretrained and
medfusion.bundle write them; each read back as a function of one tensor.
"""

import json
import pathlib
import sys

import torch
import transformers as hf
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODELS = ROOT / "build" / "bench-models"
sys.path.insert(0, str(ROOT / "models"))


def vit(name):
    d, heads, layers = {"vitt": (48, 3, 2), "vits": (384, 6, 12), "vitb": (768, 12, 12), "vitl": (1024, 16, 24)}[name]
    return hf.Dinov2Model(hf.Dinov2Config(hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads, image_size=518, patch_size=14))


def sam2_config(size):
    config = hf.Sam2Config()
    config.vision_config.backbone_config.image_size = [size, size]
    config.vision_config.backbone_feature_sizes = [[size // 4] * 2, [size // 8] * 2, [size // 16] * 2]
    config.prompt_encoder_config.image_size = size
    return config


def make(name):
    """Writes the network `name` (vitt, vits, vitb, vitl, sam2t512, sam2t1024, mamba, transformer, foundation) where it is missing."""
    folder = MODELS / name
    if (folder / "config.json").exists() or (folder / "bundle.json").exists():
        return folder
    MODELS.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if name in ("foundation", "transformer"):
        {"foundation": make_bundle, "transformer": make_transformer}[name](folder)
        return folder
    if name.startswith("vit"):
        network = vit(name)
    elif name == "mamba":
        network = hf.MambaModel(hf.MambaConfig(hidden_size=768, num_hidden_layers=4, vocab_size=64))
    else:
        network = hf.Sam2Model(sam2_config(int(name[5:])))
    for p in network.parameters():
        p.data.add_(torch.randn_like(p) * 0.01)
    network.eval().save_pretrained(folder)
    return folder


def make_bundle(folder):
    """The whole network at the size of the published ones: SAM 2.1 tiny at 512, ViT-B/14 at 518, Mamba 4 × 768, FT-Transformer 3 × 192."""
    from medfusion import bundle as bundles
    from medfusion.network import MedFusion
    from parity.tiny_bundle import FEATURES, bundle_json

    about = bundle_json("bench-foundation", segmenter="sam2", vision="dinov2", temporal="mamba", ehr="ft_transformer")
    about["preprocessing"]["segmenter"]["size"] = [512, 512]
    about["preprocessing"]["vision"]["size"] = [518, 518]
    width, states = 768, {"state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": 48, "layer_norm_epsilon": 1e-5}
    configs = {
        "segmenter": {**sam2_config(512).to_dict(), "box_head_hidden_size": 64},
        "vision": vit("vitb").config.to_dict(),
        "temporal": {"model_type": "mamba", "hidden_size": width, "vision_hidden_size": width, "max_frames": 32, "tokens_per_frame": 17,
                     "position": "rank", "bidirectional": False, "num_hidden_layers": 4, "use_bias": False, "use_conv_bias": True, **states},
        "ehr": {"model_type": "ft_transformer", "d_token": 192, "n_blocks": 3, "attention_n_heads": 8, "ffn_d_hidden": 256, "n_cont": 3,
                "cat_cardinalities": [2, 5], "output_tokens": "all"},
        "fusion": {"model_type": "fusion", "hidden_size": width, "num_layers": 2, "num_attention_heads": 12, "intermediate_size": 4 * width,
                   "layer_norm_eps": 1e-5, "ehr_hidden_size": 192, "head_hidden_size": 256, "num_labels": 5, "batch_norm_eps": 1e-5},
    }
    modules = {kind: bundles.make_module(kind, config).eval() for kind, config in configs.items()}
    bundles.save_bundle(MedFusion(about, **modules), FEATURES, folder)
    bundles.write_manifest(folder)


def make_transformer(folder, d=768, layers=4):
    """A Transformer of Mamba's width and depth, in the layout of a bundle's temporal directory."""
    shapes = {"encoder.norm.weight": (d,), "encoder.norm.bias": (d,)}
    for i in range(layers):
        at = f"encoder.layers.{i}."
        for part, out, width in (("attention.query", d, d), ("attention.key", d, d), ("attention.value", d, d), ("attention.output", d, d),
                                 ("mlp.fc1", 4 * d, d), ("mlp.fc2", d, 4 * d)):
            shapes[at + part + ".weight"] = (out, width)
            shapes[at + part + ".bias"] = (out,)
        for part in ("norm1", "norm2"):
            shapes[at + part + ".weight"] = shapes[at + part + ".bias"] = (d,)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: torch.randn(s) * 0.02 for k, s in shapes.items()}, folder / "model.safetensors")
    config = {"model_type": "transformer", "hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 12, "intermediate_size": 4 * d}
    (folder / "config.json").write_text(json.dumps(config))


class Image(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).last_hidden_state


class Encoder(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return tuple(self.inner(x).fpn_hidden_states)


class Sequence(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(inputs_embeds=x, use_cache=False).last_hidden_state


def load(name, size):
    """The network as a function of one tensor, and that tensor."""
    folder = make(name)
    torch.manual_seed(1)
    if name == "mamba":
        return Sequence(hf.MambaModel.from_pretrained(folder)).eval(), torch.randn(1, size, 768)
    if name.startswith("vit"):
        return Image(hf.Dinov2Model.from_pretrained(folder)).eval(), torch.randn(1, 3, size, size)
    return Encoder(hf.Sam2Model.from_pretrained(folder).vision_encoder).eval(), torch.randn(1, 3, size, size)
