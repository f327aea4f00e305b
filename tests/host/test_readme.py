"""The server and the client at the top of README.md answer each other; those with keys are in test_*_peers.py."""

import re
import shutil
import subprocess

import pytest

import coap
from peers import ENVIRONMENT, HOST, RUNTIMES, free_port, interpreter, running, url
from programs import ROOT

TIME_LIMIT_S = 20


def examples(section):
    """Returns the programs of a section of README.md."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall("^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


LOOP = """
import coap
import coap_observe
import fake

class machine:
    def Timer(number, period, callback):
        machine.callback = callback

class Stop(Exception):
    pass

state = 0

class Sensor(fake.Transport):  # its timer fires in the midst of process()
    turns = 30  # ten are a process(100)

    def recvfrom(self, n):
        global state
        got = fake.Transport.recvfrom(self, n)
        self.turns -= 1
        if self.turns == 27:
            state = 1
            machine.callback(None)
        if not self.turns:
            raise Stop
        return got

register = fake.packet(coap.GET, 1, uri_path=("sensors", "temp"), observe=0)
transport = Sensor((register, fake.PEER))
endpoint = coap.Endpoint(sock=transport)
coap_observe.attach(endpoint, interval_ms=1)
endpoint.resource("sensors/temp", obs=True)(lambda request, response: str(state))

try:
    with fake.Clock():
        exec(%r)
except Stop:
    print([coap.Message.decode(datagram).payload for datagram, _ in transport.sent])
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_timer_when_it_fires_inside_process_then_the_observer_is_told_after_that(runtime, tmp_path):
    (tmp_path / "timer.py").write_text(LOOP % examples("A server")[1])
    shutil.copy(ROOT / "tests" / "fake.py", tmp_path)
    command = [interpreter(runtime), tmp_path / "timer.py"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert (done.stdout, done.stderr) == ("[b'0', b'1']\n", "")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_and_client_when_run_then_the_temperature_is_printed_and_the_led_takes_it(runtime, tmp_path):
    port = free_port()
    server, (client,) = examples("A server")[0], examples("A client")
    (tmp_path / "server.py").write_text(server.replace("5683", str(port)))
    (tmp_path / "client.py").write_text(client.replace("192.0.2.1", f"{HOST}:{port}"))
    with running(interpreter(runtime), tmp_path / "server.py", port=port):
        command = [interpreter(runtime), tmp_path / "client.py"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert (done.stdout, done.stderr) == ("b'22.5 C'\n", "")
        with coap.Endpoint() as endpoint:
            assert endpoint.put(url(port, "/led"), "on").code == coap.CHANGED
