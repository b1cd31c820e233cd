#!/usr/bin/env python3
"""Make or edit DIR/rows.jsonl.

usage: gen_rows.py make DIR N [SEED]    N rows of about 120 bytes: id, text, score
       gen_rows.py edit DIR K           another text in K rows, spread evenly
"""
import json, pathlib, random, sys

WORDS = "the a small red blue house tree on hill with two old birds near water under grey sky and river bright".split()

def text(r):
    return " ".join(r.choice(WORDS) for _ in range(r.randrange(8, 20)))

op, d = sys.argv[1], pathlib.Path(sys.argv[2])
path = d / "rows.jsonl"
if op == "make":
    n, seed = int(sys.argv[3]), int((sys.argv + [1])[4])
    d.mkdir(parents=True, exist_ok=True)
    r = random.Random(seed)
    with open(path, "w") as f:
        for i in range(n):
            f.write(json.dumps({"id": f"row-{i:07d}", "text": text(r), "score": r.randrange(100)}) + "\n")
else:
    k, r = int(sys.argv[3]), random.SystemRandom()
    lines = open(path).readlines()
    for at in range(0, len(lines), max(1, len(lines) // k))[:k]:
        row = json.loads(lines[at]); row["text"] = text(r)
        lines[at] = json.dumps(row) + "\n"
    path.write_text("".join(lines))
