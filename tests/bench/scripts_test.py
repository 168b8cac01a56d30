#!/usr/bin/env python3
"""What the scripts of bench/ make of figures, without a GPU and without a peer."""

import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "peers")]
sys.dont_write_bytecode = True

import compare
import floors
import gaps
import sass


def case(round, program, speed, **more):
    return {"round": round, "precision": "bf16", "batch_size": 256, "net": "resnet50", "program": program,
            "images_per_second": speed, "peak_memory_bytes": 1000, "parameters": 7} | more


class CompareTest(unittest.TestCase):
    def summary(self, *runs, roofs=()):
        return compare.summary({"runs": list(runs), "roofs": list(roofs)})

    def test_a_ratio_is_taken_within_a_round(self):
        [row] = self.summary(case(1, "microtome", 200), case(1, "torch", 100), case(2, "microtome", 90), case(2, "torch", 30),
                             case(3, "microtome", 400), case(3, "torch", 400))
        self.assertEqual(row["programs"]["torch"]["ours_is"], {"median": 2, "least": 1, "most": 3})
        self.assertEqual(row["programs"]["microtome"]["images_per_second"], 400)
        self.assertEqual(row["programs"]["microtome"]["epoch_seconds"], 262144 / 400)

    def test_a_failure_is_told_and_harms_no_other_row(self):
        failed = {key: value for key, value in case(1, "torch", 1).items() if key in ("round", "precision", "batch_size", "net",
                                                                                      "program")} | {"error": "out of memory"}
        rows = self.summary(case(1, "microtome", 200), failed, case(1, "torch:compile", 100))
        self.assertEqual(rows[0]["programs"]["torch"], {"error": "out of memory"})
        text = "\n".join(compare.speed_table(rows) + compare.means(rows))
        self.assertIn("resnet50, 256, torch: out of memory", text)
        self.assertIn("2.00 times as fast as torch:compile, the geometric mean over 1 networks", text)

    def test_a_floor_stands_beside_a_measured_roof(self):
        roofs = {"precision": "bf16", "copy_bytes_per_second": 4.3e12, "flop_per_second": 790e12}
        [row] = self.summary(case(1, "microtome", 50000, training_flop=4.21e9), roofs=[roofs])
        self.assertAlmostEqual(row["floor"]["compute_seconds"], 1.40, 2)
        self.assertAlmostEqual(row["floor"]["bytes_seconds"], 2.79, 2)
        self.assertAlmostEqual(row["floor"]["share"], 2.79 / 5.24, 2)
        self.assertIn("| resnet50 | 256 | 1.40 | 2.79 | 5.24 | 0.53 |", compare.floor_table([row]))

    def test_training_flop_comes_from_describe(self):
        described = subprocess.run([os.environ["MICROTOME_DESCRIBE"], "--net", "resnet50", "--json"], stdout=subprocess.PIPE,
                                   check=True)
        self.assertAlmostEqual(floors.training_flop(json.loads(described.stdout)["rows"]) * 1e-9, 4.21, 2)


class GapsTest(unittest.TestCase):
    def report(self, folder, kernels):
        file = pathlib.Path(folder) / "report.sqlite"
        with sqlite3.connect(file) as database:
            database.execute("create table StringIds (id, value)")
            database.execute("create table CUPTI_ACTIVITY_KIND_KERNEL (start, end, demangledName)")
            names = sorted({name for _, _, name in kernels})
            database.executemany("insert into StringIds values (?, ?)", enumerate(names))
            database.executemany("insert into CUPTI_ACTIVITY_KIND_KERNEL values (?, ?, ?)",
                                 [(start, end, names.index(name)) for start, end, name in kernels])
        return file

    def test_time_in_which_no_kernel_runs_is_a_gap(self):
        kernels = []
        for step in range(8):  # two side by side, 10 ns of nothing, Adam
            at = 1000 * step
            kernels += [(at, at + 500, "conv"), (at + 200, at + 900, "conv"), (at + 910, at + 1000, "optimizer_update(long)")]
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(gaps.read(self.report(folder, kernels)), [(1000, 10, 3)] * 3)

    def test_validation_between_steps_does_not_count(self):
        kernels = [(at, at + 100, "optimizer_update") for at in (0, 1, 2, 3, 1000, 2000, 3000, 9000)]
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual([length for length, _, _ in gaps.read(self.report(folder, kernels))], [1000, 1000])


class SassTest(unittest.TestCase):
    kept = {"REG": 32, "STACK": 0, "SHARED": 0, "LOCAL": 0}

    def counts(self, *lines):
        code = (f"        /*0030*/   {line} ;  /* 0x00 */" for line in lines)
        text = "\n".join(["arch = sm_90", "\t\tFunction : name", *code])
        return sass.accesses(text)["sm_90", "name"]

    def test_wide_accesses_are_told_from_narrow_ones(self):
        counts = self.counts("@!P0 LDG.E.128 R4, desc[UR6][R2.64]", "LDG.E.U16.CONSTANT R4, desc[UR6][R2.64]",
                             "STG.E.64 desc[UR6][R2.64], R4", "STG.E desc[UR6][R2.64], R4")
        self.assertEqual(counts, {("LDG", 16): 1, ("LDG", 2): 1, ("STG", 8): 1, ("STG", 4): 1})

    def test_a_widest_instantiation_must_be_wide_both_ways(self):
        wide = self.counts("LDG.E.128 R4, desc[UR6][R2.64]", "STG.E.128 desc[UR6][R2.64], R4")
        narrow = self.counts("LDG.E.64 R4, desc[UR6][R2.64]", "STG.E desc[UR6][R2.64], R4")
        self.assertEqual(sass.judged("add_forward<float, 4>", self.kept, wide, True), [])
        self.assertEqual(sass.judged("add_forward<float, 4>", self.kept, narrow, True), ["NARROW READS", "NARROW WRITES"])
        self.assertEqual(sass.judged("add_forward<float, 1>", self.kept, narrow, False), [])
        self.assertEqual(sass.judged("batch_norm_backward_sums<float, 4>", self.kept, narrow, True), ["NARROW READS"])

    def test_blackwells_widest_stores_are_wide(self):
        counts = self.counts("LDG.E.128 R4, desc[UR6][R2.64]", "STG.E.ENL2.256 desc[UR8][R38.64], R32, R36")
        self.assertEqual(counts, {("LDG", 16): 1, ("STG", 32): 1})
        self.assertEqual(sass.judged("add_forward<float, 4>", self.kept, counts, True), [])

    def test_a_spill_is_never_allowed(self):
        self.assertEqual(sass.judged("loss_forward<float>", self.kept | {"STACK": 8}, self.counts(), True), ["SPILLS"])
        self.assertEqual(sass.judged("loss_forward<float>", self.kept, self.counts("STL [R1], R2"), True), ["SPILLS"])

    def test_resources_are_read_by_architecture(self):
        text = "arch = sm_80\n Function name:\n  REG:17 STACK:0 SHARED:16 LOCAL:4 CONSTANT[0]:689\n"
        self.assertEqual(sass.resources(text), {("sm_80", "name"): {"REG": 17, "STACK": 0, "SHARED": 16, "LOCAL": 4}})


if __name__ == "__main__":
    unittest.main()
