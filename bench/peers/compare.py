#!/usr/bin/env python3
"""This project's `train` and its peers, in turns on the same processors and the same patches: one table on stdout.

    python compare.py --net b2 --net b6 --peer torch --peer keras:jax
    python compare.py --net b6 --device cuda:0 --precision bf16 --peer torch --peer torch:compile

Each round runs every program once, one after another, so that a noisy minute falls on all; a program's figure is its best round.
A peer is torch, torch:compile, keras:tensorflow, keras:jax or keras:torch, run by --python. --json prints the figures instead.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["torch", "torch:compile", "keras:tensorflow", "keras:jax", "keras:torch"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", help="default: b2 and b6")
    parser.add_argument("--peer", action="append", choices=PEERS, help="default: torch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=640, help="training patches (default: 640)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs a round (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all this process may use")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: cpu)")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--tools", type=pathlib.Path, default=HERE.parents[1] / "build" / "tools", help="folder of `train`")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers (default: this one)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run(command, environment=None):
    done = subprocess.run([str(part) for part in command], env=os.environ | (environment or {}), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def ours(options, net, data, folder):
    run([options.tools / "train", "--net", net, "--data", data, "--epochs", options.epochs, "--batch-size", options.batch_size,
         "--device", options.device, "--precision", options.precision, "--out", folder],
        {"OMP_NUM_THREADS": str(options.threads)})
    return json.loads((folder / "result.json").read_text())


def theirs(options, peer, net, data):
    name, _, variant = peer.partition(":")
    device = options.device if name == "torch" or options.device == "cpu" else "gpu"
    command = [options.python, HERE / f"train_{name}.py", "--net", net, "--data", data, "--images", options.images, "--epochs",
               options.epochs, "--batch-size", options.batch_size, "--device", device, "--precision", options.precision,
               "--threads", options.threads]
    if name == "torch":
        return json.loads(run(command + (["--compile"] if variant else [])))
    return json.loads(run(command, {"KERAS_BACKEND": variant}))


def main():
    options = parse()
    nets, peers = options.net or ["b2", "b6"], options.peer or ["torch"]
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run([options.tools / "synthesize", "pcam", "--out", folder / "data", "--train", options.images, "--valid", 32, "--test", 32,
             "--seed", 1])
        for round in range(options.rounds):
            for net in nets:
                for program in ["microtome", *peers]:
                    if program == "microtome":
                        result = ours(options, net, folder / "data", folder / f"{net}-{round}")
                    else:
                        result = theirs(options, program, net, folder / "data")
                    figures = {key: result[key] for key in ("images_per_second", "peak_memory_bytes")}
                    known = best.setdefault((net, program), figures)
                    known["images_per_second"] = max(known["images_per_second"], figures["images_per_second"])
                    known["peak_memory_bytes"] = min(known["peak_memory_bytes"], figures["peak_memory_bytes"])
                    print(f"round {round + 1}: {net} {program} {figures['images_per_second']:.1f} images/s", file=sys.stderr)

    rows = [{"net": net, "program": program, **figures,
             "speed_of_microtome_over_it": best[net, "microtome"]["images_per_second"] / figures["images_per_second"]}
            for (net, program), figures in best.items()]
    if options.json:
        print(json.dumps({"device": options.device, "precision": options.precision, "batch_size": options.batch_size,
                          "images": options.images, "threads": options.threads, "rounds": options.rounds, "rows": rows}, indent=1))
        return
    print(f"batch {options.batch_size}, 96x96, {options.precision}, {options.device}, {options.threads} threads, "
          f"best of {options.rounds} rounds of {options.epochs} epochs of {options.images} images")
    print(f"{'net':4} {'program':18} {'images/s':>9} {'peak MB':>8} {'microtome is':>13}")
    for row in rows:
        print(f"{row['net']:4} {row['program']:18} {row['images_per_second']:9.1f} {row['peak_memory_bytes'] / 1e6:8.0f} "
              f"{row['speed_of_microtome_over_it']:12.2f}x")


if __name__ == "__main__":
    main()
