"""The server and the client at the top of README.md answer each other; those with keys are in test_*_peers.py."""

import re
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


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_and_client_when_run_then_the_temperature_is_printed_and_the_led_takes_it(runtime, tmp_path):
    port = free_port()
    (server,), (client,) = examples("A server"), examples("A client")
    (tmp_path / "server.py").write_text(server.replace("5683", str(port)))
    (tmp_path / "client.py").write_text(client.replace("192.0.2.1", f"{HOST}:{port}"))
    with running(interpreter(runtime), tmp_path / "server.py", port=port):
        command = [interpreter(runtime), tmp_path / "client.py"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert (done.stdout, done.stderr) == ("b'22.5 C'\n", "")
        with coap.Endpoint() as endpoint:
            assert endpoint.put(url(port, "/led"), "on").code == coap.CHANGED
