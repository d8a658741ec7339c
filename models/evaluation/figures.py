"""Pictures of the report: plain SVG, no library."""

from __future__ import annotations

from html import escape

import numpy as np

COLOURS = ["#27647b", "#ca6b35", "#5b8c5a", "#8a4f7d", "#b08900", "#4f5d75", "#a23b4b", "#2f9c95"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 340, 56, 12, 28, 78
STEPS = [m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)]


def ticks(low: float, high: float) -> list[float]:
    """Round values from low to high, seven at most."""
    step = next(s for s in STEPS if (high - low) / s <= 6 + 1e-9)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [i * step for i in range(first, last + 1)]


class Plot:
    """Axes with a frame; x in [x0, x1], y in [y0, y1]."""

    def __init__(self, title: str, x: tuple[float, float], y: tuple[float, float],
                 x_name: str = "", y_name: str = "") -> None:  # fmt: skip
        self.x_range, self.y_range = x, y
        self.parts = [
            f'<text x="{LEFT}" y="16" font-weight="600">{escape(title)}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 36}" text-anchor="middle">'
            f"{escape(x_name)}</text>",
            f'<text x="14" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
            f'transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_name)}</text>',
        ]
        for value in ticks(*y):
            at = self.y(value)
            self.parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" '
                f'stroke="#ddd"/><text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
                f"{value:.2f}</text>"
            )

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def tick(self, value: float, text: str, slanted: bool = False) -> None:
        x, y = self.x(value), HEIGHT - BOTTOM + 14
        turn = f' transform="rotate(-30 {x:.1f} {y})"' if slanted else ""
        anchor = "end" if slanted else "middle"
        self.parts.append(
            f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
        )

    def bar(self, centre: float, width: float, value: float, colour: str, name: str) -> None:
        top, bottom = self.y(value), self.y(self.y_range[0])
        left, right = self.x(centre - width / 2), self.x(centre + width / 2)
        self.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{max(bottom - top, 0):.1f}" fill="{colour}">'
            f"<title>{escape(name)}</title></rect>"
        )

    def whisker(self, x: float, low: float, high: float) -> None:
        if np.isnan(low) or np.isnan(high):
            return
        at = self.x(x)
        self.parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self.y(low):.1f}" y2="{self.y(high):.1f}" '
            'stroke="#222"/>'
        )

    def line(self, xs, ys, colour: str, dots: bool = False, dashed: bool = False) -> None:
        points = [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True) if not np.isnan(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )
        if dots:
            self.parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points
            ]

    def legend(self, names: list[str]) -> None:
        x = WIDTH - RIGHT
        for i, name in reversed(list(enumerate(names))):
            x -= 9 + 6.4 * len(name) + 14
            self.parts.append(
                f'<rect x="{x:.0f}" y="7" width="10" height="10" '
                f'fill="{COLOURS[i % len(COLOURS)]}"/>'
                f'<text x="{x + 14:.0f}" y="16">{escape(name)}</text>'
            )

    def svg(self) -> str:
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
            f'fill="#222" role="img">{"".join(self.parts)}</svg>'
        )


def low_end(values: list[float], default: float) -> float:
    """A round value below all of them, so that small differences can be seen."""
    known = [v for v in values if not np.isnan(v)]
    return min(default, np.floor(min(known, default=default) * 10) / 10)


def bar_chart(found: dict) -> str:
    """AUROC per label, one bar a bundle, with intervals."""
    bundles, labels = list(found["bundles"]), found["labels"]
    rows = {b: found["bundles"][b]["conditions"]["clean"]["labels"] for b in bundles}
    low = low_end([rows[b][n]["auroc"]["low"] for b in bundles for n in labels], 0.5)
    plot = Plot("AUROC per label", (-0.6, len(labels) - 0.4), (low, 1), "", "AUROC")
    width = 0.8 / len(bundles)
    for i, name in enumerate(labels):
        plot.tick(i + 0.2, name.replace("_", " "), slanted=True)
        for k, bundle in enumerate(bundles):
            x, value = i + (k - (len(bundles) - 1) / 2) * width, rows[bundle][name]["auroc"]
            if np.isnan(value["value"]):
                continue
            shown = f"{bundle}, {name}: {value['value']:.3f}"
            plot.bar(x, width * 0.9, value["value"], COLOURS[k % len(COLOURS)], shown)
            plot.whisker(x, value["low"], value["high"])
    plot.legend(bundles)
    return plot.svg()


def ablation_plot(found: dict) -> str:
    """Macro-AUROC of every bundle, in the order given, with intervals."""
    bundles = list(found["bundles"])
    values = [found["bundles"][b]["conditions"]["clean"]["macro"]["auroc"] for b in bundles]
    low = low_end([v["low"] for v in values], 0.5)
    plot = Plot("Macro-AUROC by configuration", (-0.6, len(bundles) - 0.4), (low, 1), "", "AUROC")
    for i, (bundle, value) in enumerate(zip(bundles, values, strict=True)):
        plot.tick(i, bundle)
        plot.bar(i, 0.5, value["value"], COLOURS[i % len(COLOURS)], f"{value['value']:.3f}")
        plot.whisker(i, value["low"], value["high"])
    return plot.svg()


def calibration_plot(found: dict) -> str:
    """Observed share against mean probability, all labels together, bins of equal mass."""
    bundles = list(found["bundles"])
    curves = [found["bundles"][b]["conditions"]["clean"]["reliability"] for b in bundles]
    most = max(max(v for v in c["predicted"] + c["observed"] if v is not None) for c in curves)
    most = min(1.0, np.ceil(most * 10) / 10)
    plot = Plot("Calibration", (0, most), (0, most), "mean probability", "observed share")
    plot.line([0, most], [0, most], "#999", dashed=True)
    for value in ticks(0, most):
        plot.tick(value, f"{value:.2f}")
    for i, curve in enumerate(curves):
        known = [
            (p, o)
            for p, o in zip(curve["predicted"], curve["observed"], strict=True)
            if p is not None and o is not None
        ]
        plot.line([p for p, _ in known], [o for _, o in known], COLOURS[i % len(COLOURS)], True)
    plot.legend(bundles)
    return plot.svg()


def risk_plot(found: dict) -> str:
    bundles = list(found["bundles"])
    curves = [found["bundles"][b]["conditions"]["clean"]["risk_coverage"] for b in bundles]
    most = max(max(c["risk"]) for c in curves) or 0.1
    plot = Plot("Risk of the most certain answers (mean over labels)", (0, 1), (0, most * 1.05),
                "coverage", "error rate")  # fmt: skip
    for value in np.linspace(0, 1, 6):
        plot.tick(value, f"{value:.1f}")
    for i, curve in enumerate(curves):
        plot.line(curve["coverage"], curve["risk"], COLOURS[i % len(COLOURS)])
    plot.legend(bundles)
    return plot.svg()


def condition_plot(found: dict, kind: str, title: str, x_name: str, member: str) -> str:
    """A macro figure of every bundle along the levels of one kind of condition."""
    bundles, y_name = list(found["bundles"]), member.replace("_", " ")
    rows = {}
    for bundle in bundles:
        conditions = found["bundles"][bundle]["conditions"]
        start = [] if kind == "temporal" else [(0, conditions["clean"])]
        rows[bundle] = start + sorted(
            ((c["level"], c) for c in conditions.values() if c["kind"] == kind),
            key=lambda pair: pair[0],
        )
    values = [c["macro"][member] for r in rows.values() for _, c in r]
    low = low_end([v["low"] for v in values], 0.5 if member == "auroc" else 0.8)
    levels = [level for level, _ in rows[bundles[0]]]
    pad = 0.3
    plot = Plot(title, (min(levels) - pad, max(levels) + pad), (low, 1), x_name, y_name)
    for level in levels:
        plot.tick(level, str(level))
    for i, bundle in enumerate(bundles):
        for level, c in rows[bundle]:
            plot.whisker(level + 0.03 * i, c["macro"][member]["low"], c["macro"][member]["high"])
        plot.line(
            levels, [c["macro"][member]["value"] for _, c in rows[bundle]],
            COLOURS[i % len(COLOURS)], True,
        )  # fmt: skip
    plot.legend(bundles)
    return plot.svg()
