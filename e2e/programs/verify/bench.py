"""Measures this project's verifier and Math-Verify alternately in one run on the same cases.

usage: bench.py CASES [--rounds N] [--seconds S]

CASES holds JSON lines with "gold" and "response" (golden/verifier.jsonl of the shared folder has the form). Run it with a
Python that has math-verify 0.9.0 and latex2sympy2_extended[antlr4_13_2]; both sides use two processes or goroutines. Every
round gives both sides about the same time; the best round of each counts.
"""
import argparse
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

logging.disable(logging.CRITICAL)


def math_verify(case):
    """Decides one case; returns the processor time it took."""
    from math_verify import parse, verify
    start = time.process_time()
    gold, response = parse("$" + case["gold"] + "$"), parse(case["response"])
    bool(gold and response and verify(gold, response))
    return time.process_time() - start


def main():
    p = argparse.ArgumentParser()
    p.add_argument("cases")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=5)
    a = p.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    with open(a.cases, encoding="utf-8") as f:
        text = f.read()
    cases = [json.loads(line) for line in text.splitlines()]
    binary = os.path.join(tempfile.mkdtemp(), "verify")
    subprocess.run(["go", "build", "-o", binary, "."], cwd=here, check=True)

    cpu, their_cpu = [], []

    def ours(rounds):
        before = os.times().children_user + os.times().children_system
        out = subprocess.run([binary, "-rounds", str(rounds), "-workers", "2"], input=text, capture_output=True, text=True, check=True)
        cpu.append((os.times().children_user + os.times().children_system - before) / (rounds * len(cases)))
        return rounds * len(cases) / float(out.stdout)

    try:
        with multiprocessing.Pool(2) as pool:
            pool.map(math_verify, cases[:50])  # imports and warms up
            probe = ours(2)
            mine, theirs = [], []
            share = len(cases)
            for _ in range(a.rounds):
                mine.append(ours(max(1, int(a.seconds * probe / len(cases)))))
                start = time.monotonic()
                spent = pool.map(math_verify, cases[:share], chunksize=20)
                their_cpu.append(sum(spent) / share)
                took = time.monotonic() - start
                theirs.append(share / took)
                share = max(100, min(len(cases), int(a.seconds * theirs[-1])))
    finally:
        os.remove(binary)
    print(f"cases {len(cases)}, rounds {a.rounds}, two workers each")
    print("verdicts a second, this project: " + ", ".join(f"{x:,.0f}" for x in mine))
    print("verdicts a second, Math-Verify:  " + ", ".join(f"{x:,.0f}" for x in theirs))
    print(f"processor time of a verdict: {min(cpu) * 1e6:.1f} and {min(their_cpu) * 1e6:.0f} microseconds, ratio {min(their_cpu) / min(cpu):.0f};"
          f" two idle cores would give {2 / min(cpu):,.0f} and {2 / min(their_cpu):,.0f} a second")
    print(f"ratio of the best rounds: {max(mine) / max(theirs):.0f}")


if __name__ == "__main__":
    sys.exit(main())
