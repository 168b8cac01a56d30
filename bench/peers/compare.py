#!/usr/bin/env python3
"""This project's `train` and its peers, in turns on the same processors and the same patches: one Markdown table on stdout.

    python compare.py --net b2 --net b6 --peer torch --peer keras:jax
    python compare.py --images 160 --epochs 2 --rounds 1 --peer torch --peer keras:tensorflow --out figures.json --resume
    python compare.py --net b6 --device cuda:0 --precision bf16 --peer torch --peer torch:compile

Each round runs every program once, one after another, so that a noisy minute falls on all; a program's figure is its best
round: the median over its epochs after one of warm-up. Peak memory is the largest resident set of the whole process,
interpreter and libraries included; on a GPU, what the program held there. A program that fails or exceeds --time-limit is
recorded with its error, and the rest goes on.

A peer is torch, torch:compile or keras:BACKEND (tensorflow, jax, torch), the latter with :nojit to trace the step without
compiling it; --python runs it. --out receives all figures after each program; with --resume what stands there without an error
is not run again.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
NETS = ["b2", "b6", "inception_v3", "vgg19", "resnet50", "mobilenet", "densenet121", "densenet169", "densenet201",
        "efficientnet_v2_b0", "efficientnet_v2_b1", "efficientnet_v2_b2"]
PEERS = ["torch", "torch:compile",
         *(f"keras:{backend}{jit}" for backend in ("tensorflow", "jax", "torch") for jit in ("", ":nojit"))]
OURS = "microtome"
# What two runs must share for their figures to stand in one table.
SETTINGS = ["mode", "cache_features", "batch_size", "images", "epochs", "threads", "device", "precision"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", choices=NETS, help="default: all twelve, the ten with a base in transfer")
    parser.add_argument("--peer", action="append", choices=PEERS, help="default: torch")
    parser.add_argument("--mode", choices=["full", "transfer"], default="full", help="transfer: a frozen base (default: full)")
    parser.add_argument("--cache-features", action="store_true",
                        help="transfer: run the base once, before the clock starts, where the program can (Keras cannot)")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: 32)")
    parser.add_argument("--images", type=int, default=640, help="training patches (default: 640)")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs a round, after a warm-up one (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--time-limit", type=float, default=900, help="seconds a program may take (default: 900)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all that it may use")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: cpu)")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--tools", type=pathlib.Path, default=HERE.parents[1] / "build" / "tools", help="folder of `train`")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers (default: this one)")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file that holds the figures after each program")
    parser.add_argument("--resume", action="store_true", help="go on with --out: run what is missing there or failed")
    parser.add_argument("--json", action="store_true", help="print what --out holds instead of a table")
    options = parser.parse_args()
    options.net = options.net or (NETS if options.mode == "full" else NETS[2:])
    options.peer = options.peer or ["torch"]
    if options.resume and not options.out:
        parser.error("--resume needs --out")
    if options.cache_features and options.mode != "transfer":
        parser.error("--cache-features needs --mode transfer")
    return options


class Failed(Exception):
    pass


def run(command, environment, seconds):
    """The command's stdout. It has a process group of its own, so that the limit ends its children too."""
    command = [str(part) for part in command]
    if not shutil.which(command[0]):
        raise Failed(f"no program {command[0]}: see --tools and --python")
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"took more than {seconds:g} s: {' '.join(command)}") from error
            raise
    if process.returncode != 0:
        raise Failed(f"exit code {process.returncode}: {' '.join(command)}\n{err[-2000:]}")
    return out


def ours(options, net, data, folder):
    """Figures of `train`, with the warm-up epoch left out as the peers leave it out."""
    command = [options.tools / "train", "--net", net, "--data", data, "--mode", options.mode, "--epochs", options.epochs + 1,
               "--batch-size", options.batch_size, "--statistics", "moving", "--device", options.device,
               "--precision", options.precision, "--quiet", "--out", folder]
    if options.mode == "transfer":
        command += ["--features", "keep" if options.cache_features else "recompute"]
    run(command, {"OMP_NUM_THREADS": str(options.threads)}, options.time_limit)
    result = json.loads((folder / "result.json").read_text())
    events = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    result["images_per_second"] = statistics.median([one["images_per_second"] for one in events if one["event"] == "epoch"][1:])
    described = json.loads(run([options.tools / "describe", "--net", net, "--json"], {}, options.time_limit))
    result["parameters"] = described["parameters"]["trainable"] if options.mode == "full" else None
    return result


def theirs(options, peer, net, data):
    name, *variant = peer.split(":")
    device = options.device if name == "torch" or options.device == "cpu" else "gpu"
    command = [options.python, HERE / f"train_{name}.py", "--net", net, "--mode", options.mode, "--data", data,
               "--images", options.images, "--epochs", options.epochs, "--batch-size", options.batch_size, "--device", device,
               "--precision", options.precision, "--threads", options.threads]
    if name == "torch":
        command += ["--compile"] * ("compile" in variant) + ["--cache-features"] * options.cache_features
        return json.loads(run(command, {}, options.time_limit))
    command += ["--jit", "off"] * ("nojit" in variant)
    return json.loads(run(command, {"KERAS_BACKEND": variant[0]}, options.time_limit))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def commit():
    done = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip()


def opened(options):
    """What --out held before this run, or a new document."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    document = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit(),
                "machine": {"processor": processor(), "system": platform.platform()},
                "settings": settings, "runs": []}
    if not options.out or not options.out.exists():
        return document
    if not options.resume:
        sys.exit(f"{options.out} exists: go on with it by --resume, or name another --out")
    earlier = json.loads(options.out.read_text())
    for what in ("settings", "machine"):
        if earlier[what] != document[what]:
            sys.exit(f"{options.out} holds figures of another {what.rstrip('s')}: name another --out\n"
                     f"  there: {earlier[what]}\n  here:  {document[what]}")
    return earlier


def key(one):
    return one["round"], one["net"], one["program"]


def save(options, document):
    if options.out:
        new = options.out.with_name(options.out.name + ".new")
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.replace(options.out)


def best(runs):
    """A row for each network and program: its fastest round, its smallest peak; or why there is none."""
    rows = {}
    for one in runs:
        row = rows.setdefault((one["net"], one["program"]), {})
        if "error" in one:
            row.setdefault("error", one["error"])
            continue
        row["images_per_second"] = max(row.get("images_per_second", 0), one["images_per_second"])
        row["peak_memory_bytes"] = min(row.get("peak_memory_bytes", one["peak_memory_bytes"]), one["peak_memory_bytes"])
        row["parameters"] = one["parameters"]
    return rows


def table(options, document):
    rows = best(document["runs"])
    order = {name: index for index, name in enumerate([*NETS, OURS, *PEERS])}
    lines = ["| network | program | images/s | peak memory, MB | Microtome is |", "|---|---|---|---|---|"]
    notes = []
    for net, program in sorted(rows, key=lambda key: (order[key[0]], order[key[1]])):
        row, our = rows[net, program], rows.get((net, OURS), {})
        if "images_per_second" not in row:
            lines.append(f"| {net} | {program} | failed | | |")
            notes.append(f"{net}, {program}: {row['error']}")
            continue
        ratio = ""
        if program != OURS and "images_per_second" in our:
            ratio = (f"{our['images_per_second'] / row['images_per_second']:.2f} times as fast, "
                     f"{our['peak_memory_bytes'] / row['peak_memory_bytes']:.2f} of the memory")
            if our["parameters"] and our["parameters"] != row["parameters"]:
                notes.append(f"{net}: {program} trains {row['parameters']} parameters, we {our['parameters']}")
        lines.append(f"| {net} | {program} | {row['images_per_second']:.1f} | {row['peak_memory_bytes'] / 1e6:.0f} | {ratio} |")
    imports = {one["program"]: one["import_memory_bytes"] for one in document["runs"] if "import_memory_bytes" in one}
    if imports and options.device == "cpu":
        notes.append("resident once all is imported: "
                     + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in imports.items()))
    return "\n".join([*lines, "", *notes])


def main():
    options = parse()
    document = opened(options)
    done = {key(one) for one in document["runs"] if "error" not in one}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run([options.tools / "synthesize", "pcam", "--out", folder / "data", "--train", options.images, "--valid", 32,
             "--test", 32, "--seed", 1], {}, options.time_limit)
        for round in range(1, options.rounds + 1):
            for net in options.net:
                for program in [OURS, *options.peer]:
                    one = {"round": round, "net": net, "program": program}
                    if key(one) in done:
                        continue
                    try:
                        if program == OURS:
                            result = ours(options, net, folder / "data", folder / f"{net}-{round}")
                        else:
                            result = theirs(options, program, net, folder / "data")
                        one |= {key: result[key] for key in ("images_per_second", "peak_memory_bytes", "import_memory_bytes",
                                                             "parameters", "versions", "commit", "layout") if key in result}
                        said = f"{one['images_per_second']:.1f} images/s, {one['peak_memory_bytes'] / 1e6:.0f} MB"
                    except Failed as error:
                        one["error"] = said = str(error)
                    document["runs"] = [other for other in document["runs"] if key(other) != key(one)] + [one]
                    save(options, document)
                    print(f"round {round}: {net} {program} {said}", file=sys.stderr)
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{document['machine']['processor']}, {options.threads} threads, {options.device}, {options.precision}, "
          f"batch {options.batch_size}, 96x96, {options.mode}; best of {options.rounds} rounds of {options.epochs} epochs of "
          f"{options.images} images; commit {document['commit']}, {document['date']}\n")
    print(table(options, document))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"compare: {error}")
