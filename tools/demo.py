"""The demonstration: a sensor server on MicroPython, a client on CPython, UDP between them.

    make run                               that is, python tools/demo.py
    python tools/demo.py [--once] [port]

Starts ports/unix/main.py on MicroPython, serving 127.0.0.1, prints a line for each exchange with it, and
leaves the server up until Ctrl-C; with --once it stops right after. Exits with 1 if the server cannot
start, does not answer as it should, or ends by itself.
"""

import argparse
import ctypes
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

import coap  # noqa: E402

HOST = "127.0.0.1"
START_TIMEOUT_S = 10
ANSWER_TIMEOUT_MS = 5000
STOP_TIMEOUT_S = 3
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # linux/prctl.h

HINTS = """
The server stays up until Ctrl-C. In another terminal:

  coap-client-notls -m get {base}/sensors/temp
  coap-client-notls -m put -e off {base}/led
  .venv/bin/aiocoap-client {base}/.well-known/core

(coap-client-notls is libcoap's: apt-get install libcoap3-bin)
"""


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


def prepare_process():
    """Runs in the server's process before it starts: it is to end even when this program is killed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """Context manager: the sensor server on MicroPython, as a process that ends with it.

    port: the UDP port on 127.0.0.1. `lines` is the queue of the lines it prints, None when it has ended.
    Entering raises DemoError when it does not start; the text is what it said.
    """

    def __init__(self, port):
        self.port = port
        self.process = None
        self.lines = queue.Queue()

    def __enter__(self):
        try:
            self._start()
            print(self._first_line(), flush=True)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self):
        micropython = Path(sys.executable).parent / "micropython"
        if not micropython.exists():
            raise DemoError(f"micropython is missing beside {sys.executable}: make venv")
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # or it starts and nobody knows its process
        try:
            self.process = subprocess.Popen(
                [micropython, ROOT / "ports/unix/main.py", str(self.port), HOST],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,  # Ctrl-C in the terminal is for this program, which then ends the server
                preexec_fn=prepare_process,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip())
        self.lines.put(None)

    def _first_line(self):
        """Returns the line that says that it serves."""
        said = []
        try:
            while not said or not said[-1].startswith("serving "):
                line = self.lines.get(timeout=START_TIMEOUT_S)
                if line is None:
                    raise DemoError("\n".join(said) or "the server ended without a word")
                said.append(line)
        except queue.Empty:
            raise DemoError(f"the server did not start in {START_TIMEOUT_S} s") from None
        return said[-1]

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        """Ends the process, and waits until it has ended."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave it behind
        if not self.process:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def print_news(self):
        """Prints what it printed since, without waiting; raises DemoError when it has ended."""
        while not self.lines.empty():
            self.print_line(self.lines.get())

    def print_line(self, line):
        """Prints one of its lines; raises DemoError when it is the end."""
        if line is None:
            raise DemoError(f"the server has ended by itself, with exit code {self.process.wait()}")
        print("        the server prints:", line, flush=True)


def exchange(client, server, method, uri, payload=b"", **options):
    """Sends a request, prints it and its response in one line, and returns the response.

    Raises DemoError when none comes, or one that is no success.
    """
    begin = time.perf_counter()
    try:
        response = client.request(getattr(coap, method), uri, payload, ANSWER_TIMEOUT_MS, **options)
    except coap.Error as error:
        server.print_news()
        raise DemoError(f"no answer to {method} {uri}: {type(error).__name__}") from None
    took_ms = (time.perf_counter() - begin) * 1000
    asked = "/" + uri.partition("://")[2].partition("/")[2]
    if payload:
        asked += " " + payload
    if options.get("accept") == coap.JSON:
        asked += " as JSON"
    answer = f"{coap.code_text(response.code):<12} {took_ms:5.1f} ms  {response.payload.decode()}"
    print(f"{method:<4} {asked:<22} -> {answer}".rstrip(), flush=True)
    server.print_news()
    if response.code >= coap.BAD_REQUEST:
        raise DemoError("this should have been a success")
    return response


def talk(server, base):
    """The exchanges of the demonstration with the server at `base`; raises DemoError when one fails."""
    with coap.Endpoint() as client:
        exchange(client, server, "GET", base + "/.well-known/core")
        exchange(client, server, "GET", base + "/sensors/temp")
        exchange(client, server, "GET", base + "/sensors/temp", accept=coap.JSON)
        exchange(client, server, "PUT", base + "/led", "on")
        led = exchange(client, server, "GET", base + "/led")
        exchange(client, server, "GET", base + "/info")
    if led.payload != b"on":
        raise DemoError("the LED was switched on and is off")


def main():
    """Runs the demonstration; returns the exit code. Raises KeyboardInterrupt at Ctrl-C."""
    parser = argparse.ArgumentParser(description="A sensor server on MicroPython, a client on CPython.")
    parser.add_argument("--once", action="store_true", help="stop after the exchanges")
    parser.add_argument("port", nargs="?", type=int, default=5683, help="UDP port (default: 5683)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    base = f"coap://{HOST}" if options.port == 5683 else f"coap://{HOST}:{options.port}"
    try:
        with Server(options.port) as server:
            talk(server, base)
            if options.once:
                return 0
            print(HINTS.format(base=base), flush=True)
            while True:
                server.print_line(server.lines.get())
    except DemoError as error:
        print(error)
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped")
