"""Draw the networks of docs/by-the-book.md: `python docs/drawings/draw.py`. A test holds that the files are these."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = """\
<style>
.network { --ink: #24292f; --faint: #9aa4af; --paper: #fff; --forward: #0969da; --backward: #c2410c; }
@media (prefers-color-scheme: dark) {
  .network { --ink: #e6edf3; --faint: #6e7781; --paper: #0d1117; --forward: #58a6ff; --backward: #fb923c; }
}
</style>
"""
LOOKS = {
    "faint": 'stroke="var(--faint)" stroke-width="1.2"',
    "forward": 'stroke="var(--forward)" stroke-width="2.5" marker-end="url(#forward)"',
    "backward": 'stroke="var(--backward)" stroke-width="2.5" marker-end="url(#backward)"',
}
RADIUS = 26
WIDTH, HEIGHT = 640, 300
X = [(80, 105), (80, 195)]
HIDDEN = [(250, 60), (250, 150), (250, 240)]
OUT = [(420, 105), (420, 195)]
COST = (570, 150)

Point = tuple[int, int]


def unit(at: Point, label: str, look: str = "ink") -> str:
    """Return a unit with its label inside."""
    x, y = at
    ring = f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="var(--paper)" stroke="var(--{look})" stroke-width="2"/>'
    return ring + text((x, y + 5), label, size=16 if len(label) < 4 else 13)


def text(at: Point, label: str, look: str = "ink", anchor: str = "middle", size: int = 16) -> str:
    """Return a text; `anchor` says which of its ends is at the point."""
    place = f'x="{at[0]}" y="{at[1]}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="var(--{look})">{label}</text>'


def edge(start: Point, end: Point, look: str = "faint") -> str:
    """Return a line between two units, from rim to rim."""
    (x, y), (u, v) = start, end
    length = ((u - x) ** 2 + (v - y) ** 2) ** 0.5
    dx, dy = (u - x) / length, (v - y) / length
    gap = RADIUS + (8 if look != "faint" else 0)
    ends = f'x1="{x + RADIUS * dx:.1f}" y1="{y + RADIUS * dy:.1f}" x2="{u - gap * dx:.1f}" y2="{v - gap * dy:.1f}"'
    return f"<line {ends} {LOOKS[look]}/>"


def network(marked: dict[tuple[Point, Point], str], labels: dict[Point, str]) -> list[str]:
    """Return the whole network with some edges in another look; backward ones point the other way."""
    lines = []
    for start, end in [(a, b) for a in X for b in HIDDEN] + [(a, b) for a in HIDDEN for b in OUT]:
        look = marked.get((start, end), "faint")
        lines.append(edge(end, start, look) if look == "backward" else edge(start, end, look))
    for points, name in ((X, "x"), (HIDDEN, "a"), (OUT, "y")):
        lines += [unit(at, labels.get(at, f"{name}{'₁₂₃'[index]}")) for index, at in enumerate(points)]
    return lines


def drawing(lines: list[str]) -> str:
    """Return a file."""
    markers = "".join(
        f'<marker id="{look}" viewBox="0 0 10 10" refX="6" refY="5" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="var(--{look})"/></marker>'
        for look in ("forward", "backward")
    )
    head = f'<svg class="network" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [f'{head} font-family="system-ui, sans-serif">', STYLE + f"<defs>{markers}</defs>", *lines, "</svg>\n"]
    )


def forward() -> list[str]:
    """Return the forward pass into one unit: the incoming activations, each times its weight."""
    lines = network({(X[0], HIDDEN[0]): "forward", (X[1], HIDDEN[0]): "forward"}, {HIDDEN[0]: "z₁→a₁"})
    return [
        *lines,
        text((150, 66), "w₁₁", "forward"),
        text((112, 148), "w₂₁", "forward"),
        text((290, 34), "dz₁/dw₂₁ = x₂, the incoming activation", "forward", "start"),
    ]


def end() -> list[str]:
    """Return where the backward pass begins: at the cost."""
    lines = network({}, {OUT[0]: "z₁→y₁"})
    return [
        *lines,
        edge(OUT[1], COST),
        edge(COST, OUT[0], "backward"),
        unit(COST, "C"),
        text((520, 108), "dC/dy₁", "backward", "start"),
        text((420, 66), "dC/dz₁ = dy₁/dz₁ · dC/dy₁", "backward"),
    ]


def backward() -> list[str]:
    """Return the backward pass into one hidden unit: the deltas of the next layer, each times its weight."""
    marked = {(HIDDEN[1], OUT[0]): "backward", (HIDDEN[1], OUT[1]): "backward"}
    lines = network(marked, {OUT[0]: "δ₁", OUT[1]: "δ₂", HIDDEN[1]: "δ"})
    return [
        *lines,
        text((330, 112), "w₂₁", "backward"),
        text((330, 200), "w₂₂", "backward"),
        text((320, 285), "δ = σ′(z₂) · (w₂₁ δ₁ + w₂₂ δ₂)", "backward", "start"),
    ]


def weight() -> list[str]:
    """Return one weight, at which the passes meet."""
    lines = network({(X[1], HIDDEN[0]): "forward"}, {HIDDEN[0]: "δ₁"})
    return [
        *lines,
        edge(OUT[0], HIDDEN[0], "backward"),
        edge(OUT[1], HIDDEN[0], "backward"),
        text((112, 148), "w₂₁", "forward"),
        text((290, 34), "dC/dw₂₁ = x₂ · δ₁: forward times backward", "ink", "start"),
    ]


DRAWINGS = {"forward": forward, "end": end, "backward": backward, "weight": weight}


def drawings() -> dict[str, str]:
    """Return every file by its name."""
    return {f"{name}.svg": drawing(draw()) for name, draw in DRAWINGS.items()}


if __name__ == "__main__":
    for name, content in drawings().items():
        (FOLDER / name).write_text(content, "utf-8")
