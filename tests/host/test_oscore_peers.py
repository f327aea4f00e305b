"""The OSCORE plugtest (RFC 8613) TEST_0 to TEST_17 with aiocoap, in both roles, on CPython and MicroPython.

aiocoap's plugtest programs are in its source package only; it is fetched by pip once, into build/peers. With `lost`
the server's replay window is unknown, and it demands an Echo first (Appendix B.1.2).
"""

import contextlib
import functools
import importlib.metadata
import json
import re
import subprocess
import sys
import tarfile

import pytest

from peers import ENVIRONMENT, HERE, HOST, RUNTIMES, free_port, interpreter, libcoap_server, require_aiocoap, running
from programs import ROOT

PEERS = ROOT / "build/peers"
TIME_LIMIT_S = 550
TESTS = range(18)
CLIENT_TESTS = [n for n in TESTS if n != 16]  # 16 wants a server without OSCORE
SECRET = "0102030405060708090a0b0c0d0e0f10"
SALT = "9e7ca92223786340"
ID_CONTEXT = "37cbf3210017a2d3"
# name: sender ID, recipient ID, ID context; a and c are the client's, b and d the server's
CONTEXTS = {
    "a": ("", "01", None),
    "b": ("01", "", None),
    "c": ("", "01", ID_CONTEXT),
    "d": ("01", "", ID_CONTEXT),
}
CANCELLATION = (
    "Additional verify failed (<aiocoap.options.Options: OBSERVE: 0> != <aiocoap.options.Options: empty>): "
    "Request options as expected"
)
NEEDED = ("cryptography", "cbor2", "filelock", "ge25519", "lakers")


def source_package():
    """The path of aiocoap's source package, of the version that is installed; fetches it when it is not there."""
    require_aiocoap()
    version = importlib.metadata.version("aiocoap")
    path = PEERS / f"aiocoap-{version}.tar.gz"
    if not path.exists():
        PEERS.mkdir(parents=True, exist_ok=True)
        words = [
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "aiocoap",
            "-d",
            PEERS,
            f"aiocoap=={version}",
        ]
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=TIME_LIMIT_S)
        if not path.exists():
            pytest.skip("aiocoap's source package cannot be fetched: " + done.stderr[-300:])
    return path


@pytest.fixture(scope="module")
def plugtest(tmp_path_factory):
    """The folder of aiocoap's plugtest programs, and the contexts, which the package lacks."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is missing, which aiocoap needs for OSCORE: make venv")
    folder = tmp_path_factory.mktemp("plugtest")
    with tarfile.open(source_package()) as archive:
        for member in archive.getmembers():
            name = member.name.rpartition("/")[2]
            if "/contrib/oscore-plugtest/plugtest" in member.name:
                (folder / name).write_bytes(archive.extractfile(member).read())
    for name, (sender_id, recipient_id, id_context) in CONTEXTS.items():
        settings = {"sender-id_hex": sender_id, "recipient-id_hex": recipient_id}
        settings |= {"secret_hex": SECRET, "salt_hex": SALT}
        if id_context:
            settings["id-context_hex"] = id_context
        (folder / "common-context" / name).mkdir(parents=True)
        (folder / "common-context" / name / "settings.json").write_text(json.dumps(settings))
    return folder


def our_contexts(folder, names):
    """The path of a file of contexts for coap_oscore.load."""
    entries = []
    for name in names:
        sender_id, recipient_id, id_context = CONTEXTS[name]
        entries.append({"secret": SECRET, "salt": SALT, "sender_id": sender_id, "recipient_id": recipient_id})
        entries[-1]["id_context"] = id_context
    path = folder / "contexts.json"
    path.write_text(json.dumps(entries, indent=2))
    return path


def failures(output):
    """The lines in which a plugtest program says that something is not as expected."""
    lines = [line for line in output.splitlines() if not line.startswith(("Check passed", "Passed"))]
    lines = [line.replace("Precondition Failed", "").replace("Internal Server Error", "") for line in lines]
    return [line for line in lines if re.search("fail|error|warning|Traceback", line, re.IGNORECASE)]


# ---- what README.md shows ----


def written_examples(folder, port):
    """Writes the programs and files of README.md's section on OSCORE into a folder, with another port."""
    text = (ROOT / "README.md").read_text().partition("\n## OSCORE\n")[2].partition("\n## ")[0]
    programs = re.findall("^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    contexts = re.findall(r"^    (\[{.*}\])$", text, re.MULTILINE)
    files = {"server.py": programs[0].replace("5683", str(port)), "client.py": programs[1], "begin.py": programs[2]}
    files |= {"begin_client.py": programs[2].replace("oscore.seq", "client.seq")}
    files |= dict(zip(("oscore.json", "client.json"), contexts))
    for name, content in files.items():
        (folder / name).write_text(content.replace("192.0.2.1", f"{HOST}:{port}"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_examples_of_the_readme_when_run_then_the_door_opens_before_and_after_a_restart(runtime, tmp_path, monkeypatch):
    port = free_port()
    written_examples(tmp_path, port)
    monkeypatch.chdir(tmp_path)

    def run(name):
        done = subprocess.run([interpreter(runtime), name], env=ENVIRONMENT, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    run("begin.py")
    run("begin_client.py")
    for _ in range(2):
        with running(interpreter(runtime), "server.py", port=port):
            run("client.py")


# ---- aiocoap's client, our server ----


def our_server(runtime, folder, *options):
    """oscore_serve.py with its contexts and store in `folder`."""
    port = free_port()
    words = [port, our_contexts(folder, "bd"), folder / "store", *options]
    return running(interpreter(runtime), HERE / "oscore_serve.py", *words, port=port)


@pytest.fixture(scope="module")
def client_output(plugtest):
    """A function of the runtime and whether the state was lost: what plugtest-client said, a text for each test."""

    @functools.cache
    def run(runtime, lost):
        folder = plugtest / f"client-{runtime}-{lost}"
        folder.mkdir()
        with our_server(runtime, folder, *["lost"] * lost) as port:
            command = [sys.executable, plugtest / "plugtest-client", f"{HOST}:{port}", folder / "contexts"]
            numbers = "".join([f"{n}\n" for n in CLIENT_TESTS]) + "q\n"
            done = subprocess.run(command, input=numbers, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        parts = re.split(r"Running test (\d+)\n", done.stdout)
        return dict(zip(map(int, parts[1::2]), parts[2::2])), done.stderr

    return run


@pytest.mark.parametrize("number", CLIENT_TESTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_client_of_aiocoap_when_our_server_answers_then_all_as_expected(client_output, runtime, number):
    output, _ = client_output(runtime, False)
    assert re.search("passed|Response", output[number]), output[number]
    assert not failures(output[number]), output[number]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_client_of_aiocoap_when_our_server_was_restarted_then_all_as_expected(client_output, runtime):
    output, _ = client_output(runtime, True)
    assert sorted(output) == CLIENT_TESTS
    assert not [line for text in output.values() for line in failures(text)], output


def test_client_of_aiocoap_when_our_server_has_no_oscore_then_it_is_told_so(plugtest, tmp_path):
    """TEST_16"""
    port = free_port()
    with running(sys.executable, HERE / "serve.py", port, port=port):
        command = [sys.executable, plugtest / "plugtest-client", f"{HOST}:{port}", tmp_path / "contexts", "16"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert "Passed: Server reported bad option." in done.stdout, done.stdout + done.stderr


# ---- aiocoap's server, our client ----


@contextlib.contextmanager
def plugtest_server(plugtest, folder, *options):
    """Runs plugtest-server; gives its port and a function that ends it and returns what it said."""
    port = free_port()
    command = [sys.executable, plugtest / "plugtest-server", folder, "--bind", f"{HOST}:{port}", *options]
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": "1", "AIOCOAP_SERVER_TRANSPORT": "udp6:oscore"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([str(word) for word in command], env=environment, text=True, **streams) as server:

        def end():
            server.terminate()
            return server.communicate(timeout=10)[0]

        try:
            for line in server.stdout:
                if line == "Plugtest server ready.\n":
                    break
            assert server.poll() is None, "plugtest-server has ended"
            yield port, end
        finally:
            server.kill()


@pytest.fixture(scope="module")
def server_output(plugtest):
    """A function of the runtime and whether the state was lost: what oscore_ask.py printed, and what the server did."""

    @functools.cache
    def run(runtime, lost):
        folder = plugtest / f"server-{runtime}-{lost}"
        folder.mkdir()
        (folder / "ours").mkdir()
        options = ["--state-was-lost"] * lost
        with (
            plugtest_server(plugtest, folder / "contexts", *options) as (port, end),
            libcoap_server() as plain_port,
            our_server(runtime, folder / "ours") as our_port,
        ):
            words = [port, plain_port, our_port, our_contexts(folder, "ac"), folder / "store"]
            command = [interpreter(runtime), HERE / "oscore_ask.py", *words]
            done = subprocess.run(
                [str(word) for word in command], env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S
            )
            said = end()
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(re.findall(r"^(\d+) (.*)$", done.stdout, re.MULTILINE)), said

    return run


@pytest.mark.parametrize("number", TESTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_of_aiocoap_when_our_client_asks_then_all_as_expected(server_output, runtime, number):
    results, _ = server_output(runtime, False)
    assert results[str(number)] == "ok"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_of_aiocoap_when_our_client_has_asked_then_it_has_seen_what_it_expects(server_output, runtime):
    _, said = server_output(runtime, False)
    failed = [line for line in said.splitlines() if "verify failed" in line]
    # plugtest-server wants Observe 0 of every request to what is observable; TEST_7 ends with one that has Observe 1
    assert [re.sub(" at 0x[0-9a-f]*", "", line) for line in failed] == [CANCELLATION], said


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_server_of_aiocoap_when_its_state_was_lost_then_our_client_repeats_its_echo(server_output, runtime):
    results, _ = server_output(runtime, True)
    assert results == {str(n): "ok" for n in TESTS}
