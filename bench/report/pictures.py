"""The pictures, as SVG and PNG, drawn by matplotlib: 800 pixels wide, and nothing in them is told apart by colour alone."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FormatStrFormatter, NullFormatter

WIDTH = 8  # inches of 100 pixels
BLUE, ORANGE, GREY, LIGHT = "#0072B2", "#D55E00", "#737373", "#BDBDBD"
plt.rcParams.update({"font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "svg.hashsalt": "simdnorm"})


def subplots(lines, columns, height, title, footnote, **options):
    figure, grid = plt.subplots(lines, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **options)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(footnote, x=0.01, ha="left", fontsize=8.5)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(grid.flat)


def save(figure, path):
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=100)
    plt.close(figure)


def draw_bars(path, title, footnote, panels):
    """panels: [(title, [(label, time / copy, "ours", "peer" or "other layout")])]. All have the same scale; a bar that is
    longer than its panel is cut off there, and its number says how long it is."""
    end, columns = 8, 3
    lines = -(-len(panels) // columns)
    figure, grid = subplots(lines, columns, 0.9 + 1.75 * lines, title, footnote)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (panel_title, bars) in zip(grid, panels):
        for place, (_, ratio, kind) in enumerate(bars):
            color = {"ours": BLUE, "peer": GREY, "other layout": "white"}[kind]
            hatch = "////" if kind == "other layout" else None
            axes.barh(place, min(ratio, end), 0.72, color=color, edgecolor=GREY, linewidth=0, hatch=hatch)
            text = (f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}") + " ▸" * (ratio > end)
            inside = ratio > 0.8 * end and hatch is None
            side = {"ha": "right", "color": "white"} if inside else {"ha": "left"}
            weight = "bold" if kind == "ours" else "normal"
            axes.text(min(ratio, end) + (-0.15 if inside else 0.15), place, text, va="center", fontweight=weight, **side)
        axes.axvline(1, color="black", linewidth=1, linestyle=(0, (4, 2)))
        axes.set_title(panel_title)
        axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        axes.set_ylim(max(len(panel_bars) for _, panel_bars in panels) - 0.5, -0.6)
        axes.set_xlim(0, end)
        axes.set_xticks([1, 4, 6, 8], ["copy", "4 ×", "6 ×", "8 ×"])
        axes.tick_params(length=0, labelsize=8.5)
        axes.spines["bottom"].set_visible(False)
    save(figure, path)


def draw_curves(path, title, footnote, panels, borders):
    """panels: [(title, [(label, [elements], [ns per element], number of threads, whether it is the copy)])];
    borders: [(name of a cache, elements that fit it)]."""
    figure, grid = subplots(1, len(panels), 3.8, title, footnote, sharex=True, sharey=True)
    all_times = [time for _, lines in panels for _, _, times, _, _ in lines for time in times]
    for axes, (panel_title, lines) in zip(grid, panels):
        for label, elements, times, threads, is_copy in lines:
            color = (GREY if threads == 1 else LIGHT) if is_copy else (BLUE if threads == 1 else ORANGE)
            marker = None if is_copy else "o" if threads == 1 else "s"
            axes.plot(elements, times, "-" if threads == 1 else "--", color=color, marker=marker, markersize=4, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_yticks([a * b for a in (0.001, 0.01, 0.1, 1, 10) for b in (1, 2, 5)])
        axes.set_ylim(0.85 * min(all_times), 1.3 * max(all_times))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        for name, elements in borders:
            axes.axvline(elements, color=GREY, linewidth=0.8, linestyle=":")
            axes.annotate(name, (elements, 1), (-2, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                          ha="right", va="top", color=GREY, fontsize=8)
        axes.set_title(panel_title)
        axes.set_xlabel("elements")
        axes.grid(color="#E8E8E8", linewidth=0.6)
    grid[0].set_ylabel("ns per element")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="upper right", ncols=4, frameon=False, fontsize=8.5)
    save(figure, path)
