"""What is trained: temporal module with positions in days, FT-Transformer, fusion and head; and the two yardsticks without the one or the
other. Small and briefly, because there are 71 patients.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from medfusion.ehr import FtTransformer
from medfusion.fusion import Fusion
from medfusion.temporal import Temporal
from torch import nn

D, TOKENS, MAX_FRAMES, STEPS = 64, 17, 8, 120
KINDS = ("fused", "image-only", "labs-only")


def temporal_config(vision_size: int) -> dict:
    return {
        "model_type": "mamba", "hidden_size": D, "vision_hidden_size": vision_size, "max_frames": MAX_FRAMES,
        "tokens_per_frame": TOKENS, "position": "days", "bidirectional": True, "state_size": 8, "conv_kernel": 4, "expand": 2,
        "time_step_rank": 4, "num_hidden_layers": 1, "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True,
    }  # fmt: skip


def ehr_config(numeric: int, cardinalities: list[int]) -> dict:
    return {
        "model_type": "ft_transformer", "d_token": 32, "n_blocks": 1, "attention_n_heads": 4, "ffn_d_hidden": 48,
        "n_cont": numeric, "cat_cardinalities": cardinalities, "output_tokens": "all",
    }  # fmt: skip


class Upper(nn.Module):
    """Everything above the vision module, or a part of it (`kind`)."""

    def __init__(self, kind: str, vision_size: int, ehr: dict) -> None:
        super().__init__()
        self.temporal = None if kind == "labs-only" else Temporal(temporal_config(vision_size))
        self.ehr = None if kind == "image-only" else FtTransformer(ehr)
        self.head = nn.Linear(ehr["d_token"], 1) if kind == "labs-only" else None
        self.fusion = None
        if self.temporal is not None:
            nn.init.normal_(self.temporal.token_type_embedding.weight, std=0.02)
            self.fusion = Fusion(
                {
                    "model_type": "fusion", "hidden_size": D, "num_layers": 1 if self.ehr else 0, "num_attention_heads": 4,
                    "intermediate_size": 2 * D, "layer_norm_eps": 1e-5, "ehr_hidden_size": ehr["d_token"] if self.ehr else None,
                    "head_hidden_size": D, "num_labels": 1, "batch_norm_eps": 1e-5,
                }
            )  # fmt: skip

    def forward(self, tokens: torch.Tensor, days: torch.Tensor, ehr: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """tokens (b, frames, 17, dv), days before the newest (b, frames) → logits (b)."""
        if self.head is not None:
            return self.head(self.ehr(*ehr)[:, 0])[:, 0]
        context = None if self.ehr is None else self.ehr(*ehr)
        return self.fusion(self.temporal(tokens, days), context, TOKENS)[:, 0]


class Samples:
    """Every image with up to seven earlier ones of its patient: what a network sees, and the outcome."""

    def __init__(self, table, tokens: torch.Tensor, ehr: tuple[torch.Tensor, ...], label: str) -> None:
        self.tokens, self.ehr = tokens.float(), ehr
        self.y = torch.tensor(table[label].to_numpy(np.float32))
        self.patient, self.day = table["patient"].to_numpy(), table["day"].to_numpy(np.float32)
        first = table.groupby("patient", sort=False).ngroup().to_numpy()
        start = np.r_[0, np.flatnonzero(np.diff(first)) + 1][first]
        self.series = [np.arange(max(start[i], i + 1 - MAX_FRAMES), i + 1) for i in range(len(table))]

    def run(self, model: Upper, rows: list[int], series: list[np.ndarray], missing: torch.Tensor) -> torch.Tensor:
        """Logits of rows whose series have the same length."""
        index = np.stack(series)
        days = torch.from_numpy(self.day[index[:, -1:]] - self.day[index])
        return model(self.tokens[index], days, (self.ehr[0][rows], self.ehr[1][rows], missing))


def train(kind: str, samples: Samples, rows: np.ndarray, vision_size: int, ehr: dict, seed: int) -> Upper:
    """Every patient counts the same, however many images there are of it."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Upper(kind, vision_size, ehr)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    of_patient = {patient: [i for i in rows if samples.patient[i] == patient] for patient in dict.fromkeys(samples.patient[rows])}
    patients = list(of_patient)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 10) * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        length = int(random.choice([1, 1, 2, 3, MAX_FRAMES]))
        able = [p for p in patients if any(len(samples.series[i]) >= length for i in of_patient[p])]
        pick = []
        for patient in random.choice(able, 32):
            pick.append(random.choice([i for i in of_patient[patient] if len(samples.series[i]) >= length]))
        series = [samples.series[i][-length:] for i in pick]
        missing = samples.ehr[2][pick] | torch.from_numpy(random.random((len(pick), samples.ehr[2].shape[1])) < 0.2)
        missing |= torch.from_numpy(random.random((len(pick), 1)) < 0.15)
        model.train()
        logits = samples.run(model, pick, series, missing)
        loss = F.binary_cross_entropy_with_logits(logits, 0.9 * samples.y[pick] + 0.05)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


@torch.no_grad()
def predict(model: Upper, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """One logit a row, each with its earlier images."""
    return np.array([float(samples.run(model, [i], [samples.series[i]], samples.ehr[2][[i]])[0]) for i in rows])
