"""Turns the events of a task's agent, one JSON object a line, into lines for people.

    kubectl logs ... | python3 follow.py TASK

Each line has the time since the demo began. What is no event (what `kubectl logs` says itself) is passed over.
"""

import json
import os
import shutil
import sys
import textwrap
import time

STARTED = int(os.environ.get("PODWRIGHT_STARTED", time.time()))
WIDTH = max(60, min(140, shutil.get_terminal_size((120, 24)).columns))
# The end of a command's output says how it went.
OUTPUT_LINES = 6


def main(task):
    told = Told()
    for line in sys.stdin:
        try:
            event = json.loads(line)
            texts = list(told.lines(event))
        except (ValueError, KeyError, TypeError):
            continue
        elapsed = int(time.time()) - STARTED
        start = f"[{elapsed // 60:02}:{elapsed % 60:02}] {task:<10} "
        for text in texts:
            print(start + printable(text)[: WIDTH - len(start)], flush=True)


class Told:
    def __init__(self):
        self.planned = False

    def lines(self, event):
        kind = event["type"]
        if kind == "phase.changed" and event["message"]:
            yield event["message"]
        elif kind == "error":
            yield from wrapped(event["message"], "! ")
        elif kind == "turn.failed":
            yield from wrapped(event["error"]["message"], "! ")
        elif kind == "item.started" and event["item"]["type"] == "command_execution":
            yield from wrapped(event["item"]["command"], "$ ")
        elif kind == "item.completed":
            yield from self.completed(event["item"])

    def completed(self, item):
        kind = item["type"]
        if kind in ("agent_message", "reasoning"):
            yield from wrapped(item["text"], "")
        elif kind == "command_execution":
            yield from ended(item)
        elif kind == "file_change":
            for change in item["changes"]:
                yield f"  {change['kind']} {change['path']}" + ("" if item["status"] == "completed" else ": failed")
        elif kind == "todo_list":
            yield from self.plan(item["items"])
        elif kind == "tool_call":
            yield f"  {item['tool']}: {item['status']}"

    def plan(self, steps):
        """The whole plan once, and after that how far it is."""
        if not self.planned:
            self.planned = True
            for number, step in enumerate(steps, 1):
                yield f"  plan {number}/{len(steps)}: {step['text']}"
            return
        done = sum(step["completed"] for step in steps)
        current = [step["text"] for step in steps if step["status"] == "in_progress"]
        yield f"  plan: {done} of {len(steps)} done" + (f", now: {current[0]}" if current else "")


def ended(item):
    lines = [line for line in item["aggregated_output"].splitlines() if line.strip()]
    left_out = len(lines) - OUTPUT_LINES
    if left_out > 1:
        yield f"  | ({left_out} lines before these)"
        lines = lines[-OUTPUT_LINES:]
    for line in lines:
        yield f"  | {line}"
    if item["exit_code"] != 0:
        yield f"  exit code {item['exit_code']}"


def wrapped(text, mark):
    for line in text.splitlines():
        yield from textwrap.wrap(line, WIDTH - 20, initial_indent=mark, subsequent_indent=" " * len(mark))


def printable(text):
    """Without what moves the cursor or recolours the terminal: the text is a stranger's."""
    return "".join(char if char.isprintable() else " " for char in text.expandtabs(4))


if __name__ == "__main__":
    main(*sys.argv[1:])
