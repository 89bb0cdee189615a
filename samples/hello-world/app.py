"""A web page that says hello and which pod served it."""

import os
import signal
import socket
import sys

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return f"Hello, world! This is pod {os.environ.get('POD_NAME', socket.gethostname())}.\n"


@app.get("/healthz")
def healthz():
    return "ok\n"


if __name__ == "__main__":
    # The first process of a container gets no default handlers: without this one the pod takes 30 seconds to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.run(host="0.0.0.0", port=8080)
