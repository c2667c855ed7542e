"""An MCP server with sessions that does what servers should not: server.py SEEN_FILE.

Every line that it gets is written to SEEN_FILE. Its tool's name says what it does.
"""

import json
import os
import random
import sys
import threading
import time

lock = threading.Lock()
seen = open(sys.argv[1], "a", buffering=1)


def say(message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def answer(id, result):
    say({"jsonrpc": "2.0", "id": id, "result": result})


def call(id, name, arguments, token):
    if name == "echo":
        time.sleep(random.random() * 0.01)
        answer(id, {"content": [{"type": "text", "text": arguments["word"]}]})
    elif name == "exit":
        os._exit(3)
    elif name == "kill":
        os.kill(os.getpid(), 9)
    elif name == "pipe":
        os.close(1)
        time.sleep(60)
    elif name == "after":
        answer(id, {"content": []})
        os._exit(1)
    elif name == "drip":
        for step in range(600):
            say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
            time.sleep(0.1)
    elif name == "large":
        with lock:
            sys.stdout.write('{"jsonrpc":"2.0","result":{"x":"')
            for _ in range(arguments["mebibytes"]):
                sys.stdout.write("y" * (1 << 20))
            sys.stdout.write('"},"id":%s}\n' % json.dumps(id))
            sys.stdout.flush()
    elif name == "endless":
        with lock:
            for _ in range(arguments["mebibytes"]):
                sys.stdout.write("z" * (1 << 20))
            sys.stdout.flush()
            time.sleep(0.5)
            sys.stdout.write("\n")
            sys.stdout.flush()
    elif name == "flood":
        end = time.monotonic() + arguments["seconds"]
        while time.monotonic() < end:
            for _ in range(100):
                say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
                sys.stderr.write("noise\n")
            time.sleep(0.01)
        answer(id, {"content": []})
    elif name == "twice":
        answer(id, {"content": []})
        answer(id, {"content": [{"type": "text", "text": "wrong"}]})
        answer(987654321, {"content": [{"type": "text", "text": "wrong"}]})
    # `hang` never answers.


for line in sys.stdin:
    seen.write(line)
    message = json.loads(line)
    id, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}}
        server = {"name": "faults", "version": "1"}
        answer(id, {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": server})
    elif method == "tools/list":
        answer(id, {"tools": []})
    elif method == "tools/call":
        token = params.get("_meta", {}).get("progressToken")
        threading.Thread(target=call, args=(id, params["name"], params.get("arguments", {}), token), daemon=True).start()
    elif id is not None and method is not None:
        say({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "?"}})
