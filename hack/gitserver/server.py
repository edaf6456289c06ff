"""Smart HTTP for bare git repositories: a thin front of `git http-backend` for the demo and the tests.

    GET/POST /open/NAME.git/...        anybody may fetch
    GET/POST /protected/NAME.git/...   fetching needs the user and the password

Pushing always needs them, and makes the repository when it does not exist yet.
"""

import base64
import hmac
import http.server
import os
import re
import subprocess
import threading

ROOT = os.environ["GIT_ROOT"]
CREDENTIALS = f"{os.environ['GIT_USER']}:{os.environ['GIT_PASSWORD']}".encode()
PORT = int(os.environ.get("GIT_PORT", "8080"))
CHUNK = 64 * 1024
# A path names one of our repositories and one of the protocol's services, and nothing else on the disk.
PATH = re.compile(r"/(open|protected)/([a-z0-9][a-z0-9-]{0,62})\.git/(info/refs|git-upload-pack|git-receive-pack)")
creation = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    server_version = "gitserver"

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        path, _, query = self.path.partition("?")
        if path == "/healthz":
            return self.answer(200, "ok\n")
        match = PATH.fullmatch(path)
        if not match:
            return self.answer(404, "no such repository or service\n")
        access, name, service = match.groups()
        push = service == "git-receive-pack" or query == "service=git-receive-pack"
        if (push or access == "protected") and not self.authorized():
            return self.answer(401, "user and password are needed\n", {"WWW-Authenticate": 'Basic realm="git"'})
        repository = os.path.join(ROOT, access, f"{name}.git")
        if push:
            create(repository)
        elif not os.path.isdir(repository):
            return self.answer(404, "no such repository\n")
        self.run_backend(path, query)

    def authorized(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(value, validate=True)
        except ValueError:
            return False
        return hmac.compare_digest(given, CREDENTIALS)

    def run_backend(self, path, query):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": ROOT,
            "GIT_PROJECT_ROOT": ROOT,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "git",
            "REMOTE_ADDR": self.client_address[0],
        }
        backend = subprocess.Popen(
            ["git", "http-backend"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        # The backend reads the whole request before it answers; two threads keep either pipe from filling up.
        feeder = threading.Thread(target=self.feed, args=(backend.stdin,), daemon=True)
        feeder.start()
        try:
            self.relay(backend.stdout)
        finally:
            backend.stdout.close()
            backend.wait()

    def feed(self, sink):
        try:
            for chunk in self.body():
                sink.write(chunk)
        except OSError:
            pass  # The backend, or the client, has ended early: the other thread reports it.
        finally:
            try:
                sink.close()
            except OSError:
                pass

    def body(self):
        """The request's body; git sends larger ones in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left and (chunk := self.rfile.read(min(left, CHUNK))):
            left -= len(chunk)
            yield chunk

    def relay(self, source):
        """Turns the backend's CGI answer into an HTTP one."""
        status, headers = 200, []
        while line := source.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        while chunk := source.read1(CHUNK):
            self.wfile.write(chunk)

    def answer(self, status, text, headers=None):
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def create(repository):
    with creation:
        if os.path.isdir(repository):
            return
        unfinished = repository + ".new"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", unfinished], check=True)
        settings = {
            "http.receivepack": "true",
            "receive.shallowUpdate": "true",  # A clone made by a CI system is often shallow.
            "uploadpack.allowAnySHA1InWant": "true",  # So that a task's `ref` may be a commit.
        }
        for key, value in settings.items():
            subprocess.run(["git", "-C", unfinished, "config", key, value], check=True)
        os.rename(unfinished, repository)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    os.makedirs(ROOT, exist_ok=True)
    for access in ("open", "protected"):
        os.makedirs(os.path.join(ROOT, access), exist_ok=True)
    Server(("", PORT), Handler).serve_forever()
