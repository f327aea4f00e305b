"""Proves that Observe starves nobody: floods of registrations at a server, of notifications at a client.

Server: 5,000 registrations of many hosts fill the list of observers; none of them acknowledges anything. A client that
registered before is notified of every change that falls outside its 3 s, honest requests are answered, and when the
lifetimes are over, nobody is left but who answers. Then a host that resets what it did not ask for.
Client: a server sends 20,000 notifications, others are forged; the application hears those that are newer.
Tables have their default size; the library is to be the one for a board, in a small heap.
"""

import os

from proving import IS_MICROPYTHON, command_line, free_heap, must

# isort: split
import coap
import coap_observe

REGISTRATIONS = 5000
NOTIFICATIONS = 20000
HOSTS = 200
HONEST_EVERY = 10  # registrations between two requests of the honest client
CHANGE_EVERY_MS = 5000
HEAP_DRIFT = 256
HONEST = ("198.51.100.1", 5683)
HOUR_MS = 3600000
REGISTER = b"\x42\x01%c%ctk\x60\x51t"
GET = b"\x42\x01%c%ctg\xb1t"


class Server:
    """A server, an honest observer and counts; the network is played here."""

    def __init__(self):
        self.engine = coap.Engine(os.urandom)
        self.extension = coap_observe.attach(self.engine)
        self.engine.resource("t", obs=True).get(self.read)
        self.now_ms = 0
        self.mid = 0
        self.changes = self.heard = self.asked = self.served = 0
        self.resets = False  # whether hosts reset their notifications

    def read(self, request, response):
        return b"22.5 C"

    def ask(self, head, peer):
        """Send a request with a new message ID; returns whether it is answered with 2.05, and with Observe."""
        self.mid = self.mid + 1 & 0xFFFF
        reply = self.engine.receive(head % (self.mid >> 8, self.mid & 255), peer, self.now_ms)
        is_content = reply is not None and reply[1] == coap.CONTENT
        return is_content, is_content and len(reply) > 6 and reply[6] >> 4 == 6

    def flow(self):
        """Take what the server sends now: the honest observer acknowledges, others are silent or reset."""
        data = self.engine.due(self.now_ms)
        while data is not None:
            if self.engine.peer == HONEST:
                self.heard += 1
                if data[0] >> 4 == 4:
                    self.engine.receive(b"\x60\0" + bytes(data[2:4]), HONEST, self.now_ms)
            elif self.resets:
                self.engine.receive(b"\x70\0" + bytes(data[2:4]), self.engine.peer, self.now_ms)
            data = self.engine.due(self.now_ms)

    def wait(self, ms):
        """Let time pass."""
        end_ms = coap.ticks_add(self.now_ms, ms)
        while True:
            self.flow()
            step_ms = self.engine.next_ms(self.now_ms)
            if step_ms is None or coap.ticks_diff(end_ms, self.now_ms) < step_ms:
                break
            self.now_ms = coap.ticks_add(self.now_ms, step_ms)
        self.now_ms = end_ms

    def flood(self, n):
        """`n` registrations from many hosts and ports, 10 ms apart; the honest client asks, the state changes."""
        for k in range(n):
            self.ask(REGISTER, ("203.0.113.%d" % (k % HOSTS), 1024 + k % 60000))
            self.wait(10)
            if k % HONEST_EVERY == 0:
                self.asked += 1
                self.served += self.ask(GET, HONEST)[0]
            if k * 10 % CHANGE_EVERY_MS == 0:
                self.changes += 1
                self.engine.notify("t")
                self.wait(0)


def prove_server(n):
    """The list is bounded, the honest are served, the dead go."""
    server = Server()
    must(server.ask(REGISTER, HONEST)[1], "the honest observer is not registered")
    server.flood(200)
    free_before = free_heap()
    server.flood(n)
    in_list = len(server.extension.observers)
    drift = free_before - free_heap()
    must(in_list <= 8, "%d observers", in_list)
    must(server.served == server.asked, "%d of %d honest requests answered", server.served, server.asked)
    must(server.heard >= server.changes, "%d changes, the honest observer heard %d", server.changes, server.heard)
    server.wait(2 * HOUR_MS)
    left = [observer[1] for observer in server.extension.observers]
    must(left == [HONEST], "after two hours observe %r", left)
    server.resets = True
    for k in range(100):
        server.ask(REGISTER, ("203.0.113.%d" % k, 5683))
        server.engine.notify("t")
        server.wait(CHANGE_EVERY_MS)
    left = [observer[1] for observer in server.extension.observers]
    must(left == [HONEST], "who reset their notifications still observe: %r", left)
    line = "observe: %d registrations: %d in the list, honest GET %d of %d, %d changes heard in %d notifications"
    print(line % (n, in_list, server.served, server.asked, server.changes, server.heard))
    must(drift <= HEAP_DRIFT + 1152, "%d bytes of heap are lost", drift)


class Client:
    """A client that observes one resource."""

    def __init__(self):
        self.engine = coap.Engine(os.urandom)
        coap_observe.attach(self.engine)
        self.heard = self.sent = 0
        self.observation = coap_observe.observe(self.engine, None, self.hear, remote=HONEST, uri_path=("t",))
        request = self.engine.due(0)
        self.token = bytes(request[4:12])
        answer = b"\x68\x45" + bytes(request[2:4]) + self.token + b"\x61\1\xffx"
        self.engine.receive(answer, HONEST, 0)

    def hear(self, message):
        self.heard += 1

    def flood(self, n):
        """`n` notifications: half of them CON, a tenth forged, a tenth late; returns how many are newer."""
        engine = self.engine
        newer = 0
        for k in range(self.sent, self.sent + n):
            number = k + 2
            kind = k % 10
            if kind == 8:
                number -= 5
            head = (0x48 if k & 1 else 0x58, coap.CONTENT, k >> 8 & 255, k & 255)
            data = bytes(head) + self.token + b"\x63%c%c%c\xff" % (number >> 16, number >> 8 & 255, number & 255)
            peer = ("203.0.113.9", 5683) if kind == 9 else HONEST
            reply = engine.receive(data + b"x" * (k % 100 + 1), peer, k * 3)
            newer += kind < 8
            must(kind == 9 or (reply is not None) == (k & 1 == 1), "notification %d is answered %r", k, reply)
            while engine.due(k * 3) is not None:
                pass
        self.sent += n
        return newer


def prove_client(n):
    """The application hears what is newer and nothing else, and no memory is lost."""
    client = Client()
    client.flood(100)
    client.heard = 0
    free_before = free_heap()
    newer = client.flood(n)
    drift = free_before - free_heap()
    must(client.heard == newer, "%d heard of %d newer notifications", client.heard, newer)
    must(not client.observation.is_done(), "the observation has ended: %r", client.observation.error)
    must(len(client.engine._open) == 1, "%d exchanges are open", len(client.engine._open))
    print("observe: %d notifications at a client: %d heard, the others were late or forged" % (n, client.heard))
    must(drift <= HEAP_DRIFT + 1152, "%d bytes of heap are lost", drift)


def run(scale=1.0):
    """5,000 registrations, 20,000 notifications."""
    free_heap()  # the imports have left garbage
    prove_server(max(500, int(REGISTRATIONS * scale)))
    prove_client(max(500, int(NOTIFICATIONS * scale)))
    if IS_MICROPYTHON:
        print("observe: %d bytes of heap free at the end, no MemoryError" % free_heap())


if __name__ == "__main__":
    command_line(run)
