"""Temporal module (DESIGN.md, "The network", 4): one sequence of frames × tokens, oldest frame
first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    """x / sqrt(mean x² + eps) · weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Scan(NamedTuple):
    """One recurrence: state ← decay · state + drive · x, y = c · state + d · x."""

    x: torch.Tensor  # (b, t, inner)
    decay: torch.Tensor  # (b, t, inner, n)
    drive: torch.Tensor  # (b, t, inner, n)
    c: torch.Tensor  # (b, t, n)
    d: torch.Tensor  # (inner)
    y: torch.Tensor  # (b, t, inner)


class MambaMixer(nn.Module):
    """Selective state space: gate, causal depthwise convolution, input-dependent scan."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        d, n, rank = config["hidden_size"], config["state_size"], config["time_step_rank"]
        inner = d * config["expand"]
        self.record: list[Scan] | None = None  # takes what explain.py reads
        self.state_size, self.rank = n, rank
        self.in_proj = nn.Linear(d, 2 * inner, bias=config["use_bias"])
        self.conv1d = nn.Conv1d(
            inner,
            inner,
            config["conv_kernel"],
            groups=inner,
            padding=config["conv_kernel"] - 1,
            bias=config["use_conv_bias"],
        )
        self.x_proj = nn.Linear(inner, rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, n + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d, bias=config["use_bias"])
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.dt_proj.bias.data = step + torch.log(-torch.expm1(-step))  # inverse of softplus

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(b, t, d) → (b, t, d)."""
        t = u.shape[1]
        x, z = self.in_proj(u).chunk(2, -1)  # (b, t, inner) each
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., :t]).transpose(1, 2)
        dt, b, c = self.x_proj(x).split([self.rank, self.state_size, self.state_size], -1)
        dt = F.softplus(self.dt_proj(dt))  # the bias is added once, in dt_proj
        decay = torch.exp(dt[..., None] * -torch.exp(self.A_log))  # (b, t, inner, n)
        drive = (dt * x)[..., None] * b[:, :, None]
        state, y = torch.zeros_like(drive[:, 0]), []
        for decay_t, drive_t, c_t in zip(decay.unbind(1), drive.unbind(1), c.unbind(1)):
            state = decay_t * state + drive_t
            y.append((state @ c_t[..., None])[..., 0])
        y = torch.stack(y, 1) + self.D * x
        if self.record is not None:
            self.record.append(Scan(x, decay, dt[..., None] * b[:, :, None], c, self.D, y))
        return self.out_proj(y * F.silu(z))


class MambaLayer(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.norm, self.mixer = (
            RmsNorm(config["hidden_size"], config["layer_norm_epsilon"]),
            MambaMixer(config),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(self.norm(x))


class MambaStack(nn.Module):
    """What Hugging Face's MambaModel does to `inputs_embeds`: layers, then `norm_f`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config["num_hidden_layers"]))
        self.norm_f = RmsNorm(config["hidden_size"], config["layer_norm_epsilon"])

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
        self.record: list[torch.Tensor] | None = None  # takes the weights, for explain.py
        self.query, self.key = nn.Linear(size, size), nn.Linear(size, size)
        self.value, self.output = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x (b, t, d) reads context (b, s, d)."""
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.query, x), (self.key, context), (self.value, context))
        )
        if self.record is None:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)  # (b, heads, t, s)
            self.record.append(weights)
            y = weights @ v
        return self.output(y.transpose(1, 2).flatten(2))


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
        self.layers = nn.ModuleList(
            EncoderLayer(config) for _ in range(config["num_hidden_layers"])
        )
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
        """(frames, d), or (b, frames, d) where `where` is (b, frames). rank: row 0 = newest, `where` unused.
        days: `where` = days before the newest frame; slice: `where` in [0, 1]; NaN = unknown.
        """
        if self.config["position"] == "rank":
            return self.position_embedding(torch.arange(frames - 1, -1, -1))
        value = torch.log1p(where) if self.config["position"] == "days" else where
        known = self.position_mlp(torch.nan_to_num(value)[..., None])
        return torch.where(torch.isnan(where)[..., None], self.position_unknown, known)

    def embed(self, tokens: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """tokens (b, frames, 17, dv), oldest frame first → (b, frames·17, d)."""
        x = self.projection_norm(self.projection(tokens)) + self.token_type_embedding.weight
        return (x + self.positions(tokens.shape[1], where)[..., None, :]).flatten(1, 2)

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        """(b, t, d) → (b, t, d): the sequence model alone."""
        kind = self.config["model_type"]
        if kind == "mamba":
            y = self.backbone(x)
            return (
                (y + self.backbone_reverse(x.flip(1)).flip(1)) / 2
                if self.config["bidirectional"]
                else y
            )
        return self.encoder(x) if kind == "transformer" else x

    def forward(self, tokens: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """tokens (b, frames, 17, dv) → (b, frames·17, d)."""
        return self.mix(self.embed(tokens, where))
