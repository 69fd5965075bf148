# ruff: noqa: ANN001, ANN201
"""Post a body on some connections for some seconds: ask.py PORT BODY CONNECTIONS SECONDS.

Prints one line of JSON: requests, errors, and all times in ms. It needs nothing but Python.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path

HEADERS = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


def ask(port, body, until, times, errors):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while (began := time.perf_counter()) < until:
        connection.request("POST", "/invocations", body, HEADERS)
        reply = connection.getresponse()
        reply.read()
        if reply.status == 200:
            times.append(1e3 * (time.perf_counter() - began))
        else:
            errors.append(reply.status)


def main():
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[3]), float(sys.argv[4])
    body, times, errors = Path(sys.argv[2]).read_bytes(), [], []
    until = time.perf_counter() + seconds
    threads = [
        threading.Thread(target=ask, args=(port, body, until, times, errors))
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"errors": len(errors), "times": times}))


if __name__ == "__main__":
    main()
