"""Turns the events of agents, one JSON object a line, into lines for people.

    kubectl logs --prefix ... | python3 follow.py

A line without JSON (what `kubectl logs` says itself) is passed over.
"""

import json
import re
import sys

OUTPUT_LINES = 6
PREFIX = re.compile(r"^\[pod/pw-(?P<task>.+)-\d+-\d+-[0-9a-f]{6}/agent\] ")


def main():
    for line in sys.stdin:
        prefix = PREFIX.match(line)
        if not prefix:
            continue
        try:
            event = json.loads(line[prefix.end() :])
        except ValueError:
            continue
        for text in told(event):
            print(f"  {prefix['task']:<10} {text}", flush=True)


def told(event):
    kind = event.get("type")
    if kind == "phase.changed":
        yield f"== {event['phase']}: {event['message']}" if event.get("message") else f"== {event['phase']}"
    elif kind == "error":
        yield f"!! {event['message']}"
    elif kind == "turn.failed":
        yield f"!! {event['error']['message']}"
    elif kind == "thread.ended":
        yield f"== {event['outcome']['reason']}"
    elif kind == "item.started" and event["item"]["type"] == "command_execution":
        yield f"$ {event['item']['command']}"
    elif kind == "item.completed":
        yield from completed(event["item"])


def completed(item):
    kind = item["type"]
    if kind in ("agent_message", "reasoning"):
        yield from item["text"].splitlines()
    elif kind == "command_execution":
        lines = item["aggregated_output"].splitlines()
        if len(lines) > OUTPUT_LINES:
            yield f"    ({len(lines) - OUTPUT_LINES} lines left out)"
        for line in lines[-OUTPUT_LINES:]:
            yield f"    {line}"
        yield f"    exit code {item['exit_code']}"
    elif kind == "file_change":
        for change in item["changes"]:
            yield f"    {change['kind']} {change['path']} ({item['status']})"
    elif kind == "todo_list":
        for step in item["items"]:
            yield f"    [{'x' if step['completed'] else ' '}] {step['text']}"
    elif kind == "tool_call":
        yield f"    {item['tool']}: {item['status']}"


if __name__ == "__main__":
    main()
