#!/usr/bin/env python3
"""How much of a training step no kernel runs in, by the device's own timestamps. Needs Nsight Systems (nsys).

    python gaps.py --tools build/tools
    python gaps.py --tools build/tools --networks b6 --batches 32,256 --precision bf16
    python gaps.py --read report.sqlite                                       what nsys export wrote before

nsys traces each kernel of the recorded graphs (--cuda-graph-trace=node), which itself widens gaps: the truth lies below. A step
reaches from the end of one Adam kernel to the end of the next; busy is the union of all kernels, copies and fills in it. Steps
of the first epoch, and those with validation in between (longer than twice the median), do not count. A table last; exit code 7
where the gaps exceed --at-most.
"""

import argparse
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile

NETS = ["b2", "b6", "inception_v3", "vgg19", "resnet50", "mobilenet", "densenet121", "densenet169", "densenet201",
        "efficientnet_v2_b0", "efficientnet_v2_b1", "efficientnet_v2_b2"]
STEPS = 48  # an epoch; traced twice, of which the second counts


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, help="folder of `train` and `synthesize`")
    parser.add_argument("--device", default="cuda:0", help="default: cuda:0")
    parser.add_argument("--networks", default=",".join(NETS), help="default: all twelve")
    parser.add_argument("--batches", default="256", help="default: 256")
    parser.add_argument("--precision", default="bf16", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--nsys", default="nsys", help="the program (default: nsys)")
    parser.add_argument("--at-most", type=float, default=0.02, help="share of a step that gaps may take (default: 0.02)")
    parser.add_argument("--read", type=pathlib.Path, help="print what this exported report holds")
    options = parser.parse_args()
    if not options.read and not options.tools:
        parser.error("--tools or --read is needed")
    return options


def events(database):
    """(start, end, name) in ns of all that the device did, by start. Names are of kernels alone."""
    tables = {row[0] for row in database.execute("select name from sqlite_master where type = 'table'")}
    found = []
    if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
        found += database.execute("select k.start, k.end, s.value from CUPTI_ACTIVITY_KIND_KERNEL k "
                                  "join StringIds s on s.id = k.demangledName")
    for table in ("CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET"):
        if table in tables:
            found += database.execute(f"select start, end, '' from {table}")
    return sorted(found)


def steps(found):
    """(ns, idle ns, kernels) of each step that counts."""
    ends = sorted(end for _, end, name in found if "optimizer_update" in name)
    ends = ends[len(ends) // 2:]
    result = []
    at = 0
    for begin, end in zip(ends, ends[1:]):
        while at < len(found) and found[at][0] < begin:
            at += 1
        busy, reached, kernels, i = 0, begin, 0, at
        while i < len(found) and found[i][0] < end:
            busy += max(0, min(found[i][1], end) - max(found[i][0], reached))
            reached = max(reached, min(found[i][1], end))
            kernels += found[i][2] != ""
            i += 1
        result.append((end - begin, end - begin - busy, kernels))
    if not result:
        return []
    usual = statistics.median(length for length, _, _ in result)
    return [one for one in result if one[0] <= 2 * usual]


def read(file):
    with sqlite3.connect(file) as database:
        return steps(events(database))


def line(title, measured):
    length, idle = sum(one[0] for one in measured), sum(one[1] for one in measured)
    return idle / length, (f"{title:<25} {len(measured):>6} {length / len(measured) * 1e-6:>9.3f} "
                           f"{statistics.median(one[2] for one in measured):>8.0f} "
                           f"{idle / len(measured) * 1e-3:>9.1f} {100 * idle / length:>7.2f}")


def traced(options, net, batch, data, folder):
    report = folder / f"{net}-{batch}"
    train = [options.tools / "train", "--net", net, "--data", data, "--epochs", 2, "--batch-size", batch,
             "--statistics", "moving", "--device", options.device, "--precision", options.precision, "--quiet",
             "--out", folder / f"run-{net}-{batch}"]
    for command in ([options.nsys, "profile", "--trace=cuda", "--cuda-graph-trace=node", "--sample=none", "--cpuctxsw=none",
                     "--output", report, *train],
                    [options.nsys, "export", "--type=sqlite", "--output", f"{report}.sqlite", f"{report}.nsys-rep"]):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError((done.stderr or done.stdout).strip()[-500:].replace("\n", " "))
    return read(f"{report}.sqlite")


def main():
    options = parse()
    if not options.read and not shutil.which(options.nsys):
        print(f"skipped: no {options.nsys} on the PATH (Nsight Systems)")
        return 77
    lines, shares, failed = [], [], 0

    def take(title, work):
        nonlocal failed
        try:
            measured = work()
            if not measured:
                raise RuntimeError("no steps in the report: no kernel named optimizer_update ran twice")
            share, text = line(title, measured)
            shares.append((share, title))
        except (RuntimeError, sqlite3.Error) as error:
            failed, text = failed + 1, f"{title:<25} failed: {error}"
        lines.append(text)
        print(text, file=sys.stderr)

    if options.read:
        take(options.read.stem[:25], lambda: read(options.read))
    else:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for batch in map(int, options.batches.split(",")):
                data = folder / f"data-{batch}"
                subprocess.run([options.tools / "synthesize", "pcam", "--out", data, "--train", str(STEPS * batch),
                                "--valid", "32", "--test", "32", "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
                for net in options.networks.split(","):
                    take(f"{net}, {batch}", lambda: traced(options, net, batch, data, folder))
    print(f"{'network, batch':<25} {'steps':>6} {'ms each':>9} {'kernels':>8} {'idle us':>9} {'idle %':>7}")
    print("\n".join(lines))
    wide = [f"{title} {100 * share:.1f}%" for share, title in shares if share > options.at_most]
    print(f"result: gaps are under {100 * options.at_most:g}% of a step in {len(shares) - len(wide)} of {len(lines)} cases"
          + (f"; not: {', '.join(wide)}" if wide else ""))
    return 7 if wide or failed else 0


if __name__ == "__main__":
    sys.exit(main())
