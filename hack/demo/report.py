"""report.py TASK DIRECTORY < OBJECTS: prints what became of a task, and fails when it is not what it should be.

Standard input holds the namespace's AgentTasks, AgentAttempts and ConfigMaps as one JSON list. The patch goes to
DIRECTORY/TASK.patch, its base commit to DIRECTORY/TASK.base.
"""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys
import textwrap

LABEL_WIDTH = 12


def main(name, directory):
    objects = {(item["kind"], item["metadata"]["name"]): item for item in json.load(sys.stdin)["items"]}
    task = objects["AgentTask", name]["status"]
    attempt = objects["AgentAttempt", task["attempts"][0]["name"]]["status"]
    result = task.get("result", {})
    message = result.get("message", "")
    print(f"\n--- {name} ".ljust(100, "-"))
    show("conditions", *(line for each in task["conditions"] for line in condition(each, message)))
    show("answer", *textwrap.wrap(message, 100 - LABEL_WIDTH))
    show("plan", *(f"{step['step']} ({step['status']})" for step in attempt.get("plan", [])))
    show("usage", usage(task))
    verdict = next(each for each in task["conditions"] if each["type"] == "Succeeded")
    patch = result.get("patch")
    if verdict["status"] != "True" or not patch:
        sys.exit(f"{name} has not succeeded: {verdict['reason']}")
    show("base commit", patch["baseCommit"])
    show("patch", summary(patch), f"sha256 {patch['sha256']}")
    print("\n" + patch["inline"].rstrip())
    content = artifact(objects, patch["artifact"])
    if hashlib.sha256(content).hexdigest() != patch["sha256"]:
        sys.exit(f"the digest of {name}'s patch is not that of its artifact")
    # The inline patch is a copy for people; pipelines take the artifact.
    if patch["inline"].encode() != content:
        sys.exit(f"the inline patch of {name} and its artifact differ")
    directory = pathlib.Path(directory)
    (directory / f"{name}.patch").write_bytes(content)
    (directory / f"{name}.base").write_text(patch["baseCommit"])


def show(label, *lines):
    for number, line in enumerate(lines):
        print(f"{'' if number else label:<{LABEL_WIDTH}}{line}")


def condition(each, answer):
    yield f"{each['type']:<16}{each['status']:<9}{each['reason']}"
    if each["message"] != answer:
        yield from textwrap.wrap(each["message"], 100 - LABEL_WIDTH - 4, initial_indent="    ", subsequent_indent="    ")


def usage(task):
    used = task["usage"]
    return (
        f"{count(used['requests'], 'model request')}, {count(used['commands'], 'command')}, "
        f"{used['inputTokens']:,} tokens in ({used['cachedInputTokens']:,} of them cached), "
        f"{used['outputTokens']:,} out, {task['activeSeconds']} s of work"
    )


def summary(patch):
    return (
        f"{count(patch['files'], 'file')}, +{patch['insertions']} -{patch['deletions']}, "
        f"also in ConfigMap {patch['artifact']['configMapName']}"
    )


def count(number, word):
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def artifact(objects, place):
    data = objects["ConfigMap", place["configMapName"]]["binaryData"][place["key"]]
    unpacked = subprocess.run(
        ["zstd", "--quiet", "--decompress"], input=base64.b64decode(data), stdout=subprocess.PIPE, check=True
    )
    return unpacked.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
