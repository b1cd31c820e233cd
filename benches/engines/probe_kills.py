#!/usr/bin/env python3
"""Kills `pipe` at random moments and runs it again. Prints what differed, and sums up. usage: probe_kills.py KILLS SEED

A pipeline of small steps of every shape: rows, tables, a resident program, programs. Each time from an empty store: a run, ended by
`kill -9` at a moment drawn from the whole of its time; of every tenth two runs at once, of which one or both are killed. Then
  - no program of it is left within a second
  - a run to the end gives the artifacts of an undisturbed one
  - it executes no step again that was done COMMIT seconds before the kill: finished work is made durable every 0.3 s, and that takes
    its time; how old the oldest lost one was is printed
  - `pipe verify` finds nothing
"""
import json, os, pathlib, random, shutil, signal, subprocess, sys, time

PIPE = os.environ.get("PIPE", "pipe")
ROOT = pathlib.Path(os.environ.get("BENCH_WORK", "work")) / "kills"
COMMIT = 1.0
MAP = """import json, sys
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"drop": "seven"} if row["n"] % 7 == 0 else {"square": row["n"] ** 2}), flush=True)
"""
SPEC = """name = "kills"
[steps.rows]
stage = "download"
source = "rows.jsonl"
[steps.some]
stage = "filter"
inputs = { rows = "rows" }
keep = "n % 3 != 0"
[steps.once]
stage = "dedup"
inputs = { rows = "some" }
by = ["text"]
[steps.squares]
stage = "map"
inputs = { rows = "once" }
run = ["python3", "map.py"]
reads = ["n"]
writes = { square = "int" }
[steps.parts]
stage = "split"
inputs = { rows = "squares" }
parts = { train = 0.8, test = 0.2 }
[steps.phases]
stage = "curriculum"
inputs = { rows = "parts.train" }
difficulty = "square"
phases = [{ name = "easy", share = 0.5 }, { name = "hard" , share = 0.5 }]
[steps.first]
stage = "command"
inputs = { rows = "phases" }
outputs = { made = "dataset" }
columns = { made = { n = "int", phase = "text" } }
run = ["sh", "-c", "grep -v 11 {in}/rows/rows.jsonl > {out}/made/rows.jsonl; sleep 0.1 & wait"]
[steps.second]
stage = "command"
inputs = { first = "first", test = "parts.test" }
outputs = { made = "files" }
run = ["sh", "-c", "cat {in}/*/rows.jsonl | cksum > {out}/made/sum; sleep 0.1"]
"""
SIDE = """[steps.side{n}]
stage = "command"
outputs = {{ made = "files" }}
run = ["sh", "-c", "echo {n} > {{out}}/made/n; sleep 0.05"]
"""

def project(d):
    shutil.rmtree(d, ignore_errors=True); d.mkdir(parents=True)
    row = lambda n: json.dumps({"id": f"r{n:05}", "n": n % 1900, "text": f"row {n % 2500}"})
    (d / "rows.jsonl").write_text("".join(row(n) + "\n" for n in range(3000)))
    (d / "map.py").write_text(MAP)
    (d / "p.toml").write_text(SPEC + "".join(SIDE.format(n=n) for n in range(6)))

def start(d, store):
    return subprocess.Popen([PIPE, "run", "p.toml", "--json", "--store", store], cwd=d, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
def finish(d, store):
    p = start(d, store); out = p.communicate(timeout=300)[0]
    if p.returncode: raise RuntimeError(f"run to the end: code {p.returncode}\n{out[-2000:]}")
    done = [e for e in map(json.loads, out.splitlines()) if e["event"] == "step_done"]
    return ({f"{e['step']}.{port}": digest for e in done for port, digest in e["report"]["outputs"].items()},
            {e["step"] for e in done if e["report"]["executed"]})
def done_before(store):
    """When the steps were done that the runs of this store told of."""
    done = {}
    for log in (store / "runs").glob("*.jsonl"):
        for line in log.read_text(errors="replace").splitlines():
            try: event = json.loads(line)
            except ValueError: continue                     # the last line of a run that was killed
            if event["what"]["event"] == "step_done": done.setdefault(event["what"]["step"], event["time"])
    return done
def left(d):
    """Programs that run below this folder, and have not ended yet."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            if p.name.isdigit() and os.readlink(p / "cwd").startswith(str(d) + "/"): found.append(p.name)
        except OSError: pass
    return found
def gone(d):
    end = time.time() + 1
    while left(d) and time.time() < end: time.sleep(.01)
    return not left(d)

def main(kills, seed):
    draw = random.Random(seed); d = (ROOT / "p").resolve(); project(d)
    times = []
    for n in range(3):
        t = time.time(); want, _ = finish(d, d / f"undisturbed{n}"); times.append(time.time() - t)
    whole = sorted(times)[1]
    print(f"undisturbed: {whole:.2f} s, {len(want)} artifacts", flush=True)
    bad, oldest, kept, ended = 0, 0.0, 0, 0
    for kill in range(kills):
        store = d / "store"; shutil.rmtree(store, ignore_errors=True)
        runs = [start(d, store) for _ in range(2 if kill % 10 == 0 else 1)]
        moment = draw.uniform(0, whole * (1 + .4 * (len(runs) - 1))); doomed = runs[:draw.choice([1, len(runs)])]
        time.sleep(moment)
        killed = time.time()
        for p in doomed: p.send_signal(signal.SIGKILL)
        for p in doomed: ended += p.wait() == -signal.SIGKILL
        wrong = []
        if len(doomed) == len(runs) and not gone(d / "store"): wrong.append(f"programs {left(d / 'store')} go on")
        done = done_before(store)
        for p in runs:
            p.communicate()
            if p not in doomed and p.returncode: wrong.append(f"the other run ended with {p.returncode}")
        try:
            got, executed = finish(d, store)
            if got != want: wrong.append(f"artifacts differ: {sorted(set(got.items()) ^ set(want.items()))}")
            lost = {s: killed - t for s, t in done.items() if s in executed}
            oldest = max([oldest, *lost.values()]); kept += len(done) - len(lost)
            wrong += [f"{s} was done {age:.2f} s before and is executed again" for s, age in lost.items() if age > COMMIT]
        except Exception as e: wrong.append(str(e))
        v = subprocess.run([PIPE, "verify", "--store", store], cwd=d, capture_output=True, text=True)
        if v.returncode: wrong.append(f"verify: code {v.returncode}\n{v.stdout}{v.stderr}")
        bad += bool(wrong)
        for w in wrong: print(f"kill {kill} at {moment:.3f} s: {w}", flush=True)
        if wrong: shutil.copytree(store, ROOT / f"bad{seed}-{kill}", dirs_exist_ok=True)
        if kill % 100 == 99: print(f"{kill + 1} kills, {bad} bad, oldest step lost {oldest:.2f} s", flush=True)
    print(f"{kills} kills ({ended} before the end), {bad} bad; {kept} finished steps kept, the oldest one lost was done {oldest:.2f} s before")
    sys.exit(bad > 0)

main(int(sys.argv[1]), int(sys.argv[2]))
