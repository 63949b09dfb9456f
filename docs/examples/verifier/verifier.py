"""Judges answers that are lists of words, in any order: the score is the share of the wanted words that are there."""
import json
import sys

for line in sys.stdin:
    question = json.loads(line)
    wanted, given = set(question["gold"].split()), set(question["response"].lower().replace(",", " ").split())
    answer = {"id": question["id"], "rule": "words"}
    if wanted:
        answer["score"] = len(wanted & given) / len(wanted)
        answer["verdict"] = "correct" if wanted <= given else "incorrect"
        answer["reason"] = "" if wanted <= given else "missing: " + " ".join(sorted(wanted - given))
    else:
        answer["error"] = "the reference answer has no words"
    print(json.dumps(answer), flush=True)
