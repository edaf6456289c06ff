#!/usr/bin/env python3
"""An MCP server for tests, over standard input and output or over HTTP, without dependencies.

It speaks the protocol's versions that have a handshake. Its arguments are modes that make it hostile or odd:

  names=a,b      tools of these names beside its own
  many=N         N tools beside its own
  version=TEXT   what it says in the descriptions of its tools
  changes=a,b    a tool more, which puts tools of these names in the place of "fail" and describes all others otherwise
  silent         does not declare that it announces other tools
  noise          lines that are no messages, and a word on standard error
  mute           never answers
  refuse         turns the handshake down
  long           answers the handshake with a line without end
  flood          asks without reading answers
  exit           ends at once, with a complaint
  slow=SECONDS   answers the handshake late
  log=FILE       writes a line a call into FILE
  http           serves HTTP on a free port of 127.0.0.1, whose number it prints first
  token=TEXT     wants this bearer token (HTTP)
  events         answers with a stream of events (HTTP)
  redirect       redirects everything (HTTP)
  cut            breaks off in the middle of each answer to a call (HTTP)
"""

import base64
import json
import os
import sys
import threading
import time
import uuid

MODES = dict(mode.partition("=")[::2] for mode in sys.argv[1:])

# One red point.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
)

STATE = {"counter": 0, "announce": lambda: None}

CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


def schema(**properties):
    # In an order that is not sorted, and with a member that names a dialect.
    return {"properties": properties, "type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema"}


def tools():
    said = MODES.get("version", "first")
    text = {"type": "string", "description": "What to say."}
    own = [
        {"name": "echo", "description": f"Says it again ({said}).", "inputSchema": schema(text=text)},
        {"name": "count", "description": "Counts its calls.", "inputSchema": {"type": "object"}},
        {"name": "fail", "description": "Fails.", "inputSchema": schema()},
        {"name": "picture", "description": "Shows a picture.", "inputSchema": schema()},
        {"name": "data", "description": "Gives structured data.", "inputSchema": schema()},
        {"name": "long", "description": "Gives much text.", "inputSchema": schema()},
        {"name": "hang", "description": "Never ends.", "inputSchema": schema()},
        {"name": "die", "description": "Ends the server.", "inputSchema": schema()},
        {"name": "gate", "description": "Waits for a file.", "inputSchema": schema()},
        {"name": "env", "description": "Tells a variable.", "inputSchema": schema()},
        {"name": "odd name/with (signs)", "description": "Has an odd name.", "inputSchema": schema()},
    ]
    if "changes" in MODES:
        own.append({"name": "change", "description": "Changes the tools.", "inputSchema": schema()})
    own = [tool for tool in own if tool["name"] not in MODES.get("without", "").split(",")]
    more = [name for name in MODES.get("names", "").split(",") if name]
    more += [f"tool_{number:05}" for number in range(int(MODES.get("many", 0)))]
    return own + [{"name": name, "description": "One more.", "inputSchema": schema()} for name in more]


def text(words, **members):
    return {"content": [{"type": "text", "text": words}], **members}


def call(name, arguments):
    if "log" in MODES:
        with open(MODES["log"], "a", encoding="utf-8") as log:
            log.write(f"{name}\n")
    STATE["counter"] += 1
    if name in MODES.get("without", "").split(","):
        return None
    if name in MODES.get("names", "").split(","):
        return text(f"{name} answers")
    if name == "change":
        MODES.update(names=MODES["changes"], without="fail", version="second")
        # More often than anybody needs.
        for _ in range(100):
            STATE["announce"]()
        return text("changed")
    if name == "echo":
        return text(f"echo: {arguments.get('text', '')}")
    if name == "count":
        return text(f"call {STATE['counter']} in process {os.getpid()}")
    if name == "fail":
        return text("it went wrong", isError=True)
    if name == "picture":
        broken = base64.b64encode(b"no picture").decode()
        image = {"type": "image", "mimeType": "image/png"}
        return {"content": [{"type": "text", "text": "see:"}, {**image, "data": PICTURE}, {**image, "data": broken}]}
    if name == "data":
        return text("ignored", structuredContent={"b": [1, 2], "a": None})
    if name == "long":
        return text("0123456789\n" * 200_000)
    if name == "hang":
        time.sleep(3600)
    if name == "die":
        os._exit(3)
    if name == "gate":
        while not os.path.exists("gate"):
            time.sleep(0.01)
        return text("the gate is open")
    if name == "env":
        return text(os.environ.get("MCP_TEST", "unset"))
    if name == "odd name/with (signs)":
        return text("odd")
    return None


def answer(message):
    """The answer to a message; nothing for a notification."""
    method, number = message.get("method"), message.get("id")
    if number is None or method is None:
        return None
    if "mute" in MODES:
        return None
    result = {}
    if method == "initialize":
        time.sleep(float(MODES.get("slow", 0)))
        if "refuse" in MODES:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32603, "message": "not today"}}
        version = message["params"]["protocolVersion"]
        result = {
            "protocolVersion": version,
            "capabilities": {"tools": {} if "silent" in MODES else {"listChanged": True}},
            "serverInfo": {"name": "test", "version": "1"},
        }
    elif method == "tools/list":
        offered = tools()
        start = int((message.get("params") or {}).get("cursor") or 0)
        result = {"tools": offered[start : start + 500]}
        if start + 500 < len(offered):
            result["nextCursor"] = str(start + 500)
    elif method == "tools/call":
        parameters = message["params"]
        result = call(parameters["name"], parameters.get("arguments") or {})
        if result is None:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "no such tool"}}
    elif method != "ping":
        return {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no such method"}}
    return {"jsonrpc": "2.0", "id": number, "result": result}


def stdio():
    lock = threading.Lock()

    def say(message):
        line = json.dumps(message)
        with lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    STATE["announce"] = lambda: say(CHANGED)
    if "exit" in MODES:
        sys.stderr.write("cannot find my settings\n")
        sys.exit(7)
    if "noise" in MODES:
        sys.stderr.write("a word on standard error\n" * 50)
        sys.stderr.flush()
        print("Welcome to the test server!\n{\n[]", flush=True)
    if "flood" in MODES:
        while True:
            say({"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": "ping"})
    for line in sys.stdin:
        message = json.loads(line)
        if "long" in MODES:
            while True:
                sys.stdout.write("x" * 65536)
        if message.get("method") == "notifications/initialized":
            say(CHANGED)
            continue

        def work(message=message):
            said = answer(message)
            if said is not None:
                say(said)

        threading.Thread(target=work, daemon=True).start()


def http():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    session = uuid.uuid4().hex

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, body=b"", kind="application/json", **headers):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self):
            self.reply(200)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "redirect" in MODES:
                return self.reply(307, Location="http://169.254.169.254/latest")
            if "token" in MODES and self.headers["Authorization"] != f"Bearer {MODES['token']}":
                return self.reply(401)
            message = json.loads(body)
            opens = message.get("method") == "initialize"
            if not opens and self.headers["Mcp-Session-Id"] != session:
                return self.reply(404)
            said = answer(message)
            if said is None:
                return self.reply(202)
            extra = {"Mcp_Session_Id": session} if opens else {}
            words = json.dumps(said)
            if "cut" in MODES and message.get("method") == "tools/call":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "100000")
                self.end_headers()
                self.wfile.write(words.encode()[:10])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return None
            if "events" in MODES:
                first = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}})
                stream = f": hello\n\nevent: message\ndata: {first}\n\nevent: message\ndata: {words}\n\n"
                return self.reply(200, stream.encode(), "text/event-stream", **extra)
            return self.reply(200, words.encode(), "application/json; charset=utf-8", **extra)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    http() if "http" in MODES else stdio()
