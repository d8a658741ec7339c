"""EHR module (DESIGN.md, "The network", 5): FT-Transformer with rtdl's names and a learned token
per missing feature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ContinuousEmbeddings(nn.Module):
    """value · weight + bias, one row per numeric feature."""

    def __init__(self, n: int, d: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(n, d)), nn.Parameter(torch.empty(n, d))
        for p in (self.weight, self.bias):
            nn.init.uniform_(p, -(d**-0.5), d**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., None] * self.weight + self.bias


class CategoricalEmbeddings(nn.Module):
    """A table per categorical feature, plus a bias per feature."""

    def __init__(self, cardinalities: list[int], d: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(c, d) for c in cardinalities)
        self.bias = nn.Parameter(torch.empty(len(cardinalities), d))
        for p in self.parameters():
            nn.init.uniform_(p, -(d**-0.5), d**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            torch.stack([table(x[..., i]) for i, table in enumerate(self.embeddings)], -2)
            + self.bias
        )


class Attention(nn.Module):
    """Multi-head attention; one head has no W_out."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.W_q, self.W_k, self.W_v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.W_out = nn.Linear(d, d) if heads > 1 else None

    def forward(self, x_q: torch.Tensor, x_kv: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.W_q, x_q), (self.W_k, x_kv), (self.W_v, x_kv))
        )
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x if self.W_out is None else self.W_out(x)


class FeedForward(nn.Module):
    """ReGLU: linear2(a · relu(b)) with a, b the halves of linear1(x)."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(d, 2 * hidden), nn.Linear(hidden, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.linear1(x).chunk(2, -1)
        return self.linear2(a * F.relu(b))


class Block(nn.Module):
    """Pre-LayerNorm block; the very first attention reads unnormalised tokens."""

    def __init__(self, d: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        if not first:
            self.attention_normalization = nn.LayerNorm(d)
        self.attention = Attention(d, heads)
        self.ffn_normalization = nn.LayerNorm(d)
        self.ffn = FeedForward(d, hidden)

    def forward(self, x: torch.Tensor, only_cls: bool) -> torch.Tensor:
        y = self.attention_normalization(x) if hasattr(self, "attention_normalization") else x
        x = x[:, :1] + self.attention(y[:, :1], y) if only_cls else x + self.attention(y, y)
        return x + self.ffn(self.ffn_normalization(x))


class Backbone(nn.Module):
    """The blocks; with `output_tokens: cls` the last one keeps the CLS query only, as rtdl does."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.only_cls = config["output_tokens"] == "cls"
        self.blocks = nn.ModuleList(
            Block(config["d_token"], config["attention_n_heads"], config["ffn_d_hidden"], i == 0)
            for i in range(config["n_blocks"])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, self.only_cls and i + 1 == len(self.blocks))
        return x


class FtTransformer(nn.Module):
    """Tokens: CLS, numeric features, categorical features."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        d, n_cont, cardinalities = config["d_token"], config["n_cont"], config["cat_cardinalities"]
        self.cls_embedding = nn.Embedding(1, d)
        if n_cont:
            self.cont_embeddings = ContinuousEmbeddings(n_cont, d)
        if cardinalities:
            self.cat_embeddings = CategoricalEmbeddings(cardinalities, d)
        self.missing_embeddings = nn.Embedding(n_cont + len(cardinalities), d)
        self.backbone = Backbone(config)
        for table in (self.cls_embedding, self.missing_embeddings):
            nn.init.uniform_(table.weight, -(d**-0.5), d**-0.5)

    def forward(
        self, x_cont: torch.Tensor, x_cat: torch.Tensor, missing: torch.Tensor
    ) -> torch.Tensor:
        """x_cont (b, n_cont) standardised, x_cat (b, n_cat) indices, missing (b, n_cont + n_cat)
        boolean: what stands in x_cont / x_cat for a missing feature is not looked at. → (b, 1 +
        features, d) or (b, 1, d).
        """
        missing_cont, missing_cat = missing.split([x_cont.shape[1], x_cat.shape[1]], 1)
        tokens = []
        if x_cont.shape[1]:
            tokens.append(self.cont_embeddings(x_cont.masked_fill(missing_cont, 0)))
        if x_cat.shape[1]:
            tokens.append(self.cat_embeddings(x_cat.masked_fill(missing_cat, 0)))
        x = torch.where(missing[..., None], self.missing_embeddings.weight, torch.cat(tokens, 1))
        return self.backbone(torch.cat([self.cls_embedding.weight.expand(len(x), 1, -1), x], 1))
