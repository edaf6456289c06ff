"""report.py TASK ATTEMPT PATCH < {task, attempt}: prints what became of a task and writes its patch.

Standard input holds two JSON documents, the AgentTask and its AgentAttempt. Fails when the task did not succeed.
"""

import json
import sys


def main(patch_file):
    task, attempt = json.load(sys.stdin)["items"]
    status, result = task["status"], task["status"].get("result", {})
    print(f"\n--- {task['metadata']['name']}: {result.get('message', '')}")
    print("conditions:")
    for condition in status["conditions"]:
        print(f"  {condition['type']:<14} {condition['status']:<8} {condition['reason']}: {condition['message']}")
    print("plan:")
    for step in attempt["status"].get("plan", []):
        print(f"  {step['status']:<12} {step['step']}")
    print("usage:  ", ", ".join(f"{key} {value}" for key, value in status.get("usage", {}).items()))
    print("base:   ", status["resolved"]["baseCommit"])
    patch = result.get("patch")
    succeeded = next(c for c in status["conditions"] if c["type"] == "Succeeded")
    if succeeded["status"] != "True" or not patch:
        sys.exit(f"{task['metadata']['name']} has not succeeded: {succeeded['reason']}: {succeeded['message']}")
    print(f"patch:    {patch['files']} files, +{patch['insertions']} -{patch['deletions']}, sha256 {patch['sha256']}\n")
    print(patch["inline"])
    with open(patch_file, "w", encoding="utf-8", newline="") as file:
        file.write(patch["inline"])


if __name__ == "__main__":
    main(*sys.argv[1:])
