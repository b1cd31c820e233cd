"""Stand-in for a per-record stage: a row in, its upper-case twin out."""
import json, sys
for line in sys.stdin:
    print(json.dumps({"upper": json.loads(line)["text"].upper()}), flush=True)
