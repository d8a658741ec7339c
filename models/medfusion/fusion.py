"""Fusion and head (DESIGN.md, "The network", 6): gated cross-attention both ways, readout, one
BatchNorm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .temporal import Attention, Mlp


class Direction(nn.Module):
    """One stream's half of a layer: reads the other stream, then its own feed-forward, each behind
    a scalar gate.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        d, eps = config["hidden_size"], config["layer_norm_eps"]
        self.norm_query, self.norm_context = nn.LayerNorm(d, eps), nn.LayerNorm(d, eps)
        self.attention = Attention(d, config["num_attention_heads"])
        self.gate_attention = nn.Parameter(torch.tensor(0.1))
        self.norm_ffn = nn.LayerNorm(d, eps)
        self.ffn = Mlp(d, config["intermediate_size"])
        self.gate_ffn = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = x + self.gate_attention.tanh() * self.attention(
            self.norm_query(x), self.norm_context(context)
        )
        return x + self.gate_ffn.tanh() * self.ffn(self.norm_ffn(x))


class Layer(nn.Module):
    """Both directions; each reads the other stream as it was before the layer."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.image, self.ehr = Direction(config), Direction(config)

    def forward(self, image: torch.Tensor, ehr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.image(image, ehr), self.ehr(ehr, image)


class Head(nn.Module):
    """Linear, BatchNorm1d, erf GELU, Linear: adapting the norm has an exact, cheap gradient."""

    def __init__(self, inputs: int, config: dict) -> None:
        super().__init__()
        h = config["head_hidden_size"]
        self.fc1, self.norm = nn.Linear(inputs, h), nn.BatchNorm1d(h, config["batch_norm_eps"])
        self.fc2 = nn.Linear(h, config["num_labels"])

    def forward(self, readout: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.norm(self.fc1(readout))))


class Fusion(nn.Module):
    """Layers of gated cross-attention, readout and head; no layers without an EHR module."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        d, ehr_size = config["hidden_size"], config["ehr_hidden_size"]
        if ehr_size is not None:
            self.ehr_projection = nn.Linear(ehr_size, d)
            self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_layers"]))
        self.head = Head(d * (3 if ehr_size is None else 4), config)

    def fuse(
        self, image: torch.Tensor, ehr: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """image (b, t, d), ehr (b, n, de) → both streams after all layers, width d."""
        if ehr is None:
            return image, None
        ehr = self.ehr_projection(ehr)
        for layer in self.layers:
            image, ehr = layer(image, ehr)
        return image, ehr

    @staticmethod
    def readout(
        image: torch.Tensor, ehr: torch.Tensor | None, tokens_per_frame: int
    ) -> torch.Tensor:
        """concat(newest CLS, mean of the newest frame's regions, mean of all image tokens, EHR CLS)
        → (b, 4d or 3d).
        """
        parts = [image[:, -1], image[:, -tokens_per_frame:-1].mean(1), image.mean(1)]
        return torch.cat(parts if ehr is None else parts + [ehr[:, 0]], 1)

    def forward(
        self, image: torch.Tensor, ehr: torch.Tensor | None, tokens_per_frame: int
    ) -> torch.Tensor:
        """Logits (b, labels)."""
        return self.head(self.readout(*self.fuse(image, ehr), tokens_per_frame))
