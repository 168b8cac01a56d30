#!/usr/bin/env python3
"""Whether a GPU learns what the CPU learns: the loss of every step of each network, from the same weights and images.

    python parity.py --tools build/tools
    python parity.py --tools build/tools --networks b6,resnet50 --steps 8
    python parity.py --tools build/tools --device cpu --networks b2            the CPU against itself

Each network trains on a data set made for it, in file order and without dropout, on the CPU in f32 and on the device in f32,
tf32 and bf16, there with the step recorded as a CUDA graph and queued op by op. The first step's loss must be the CPU's: within
1e-4 of it in f32, as tests/nets/golden_test.cpp asks of Keras' loss, and within eight times the rounding of the products'
factors in tf32 (2^-11) and bf16 (2^-8). Later steps are shown, not judged: Adam's first steps have the size of the learning
rate whatever the gradient's, so that a rounding may turn one. Recorded and queued steps must give the same losses to the last
digit. Exit code 7 where a network fails; a table last.
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

NETS = ["b2", "b6", "inception_v3", "vgg19", "resnet50", "mobilenet", "densenet121", "densenet169", "densenet201",
        "efficientnet_v2_b0", "efficientnet_v2_b1", "efficientnet_v2_b2"]
NEAR = {"f32": 1e-4, "tf32": 8 * 2**-11, "bf16": 8 * 2**-8}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="folder of `train` and `synthesize`")
    parser.add_argument("--device", default="cuda:0", help="cpu or cuda:N (default: cuda:0)")
    parser.add_argument("--networks", default=",".join(NETS), help="default: all twelve")
    parser.add_argument("--steps", type=int, default=4, help="default: 4")
    parser.add_argument("--batch-size", type=int, default=16, help="default: 16")
    parser.add_argument("--time-limit", type=float, default=300, help="seconds a run may take (default: 300)")
    options = parser.parse_args()
    options.networks = options.networks.split(",")
    return options


class Failed(Exception):
    pass


def run(options, *command):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=options.time_limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {options.time_limit:g} s") from None
    if done.returncode != 0:
        raise Failed((done.stderr.strip() or f"exit code {done.returncode}").replace("\n", " "))
    return done.stdout


def losses(options, net, data, folder, device, precision, graph):
    """Of each step, as text."""
    out = folder / f"{net}-{device.partition(':')[0]}-{precision}-{graph}"
    out = out.with_name(f"{out.name}-{len(list(folder.iterdir()))}")
    run(options, options.tools / "train", "--net", net, "--data", data, "--epochs", 1, "--batch-size", options.batch_size,
        "--shuffle", "off", "--dropout", "off", "--statistics", "moving", "--log-steps", "--device", device,
        "--precision", precision, "--graph", graph, "--deterministic", "--quiet", "--out", out)
    with open(out / "steps.csv", newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


def relative(found, expected):
    return abs(float(found) - float(expected)) / abs(float(expected))


def compared(options, net, data, folder):
    """A line of the table, and whether the network passes."""
    expected = losses(options, net, data, folder, "cpu", "f32", "step")
    cells, passes = [f"{float(expected[0]):.6f}"], True
    for precision in NEAR if options.device != "cpu" else ["f32"]:
        found = losses(options, net, data, folder, options.device, precision, "step")
        queued = losses(options, net, data, folder, options.device, precision, "off")
        if len(found) != len(expected):
            raise Failed(f"{len(found)} steps instead of {len(expected)}")
        first, worst = relative(found[0], expected[0]), max(map(relative, found, expected))
        near, same = first <= NEAR[precision], found == queued
        passes = passes and near and same
        cells.append(f"{first:.1e}{'' if near else ' FAR'}, {worst:.1e}{'' if same else ', graph DIFFERS'}")
    return cells, passes


def main():
    options = parse()
    precisions = list(NEAR) if options.device != "cpu" else ["f32"]
    lines, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = folder / "data"
        run(options, options.tools / "synthesize", "pcam", "--out", data, "--train", options.steps * options.batch_size,
            "--valid", 32, "--test", 32, "--seed", 3)
        for net in options.networks:
            try:
                cells, passes = compared(options, net, data, folder)
            except Failed as error:
                cells, passes = [f"failed: {error}"], False
            failed += [] if passes else [net]
            lines.append(f"{net:<19} " + "  ".join(f"{cell:<22}" for cell in cells).rstrip())
            print(lines[-1], file=sys.stderr)
    print(f"relative distance of the loss from the CPU's: first step, worst of {options.steps} steps; {options.device}")
    print(f"{'network':<19} " + "  ".join(f"{title:<22}" for title in ["CPU's first loss", *precisions]).rstrip())
    print("\n".join(lines))
    print(f"result: {len(options.networks) - len(failed)} of {len(options.networks)} networks learn what the CPU learns"
          + (f"; not: {', '.join(failed)}" if failed else ""))
    return 7 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"parity: {error}")
