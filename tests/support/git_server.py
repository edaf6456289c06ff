"""A smart HTTP git server with faults, chosen by the first part of the path.

/open /private (user "ada", password "s3cret") /forbidden /redirect /html /broken /stall: then the repository.
Arguments: the folder of the repositories, the address to listen on, and a PEM file when it shall speak TLS.
Prints its port.
"""
import base64, http.server, os, ssl, subprocess, sys, time

ROOT = sys.argv[1]
EXEC = subprocess.check_output(["git", "--exec-path"], text=True).strip()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_one(self):
        kind, _, rest = self.path.lstrip("/").partition("/")
        path, _, query = rest.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if kind == "private":
            wanted = "Basic " + base64.b64encode(b"ada:s3cret").decode()
            if self.headers.get("Authorization") != wanted:
                return self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        elif kind == "forbidden":
            return self.answer(403, [], b"")
        elif kind == "redirect":
            return self.answer(302, [("Location", "/open/" + rest)], b"")
        elif kind == "html":
            return self.answer(200, [("Content-Type", "text/html")], b"<html>hello</html>")
        elif kind == "broken":
            return self.answer(503, [], b"")
        elif kind == "stall":
            time.sleep(600)
            return
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": ROOT, "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/nonexistent",
            "PATH_INFO": "/" + path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run([EXEC + "/git-http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self.answer(status, [header for header in headers if header[0] != "Status"], content)

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = handle_one


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *args):
        pass


server = Server((sys.argv[2], 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
