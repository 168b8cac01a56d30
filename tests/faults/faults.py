#!/usr/bin/env python3
"""Fails the k-th call of a function, for every k until a run passes untouched, and looks at what comes of it: a documented exit
code, one message, no file under its final name that is not whole, nothing lost of what was there, no error passed over, and
the bytes of an undisturbed run when the same is done again.

    tests/faults/faults.py --programs build/tools --library build/tests/faults/libfault.so               all of it: hours
    tests/faults/faults.py … --only train --calls write,fsync            some
    tests/faults/faults.py … --only train --calls malloc --at 1234       one, with all that it says
    tests/faults/faults.py … --points 3                                  so many of each, spread over the run

Of malloc, whose calls are too many, the first of every call stack fails.
"""
import argparse
import collections
import json
import os
import pathlib
import queue
import re
import shutil
import sys
import threading
import time

from scenarios import Machine, World, at_once, folder_for_runs, make_data, scenarios

ERRORS = {
    "open": ["EMFILE", "EIO"],
    "read": ["EIO"],
    "write": ["ENOSPC", "EIO"],
    "fsync": ["EIO"],
    "rename": ["EIO"],
    "close": ["EIO"],
    "mmap": ["ENOMEM"],
    "fork": ["EAGAIN"],
    "malloc": ["ENOMEM"],
}

# What we can do nothing about: (call, what the failed call's stack or stderr holds, why).
BEYOND_US = [
    ("malloc", "HDF5-DIAG", "where its start lacks memory libhdf5 says so before it can be told to be silent; our message follows"),
    ("malloc", "crashes the library that reads it", "what ends a library in the sandbox, the file or memory, nobody can tell"),
    ("malloc", "libgomp: Out of memory", "libgomp ends the process where it cannot allocate"),
]


def beyond_us(call, ended):
    return next((why for of, sign, why in BEYOND_US if of == call and re.search(sign, ended.report + ended.err)), None)


def points_of(world, call, count):
    """Which calls are to fail: all; of malloc the first of each call stack; `count` of them where that is not 0."""
    fault = {"FAULT_CALL": call, "FAULT_PROGRAM": world.scenario.program}
    if call == "malloc":
        fault["FAULT_STACKS"] = 1
    world.reset()
    ended = world.machine.run(world.scenario.words, fault, timeout=600)
    if ended.code != 0:
        raise SystemExit(f"{world.scenario.name}, counted: exit code {ended.code}\n{ended.err}")
    points = world.machine.first_calls_of_stacks() if call == "malloc" else list(range(1, ended.calls + 1))
    if count and len(points) > count:
        points = [points[i * (len(points) - 1) // (count - 1)] for i in range(count)] if count > 1 else points[:1]
    return points


def show(world, scenario, call, error, k):
    ended, wrong = world.try_fault(call, error, k)
    print(f"{scenario.name} {call} {error} {k}: exit code {ended.code}, {ended.failed} of {ended.calls} calls failed")
    print(ended.report, ended.out, ended.err, sep="\n")
    print(*wrong or ["nothing is wrong"], sep="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True, help="build/tools")
    parser.add_argument("--library", required=True, help="build/tests/faults/libfault.so")
    parser.add_argument("--only", default="", help="names of scenarios, commas between")
    parser.add_argument("--calls", default=",".join(ERRORS), help="commas between")
    parser.add_argument("--error", default="", help="in the place of each call's own")
    parser.add_argument("--points", type=int, default=0, help="of each scenario, call and error; 0: all")
    parser.add_argument("--at", type=int, default=0, help="this call alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", help="a line of JSON for each point is added to it")
    options = parser.parse_args()
    os.nice(10)

    top = pathlib.Path(folder_for_runs())
    try:
        return run(options, top)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def run(options, top):
    programs, library = os.path.abspath(options.programs), os.path.abspath(options.library)
    machines = [Machine(programs, library, top / f"{i}") for i in range(options.jobs)]
    make_data(machines[0], top / "data")
    log = open(options.log, "a") if options.log else None
    wanted = [name for name in options.only.split(",") if name]
    all_scenarios = scenarios(top / "data")
    unknown = set(wanted) - {s.name for s in all_scenarios}
    if unknown:
        raise SystemExit(f"unknown scenarios: {unknown}; there are {[s.name for s in all_scenarios]}")
    failures, total = collections.Counter(), 0
    for scenario in all_scenarios:
        if wanted and scenario.name not in wanted:
            continue
        worlds = [World(machine, scenario) for machine in machines]
        for call in options.calls.split(","):
            errors = [options.error] if options.error else ERRORS[call]
            if options.at:
                show(worlds[0], scenario, call, errors[0], options.at)
                continue
            most = options.points or scenario.most
            points = points_of(worlds[0], call, most)
            for error in errors:
                begun = time.monotonic()
                count, failed, excused = run_points(worlds, call, error, points, not most, log)
                total += count
                for what in failed:
                    failures[what] += 1
                print(f"{scenario.name:16} {call:7} {error:7} {count:6} points, {len(failed):5} wrong, {excused:4} beyond us, "
                      f"{time.monotonic() - begun:6.0f} s", flush=True)
    for (name, call, error, what), count in failures.most_common():
        print(f"{count:5}  {name} {call} {error}: {what}")
    print(f"{total} points, {sum(failures.values())} wrong")
    return 1 if failures else 0


def run_points(worlds, call, error, points, go_on, log):
    """(how many were tried, what was wrong with each that was wrong, how many were beyond us). `go_on`: with the calls
    behind the last point, until one does not come."""
    left = queue.SimpleQueue()
    for k in points:
        left.put(k)
    beyond = [max(points, default=0)]
    lock, tried, failed, excused, thrown = threading.Lock(), [0], [], [0], []

    def next_point():
        with lock:
            if not left.empty():
                return left.get()
            if not go_on or beyond[0] < 0:
                return None
            beyond[0] += 1
            return beyond[0]

    def work(world):
        try:
            while (k := next_point()) is not None:
                ended, wrong = world.try_fault(call, error, k)
                with lock:
                    if not ended.failed:
                        if k > max(points, default=0):
                            beyond[0] = -1
                        if not wrong:
                            continue
                    tried[0] += 1
                    why = beyond_us(call, ended) if wrong else None
                    if why:
                        excused[0] += 1
                    elif wrong:
                        failed.append((world.scenario.name, call, error, re.sub(r"\d{3,}", "N", wrong[0])))
                    if log:
                        print(json.dumps({"scenario": world.scenario.name, "call": call, "error": error, "at": k,
                                          "code": ended.code, "err": ended.err[:2000], "wrong": wrong, "beyond": why,
                                          "report": ended.report[:3000]}), file=log, flush=True)
        except BaseException as error_of_ours:
            thrown.append(error_of_ours)

    at_once(work, worlds)
    if thrown:
        raise thrown[0]
    return tried[0], failed, excused[0]


if __name__ == "__main__":
    sys.exit(main())
