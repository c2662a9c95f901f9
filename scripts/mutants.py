#!/usr/bin/env python3
"""Changes one place of a Lua script at a time, and prints whether the model test detects the change.

The test's binary contains the scripts as text, so this program replaces text in a copy of the binary by text of the same length,
without a build. A mutant that survives shows a gap in the model, or is a change without effect.
"""

import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LUA = ROOT / "crates/queue-core/src/lua"
WRITES = "DEL|HDEL|HINCRBY|HSET|LPOP|LSET|LTRIM|RPOP|RPUSH|SADD|SREM|XADD|ZADD|ZREM|ZREMRANGEBYRANK"
# The first item of CHANGES replaces a write to Redis by a call of `type`, which does nothing.
CHANGES = [
    (rf"(?<![\w.])redis\.call\((?='(?:{WRITES})')", "type      ("),
    (r"> 0", ">=0"), (r"== 1", "== 0"), (r"== 0", "== 1"), (r" \+ 1\b", " - 1"), (r"<= now", "<  now"),
    (r" and ", " or  "), (r"'RPUSH'", "'LPUSH'"), (r"math\.min", "math.max"), (r"math\.max", "math.min"), (r"\bnot ", "    "),
]
# The model test does not cover quotas, and the model test relies on the script `audit` to find errors.
EXCLUDED = {"quota.lua", "audit.lua"}


def mutants():
    for file in sorted(LUA.rglob("*.lua")):
        if file.name in EXCLUDED:
            continue
        text = file.read_text()
        comments = [range(*found.span()) for found in re.finditer(r"--[^\n]*", text)]
        for old, new in CHANGES:
            for found in re.finditer(old, text):
                if not any(found.start() in comment for comment in comments):
                    yield file, found.start(), found.group(), new


def survives(binary, mutant, steps, limit):
    file, position, old, new = mutant
    text = file.read_text()
    content = bytearray(binary.read_bytes())
    start = content.index(text.encode()) + len(text[:position].encode())
    content[start:start + len(new)] = new.encode()
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, "model")
        copy.write_bytes(content)
        copy.chmod(0o755)
        environment = os.environ | {"DROVER_MODEL_STEPS": str(steps)}
        # A test that fails searches for a shorter failing sequence, which takes time, so a mutant whose test times out
        # counts as caught.
        test = ["timeout", str(limit), copy, "-q"]
        done = subprocess.run(test, cwd=ROOT / "crates/queue-core", env=environment, capture_output=True)
    line = text[:position].count("\n") + 1
    print("survived" if done.returncode == 0 else "caught", f"{file.relative_to(LUA)}:{line}", f"{old!r} -> {new!r}", flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=pathlib.Path, help="the test `model`, at the path that cargo test --test model --no-run prints")
    parser.add_argument("--mutants", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument("--limit", type=int, default=60, help="seconds for each mutant")
    options = parser.parse_args()
    chosen = list(mutants())
    random.Random(options.seed).shuffle(chosen)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one = lambda mutant: survives(options.binary, mutant, options.steps, options.limit)
        survivors = sum(pool.map(one, chosen[:options.mutants]))
    print(f"{survivors} of {options.mutants} survived")


if __name__ == "__main__":
    main()
