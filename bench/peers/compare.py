#!/usr/bin/env python3
"""This project's `train` and its peers, in turns on the same machine and the same patches: Markdown tables on stdout.

    python compare.py --networks b2,b6 --peers torch,keras:jax
    python compare.py --images 160 --epochs 2 --rounds 1 --peers torch,keras:tensorflow --out figures.json --resume
    python compare.py --device cuda:0 --precision bf16                         all twelve, batches 32 and 256; hours
    python compare.py --device cuda:0 --precision bf16 --networks resnet50 --batches 256 --rounds 1

Each round runs every program once, one after another, so that a noisy minute falls on all. A program's speed is its best round,
a round's the median over its epochs after one of warm-up. How many times as fast we are is taken within each round: the median
over rounds, and from the least to the most. Peak memory is the largest resident set of the whole process, interpreter and
libraries included; on a GPU, for us all that the device lost to the process after its context was there, for PyTorch what
its allocator hands out at most or keeps for recorded graphs, which flatters it. A program that fails or exceeds --time-limit is
recorded with its error, and the rest goes on.

A peer is torch, torch:compile, torch:max-autotune or keras:BACKEND (tensorflow, jax, torch), the latter with :nojit to trace
the step without compiling it; --python runs it. --out receives all figures after each program; with --resume what stands there
without an error is not run again. On a GPU, --out is bench/results/<gpu>.json unless said otherwise, and the floors of
floors.py stand beside the figures, from a copy and a matrix product timed in every round (roofs.py).
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import floors

HERE = pathlib.Path(__file__).resolve().parent
NETS = list(floors.ELEMENTS_AT_96)
PEERS = ["torch", "torch:compile", "torch:max-autotune",
         *(f"keras:{backend}{jit}" for backend in ("tensorflow", "jax", "torch") for jit in ("", ":nojit"))]
OURS = "microtome"
EPOCH_IMAGES = 262144  # PCam's training patches
# What two runs must share for their figures to stand in one document.
SETTINGS = ["mode", "cache_features", "images", "epochs", "threads", "device"]
KEPT = ["images_per_second", "peak_memory_bytes", "reserved_memory_bytes", "held_memory_bytes", "import_memory_bytes",
        "parameters", "versions", "commit", "layout", "compile", "graphs"]


def listed(choices):
    def parse(text):
        for one in text.split(","):
            if one not in choices:
                raise argparse.ArgumentTypeError(f"{one!r} is not one of {', '.join(choices)}")
        return text.split(",")
    return parse


def counts(text):
    return [int(one) for one in text.split(",")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=listed(NETS), help="default: all twelve, the ten with a base in transfer")
    parser.add_argument("--peers", type=listed(PEERS), help="default: torch; on a GPU torch:compile,torch")
    parser.add_argument("--mode", choices=["full", "transfer"], default="full", help="transfer: a frozen base (default: full)")
    parser.add_argument("--cache-features", action="store_true",
                        help="transfer: run the base once, before the clock starts, where the program can (Keras cannot)")
    parser.add_argument("--batches", type=counts, help="images a step (default: 32; on a GPU 32,256)")
    parser.add_argument("--images", type=int, help="training patches (default: 640; on a GPU 256 batches, at least 16384)")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs a round, after a warm-up one (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--time-limit", type=float, default=1800, help="seconds a program may take (default: 1800)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all that it may use")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: cpu)")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--tools", type=pathlib.Path, default=HERE.parents[1] / "build" / "tools", help="folder of `train`")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers (default: this one)")
    parser.add_argument("--roofs", default="", metavar="OPTIONS", help="more options for roofs.py; on a CPU, time roofs at all")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file that holds the figures after each program")
    parser.add_argument("--resume", action="store_true", help="go on with --out: run what is missing there or failed")
    parser.add_argument("--json", action="store_true", help="print what --out holds instead of tables")
    options = parser.parse_args()
    options.gpu = options.device != "cpu"
    options.networks = options.networks or (NETS if options.mode == "full" else NETS[2:])
    options.peers = options.peers or (["torch:compile", "torch"] if options.gpu else ["torch"])
    options.batches = options.batches or ([32, 256] if options.gpu else [32])
    if options.resume and not (options.out or options.gpu):
        parser.error("--resume needs --out")
    if options.cache_features and options.mode != "transfer":
        parser.error("--cache-features needs --mode transfer")
    return options


def images(options, batch):
    return options.images or (max(256 * batch, 16384) if options.gpu else 640)


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


def ours(options, net, batch, data, folder):
    """Figures of `train`, with the warm-up epoch left out as the peers leave it out."""
    command = [options.tools / "train", "--net", net, "--data", data, "--mode", options.mode, "--epochs", options.epochs + 1,
               "--batch-size", batch, "--statistics", "moving", "--device", options.device,
               "--precision", options.precision, "--quiet", "--out", folder]
    if options.mode == "transfer":
        command += ["--features", "keep" if options.cache_features else "recompute"]
    run(command, {"OMP_NUM_THREADS": str(options.threads)}, options.time_limit)
    result = json.loads((folder / "result.json").read_text())
    events = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    result["images_per_second"] = statistics.median([one["images_per_second"] for one in events if one["event"] == "epoch"][1:])
    result["parameters"] = described(options, net)["parameters"]["trainable"] if options.mode == "full" else None
    return result


def described(options, net):
    return json.loads(run([options.tools / "describe", "--net", net, "--json"], {}, options.time_limit))


def theirs(options, peer, net, batch, data, graphs):
    name, *variant = peer.split(":")
    device = options.device if name == "torch" or not options.gpu else "gpu"
    command = [options.python, HERE / f"train_{name}.py", "--net", net, "--mode", options.mode, "--data", data,
               "--images", images(options, batch), "--epochs", options.epochs, "--batch-size", batch, "--device", device,
               "--precision", options.precision, "--threads", options.threads]
    if name == "torch":
        compile = {"compile": "default", "max-autotune": "max-autotune"}
        command += [f"--compile={compile[one]}" for one in variant] + ["--cache-features"] * options.cache_features
        command += ["--graphs", graphs] if graphs else []
        return json.loads(run(command, {}, options.time_limit))
    command += ["--jit", "off"] * ("nojit" in variant)
    return json.loads(run(command, {"KERAS_BACKEND": variant[0]}, options.time_limit))


def roofs(options):
    command = [options.python, HERE / "roofs.py", "--device", options.device, "--precision", options.precision]
    return json.loads(run(command + options.roofs.split(), {}, options.time_limit))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def gpu(options):
    """What the driver says of the device."""
    fields = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.mem"]
    command = ["nvidia-smi", f"--id={options.device.partition(':')[2] or 0}", f"--query-gpu={','.join(fields)}",
               "--format=csv,noheader"]
    values = run(command, {}, 60).strip().split(", ")
    return {name.replace(".", "_"): value for name, value in zip(fields, values)}


def opened(options):
    """What --out held before this run, or a new document."""
    machine = {"processor": processor(), "system": platform.platform()} | (gpu(options) if options.gpu else {})
    if options.gpu and not options.out:
        name = re.sub("[^a-z0-9]+", "_", machine["name"].lower()).strip("_")
        options.out = HERE.parent / "results" / f"{name}.json"
        options.out.parent.mkdir(exist_ok=True)
    settings = {name: getattr(options, name) for name in SETTINGS}
    document = {"schema": 1, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "machine": machine, "settings": settings, "roofs": [], "runs": []}
    if not options.out or not options.out.exists():
        return document
    if not options.resume:
        sys.exit(f"{options.out} exists: go on with it by --resume, or name another --out")
    earlier = json.loads(options.out.read_text())
    for what in ("schema", "settings", "machine"):
        if earlier.get(what) != document[what]:
            sys.exit(f"{options.out} holds figures of another {what.rstrip('s')}: name another --out\n"
                     f"  there: {earlier.get(what)}\n  here:  {document[what]}")
    return earlier


def key(one):
    return one["round"], one["precision"], one["batch_size"], one["net"], one["program"]


def save(options, document):
    document["summary"] = summary(document)
    if options.out:
        new = options.out.with_name(options.out.name + ".new")
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.replace(options.out)


def summary(document):
    """A row for each precision, batch and network: every program at its best, what we are beside each, and the floor."""
    order = {name: index for index, name in enumerate([*NETS, OURS, *PEERS])}
    cases = {}
    for one in document["runs"]:
        cases.setdefault((one["precision"], one["batch_size"], one["net"]), {}).setdefault(one["program"], []).append(one)
    rows = []
    for (precision, batch, net), programs in sorted(cases.items(), key=lambda case: (*case[0][:2], order[case[0][2]])):
        our = {one["round"]: one for one in programs.get(OURS, []) if "error" not in one}
        row = {"precision": precision, "batch_size": batch, "net": net, "programs": {}}
        for program in sorted(programs, key=order.get):
            done = [one for one in programs[program] if "error" not in one]
            if not done:
                row["programs"][program] = {"error": programs[program][-1]["error"]}
                continue
            figures = {"images_per_second": max(one["images_per_second"] for one in done),
                       "peak_memory_bytes": min(one["peak_memory_bytes"] for one in done), "parameters": done[0]["parameters"]}
            figures["epoch_seconds"] = EPOCH_IMAGES / figures["images_per_second"]
            ratios = [our[one["round"]]["images_per_second"] / one["images_per_second"] for one in done if one["round"] in our]
            if program != OURS and ratios:
                figures["ours_is"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
                figures["our_memory_is"] = min(one["peak_memory_bytes"] for one in our.values()) / figures["peak_memory_bytes"]
            row["programs"][program] = figures
        measured = [one for one in document["roofs"] if one["precision"] == precision]
        if our and measured:
            best = {name: max(one[name] for one in measured) for name in ("copy_bytes_per_second", "flop_per_second")}
            flop = next((one["training_flop"] for one in our.values() if "training_flop" in one), None)
            if flop:
                row["floor"] = floors.floor(net, precision, flop, best, EPOCH_IMAGES)
                row["floor"]["share"] = row["floor"]["seconds"] / row["programs"][OURS]["epoch_seconds"]
        rows.append(row)
    return rows


def speed_table(rows):
    lines = ["| network | batch | program | images/s | s for 262,144 | peak MB | we are (least to most) | of its memory |",
             "|---|---|---|---|---|---|---|---|"]
    notes = []
    for row in rows:
        net, batch = row["net"], row["batch_size"]
        for program, figures in row["programs"].items():
            begin = f"| {net} | {batch} | {program} |"
            if "error" in figures:
                lines.append(f"{begin} failed | | | | |")
                notes.append(f"{net}, {batch}, {program}: {figures['error']}")
                continue
            line = (f"{begin} {figures['images_per_second']:.1f} | {figures['epoch_seconds']:.2f} "
                    f"| {figures['peak_memory_bytes'] / 1e6:.0f} |")
            if ratio := figures.get("ours_is"):
                line += (f" {ratio['median']:.2f} times as fast ({ratio['least']:.2f} to {ratio['most']:.2f}) "
                         f"| {figures['our_memory_is']:.2f} |")
                our = row["programs"][OURS]["parameters"]
                if our and our != figures["parameters"]:
                    notes.append(f"{net}: {program} trains {figures['parameters']} parameters, we {our}")
            else:
                line += " | |"
            lines.append(line)
    return lines + [""] + notes


def floor_table(rows):
    rows = [row for row in rows if "floor" in row]
    if not rows:
        return []
    lines = ["| network | batch | least s of compute | of bytes | ours, s for 262,144 | share of the floor |",
             "|---|---|---|---|---|---|"]
    for row in rows:
        least = row["floor"]
        lines.append(f"| {row['net']} | {row['batch_size']} | {least['compute_seconds']:.2f} | {least['bytes_seconds']:.2f} "
                     f"| {row['programs'][OURS]['epoch_seconds']:.2f} | {least['share']:.2f} |")
    return lines + [""]


def means(rows):
    """A line for each batch and peer."""
    ratios = {}
    for row in rows:
        for program, figures in row["programs"].items():
            if "ours_is" in figures:
                ratios.setdefault((row["batch_size"], program), []).append(figures["ours_is"]["median"])
    return [f"batch {batch}: {math.exp(statistics.fmean(map(math.log, values))):.2f} times as fast as {program}, "
            f"the geometric mean over {len(values)} networks (least {min(values):.2f})"
            for (batch, program), values in ratios.items()]


def tables(options, document):
    rows = [row for row in document["summary"] if row["precision"] == options.precision]
    machine = document["machine"]
    commits = sorted({one["commit"] for one in document["runs"] if "commit" in one})
    lines = [f"{machine.get('name', machine['processor'])}, {options.threads} threads, {options.device}, {options.precision}, "
             f"96x96, {options.mode}; best of {options.rounds} rounds of {options.epochs} epochs; commit {', '.join(commits)}, "
             f"{document['date']}"]
    measured = [one for one in document["roofs"] if one["precision"] == options.precision]
    if measured:
        lines.append(f"Roofs: {max(one['copy_bytes_per_second'] for one in measured) / 1e9:.0f} GB/s copied, "
                     f"{max(one['flop_per_second'] for one in measured) / 1e12:.1f} TFLOP/s in a matrix product")
    imports = {one["program"]: one["import_memory_bytes"] for one in document["runs"] if "import_memory_bytes" in one}
    notes = []
    if imports and not options.gpu:
        notes = ["resident once all is imported: "
                 + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in imports.items()), ""]
    return "\n".join([*lines, "", *speed_table(rows), *notes, *floor_table(rows), *means(rows)])


def one_run(options, document, folder, case, data):
    one = dict(zip(("round", "precision", "batch_size", "net", "program"), case))
    round, _, batch, net, program = case
    try:
        if program == OURS:
            result = ours(options, net, batch, data, folder / f"{net}-{batch}-{round}")
            one["training_flop"] = floors.training_flop(described(options, net)["rows"])
        else:
            # What its own trials found in an earlier round holds.
            known = [other["graphs"] for other in document["runs"] if key(other)[1:] == case[1:] and "graphs" in other]
            result = theirs(options, program, net, batch, data, known[0] if known else None)
        one |= {name: result[name] for name in KEPT if name in result}
        said = f"{one['images_per_second']:.1f} images/s, {one['peak_memory_bytes'] / 1e6:.0f} MB"
    except Failed as error:
        one["error"] = said = str(error)
    document["runs"] = [other for other in document["runs"] if key(other) != case] + [one]
    save(options, document)
    print(f"round {round}: {net}, batch {batch}, {program}: {said}", file=sys.stderr)


def main():
    options = parse()
    document = opened(options)
    done = {key(one) for one in document["runs"] if "error" not in one}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        data = {}
        for batch in options.batches:
            data[batch] = folder / f"data-{images(options, batch)}"
            if not data[batch].exists():
                run([options.tools / "synthesize", "pcam", "--out", data[batch], "--train", images(options, batch),
                     "--valid", 32, "--test", 32, "--seed", 1], {}, options.time_limit)
        for round in range(1, options.rounds + 1):
            if options.gpu or options.roofs:
                try:
                    document["roofs"].append(roofs(options))
                except Failed as error:
                    print(f"round {round}: no roofs: {error}", file=sys.stderr)
            for batch in options.batches:
                for net in options.networks:
                    for program in [OURS, *options.peers]:
                        case = (round, options.precision, batch, net, program)
                        if case not in done:
                            one_run(options, document, folder, case, data[batch])
    save(options, document)
    print(json.dumps(document, indent=1) if options.json else tables(options, document))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"compare: {error}")
