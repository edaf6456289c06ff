import sys

from .server import Server

with Server(("127.0.0.1", int(sys.argv[1]))) as server:
    server.serve_forever()
