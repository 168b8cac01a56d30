#!/usr/bin/env python3
"""What the compiler made of our CUDA kernels: registers, shared memory, spills, and how wide they access memory. Needs no GPU.

    python sass.py build/kernels/cuda/libkernels_cuda.a
    python sass.py build/kernels/cuda/CMakeFiles/kernels_cuda.dir/pool.cu.o --all

From cuobjdump, of the CUDA toolkit. No kernel may use local memory, where registers spill. Of a kernel's instantiations the one
that takes most elements a thread is the one that large tensors meet: it must read and write 16 bytes at a time, unless it
stands in one of the lists below with its reason. A table last; exit code 7 where a kernel breaks a rule.
"""

import argparse
import collections
import fnmatch
import re
import shutil
import subprocess
import sys

# What a kernel does not do with 16 bytes, and why.
NARROW_READS = {
    "gather_forward<unsigned char, *>": "as many pixels of a byte as it writes elements",
    "gather_forward_padded<*>": "three bytes a pixel",
    "linear_epilogue<*>": "takes four elements of either type",
}
NARROW_WRITES = {
    "*_statistics<*>": "writes a sum a channel", "*_sums<*>": "writes a sum a channel",
    "depthwise_backward_filter_*": "writes a sum a channel and tap",
    "depthwise_backward_strips<*, false, true, *>": "writes a sum a channel and tap",
    "linear_epilogue<*>": "takes four elements of either type",
}
SMALL = {
    "*_finish*": "an element a channel", "*_given*": "an element a channel", "linear_add_rows*": "a row of partial sums",
    "advance_state*": "one state", "loss_*": "one logit an image",
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="objects or archives with device code")
    parser.add_argument("--all", action="store_true", help="print the narrow instantiations too")
    parser.add_argument("--cuobjdump", default=shutil.which("cuobjdump", path="/usr/local/cuda/bin") or "cuobjdump",
                        help="the program (default: the toolkit's)")
    options = parser.parse_args()
    if not shutil.which(options.cuobjdump):
        print(f"skipped: no {options.cuobjdump}; it comes with the CUDA toolkit, see --cuobjdump")
        sys.exit(77)
    return options


def dump(options, what):
    done = subprocess.run([options.cuobjdump, what, *options.files], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"sass: cuobjdump {what}: {done.stderr.strip()[-500:]}")
    return done.stdout


def plain(names):
    """As they stand in the sources, without namespaces and parameters."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    result = []
    for name in done.stdout.splitlines():
        name = re.sub(r"^void |\(anonymous namespace\)::|microtome::cuda::", "", name)
        result.append(name[:name.index("(")] if "(" in name else name)
    return result


def resources(text):
    """By architecture and mangled name."""
    found, architecture = {}, ""
    for line in text.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        if match := re.match(r" Function (\S+):", line):
            name = match[1]
        if line.startswith("  REG:"):
            usage = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", line)}
            found[architecture, name] = usage
    return found


WIDTHS = [("256", 32), ("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)]


def accesses(text):
    """By architecture and mangled name: how many loads and stores of how many bytes."""
    found, architecture, counts = {}, "", None
    for line in text.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function : (\S+)", line):
            counts = found[architecture, match[1]] = collections.Counter()
        elif counts is not None and (match := re.search(r"\b(LDG|STG|LDL|STL)((?:\.\w+)*)\s", line)):
            parts = match[2].split(".")
            counts[match[1], next((size for name, size in WIDTHS if name in parts), 4)] += 1
    return found


def listed(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def vector(name):
    """Name and types of an instantiation, and elements a thread takes."""
    match = re.match(r"(.*?)<(.*)>$", name)
    parts = match[2].split(", ") if match else []
    numbers = [int(part) for part in parts if part.isdigit()]
    return (match[1] if match else name, *(part for part in parts if not part.isdigit())), numbers[0] if numbers else 1


def wide(counts, op):
    return any(counts[op, size] for size in (32, 16))  # 32: Blackwell, where two of 16 lie side by side


def judged(name, usage, counts, widest):
    """What is wrong with a kernel, a word each."""
    wrong = []
    if usage["STACK"] or usage["LOCAL"] or any(op in ("LDL", "STL") for op, _ in counts):
        wrong.append("SPILLS")
    if widest and not listed(name, SMALL):
        if not wide(counts, "LDG") and not listed(name, NARROW_READS):
            wrong.append("NARROW READS")
        if not wide(counts, "STG") and not listed(name, NARROW_WRITES):
            wrong.append("NARROW WRITES")
    return wrong


def widths(counts, op):
    return " ".join(f"{counts[op, size]}x{size}" for size in (32, 16, 8, 4, 2, 1) if counts[op, size])


def main():
    options = parse()
    usage, counts = resources(dump(options, "-res-usage")), accesses(dump(options, "-sass"))
    if not usage or usage.keys() != counts.keys():
        sys.exit(f"sass: {len(usage)} kernels with resources, {len(counts)} with code, in {', '.join(options.files)}")
    keys = list(usage)
    names = dict(zip(keys, plain([name for _, name in keys])))
    most = collections.defaultdict(int)
    for key in keys:
        group, elements = vector(names[key])
        most[group] = max(most[group], elements)
    print(f"{'':<7} {'kernel':<52} {'regs':>4} {'shared':>6} {'local':>5}  {'reads, number x bytes':<24} writes")
    broken = shown = 0
    for key in sorted(keys, key=lambda key: (key[0], names[key])):
        group, elements = vector(names[key])
        widest = elements == most[group]
        wrong = judged(names[key], usage[key], counts[key], widest)
        broken += bool(wrong)
        if not (widest or wrong or options.all):
            continue
        shown += 1
        u = usage[key]
        print(f"{key[0]:<7} {names[key]:<52} {u['REG']:>4} {u['SHARED']:>6} {u['STACK'] + u['LOCAL']:>5}  "
              f"{widths(counts[key], 'LDG'):<24} {widths(counts[key], 'STG'):<24} {', '.join(wrong)}".rstrip())
    print(f"result: {broken} of {len(keys)} kernels break a rule"
          + ("" if shown == len(keys) else f"; {len(keys) - shown} narrow ones that do not are left out"))
    return 7 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
