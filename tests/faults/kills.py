#!/usr/bin/env python3
"""kill -9 of `train`, `tune` and `study` at many moments: nothing under its final name is cut short, and the same command again
(--resume) ends with the bytes of a run that nobody disturbed.

    tests/faults/kills.py --programs build/tools --library build/tests/faults/libfault.so --moments 1000

Half of the moments are spread over the time that a run takes; the others are those in which a file is written (by half),
synced, renamed, closed, of the program or one that it has started. Without --library all are of the first kind.
"""
import argparse
import os
import pathlib
import queue
import shutil
import sys
import threading
import time

from scenarios import Machine, Scenario, World, at_once, folder_for_runs, make_data, scenarios

CALLS = ["write", "fsync", "rename", "close"]


def killed_scenarios(data):
    of = {s.name: s for s in scenarios(data)}
    often = ["-b", "8", "--epochs", "2", "--checkpoint-every", "0.0001"]
    train = of["train"]
    return [Scenario("train", [*train.words, *often], again=[*train.again, *often]), of["tune"], of["study"]]


def spread(items, count):
    return [items[i * len(items) // count] for i in range(min(count, len(items)))] if count else []


def moments_of(world, count, with_library):
    """Arguments of try_kill."""
    world.reset()
    begun = time.monotonic()
    world.must(world.scenario.words)
    seconds = time.monotonic() - begun
    calls = []
    for call in CALLS if with_library else []:
        world.reset()
        ended = world.machine.run(world.scenario.words, {"FAULT_CALL": call})
        calls += [{"fault": {"FAULT_CALL": call, "FAULT_AT": k, "FAULT_KILL": 1}} for k in range(1, ended.calls + 1)]
    calls = spread(calls, count // 2)
    timed = count - len(calls)
    return calls + [{"kill_after": seconds * (i + 0.5) / timed} for i in range(timed)]


def kill_all(worlds, moments):
    """(how many were killed, how many had ended before they could be, what was wrong)"""
    left, lock, counts, wrong, thrown = queue.SimpleQueue(), threading.Lock(), {137: 0, 0: 0}, [], []
    for moment in moments:
        left.put(moment)

    def work(world):
        try:
            while not left.empty() and not thrown:
                moment = left.get_nowait()
                ended, found = world.try_kill(**moment)
                if ended.code == 0 and "kill_after" in moment:  # it was faster than the first
                    left.put({"kill_after": 0.8 * moment["kill_after"]})
                with lock:
                    counts[ended.code] = counts.get(ended.code, 0) + 1
                    wrong.extend(f"{world.scenario.name}, killed at {moment}: {f}" for f in found)
        except queue.Empty:
            pass
        except BaseException as error:
            thrown.append(error)

    at_once(work, worlds)
    if thrown:
        raise thrown[0]
    return counts[137], counts[0], wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True, help="build/tools")
    parser.add_argument("--library", help="build/tests/faults/libfault.so")
    parser.add_argument("--moments", type=int, default=30, help="over the three programs")
    parser.add_argument("--only", default="train,tune,study", help="commas between")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.nice(10)

    top = pathlib.Path(folder_for_runs())
    try:
        library = options.library and os.path.abspath(options.library)
        machines = [Machine(os.path.abspath(options.programs), library, top / f"{i}") for i in range(options.jobs)]
        make_data(machines[0], top / "data")
        chosen = [s for s in killed_scenarios(top / "data") if s.name in options.only.split(",")]
        total, all_wrong = 0, []
        for i, scenario in enumerate(chosen):
            worlds = [World(machine, scenario) for machine in machines]
            count = options.moments * (i + 1) // len(chosen) - options.moments * i // len(chosen)
            killed, late, wrong = kill_all(worlds, moments_of(worlds[0], count, library))
            total += killed
            all_wrong += wrong
            print(f"{scenario.name:6} {killed} kills, {late} runs had ended before, {len(wrong)} wrong", flush=True)
            for line in wrong:
                print(f"  {line}", flush=True)
        print(f"{total} kills, {len(all_wrong)} wrong")
        return 1 if all_wrong or total == 0 else 0
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
