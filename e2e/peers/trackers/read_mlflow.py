"""MLflow's own client reads what a run has been sent: read_mlflow.py URL EXPERIMENT RUN WAS, where WAS is the iterations it began with."""
import glob
import json
import os
import sys

import mlflow

url, name, path, was = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name(name).experiment_id
runs = client.search_runs([experiment])
assert len(runs) == 1, runs
run = runs[0]
assert run.info.status == "FINISHED" and run.info.end_time and run.info.run_name == os.path.basename(path), run.info

points = 0
lines = [json.loads(line) for file in sorted(glob.glob(path + "/iter-*/metrics.jsonl")) for line in open(file)]
for line in lines:  # of an evaluation there is more than its accuracy
    evaluation = line.get("evaluation", {})
    for name, of in [(f"pass@{p['k']}", p) for p in evaluation.get("pass_at", [])] + \
            [(f"best_of_n@{b['k']}", b) for b in evaluation.get("best_of_n", [])] + \
            [("majority_vote", evaluation[v]) for v in ["majority_vote"] if v in evaluation]:
        line["metrics"] |= {name: of["mean"], name + "_stderr": of["std_err"]}
names = {name for line in lines for name in line["metrics"]}
assert "pass@8" in names, names
for name in names:
    want = [(line["iterations"], line["metrics"][name]) for line in lines if name in line["metrics"]]
    got = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name.replace("@", "_at_"))]
    assert sorted(got) == want, (name, got, want)
    points += len(got)
assert set(run.data.metrics) == {name.replace("@", "_at_") for name in names}

done = lines[-1]["iterations"]
params, tags = run.data.params, run.data.tags
assert params["kind"] == "policy" and params["iterations"] == was and params["update.losses.0.name"] == "ppo", params
assert tags["millrace.iterations"] == str(done) and len(tags["millrace.identity"]) == 64, tags
assert done == int(was) or tags["millrace.setting.iterations"] == str(done), tags
assert any(tag.startswith("millrace.input.policy") for tag in tags) and "millrace.model.policy/model.safetensors" in tags, tags

config = client.download_artifacts(run.info.run_id, "config.yaml")
assert open(config).read() == open(path + "/config.yaml").read()
logged = json.loads(tags["mlflow.loggedArtifacts"])
for entry in logged:
    assert entry["type"] == "table"
    table = client.load_table(experiment, entry["path"], run_ids=[run.info.run_id])
    assert {"iterations", "prompt", "response", "outcome", "verdict", "advantage", "tokens"} <= set(table.columns), table.columns
    assert len(table) > 1 and table["prompt"].str.len().min() > 0 and table["response"].str.len().max() > 0, table
    assert set(table["outcome"].dropna()) <= {0, 1}
print(f"mlflow {mlflow.__version__}: {points} points, {len(params)} params, {len(logged)} tables, {len(table)} rows in the last")
