"""A program for Drover's handler `exec`, described in docs/WORKERS.md."""

import json, os, sys

try:
    to = json.load(sys.stdin.buffer)["to"]
except (ValueError, TypeError, LookupError, RecursionError):
    print("nobody to write to", file=sys.stderr)
    sys.exit(65)  # fails for good
print("writing", to, file=sys.stderr)
json.dump({"welcomed": to, "attempt": int(os.environ["DROVER_ATTEMPT"])}, sys.stdout)
