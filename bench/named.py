#!/usr/bin/env python3
"""Whether a profile names what a GPU does, and whether microbenchmarks foretell a step.

    python named.py --tools build/tools --bench build/bench/bench
    python named.py --tools build/tools --networks resnet50 --counters dram,tensor,occupancy
    python named.py --tools build/tools --device cpu --precision f32 --networks b2 --batch-size 8 --steps 4

Each network trains for a few steps on a data set made for it, with the step recorded as a CUDA graph and queued op by op. At
least 99% of the kernels' time must bear a row and pass in either, the same rows and passes in both. `moved` is the share of the
time that the two give to different passes; `tracing` what the trace adds to a recorded step. With --bench, each op of the
network is measured alone and `estimated` is what their sum has more than the step that was measured. Exit code 7 where a network
fails; a table last.
"""

import argparse
import json
import pathlib
import sys
import tempfile

from parity import NETS, Failed, run

WORK = {"input", "forward", "loss", "backward", "update", "unattributed"}  # of a ledger: when the device runs something
NAMED = 0.99


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="folder of `profile` and `synthesize`")
    parser.add_argument("--bench", type=pathlib.Path, help="the program `bench`; without it nothing is estimated")
    parser.add_argument("--out", type=pathlib.Path, help="keeps profiles and results here")
    parser.add_argument("--device", default="cuda:0", help="cpu or cuda:N (default: cuda:0)")
    parser.add_argument("--precision", default="bf16", help="default: bf16")
    parser.add_argument("--networks", default=",".join(NETS), help="default: all twelve")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument("--counters", default="", help="hardware counters to read beside, see profile --help")
    parser.add_argument("--time-limit", type=float, default=600, help="seconds a program may take (default: 600)")
    options = parser.parse_args()
    options.networks = options.networks.split(",")
    return options


def profiled(options, net, data, folder, graph):
    more = ["--counters", options.counters] if options.counters and graph == "step" else []
    return json.loads(run(options, options.tools / "profile", "--net", net, "--data", data, "--device", options.device,
                          "--precision", options.precision, "--batch-size", options.batch_size, "--steps", options.steps,
                          "--statistics", "moving", "--graph", graph, "--json", "--quiet", "--out",
                          folder / f"{net}-{graph}", *more))


def named(profile):
    """The share of the device's working time that bears a row and pass."""
    seconds = {line["name"]: line["seconds"] for line in profile["ledger"] if line["name"] in WORK}
    total = sum(seconds.values())
    if total == 0:
        raise Failed(profile["method"]["note"] or "nothing was recorded")
    return 1 - seconds.get("unattributed", 0) / total


def shares(profile):
    times = {(layer["row"], layer["pass"]): layer["ns_per_step"] for layer in profile["layers"]}
    total = sum(times.values())
    return {scope: time / total for scope, time in times.items()}


def estimated(options, net, folder):
    results = folder / f"{net}-bench.json"
    run(options, options.bench, "--device", options.device, "--precision", options.precision, "--net", net, "--size", 96,
        "--batch", options.batch_size, "--benchmark_filter=-/large|/cold", "--benchmark_repetitions=3",
        f"--benchmark_out={results}")
    forecast = json.loads(run(options, options.tools / "profile", "forecast", "--net", net, "--precision", options.precision,
                              "--batch-size", options.batch_size, "--bench", results, "--measured", folder / f"{net}-step",
                              "--json"))
    network = forecast["networks"][0]
    if network["error"] is None:
        raise Failed(f"{len(network['missing'])} cases are not in the results, the first {network['missing'][0]}")
    return network["error"]


def judged(options, net, data, folder):
    """A line of the table, and whether the network passes."""
    recorded, queued = profiled(options, net, data, folder, "step"), profiled(options, net, data, folder, "off")
    a, b = shares(recorded), shares(queued)
    moved = sum(abs(a.get(scope, 0) - b.get(scope, 0)) for scope in {*a, *b}) / 2
    passes = min(named(recorded), named(queued)) >= NAMED and a.keys() == b.keys()
    line = (f"{net:<20}{named(recorded):>10.2%}{named(queued):>10.2%}{len(a):>8}{moved:>8.2%}"
            f"{recorded['distortion']['share']:>+9.1%}{recorded['distortion']['untraced_ns_per_step'] * 1e-6:>10.3f}")
    if options.bench:
        line += f"{estimated(options, net, folder):>+10.1%}"
    if a.keys() != b.keys():
        line += f"  passes of one alone: {len(a.keys() ^ b.keys())}"
    return line, passes


def main():
    options = parse()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        data = pathlib.Path(scratch) / "data"
        run(options, options.tools / "synthesize", "pcam", "--out", data, "--train", 16 * options.batch_size, "--valid", 64,
            "--test", 64)
        print(f"{'network':<20}{'recorded':>10}{'queued':>10}{'passes':>8}{'moved':>8}{'tracing':>9}{'ms a step':>10}"
              f"{'estimated' if options.bench else '':>10}", flush=True)
        for net in options.networks:
            try:
                line, passes = judged(options, net, data, folder)
            except Failed as failure:
                line, passes = f"{net:<20}  {failure}", False
            failed += not passes
            print(line + ("" if passes else "  FAILED"), flush=True)
    print(f"result: {len(options.networks) - failed} of {len(options.networks)} networks named by row and pass")
    return 7 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
