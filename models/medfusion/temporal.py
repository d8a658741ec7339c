"""Temporal module (DESIGN.md, "The network", 4): one sequence of frames × tokens, oldest frame first."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MambaConfig, MambaModel


class MambaStack(nn.Module):
    """Hugging Face's MambaModel without its word embeddings: layers, then `norm_f`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        names = ("hidden_size", "state_size", "conv_kernel", "expand", "time_step_rank", "num_hidden_layers",
                 "layer_norm_epsilon", "use_bias", "use_conv_bias")
        model = MambaModel(MambaConfig(vocab_size=1, use_cache=False, **{name: config[name] for name in names}))
        self.layers, self.norm_f = model.layers, model.norm_f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, t, d) → (b, t, d)."""
        for layer in self.layers:
            x = layer(x)
        return self.norm_f(x)


class Attention(nn.Module):
    """Multi-head attention, scale 1/√(d/heads)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(size, size), nn.Linear(size, size)
        self.value, self.output = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x (b, t, d) reads context (b, s, d)."""
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for layer, y in ((self.query, x), (self.key, context), (self.value, context)))
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, erf GELU, Linear."""

    def __init__(self, size: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, hidden), nn.Linear(hidden, out or size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    """Pre-LayerNorm transformer layer with full attention."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        d, eps = config["hidden_size"], config["layer_norm_eps"]
        self.norm1, self.norm2 = nn.LayerNorm(d, eps), nn.LayerNorm(d, eps)
        self.attention = Attention(d, config["num_attention_heads"])
        self.mlp = Mlp(d, config["intermediate_size"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Transformer layers, then `norm`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Temporal(nn.Module):
    """Projection, token-type and position embeddings, then Mamba, a transformer or nothing."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        d, kind = config["hidden_size"], config["model_type"]
        self.projection = nn.Linear(config["vision_hidden_size"], d)
        self.projection_norm = nn.LayerNorm(d, 1e-5)
        self.token_type_embedding = nn.Embedding(config["tokens_per_frame"], d)
        if config["position"] == "rank":
            self.position_embedding = nn.Embedding(config["max_frames"], d)
        else:
            self.position_mlp = Mlp(1, d, d)
            self.position_unknown = nn.Parameter(torch.zeros(d))
        if kind == "mamba":
            self.backbone = MambaStack(config)
            if config["bidirectional"]:
                self.backbone_reverse = MambaStack(config)
        elif kind == "transformer":
            self.encoder = Encoder(config)

    def positions(self, frames: int, where: torch.Tensor | None) -> torch.Tensor:
        """(frames, d). rank: row 0 = newest, `where` unused. days: `where` = days before the newest frame;
        slice: `where` in [0, 1]; NaN = unknown."""
        if self.config["position"] == "rank":
            return self.position_embedding(torch.arange(frames - 1, -1, -1))
        value = torch.log1p(where) if self.config["position"] == "days" else where
        known = self.position_mlp(torch.nan_to_num(value)[:, None])
        return torch.where(torch.isnan(where)[:, None], self.position_unknown, known)

    def embed(self, tokens: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """tokens (b, frames, 17, dv), oldest frame first → (b, frames·17, d)."""
        x = self.projection_norm(self.projection(tokens)) + self.token_type_embedding.weight
        return (x + self.positions(tokens.shape[1], where)[:, None]).flatten(1, 2)

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """(b, t, d) → (b, t, d): the sequence model alone."""
        kind = self.config["model_type"]
        if kind == "mamba":
            y = self.backbone(x)
            return (y + self.backbone_reverse(x.flip(1)).flip(1)) / 2 if self.config["bidirectional"] else y
        return self.encoder(x) if kind == "transformer" else x

    def forward(self, tokens: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """tokens (b, frames, 17, dv) → (b, frames·17, d)."""
        return self.mix(self.embed(tokens, where))
