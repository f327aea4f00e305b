"""tools/demo.py, what make run does: a server on MicroPython answers, Ctrl-C ends both."""

import signal
import subprocess
import sys
import threading

from programs import ROOT, program
from udp_ports import free_port


def test_demo_when_run_then_every_exchange_is_answered_and_ctrl_c_ends_it():
    program("micropython")
    command = [sys.executable, "-u", ROOT / "tools/demo.py", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        watchdog = threading.Timer(60, demo.kill)
        watchdog.start()
        output = ""
        for line in demo.stdout:
            output += line
            if "until Ctrl-C" in line:
                demo.send_signal(signal.SIGINT)
        demo.wait()
        watchdog.cancel()
    assert demo.returncode == 0, output
    for path in ("/.well-known/core", "/sensors/temp ", "/sensors/temp as JSON", "/led", "/info"):
        lines = [line for line in output.splitlines() if line.startswith("GET  " + path)]
        assert any("2.05 Content" in line for line in lines), output
