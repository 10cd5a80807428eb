"""What simdnorm_bench measured: its JSON files read into tables, and the questions that are asked of a table."""
import json
import math
import pathlib
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field

TIE = 1.03  # times this close count as equal
KIB, MIB = 2**10, 2**20
# From this size of x on, averages of time / copy say something; below it the fixed cost of a call is what counts.
THROUGHPUT_BYTES = 64 * KIB

PEERS = ["oneDNN", "oneDNN:nChw16c", "PyTorch", "ONNXRuntime", "ggml", "loops"]  # in the order of columns


def label(runner):
    """Its name for readers."""
    return {"ONNXRuntime": "ONNX Runtime", "loops": "by hand"}.get(runner, runner.replace(":", " "))


@dataclass
class Samples:
    """The repetitions of one runner on one case: times of a call; and those of the copy, which all runners of the case share,
    in seconds.

    Each runner's repetitions time the copy too. Runners take turns at random in one process, so that a median over all of
    these copies stands for the same minutes as the calls; over its own few, every runner would have a yardstick of its own:
    two threads copy a few KiB in 0.6 or in 1.4 µs, and elsewhere times over that varied twice as much as the calls did.
    """

    copies: list
    calls: list = field(default_factory=list)

    call = property(lambda self: statistics.median(self.calls))
    copy = property(lambda self: statistics.median(self.copies))
    ratios = property(lambda self: [call / self.copy for call in self.calls])
    ratio = property(lambda self: self.call / self.copy)

    def spread(self):
        """Half the width of the middle half of the ratios, over their median."""
        if len(self.ratios) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return (high - low) / 2 / self.ratio


@dataclass(frozen=True)
class Case:
    """What a call computes."""

    operation: str
    dtype: str
    shape: str

    def __str__(self):
        return f"{self.operation} {self.dtype} {self.shape}"

    sizes = property(lambda self: [int(size) for size in self.shape.split(":")[0].split("x")])
    elements = property(lambda self: math.prod(self.sizes))
    bytes = property(lambda self: self.elements * (4 if self.dtype.startswith("f32") else 2))  # of x


class Table(dict):
    """Case -> runner -> Samples, on one number of threads. A runner is a CPU target, which means simdnorm; a peer; a peer in a
    layout of its own, which does not compete (oneDNN:nChw16c on nchw); or "ceiling", a loop with the same loads and stores and
    no arithmetic. simdnorm's time is that of its best target."""

    def __init__(self, items=(), targets=()):
        super().__init__(items)
        self.targets = list(targets)  # those that ran, best first
        self.best = next(iter(targets), None)

    def part(self, wanted):
        return Table(((case, runs) for case, runs in self.items() if wanted(case)), self.targets)

    def runners(self):
        """In the order of columns."""
        ran = {runner for runs in self.values() for runner in runs}
        strangers = ran.difference(self.targets, PEERS, ["ceiling"])
        return [name for name in [*self.targets, *PEERS, *sorted(strangers), "ceiling"] if name in ran]

    def ours(self, case):
        return self[case].get(self.best)

    def best_peer(self, case):
        peers = [name for name in self[case] if name not in self.targets and name != "ceiling" and ":" not in name]
        return min(peers, key=lambda name: self[case][name].ratio, default=None)

    def lead(self, case, peer=None):
        """How many times simdnorm's time a peer takes, by default the fastest; None where one of them is missing."""
        ours, theirs = self.ours(case), self[case].get(peer or self.best_peer(case))
        return theirs.ratio / ours.ratio if ours and theirs else None

    def contested(self):
        return self.part(lambda case: self.lead(case) is not None)

    def lost(self):
        """The cases where a peer is faster, by more than a tie."""
        return self.contested().part(lambda case: self.lead(case) * TIE < 1)


def load(paths):
    """-> (pass -> number of threads -> Table, pass -> context, messages of what failed). A pass is what a file's context says
    it holds: "cases"; "avx2", the same with simdnorm and peers held to AVX2; or "scaling", how cost grows with size."""
    samples, contexts, failures = defaultdict(lambda: defaultdict(dict)), {}, []
    for path in paths:
        try:
            measured = json.loads(pathlib.Path(path).read_text())
        except (OSError, ValueError) as error:
            sys.exit(f"report: cannot read {path}: {error}")
        pass_name = measured["context"].get("pass", "cases")
        contexts.setdefault(pass_name, measured["context"])
        for run in sorted(measured["benchmarks"], key=lambda run: run["family_index"]):  # they ran in random order
            operation, dtype, shape, runner, threads = run["run_name"].split("/")
            if run.get("error_occurred"):  # most have no such layer, which is no failure
                if "no such layer" not in run["error_message"]:
                    failures.append(f"{run['run_name']}: {run['error_message']}")
            elif run["run_type"] == "iteration":
                runs = samples[pass_name][int(threads.split(":")[1])].setdefault(Case(operation, dtype, shape), {})
                copies = next(iter(runs.values())).copies if runs else []
                of_runner = runs.setdefault(runner, Samples(copies))
                of_runner.copies.append(run["copy_s"])
                of_runner.calls.append(run["call_s"])  # real_time has every interruption in it
    if not samples:
        sys.exit("report: nothing is measured in " + " ".join(map(str, paths)))
    passes = {}
    for pass_name, by_threads in samples.items():
        ran = {runner for cases in by_threads.values() for runs in cases.values() for runner in runs}
        targets = [target for target in contexts[pass_name]["targets"].split() if target in ran]
        passes[pass_name] = {threads: Table(cases, targets) for threads, cases in sorted(by_threads.items())}
    return passes, contexts, sorted(set(failures))


def geometric_mean(values):
    """Of those that are not None; None if there is none."""
    values = [value for value in values if value is not None]
    return statistics.geometric_mean(values) if values else None
