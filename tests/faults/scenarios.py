"""What the scripts of this folder run, how they look at what came of it, and when two outcomes are the same."""
import csv
import ctypes
import errno
import hashlib
import io
import json
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import threading

try:
    import tomllib
except ImportError:  # before Python 3.11
    tomllib = None

REPORT_BYTES, STACKS = 16384, 1 << 18  # as fault.cpp has them
STATE_BYTES = 24 + REPORT_BYTES + 16 * STACKS

DOCUMENTED = {0, 2, 3, 4, 5, 6, 7, 8, 9, 129, 130, 140, 142, 143, 152}  # exit codes; 1 is a bug of ours


class Ended:
    """A program that has ended, with all processes that it had started."""

    def __init__(self, code, out, err, calls=0, failed=0, report=""):
        self.code, self.out, self.err = code, out, err
        self.calls, self.failed, self.report = calls, failed, report


class Machine:
    """Runs programs, sound or with a fault; one a thread."""

    def __init__(self, programs, library, folder):
        self.programs, self.library, self.folder = pathlib.Path(programs), library, pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "state", "wb") as file:
            file.truncate(STATE_BYTES)
        with open(self.folder / "state", "r+b") as file:
            self.state = mmap.mmap(file.fileno(), STATE_BYTES)

    def run(self, words, fault=None, timeout=120, kill_after=None):
        """`fault`: the variables of fault.cpp, of which FAULT_CALL is one; None: none is possible. `kill_after`: kill -9 after
        so many seconds."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "KERAS_HOME": "/nonexistent"}
        if fault is not None:
            stacks = "FAULT_STACKS" in fault
            self.state[: STATE_BYTES if stacks else 24 + 1] = bytes(STATE_BYTES if stacks else 24 + 1)
            environment |= {"LD_PRELOAD": str(self.library), "FAULT_STATE": str(self.folder / "state")}
            environment |= {name: str(value) for name, value in fault.items()}
        # All descendants hold the pipe's other end: it ends when the last of them has.
        alive, held = os.pipe()
        with open(self.folder / "stdout", "w+b") as out, open(self.folder / "stderr", "w+b") as err:
            process = subprocess.Popen([self.programs / words[0], *words[1:]], stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=err, env=environment, cwd=self.folder, pass_fds=(held,),
                                       preexec_fn=same_addresses)
            os.close(held)
            try:
                code = process.wait(kill_after or timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait() if kill_after else "hangs"
            os.read(alive, 1)
            os.close(alive)
            out.seek(0)
            err.seek(0)
            ended = Ended(code, out.read().decode(errors="replace"), err.read().decode(errors="replace"))
        if isinstance(code, int) and code < 0:
            ended.code = 128 - code
        if fault is not None:
            ended.calls, ended.failed, _ = struct.unpack("<3Q", self.state[:24])
            ended.report = self.state[24 : 24 + REPORT_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        return ended

    def first_calls_of_stacks(self):
        """After a run with FAULT_STACKS: which calls were the first of their call stack."""
        table = self.state[24 + REPORT_BYTES :]
        return sorted(first for _, first in struct.iter_unpack("<QQ", table) if first)


def same_addresses():
    """One call stack has the same addresses in every process; where that is refused, it counts once for each."""
    ctypes.CDLL(None).personality(0x0040000)


class Scenario:
    """A command whose outcome lies in the folder `out` or on stdout."""

    def __init__(self, name, words, again=None, start=None, stdout=False, makes_trials=False, program=None, most=0):
        self.name, self.words, self.again = name, words, again or words
        self.start = start  # commands that make what is there before
        self.stdout, self.makes_trials = stdout, makes_trials
        self.program = program or words[0]  # whose calls count; its own processes', not those of programs that it starts
        self.most = most  # points of each call; 0: all


def scenarios(data):
    train = ["train", "--net", "b2", "--device", "cpu", "--dense-units", "1", "-b", "24", "--log-steps", "-q", "--out", "out"]
    idc, pcam = ["--data", f"{data}/idc"], ["--data", f"{data}/pcam"]
    tune = ["tune", "--net", "b2", *idc, "--device", "cpu", "--dense-units", "1", "-b", "24", "--space", "lr=1e-4|1e-3",
            "--max-epochs", "2", "--factor", "2", "-q", "--out", "out"]
    study = ["study", "--idc", f"{data}/idc", "--device", "cpu", "--nets", "b2", "--modes", "full",
             "--hyperparameters", f"{data}/units", "--epochs", "1", "-b", "24", "--tta", "d4", "-q", "--out", "out"]
    two = [*train, *idc, "--epochs", "2"]
    small = ["--train", "4", "--valid", "2", "--test", "2", "-q", "--out", "out"]
    convert = {
        "h5": [f"{data}/run/best.weights.h5", "out/b2.h5"],
        "checkpoint": [f"{data}/run/best.weights.h5", "out/b2.checkpoint"],
        "weights": [f"{data}/run/last.checkpoint", "out/b2.weights.h5"],
        "onnx": [f"{data}/run/best.weights.h5", "out/b2.onnx"],
    }
    return [
        Scenario("train", [*train, *idc, "--epochs", "1"], again=[*train, *idc, "--epochs", "1", "--resume"]),
        Scenario("train-pcam", [*train, *pcam, "--epochs", "1", "-b", "4"],
                 again=[*train, *pcam, "--epochs", "1", "-b", "4", "--resume"]),
        Scenario("resume", [*two, "--resume"], start=[[*train, *idc, "--epochs", "1"]]),
        Scenario("tune", tune, again=[*tune, "--resume"], makes_trials=True),
        Scenario("tune-train", tune, again=[*tune, "--resume"], makes_trials=True, program="train", most=40),
        Scenario("study", study),
        Scenario("study-train", study, again=[*study, "--retry-failed"], program="train", most=20),
        Scenario("study-evaluate", study, again=[*study, "--retry-failed"], program="evaluate", most=40),
        *[Scenario(f"convert-{kind}", ["convert", *words, "-q"], start=[["convert", *words, "-q"]])
          for kind, words in convert.items()],
        Scenario("verify-idc", ["data", "verify", *idc], stdout=True),
        Scenario("verify-pcam", ["data", "verify", *pcam], stdout=True),
        Scenario("audit-idc", ["data", "audit", *idc, "--json"], stdout=True),
        Scenario("audit-pcam", ["data", "audit", *pcam, "--json"], stdout=True),
        Scenario("synthesize-pcam", ["synthesize", "pcam", *small]),
        Scenario("synthesize-idc", ["synthesize", "idc", "--train", "32", "--valid", "4", "--test", "4", "-q", "--out", "out"]),
    ]


def make_data(machine, data):
    """What the scenarios read: as small as the programs take it."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "units").mkdir()
    (data / "units" / "b2.toml").write_text("dense-units = 1\n")
    for words in (["synthesize", "idc", "--train", "24", "--valid", "8", "--test", "8", "--out", f"{data}/idc"],
                  ["synthesize", "pcam", "--train", "4", "--valid", "2", "--test", "2", "--out", f"{data}/pcam"],
                  ["train", "--net", "b2", "--device", "cpu", "--dense-units", "1", "-b", "24", "--epochs", "1", "-q", "--data",
                   f"{data}/idc", "--out", f"{data}/run"]):
        ended = machine.run(words)
        if ended.code != 0:
            raise SystemExit(f"{words}: {ended.err}")


# What the machine says of itself may differ too: /proc may have been out of reach.
TIMES = {"seconds", "seconds_per_epoch", "images_per_second", "features_seconds", "peak_memory_bytes", "device_description", "digest"}


def without_times(json_value):
    if isinstance(json_value, dict):
        return {key: without_times(value) for key, value in json_value.items() if key not in TIMES}
    if isinstance(json_value, list):
        return [without_times(value) for value in json_value]
    return json_value


def checkpoint_without_times(content):
    size = struct.unpack_from("<I", content, 12)[0]
    header = json.loads(content[16 : 16 + size])
    bytes_of = {"u8": 1, "u32": 4, "f32": 4, "f64": 8}
    body, parts = 16 + size, [json.dumps({k: v for k, v in header.items() if k != "tensors"}).encode()]
    for tensor in header["tensors"]:
        part = content[body + tensor["offset"] : body + tensor["offset"] + tensor["count"] * bytes_of[tensor["type"]]]
        if tensor["name"] == "seconds":
            continue
        if tensor["name"] == "history":
            rows = [row[:5] + row[7:] for row in struct.iter_unpack("<8d", part)]
            part = repr(rows).encode()
        parts.append(tensor["name"].encode() + part)
    return b"\n".join(parts)


def content_of(path):
    """A file's bytes apart from times; None: it may differ from run to run."""
    name, content = path.name, path.read_bytes()
    if name.startswith(".lock") or name.endswith((".lock", ".log", ".html", ".md")) or name == "log.jsonl":
        return None
    if "tables" in path.parts or "figures" in path.parts:
        return None  # of seconds, among others
    if name.endswith(".checkpoint"):
        return checkpoint_without_times(content)
    if name == "metrics.csv":
        return b"\n".join(b",".join(line.split(b",")[:5]) for line in content.splitlines())
    if name == "trials.csv":
        return b"\n".join(line.rsplit(b",", 1)[0] for line in content.splitlines())
    if name == "trials.jsonl":
        return "\n".join(json.dumps(without_times(json.loads(line))) for line in content.splitlines()).encode()
    if name.endswith(".json"):
        return json.dumps(without_times(json.loads(content))).encode()
    return content


def files_below(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []


def contents(folder):
    return {str(p.relative_to(folder)): c for p in files_below(folder) if (c := content_of(p)) is not None}


def digest(folder):
    """Equal for folders from which a program goes on alike."""
    total = hashlib.sha256()
    for path in files_below(folder):
        try:
            content = content_of(path)
        except Exception:  # not whole, a hidden file's right
            content = path.read_bytes()
        total.update(f"{path.relative_to(folder)} {hashlib.sha256(content or b'').hexdigest()}\n".encode())
    return total.hexdigest()


def at_once(work, worlds):
    """A thread each."""
    threads = [threading.Thread(target=work, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def differences(found, wanted):
    return [f"{name} {'is missing' if name not in found else 'is too much' if name not in wanted else 'has other bytes'}"
            for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]


def why_not_whole(path):
    """None for a file that is whole, as its format tells."""
    name, content = path.name, path.read_bytes()
    try:
        if name.endswith(".h5"):
            if content[:8] != b"\x89HDF\r\n\x1a\n" or struct.unpack_from("<Q", content, 40)[0] != len(content):
                return "not as long as it says"
        elif name.endswith(".checkpoint"):
            checkpoint_without_times(content)
        elif name.endswith(".json"):
            json.loads(content)
        elif name.endswith(".jsonl"):
            [json.loads(line) for line in content.splitlines()]
        elif name.endswith(".toml") and tomllib:
            tomllib.loads(content.decode())
        elif name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
            if content and (not content.endswith(b"\n") or len({len(row) for row in rows}) != 1):
                return "a line is cut short"
        elif name.endswith(".html") and not content.rstrip().endswith(b"</html>"):
            return "no end"
        elif name.endswith(".png") and not content.endswith(b"IEND\xaeB`\x82"):
            return "no end"
    except Exception as error:
        return repr(error)
    return None


APPENDED = {".jsonl", ".csv"}  # their last line may have been cut by a kill


def is_final(path):
    return not any(part.startswith(".") for part in path.parts)


def folder_for_runs():
    """In memory where there is such a place: thousands of runs write little and often."""
    return tempfile.mkdtemp(prefix="microtome-faults-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def put(folder, start):
    shutil.rmtree(folder, ignore_errors=True)
    if start is not None:
        shutil.copytree(start, folder)


def errors_in(text):
    return re.findall(r"^\w+: error: .*$", text, re.MULTILINE)


BLAME = "damaged|cut short|get it again|get the file again|is missing|no data set that is known"


class World:
    """A folder in which a scenario runs again and again, and what it makes where nothing disturbs it."""

    def __init__(self, machine, scenario):
        self.machine, self.scenario = machine, scenario
        self.output = machine.folder / "out"
        self.start = None
        if scenario.start:
            put(self.output, None)
            self.output.mkdir()
            for words in scenario.start:
                self.must(words)
            self.start = machine.folder / "start"
            put(self.start, self.output)
        self.reset()
        ended = self.must(scenario.words)
        self.stdout, self.wanted = ended.out, contents(self.output)
        self.sound = set()  # states from which a second run was seen to come to the same end

    def must(self, words):
        ended = self.machine.run(words)
        if ended.code != 0:
            raise SystemExit(f"undisturbed, {' '.join(words)} ended with {ended.code}:\n{ended.err}")
        return ended

    def reset(self):
        put(self.output, self.start)

    def names(self):
        return [p.relative_to(self.output) for p in files_below(self.output)]

    def try_fault(self, call, error, at):
        """A run in which it happens: how it ended, and what is wrong with that."""
        self.reset()
        before = set(filter(is_final, self.names()))
        ended = self.machine.run(self.scenario.words, {"FAULT_CALL": call, "FAULT_PROGRAM": self.scenario.program,
                                                       "FAULT_AT": at, "FAULT_ERRNO": getattr(errno, error)})
        return ended, [*self.faults_of(ended), *self.faults_of_files(before, ended.code == 0)]

    def try_kill(self, **how):
        """The same of a kill -9."""
        self.reset()
        before = set(filter(is_final, self.names()))
        ended = self.machine.run(self.scenario.words, **how)
        if ended.code != 137:
            return ended, [] if ended.code == 0 else [f"exit code {ended.code}"]
        return ended, self.faults_of_files(before, done=False, killed=True)

    def faults_of(self, ended):
        if ended.code not in DOCUMENTED:
            return [f"exit code {ended.code}"]
        errors = errors_in(ended.err)
        if ended.code == 0 and errors:
            return ["exit code 0 beside an error"]
        failed_cells = re.findall(r"^cell .* failed: .+$", ended.err, re.M)
        if ended.code != 0 and len(errors) + len(failed_cells) != 1:
            return [f"exit code {ended.code} with {len(errors)} messages, {len(failed_cells)} of failed cells"]
        if ended.code != 0 and errors and not errors[0].startswith(self.scenario.words[0] + ": error: "):
            return ["another program's message"]
        if re.search("HDF5-DIAG|libgomp:|terminate called", ended.err):
            return ["a library's own words on stderr"]
        if blame := re.search(BLAME, ended.err):
            return [f'"{blame[0]}": the data are sound, it is the machine that failed']
        if ended.code == 0 and self.scenario.stdout and ended.out != self.stdout:
            return ["exit code 0 with other results"]
        return []

    def faults_of_files(self, before, done, killed=False):
        found = []
        names = self.names()
        for name in filter(is_final, names):
            if not (killed and name.suffix in APPENDED) and (why := why_not_whole(self.output / name)):
                found.append(f"{name} is not whole: {why}")
        found += [f"{name} is gone" for name in sorted(before - set(names))]
        if not killed:
            found += self.left()
        if found or self.scenario.stdout:
            return found
        if done:
            return [f"exit code 0: {d}" for d in self.differences()]
        state = digest(self.output)
        if state in self.sound:
            return []
        again = self.machine.run(self.scenario.again)
        if again.code != 0:
            return [f"done again, exit code {again.code}: {' '.join(again.err.split())[:300]}"]
        wrong = self.differences() + self.left()
        if not wrong:
            self.sound.add(state)
        return [f"done again: {d}" for d in wrong]

    def left(self):
        return [f"{name} is left" for name in self.names() if name.name.endswith(".part")]

    def differences(self):
        found = contents(self.output)
        if self.scenario.makes_trials and b'"status": "out of memory"' in found.get("trials.jsonl", b""):
            return []  # a trial for which memory does not suffice is one that has ended
        return differences(found, self.wanted)
