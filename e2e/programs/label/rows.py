"""Writes N responses to GSM8K problems as JSON lines: rows.py N > rows.jsonl. They are the solutions of the published pairs beside the
tests, each with the answer of its problem, again and again with another number in their last sentence, so that no two are alike."""
import json
import pathlib
import sys

data = pathlib.Path(__file__).parents[2] / "golden" / "data" / "gsm8k"
answers = {}
for line in (data / "test.jsonl").read_text().splitlines():
    row = json.loads(line)
    answers[row["instruction"].strip()] = row["label"]
solutions = []
for line in (data / "pairwise-test.jsonl").read_text().splitlines():
    row = json.loads(line)
    answer = answers.get(row["instruction"].strip())
    if answer is not None:
        solutions += [(row["instruction"], answer, row[side]) for side in ("chosen", "rejected")]
for i in range(int(sys.argv[1])):
    question, answer, solution = solutions[i % len(solutions)]
    said = answer if i % 3 else str(i % 1009)
    print(json.dumps({"id": i, "question": question, "answer": answer, "response": f"{solution}\n\nThe answer is \\boxed{{{said}}}."}))
