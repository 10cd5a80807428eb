"""The bars that simdnorm is held to, the aims beyond them, and how a measurement stands to them."""
import math

from measurements import KIB, MIB, TIE, Case, geometric_mean, label

# f32 on one thread of a machine with AVX-512: operations, shapes, unit ("ns" a call, or times the fastest "copy"), bar, aim.
NORMS = ("LayerNorm", "RMSNorm")
STAGES = ("32x64x56x56:nchw", "32x64x56x56:nhwc", "32x256x14x14:nchw", "32x256x14x14:nhwc")
BARS = [
    (("LayerNorm",), ("1x768",), "ns", 80, 60),
    (("LayerNorm",), ("1x16",), "ns", 40, 25),  # the fixed cost of a call
    (("LayerNorm",), ("128x1024", "333x777"), "copy", 1.9, 1.5),  # in L2
    (("RMSNorm",), ("128x1024", "333x777"), "copy", 1.6, 1.3),
    (NORMS, ("512x768", "2048x1024", "512x4096"), "copy", 1.7, 1.25),  # in L3
    (NORMS, ("4096x4096", "64x65536"), "copy", 1.6, 1.25),  # beyond it
    (NORMS, ("65536x64", "65536x128"), "copy", 2.0, 1.3),  # short rows
    (("BatchNormTraining",), STAGES, "copy", 2.0, 1.4),
    (("BatchNormInference",), STAGES, "copy", 1.2, 1.05),
    (("GroupNorm",), ("8x512x28x28:g32:nchw", "8x512x28x28:g32:nhwc"), "copy", 2.2, 1.4),
]
# Where a bar cannot be met: this close to a loop with the same loads and stores and no arithmetic.
NEAR_CEILING = 1.1
# How many times simdnorm's time the fastest peer of each case takes, in the geometric mean on one thread.
PEER_BARS = {
    ("LayerNorm", "f32"): 1.7,
    ("RMSNorm", "f32"): 1.4,
    ("BatchNormTraining", "f32"): 1.5,
    ("BatchNormInference", "f32"): 1.15,
    ("GroupNorm", "f32"): 1.5,
    ("LayerNorm", "bf16"): 2.5,
    ("LayerNorm", "f16"): 20,
    ("RMSNorm", "f16"): 20,
}
# AVX2's time over AVX-512's for the f32 operations above, by the bytes of x and y: in 48 KiB of L1, and beyond 32 MiB of L3.
AVX2_BARS = [("in L1", 0, 48 * KIB, 1.8), ("out of cache", 32 * MIB, math.inf, 1.25)]
# What more threads gain a call over what they gain the copy, for x of so many bytes and more.
SCALING_BAR, SCALING_BYTES = 0.95, MIB


def figure(value, suffix=""):
    """Three digits, or nothing for None."""
    if value is None:
        return ""
    return (f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}") + suffix


class Verdicts:
    """Rows of a table (what, bar, aim, measured, ceiling, verdict), and a line for each case behind a row that counts cases."""

    def __init__(self):
        self.rows, self.cases = [], []

    def add(self, what, met, measured, bar, aim="", ceiling=""):
        self.rows.append((what, bar, aim, measured, ceiling, met if isinstance(met, str) else "met" if met else "MISSED"))

    def count(self, what, of, bad):
        """That none of so many cases is bad; bad is [(case, what is wrong with it)]."""
        if of:
            self.add(what, not bad, f"{len(bad)} of {of}", "0")
            self.cases.extend(f"{what}: {case}: {text}" for case, text in bad)

    def none_lost(self, what, table):
        lost = table.lost()
        bad = [(case, f"{figure(1 / lost.lead(case))} times that of {label(lost.best_peer(case))}") for case in lost]
        self.count(what, len(table.contested()), bad)


def check(passes):
    """Only what was measured has a row."""
    verdicts = Verdicts()
    tables = passes.get("cases", {})
    if one := tables.get(1):
        check_cases(verdicts, one)
        for (operation, dtype), bar in PEER_BARS.items():
            part = one.part(lambda case: (case.operation, case.dtype) == (operation, dtype))
            if (lead := geometric_mean(map(part.lead, part))) is not None:
                verdicts.add(f"{operation} {dtype}, best peer / simdnorm", lead >= bar, figure(lead), f"≥ {figure(bar)}")
        check_avx2(verdicts, one)
    for threads, table in tables.items():
        verdicts.none_lost(f"slower than a peer, threads: {threads}", table)
        if one and threads > 1:
            check_threads(verdicts, threads, table, one)
    for threads, table in passes.get("avx2", {}).items():
        verdicts.none_lost(f"slower than a peer, all held to AVX2, threads: {threads}", table)
    return verdicts


def check_cases(verdicts, one):
    for operations, shapes, unit, bar, aim in BARS:
        for case in [Case(operation, "f32", shape) for operation in operations for shape in shapes]:
            if case not in one or one.ours(case) is None:
                continue
            value = (lambda samples: samples.call * 1e9) if unit == "ns" else (lambda samples: samples.ratio)
            ours = value(one.ours(case))
            ceiling = value(one[case]["ceiling"]) if "ceiling" in one[case] else None
            near = ceiling is not None and ours <= NEAR_CEILING * ceiling
            verdict = "met, aim too" if ours <= aim else "met" if ours <= bar else "near the ceiling" if near else "MISSED"
            what = f"{case.operation} {case.shape}, " + ("a call" if unit == "ns" else "time / copy")
            texts = (figure(number, " ns" if unit == "ns" else "") for number in (ours, bar, aim, ceiling))
            verdicts.add(what, verdict, *texts)


def check_avx2(verdicts, one):
    if one.best == "AVX2":
        return
    norms = one.part(lambda case: (case.operation, case.dtype) in PEER_BARS and case.dtype == "f32" and one.ours(case))
    times = {case: runs["AVX2"].call / norms.ours(case).call for case, runs in norms.items() if "AVX2" in runs}
    for where, least, most, bar in AVX2_BARS:
        there = [case for case in times if least <= 2 * case.bytes <= most]
        bad = [(case, figure(times[case])) for case in there if times[case] > bar]
        verdicts.count(f"AVX2 over {figure(bar)} times {one.best}'s time {where}", len(there), bad)


def check_threads(verdicts, threads, table, one):
    both = [case for case in table if case in one and one.ours(case) and table.ours(case)]
    large = [case for case in both if case.bytes >= SCALING_BYTES]
    gains = {case: one.ours(case).ratio / table.ours(case).ratio for case in large}
    bad = [(case, figure(gain)) for case, gain in gains.items() if gain < SCALING_BAR]
    verdicts.count(f"{threads} threads gain less than {SCALING_BAR} of what the copy gains, x ≥ 1 MiB", len(large), bad)
    times = {case: table.ours(case).call / one.ours(case).call for case in both}
    bad = [(case, f"{figure(time)} times") for case, time in times.items() if time > TIE]
    verdicts.count(f"{threads} threads slower than one", len(both), bad)
