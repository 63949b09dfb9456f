"""Writes the cases of Math-Verify's own test suite as JSON lines, and says how many of our verdicts agree.

usage: suite.py TESTS_DIR [VERDICTS]

TESTS_DIR is the tests folder of the project's source distribution (pip download math-verify==0.9.0 --no-binary :all:
--no-deps). Without VERDICTS the cases go to standard output, for `go run ./e2e/programs/verify`; with it, the file that command wrote
is compared with what the suite expects. Tests of that project's Python interface have no such case and are left out.
"""
import importlib
import inspect
import json
import os
import sys


def cases(folder):
    sys.path.insert(0, os.path.dirname(os.path.abspath(folder)))
    for name in sorted(os.listdir(folder)):
        if not name.startswith("test_") or not name.endswith(".py"):
            continue
        module = importlib.import_module("tests." + name[:-3])
        for test, function in inspect.getmembers(module, inspect.isfunction):
            for mark in getattr(function, "pytestmark", []):
                if mark.name != "parametrize":
                    continue
                names = mark.args[0]
                names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
                if "gold" not in names or "pred" not in names:
                    continue
                for values in mark.args[1]:
                    v = dict(zip(names, values))
                    if v.get("strict") is False:
                        continue
                    yield {
                        "test": f"{name}::{test}", "gold": v["gold"], "response": v["pred"],
                        "expected": bool(v.get("expected", v.get("result"))),
                        "options": {k: v[k] for k in v if k not in ("gold", "pred", "expected", "result")},
                    }


def main():
    all_cases = list(cases(sys.argv[1]))
    if len(sys.argv) < 3:
        for c in all_cases:
            print(json.dumps(c))
        return
    agree = 0
    with open(sys.argv[2]) as f:
        for c, line in zip(all_cases, f, strict=True):
            r = json.loads(line)
            if (r["verdict"] == "correct") == c["expected"]:
                agree += 1
            else:
                print(c["test"], json.dumps({k: c[k] for k in ("gold", "response", "expected", "options")})[-600:], json.dumps(r), "", sep="\n  ")
    print(f"{agree} of {len(all_cases)} agree: {agree / len(all_cases):.4f}")


if __name__ == "__main__":
    main()
