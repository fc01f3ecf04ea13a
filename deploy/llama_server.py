"""llama.cpp's OpenAI-compatible server, from the wheel xllamacpp. Ends when its standard input does."""

import argparse
import os
import sys

import xllamacpp

parser = argparse.ArgumentParser(prog="llama_server")
parser.add_argument("model")
parser.add_argument("--alias", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--context", type=int, required=True)
args = parser.parse_args()

params = xllamacpp.CommonParams()
params.model.path = args.model
params.model_alias = {args.alias}
params.hostnames = ["127.0.0.1"]
params.port = args.port
params.cpuparams.n_threads = args.threads
params.cpuparams_batch.n_threads = args.threads
params.n_ctx = args.context
# One sequence has the whole context, and what the last request has read is there for the next.
params.n_parallel = 1
# A request that is called off ends between two batches; on a processor larger ones read no faster.
params.n_batch = 128
params.n_threads_http = 4
# Prompts kept for reuse, in MiB: enough for a few conversations. llama.cpp's own default is 8 GiB.
params.cache_ram_mib = 256
# Someone waits for the first sentence.
params.enable_reasoning = 0
params.ui = False
params.endpoint_slots = False

server = xllamacpp.Server(params)
sys.stdin.buffer.read()
# The server's threads hold locks that an orderly end would wait for; nothing is left to be saved.
os._exit(0)
