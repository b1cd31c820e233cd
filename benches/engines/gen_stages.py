#!/usr/bin/env python3
"""Make a project of N trivial `cp` stages for a tool.

usage: gen_stages.py TOOL SHAPE N DIR
  TOOL   pipe | dvc | snakemake | snakemake-rules | ninja | make
         (snakemake = one wildcard rule, N jobs; snakemake-rules = N written-out rules)
  SHAPE  wide  (in/i.txt -> out/i.txt, N independent stages)
         chain (out/(i-1).txt -> out/i.txt)
"""
import pathlib, sys

tool, shape, n, d = sys.argv[1], sys.argv[2], int(sys.argv[3]), pathlib.Path(sys.argv[4])
d.mkdir(parents=True)
(d / "in").mkdir(); (d / "out").mkdir()
for i in range(n if shape == "wide" else 1):
    (d / "in" / f"{i}.txt").write_text(f"{i}\n")

def edge(i):
    src = f"in/{i}.txt" if shape == "wide" or i == 0 else f"out/{i-1}.txt"
    return src, f"out/{i}.txt"

L = []
if tool == "pipe":
    L.append('name = "stages"')
    for i in range(n):
        if shape == "wide" or i == 0:
            source, fed = f"in/{i}.txt", ""
        else:
            source, fed = f"{{in}}/before/{i-1}.txt", f'inputs = {{ before = "s{i-1}" }}\n'
        L.append(f'[steps.s{i}]\nstage = "command"\n{fed}run = ["cp", "{source}", "{{out}}/out/{i}.txt"]\noutputs = {{ out = "files" }}')
    name = "pipeline.toml"
elif tool == "dvc":
    L.append("stages:")
    for i in range(n):
        s, o = edge(i)
        L += [f"  s{i}:", f"    cmd: cp {s} {o}", "    deps:", f"    - {s}", "    outs:", f"    - {o}"]
    name = "dvc.yaml"
elif tool == "snakemake":
    last = f"expand('out/{{i}}.txt', i=range({n}))" if shape == "wide" else f"'out/{n-1}.txt'"
    L += ["rule all:", f"    input: {last}", "rule s:"]
    if shape == "wide":
        L.append("    input: 'in/{i}.txt'")
    else:
        L.append("    input: lambda w: 'in/0.txt' if w.i == '0' else f'out/{int(w.i)-1}.txt'")
    L += ["    output: 'out/{i}.txt'", "    shell: 'cp {input} {output}'"]
    name = "Snakefile"
elif tool == "snakemake-rules":
    outs = [edge(i)[1] for i in range(n)] if shape == "wide" else [edge(n - 1)[1]]
    L += ["rule all:", f"    input: {outs!r}"]
    for i in range(n):
        s, o = edge(i)
        L += [f"rule s{i}:", f"    input: '{s}'", f"    output: '{o}'", "    shell: 'cp {input} {output}'"]
    name = "Snakefile"
elif tool == "ninja":
    L += ["rule cp", "  command = cp $in $out"]
    for i in range(n):
        s, o = edge(i)
        L.append(f"build {o}: cp {s}")
    name = "build.ninja"
elif tool == "make":
    outs = " ".join(edge(i)[1] for i in range(n))
    L.append(f"all: {outs}")
    for i in range(n):
        s, o = edge(i)
        L += [f"{o}: {s}", f"\tcp {s} {o}"]
    name = "Makefile"
else:
    sys.exit(__doc__)
(d / name).write_text("\n".join(L) + "\n")
