#!/usr/bin/env python3
"""What tools/bench shows of its measurements.

    report.py --output FOLDER [--readme README.md [--errors ERRORS.md]] MEASUREMENT.json...

Reads what simdnorm_bench writes with --benchmark_out, one file or many, and prints tables. FOLDER gets them as tables.md, all
figures as CSV, and pictures where matplotlib is installed; the README gets its generated part anew. The yardstick is
copy_ratio, a call's time over that of the fastest copy of the same bytes on as many threads. Figures are medians.
"""
import argparse
import csv
import pathlib
import statistics
import sys

from bars import check, figure
from measurements import KIB, MIB, PEERS, THROUGHPUT_BYTES, geometric_mean, label, load

TITLES = {  # the operations of the README's table
    "LayerNorm": "layer norm",
    "RMSNorm": "RMS norm",
    "GroupNorm": "group norm",
    "BatchNormTraining": "batch norm, training",
    "BatchNormInference": "batch norm, inference",
}
PANELS = [  # of the overview picture, line by line: title, operation, dtype, layout
    ("Layer norm", "LayerNorm", "f32", ""),
    ("RMS norm", "RMSNorm", "f32", ""),
    ("Group norm, NCHW", "GroupNorm", "f32", ":nchw"),
    ("Batch norm, training, NCHW", "BatchNormTraining", "f32", ":nchw"),
    ("Batch norm, training, NHWC", "BatchNormTraining", "f32", ":nhwc"),
    ("Layer norm, bf16", "LayerNorm", "bf16", ""),
    ("Batch norm, inference, NCHW", "BatchNormInference", "f32", ":nchw"),
    ("Batch norm, inference, NHWC", "BatchNormInference", "f32", ":nhwc"),
    ("Layer norm, f16", "LayerNorm", "f16", ""),
]
GROWTH_PANELS = [  # title, operation, which of its sizes stays, at how much
    ("Layer norm, rows of 1024", "LayerNorm", 1, 1024),
    ("Layer norm, 16 rows", "LayerNorm", 0, 16),
    ("Batch norm, training, by batch", "BatchNormTraining", 1, 64),
]
PASSES = {"cases": "", "avx2": ", held to AVX2", "scaling": ", growth"}  # in the order of tables, with what headings add
README_MARKS = "<!-- {}: begin -->\n", "<!-- {}: end -->\n"

CASES_WORDS = """\
Times over that of the fastest copy of the same bytes, medians; the fastest of those that compete in bold. ± is half of what
the middle half of the repetitions spans. A peer in a layout of its own, such as nChw16c, does not compete. The
ceiling is a loop with simdnorm's loads and stores, of the same kind, and no arithmetic.
"""
SUMMARY_WORDS = f"""\
Time / copy is simdnorm's, where x has {THROUGHPUT_BYTES // KIB} KiB or more. A peer's column says how many times simdnorm's
time the peer takes, in the cases that it has; "fastest peer" takes the fastest of each case. Geometric means.
"""


def markdown(header, rows):
    """A table in Markdown whose columns line up, so that a terminal shows it well too."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]

    def line(cells):
        return "| " + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths))) + " |\n"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|\n"
    return line(header) + rule + "".join(map(line, rows))


def duration(seconds):
    for scale, unit in ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms")):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cases_table(table):
    runners = table.runners()
    rows = []
    for case, runs in table.items():
        peer = table.best_peer(case)
        rivals = [name for name in [*table.targets, peer] if name in runs] if peer else []
        winner = min(rivals, key=lambda name: runs[name].ratio, default=None)
        row = [f"{case.operation} {case.shape}", duration(next(iter(runs.values())).copy)]
        for name in runners:
            text = figure(runs[name].ratio) if name in runs else ""
            text = f"**{text}**" if name == winner else text
            row.append(f"{text} ±{runs[name].spread():.0%}" if name in runs and name in table.targets else text)
        rows.append(row)
    heads = [f"simdnorm {name}" if name in table.targets else label(name) for name in runners]
    return markdown(["case", "fastest copy", *heads], rows)


def summary_table(tables, operations):
    """A row for each operation, dtype and number of threads where there are peers."""
    wanted = lambda case: case.operation in operations
    contested = {threads: table.contested().part(wanted) for threads, table in tables.items()}
    kinds = dict.fromkeys((case.dtype, case.operation) for table in contested.values() for case in table)
    peers = [name for name in PEERS if ":" not in name and any(name in table.runners() for table in contested.values())]
    rows = []
    for dtype, operation in kinds:
        for threads, table in contested.items():
            part = table.part(lambda case: (case.dtype, case.operation) == (dtype, operation))
            if part:
                ours = geometric_mean(part.ours(case).ratio for case in part if case.bytes >= THROUGHPUT_BYTES)
                leads = [geometric_mean(map(part.lead, part))]
                leads += [geometric_mean(part.lead(case, peer) for case in part) for peer in peers]
                row = [f"{TITLES.get(operation, operation)}, {dtype}", str(threads), figure(ours)]
                rows.append(row + [figure(lead, " ×") for lead in leads] + [f"{len(part.lost())} of {len(part)}"])
    heads = ["", "threads", "time / copy", "fastest peer", *map(label, peers), "slower than a peer"]
    return markdown(heads, rows) if rows else ""


def data_caches(context):
    """-> [(level, bytes)]"""
    return [(cache["level"], cache["size"]) for cache in context["caches"] if cache["type"] != "Instruction"]


def machine(context):
    """-> (on what it was measured, and when; the versions of what was measured)"""
    size_text = lambda size: f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"
    caches = [f"{size_text(size)} L{level}" for level, size in data_caches(context)]
    versions = [f"simdnorm {context['simdnorm']} ({context['targets'].split()[0]})"]
    for key, version in context.items():
        if key.startswith("peer_") and ":" not in key:
            versions.append(f"{label(key.removeprefix('peer_'))} {version}")
    where = f"{context['cpu']} ({context['num_cpus']} CPUs, {', '.join(caches)}), {context['date'][:10]}"
    return where, ", ".join(versions)


def tables_text(passes, contexts, failures):
    parts = [CASES_WORDS]
    for pass_name in [name for name in PASSES if name in passes]:
        tables, title = passes[pass_name], PASSES[pass_name]
        parts.append("; ".join(machine(contexts[pass_name])) + ".\n")
        for dtype in dict.fromkeys(case.dtype for table in tables.values() for case in table):
            for threads, table in tables.items():
                if part := table.part(lambda case: case.dtype == dtype):
                    parts.append(f"## {dtype}, threads: {threads}{title}\n\n{cases_table(part)}")
        operations = {case.operation for table in tables.values() for case in table}
        if summary := summary_table(tables, operations):
            parts.append(f"## Summary{title}\n\n{SUMMARY_WORDS}\n{summary}")
    verdicts = check(passes)
    if verdicts.rows:
        heads = ["one thread and f32 unless said", "bar", "aim", "measured", "ceiling", ""]
        parts.append("## Bars\n\n" + markdown(heads, verdicts.rows))
    if verdicts.cases:
        parts.append("".join(f"- {line}\n" for line in verdicts.cases))
    if failures:
        parts.append("## Failed\n\n" + "".join(f"- {line}\n" for line in failures))
    return "\n".join(parts)


def write_csv(path, tables):
    """A row for each number of threads, case and runner; times in seconds."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        heads = [f"{what}_{which}" for what in ("ratio", "call", "copy") for which in ("median", "min", "max")]
        writer.writerow(["operation", "dtype", "shape", "threads", "runner", "repetitions", "ratio_spread", *heads])
        for threads, table in tables.items():
            for case, runs in table.items():
                for runner in [name for name in table.runners() if name in runs]:
                    samples = runs[runner]
                    row = [case.operation, case.dtype, case.shape, threads, runner, len(samples.ratios)]
                    row.append(f"{samples.spread():.3f}")
                    for numbers in (samples.ratios, samples.calls, samples.copies):
                        row += [f"{number:.4g}" for number in (statistics.median(numbers), min(numbers), max(numbers))]
                    writer.writerow(row)


def first_table(passes):
    """On one thread, unless that was not measured."""
    return passes["cases"][min(passes["cases"])]


def overview(table):
    """The panels of pictures.draw_bars, each over the cases that all of its runners have."""
    panels = []
    for title, operation, dtype, layout in PANELS:
        part = table.contested().part(
            lambda case: (case.operation, case.dtype) == (operation, dtype)
            and case.bytes >= THROUGHPUT_BYTES
            and case.shape.endswith(layout)
        )
        ran = [table.best] + [name for name in PEERS if 2 * sum(name in runs for runs in part.values()) >= len(part)]
        common = [runs for runs in part.values() if all(name in runs for name in ran)]
        if common:
            means = {name: geometric_mean(runs[name].ratio for runs in common) for name in ran}
            kinds = {name: "ours" if name == table.best else "other layout" if ":" in name else "peer" for name in ran}
            labels = {name: "simdnorm" if name == table.best else label(name) for name in ran}
            panels.append((title, [(labels[name], means[name], kinds[name]) for name in ran]))
    return panels


def growth(tables):
    """The panels of pictures.draw_curves."""
    panels = []
    for title, operation, dimension, fixed in GROWTH_PANELS:
        lines = []
        for threads, table in tables.items():
            part = table.part(lambda case: case.operation == operation and case.sizes[dimension] == fixed and table.ours(case))
            cases = sorted(part, key=lambda case: case.elements)
            for what, is_copy in (("simdnorm", False), ("copy", True)) if cases else ():
                seconds = [table.ours(case).copy if is_copy else table.ours(case).call for case in cases]
                elements = [case.elements for case in cases]
                times = [1e9 * time / count for time, count in zip(seconds, elements)]
                lines.append((f"{what}, {threads} thread{'s' * (threads > 1)}", elements, times, threads, is_copy))
        if lines:
            panels.append((title, lines))
    return panels


def draw(passes, contexts, folder):
    import pictures  # needs matplotlib

    if "cases" in passes and (panels := overview(first_table(passes))):
        where, _ = machine(contexts["cases"])
        words = (
            "Time / that of the fastest copy of the same bytes, f32 unless said, threads: "
            f"{min(passes['cases'])}. Geometric means, x of {THROUGHPUT_BYTES // KIB} KiB and more.\n"
            f"Hatched: in a blocked layout of its own. {where}"
        )
        pictures.draw_bars(folder / "speed", "simdnorm and its peers beside a copy: less is faster", words, panels)
    if "scaling" in passes and (panels := growth(passes["scaling"])):
        where, _ = machine(contexts["scaling"])
        borders = [(f"L{level}", size / 8) for level, size in data_caches(contexts["scaling"])]  # x and y in f32
        pictures.draw_curves(folder / "scaling", "Time by size", where, panels, borders)


def readme_part(passes, contexts):
    tables = passes["cases"]
    parts = [
        "![Bars: time over that of a copy, simdnorm beside its peers](bench/results/speed.svg)\n",
        "; ".join(machine(contexts["cases"])) + ".\n",
        SUMMARY_WORDS,
        summary_table(tables, TITLES),
        f"<details>\n<summary>Every case in f32, threads: {min(tables)}</summary>\n",
        CASES_WORDS,
        cases_table(first_table(passes).part(lambda case: case.dtype == "f32")),
        "</details>\n",
    ]
    if "scaling" in passes:
        parts.append("![Curves: time per element as tensors grow, beside a copy](bench/results/scaling.svg)\n")
    parts.append("All tables are in [`bench/results/tables.md`](bench/results/tables.md), and all figures beside it as CSV.\n")
    return "\n".join(parts)


def update_readme(path, generator, part):
    """Replaces what stands between the marks of a generator."""
    begin, end = (mark.format(generator) for mark in README_MARKS)
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        sys.exit(f"report: {path} needs one line {begin.strip()} and one {end.strip()}")
    before, rest = text.split(begin)
    path.write_text(before + begin + part + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--readme", type=pathlib.Path)
    parser.add_argument("--errors", type=pathlib.Path, help="a table for the README, by simdnorm_bench --errors")
    parser.add_argument("measurements", nargs="+")
    arguments = parser.parse_args()

    passes, contexts, failures = load(arguments.measurements)
    if arguments.readme and "cases" not in passes:
        sys.exit("report: the README wants the cases measured, not only how cost grows or AVX2")
    text = tables_text(passes, contexts, failures)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "tables.md").write_text(text)
    for pass_name, tables in passes.items():
        write_csv(arguments.output / f"{pass_name}.csv", tables)
    try:
        draw(passes, contexts, arguments.output)
    except ImportError as error:
        if arguments.readme:
            sys.exit(f"report: the README wants pictures: {error}")
        print(f"report: no pictures: {error}", file=sys.stderr)
    if arguments.readme:
        update_readme(arguments.readme, "tools/bench", readme_part(passes, contexts))
    if arguments.readme and arguments.errors:
        update_readme(arguments.readme, "simdnorm_bench --errors", arguments.errors.read_text())


if __name__ == "__main__":
    main()
