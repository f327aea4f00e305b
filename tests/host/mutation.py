"""Breaks the rules of the library in lib/ one at a time: each break must fail a portable test.

    python tests/host/mutation.py             all of them
    python tests/host/mutation.py nstart mid  those with such a word in their name

A mutant is a copy of the library in which one snippet is replaced. The portable tests run against the copy on
CPython until the first fails. Prints the mutants that no test noticed and `N of M mutants caught`; the exit code is
1 if any survived, 2 if a snippet is gone from the source, the tests fail without a mutant, or no name has such a word.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# These catch most, of a file of lib/
FIRST = {
    "coap.py": ("test_server", "test_duplicates", "test_send", "test_endpoint", "test_codec", "test_uri",
                "test_resources", "test_extensions", "test_groups", "test_discovery", "test_separate"),
    "coap_dtls.py": ("test_dtls",),
    "coap_observe.py": ("test_observe_server", "test_observe_client"),
    "coap_block.py": ("test_block_server", "test_block_client"),
    "coap_echo.py": ("test_echo",),
    "coap_oscore.py": ("test_oscore", "test_oscore_exchange", "test_oscore_attacks"),
}  # fmt: skip
TIME_LIMIT_S = 60  # a mutant that hangs is caught

# (rule, text of lib/coap.py that occurs there once, what replaces it)
MUTANTS = (
    # retransmission, RFC 7252 section 4.2
    ("the wait doubles", "wait_ms = 2 * ticks_diff(", "wait_ms = ticks_diff("),
    ("jitter", "(_uint(self.random(2), 0, 2) * (wait_ms + 1) >> 16)", "0"),
    ("jitter stays in its bounds", "* (wait_ms + 1) >> 16", "* (wait_ms + 1) >> 15"),
    ("as many transmissions as allowed", "else 1 + (record.tuning or", "else (record.tuning or"),
    ("a NON is sent once", "left = 1 if record.mtype == NON", "left = 1 if False"),
    ("an empty ACK ends retransmission",
     "record.last_event_ms = self.now_ms\n                    record.transmissions_left = 0",
     "record.last_event_ms = self.now_ms"),
    ("deadline after the ACK", "record.next_event_ms = ticks_add(record.transmitted_ms, record.timeout_ms)", "pass"),
    ("timeout before the back-off ends",
     "if record.transmissions_left and ticks_diff(now_ms, record.transmitted_ms) < most_ms:",
     "if record.transmissions_left:"),
    ("no retransmission after MAX_TRANSMIT_SPAN",
     "min(record.timeout_ms, (record.tuning or self.tuning).max_transmit_span_ms + _LATE_MS)", "record.timeout_ms"),
    ("any ACK of a response counts",
     "                if mtype == ACK:\n                    self._receive_empty(p)\n                elif",
     "                if"),
    ("a response in an ACK of another token ends no request", "if p[_CODE] and record.message.packet[_CODE] < 64:",
     "if False:"),
    ("the wait ends at the deadline", "else min(wait_ms, left_ms))", "else wait_ms)"),
    ("given up means Timeout", "None if record.responses else Timeout", "None"),
    ("a name is looked up again after a timeout", "self._names.clear()  # the peer", "pass  # the peer"),
    ("the zone of a link-local host", "if remote[3:] and remote[3] else", "if False else"),
    ("a zone in a URI", '.replace("%25", "%")', ""),
    ("is_unacknowledged only without ACK", "error is Timeout and record.response_type is None", "error is Timeout"),
    ("is_unacknowledged not for a NON", "record.response_type is None and record.mtype != NON",
     "record.response_type is None"),
    ("tuning of the message", "tuning = record.tuning or self.tuning", "tuning = self.tuning"),
    ("MAX_TRANSMIT_SPAN", "longest_ms * ((1 << max_retransmit) - 1)", "longest_ms * (1 << max_retransmit)"),
    ("MAX_TRANSMIT_WAIT", "longest_ms * ((2 << max_retransmit) - 1)", "longest_ms * ((1 << max_retransmit) - 1)"),
    ("EXCHANGE_LIFETIME", "self.non_lifetime_ms + _MAX_LATENCY_MS + ack_timeout_ms", "self.non_lifetime_ms"),
    ("NON_LIFETIME", "self.max_transmit_span_ms + _MAX_LATENCY_MS\n", "_MAX_LATENCY_MS\n"),
    # NSTART and tables, section 4.7
    ("NSTART", "if outstanding < (record.tuning or self.tuning).nstart or", "if True or"),
    ("NSTART is per peer", "outstanding += other.state == _SENT and other.remote == record.remote",
     "outstanding += other.state == _SENT"),
    ("an acknowledged request frees NSTART", "outstanding += other.state == _SENT and", "outstanding += "),
    ("a NON response does not wait", " or record.mtype == NON and not record.is_request:", ":"),
    ("the table of transmissions", "if busy < self._limits[_MAX_OPEN] and", "if"),
    ("the queue", "if len(self._queue) >= self._limits[_MAX_QUEUED]:", "if False:"),
    ("the queue in order", "self._queue.append(record)", "self._queue.insert(0, record)"),
    ("what is given to send may be changed", "message = message.copy()  # an extension", "pass  # an extension"),
    ("what is sent for an exchange ends with it", "self.end(record.part, None)", "pass"),
    # message IDs and tokens, sections 4.4 and 5.3.1
    ("message IDs count", "self._mids_used = used + 1 & 0xFFFF", "self._mids_used = used"),
    ("message IDs start at random", "self._reply_mid = _uint(random(2), 0, 2)", "self._first_mid = 1"),
    ("no message ID twice in a lifetime", "and free_ms is None", ""),
    ("a given message ID", "if record.mid is None:\n", "if True:\n"),
    ("a given token", "token or (self.random(8) if code else b\"\")", "self.random(8) if code else b\"\""),
    ("a ping has no token", "(self.random(8) if code else b\"\")", "self.random(8)"),
    ("tokens of 8 bytes", "token or (self.random(8)", "token or (self.random(2)"),
    ("a NON response's message ID", "self._reply_mid = self._reply_mid - 1 & 0xFFFF", "pass"),
    # matching of what comes, section 5.3.2
    ("an ACK has the request's message ID", "(p[_MID] != record.mid or", "("),
    ("no ACK answers a NON", "p[_MID] != record.mid or record.mtype == NON", "p[_MID] != record.mid"),
    ("a response comes from the peer", "if record.remote == p[_REMOTE] or is_multicast(record.remote):", "if True:"),
    ("a response has the whole token", "if p[_START] == 4 + len(record.token) and p[_DATA].startswith",
     "if p[_DATA].startswith"),
    ("a response has the token's bytes",
     "4 + len(record.token) and p[_DATA].startswith(record.token, 4):", "4 + len(record.token):"),
    ("an empty message has the ID", "if record.mid == p[_MID] and record.state", "if record.state"),
    ("an empty message comes from the peer",
     "record.state == _SENT and record.remote == p[_REMOTE]:\n                if p",
     "record.state == _SENT:\n                if p"),
    ("no Reset after the ACK", "p[_MID] and record.state == _SENT and", "p[_MID] and"),
    ("an empty ACK is none to a NON", "elif record.mtype != NON:\n", "else:\n"),
    ("a Reset is an error", "self._deliver(record, p, Reset)", "self._deliver(record, p, None)"),
    ("critical options in a response", "if p[_SEEN] & self._critical:", "if False:"),
    ("a separate response is acknowledged", "                reply = ACK\n", "                reply = None\n"),
    ("... and remembered",
     "                self._duplicates.keep(p, self.now_ms, until_ms)\n                reply",
     "                reply"),
    ("the ACK of a separate response ends it",
     "if not record.is_request:\n                        self.end(record, None)",
     "if False:\n                        pass"),
    ("Reset to a response nobody awaits",
     "            if record is None or not self._accept(record, p):\n",
     "            if record is None or not self._accept(record, p):\n                reply = None\n"),
    ("a ping is answered",
     "            if mtype >= ACK:\n", "            reply = None\n            if mtype >= ACK:\n"),
    # what send refuses
    ("no CON to a group", "if is_group and mtype == CON:", "if False:"),
    ("a group gets a NON", "mtype = NON if is_group else CON", "mtype = CON"),
    ("send refuses ACK and Reset", "is_other = mtype > NON or", "is_other ="),
    ("send refuses codes of no class", "not _CLASSES >> (code >> 5) & 1", "not 0xFD >> (code >> 5) & 1"),
    ("send looks at the tuning", "_check_type(\"transport_tuning\"", "(\"transport_tuning\""),
    ("ticks tell MAX_TRANSMIT_WAIT", "_check(\"max_transmit_wait_ms\"", "(\"max_transmit_wait_ms\""),
    ("send refuses what is too large", "if packed_len > self.datagram_len:", "if False:"),
    ("a promise is kept once", "self._pending.remove(entry)\n                if entry[4]", "if entry[4]"),
    ("a promise is made to a peer", "if entry[1] == token and entry[0] == peer:", "if entry[1] == token:"),
    ("a promise is made to a token", "if entry[1] == token and entry[0] == peer:", "if entry[0] == peer:"),
    ("promises are forgotten", "if ticks_diff(entry[3], now_ms) <= 0:\n                    self._pending.remove(entry)",
     "if False:\n                    pass"),
    ("the table of promises", "if len(pending) < engine._limits[_MAX_PENDING]:", "if True:"),
    # groups, section 8.2
    ("a group's members answer", "or is_multicast(record.remote):", ":"),
    ("a group's request stays open",
     "if record.remote == received.remote:\n            self.end(record, error)",
     "if True:\n            self.end(record, error)"),
    ("answered by a group is no Timeout", "None if record.responses else Timeout", "Timeout"),
    ("a member answers once", "if response.remote == p[_REMOTE]:\n                    return True", "pass"),
    # duplicates, section 4.5
    ("a NON's duplicate is silent",
     "(p[_MTYPE] == NON or slot >= recent or replies[slot])", "(slot >= recent or replies[slot])"),
    ("the duplicate of a write", "        for slot in range(self.recent, len(self.mids)):\n            if self",
     "        for slot in ():\n            if self"),
    ("a duplicate comes from the same endpoint",
     "if self.mids[slot] == mid and self.peers[slot] == p[_REMOTE] and ticks",
     "if self.mids[slot] == mid and ticks"),
    ("a duplicate has the message ID", "if self.mids[slot] == mid and self.peers[slot] == p[_REMOTE] and ticks",
     "if self.peers[slot] == p[_REMOTE] and ticks"),
    ("writes are kept", "if (code == GET or code == FETCH or refusal) and not", "if not"),
    ("what is refused is not kept", "code == FETCH or refusal) and not", "code == FETCH) and not"),
    ("long replies are kept", "elif slot >= self.recent:\n            self.replies[slot] = bytearray(packed)",
     "elif False:\n            pass"),
    ("short replies are kept", "            self.replies[slot][:] = packed\n", "            pass\n"),
    ("a CON lives longer than a NON", "= tuning.non_lifetime_ms if p[_MTYPE] else tuning.exchange_lifetime_ms",
     "= tuning.non_lifetime_ms"),
    ("a NON lives shorter than a CON", "= tuning.non_lifetime_ms if p[_MTYPE] else tuning.exchange_lifetime_ms",
     "= tuning.exchange_lifetime_ms"),
    ("a host's share", "if taken < 0 or mine >= self.kept_per_host:", "if taken < 0:"),
    ("a host loses its oldest", "or left_ms < oldest_ms\n", "or left_ms > oldest_ms\n"),
    ("a host loses its own", "elif self.hosts[slot] == host:", "elif True:"),
    ("others behind the address keep theirs", "left_ms -= _MAX_LATENCY_MS", "pass"),
    ("a promise is not forgotten for a share",
     "if is_oldest and not self.is_promised(self.mids[slot], self.peers[slot]):", "if is_oldest:"),
    ("the last message of a port", "self.marks[slot] |= _IS_FOLLOWED", "self.marks[slot] |= 0"),
    ("... and none but the last", "if self.marks[slot] & _IS_FOLLOWED:", "if self.peers[slot] == p[_REMOTE]:"),
    ("of a share a NON is as old as it came", "left_ms += _NON_SHORTER_MS", "pass"),
    ("the port is no host", "return peer[0]\n", "return peer\n"),
    ("... of an IPv4 sockaddr", "peer[4:8] if len(peer) == 16", "peer if len(peer) == 16"),
    ("... of an IPv6 sockaddr", "else peer[8:24]", "else peer"),
    ("refused when full",
     "if slot < 0:\n                            if p[_MTYPE] == NON:",
     "if slot < 0:\n                            if True:"),
    ("silent to a NON when full",
     "if slot < 0:\n                            if p[_MTYPE] == NON:",
     "if slot < 0:\n                            if False:"),
    ("Max-Age of a refusal",
     "_prepare(r, p, SERVICE_UNAVAILABLE)\n                    response.opt.max_age = _RETRY_S",
     "_prepare(r, p, SERVICE_UNAVAILABLE)"),
    # handlers and their results, sections 5.2 and 5.9
    ("a handler that raises", "except Exception as error:", "except KeyError as error:"),
    ("the hook is told", "self.log(\"handler of %s\" % resource.path, error)", "pass"),
    ("a handler's ID is not that of others", "p[_REQUEST] = p[_MID] = None", "p[_REQUEST] = None"),
    ("a handler's tuning is not that of others", "r[_TUNING] = None  # which", "pass  # which"),
    ("a FormatError is the peer's fault", "_prepare(r, p, BAD_OPTION)", "_prepare(r, p, INTERNAL_SERVER_ERROR)"),
    ("a response too large", "if stop + len(r[_PAYLOAD]) >= engine.datagram_len and", "if False and"),
    ("a large datagram that is malformed", "return self.receive(data[:5], p[_REMOTE], self.now_ms)", "return None"),
    ("Hop-Limit 0", "if seen & 1 << _HOP_LIMIT and", "if False and"),
    ("discovery takes 8 filters", "if len(queries) > _FILTERS:", "if False:"),
    # memory and the client's own
    ("no room for a datagram is told", "(self._left == left) != isinstance(error, OSError)", "False"),
    ("an OSError that is not recvfrom's", "(self._left == left) != isinstance(error, OSError)",
     "self._left == left and isinstance(error, MemoryError)"),
    ("an option read as one is not read further", " or is_one and values:", ":"),
    ("a ping's answer is a Reset", "if record.error and record.error is not Reset:", "if record.error:"),
    ("a ping without answer raises", "if record.error and record.error is not Reset:", "if False:"),
    ("respond takes a Message alone", "        elif payload or options:\n", "        elif False:\n"),
    ("a GET that was promised is kept", "= mid or pending) and", "= mid) and"),
    ("... by its message ID", "if entry[2] == mid and entry[0] == peer:", "if entry[0] == peer:"),
    ("... and its peer", "if entry[2] == mid and entry[0] == peer:", "if entry[2] == mid:"),
    ("... and acknowledged",
     "                            reply = engine.empty(ACK, mid)\n                        continue",
     "                            pass\n                        continue"),
    ("a bound for what an application answers a group",
     "if record.answer_ms is None or len(self._answers) < self._limits[_MAX_QUEUED]:", "if True:"),
    ("what cannot be polled is read first, too", "                self._ask_transports(0)\n", "                pass\n"),
    ("the tuning of a response",
     "tuning = message.packet[_TUNING]\n        if tuning:", "tuning = None\n        if tuning:"),
    ("no errors promised to a group", "_unwanted(p) | asked & _NO_ERROR", "_unwanted(p)"),
    ("a request too large", "if len(data) > self.datagram_len:", "if False:"),
    ("the response is emptied", "r[_PAYLOAD] = b\"\"\n    r[_REMOTE]", "r[_REMOTE]"),
    ("no process in a handler", "engine._is_in_handler = True", "pass"),
    ("the catch-all handler", "result = (handler or resource.handlers[0])(", "result = handler("),
    ("unknown methods", "seen & _JUDGED or code > IPATCH:", "seen & _JUDGED:"),
    ("unknown methods of an unknown path", "if code > IPATCH:\n            return METHOD_NOT_ALLOWED",
     "if code > IPATCH and resource:\n            return METHOD_NOT_ALLOWED"),
    ("4.04", "if resource is None:\n            return NOT_FOUND", "if False:\n            return NOT_FOUND"),
    ("4.06", "not in resource.formats:\n            return NOT_ACCEPTABLE",
     "not in resource.formats:\n            return 0"),
    ("Content-Format of a GET", " and code != GET and code != DELETE:", ":"),
    ("Content-Format by Accept", "value = _uint_option(p, _ACCEPT) if seen & 1 << _ACCEPT else resource.formats[0]",
     "value = resource.formats[0]"),
    ("Content-Format of the handler", "if _find(r, _CONTENT_FORMAT) < 0:", "if True:"),
    ("no Content-Format on errors", "if r[_PAYLOAD] and resource.formats and r[_CODE] < BAD_REQUEST:",
     "if r[_PAYLOAD] and resource.formats:"),
    # routing and discovery, section 6.5 and RFC 6690
    ("the path is compared", "while resource is not None and not", "while False and not"),
    ("the first segment's length", "p[_PATH]) << 16 | p[_FIRST_LEN] << 8 |", "p[_PATH]) << 16 |"),
    ("whole links", "if len(document) + len(link) > self.datagram_len - self.overhead_len - _BESIDE_LEN:", "if False:"),
    ("room for OSCORE", "self.datagram_len - self.overhead_len - _BESIDE_LEN", "self.datagram_len - _BESIDE_LEN"),
    ("all filters", "                if link and not _matches(link, query):\n                    link = None",
     "                link = resource.link and _matches(resource.link, query) and resource.link"),
    ("a filter's prefix", "wanted[-1:] == \"*\" and value.startswith(wanted[:-1])", "False"),
    ("one of several values", "values = value.split(\" \") + [value]", "values = [value]"),
    # groups, section 8
    ("no observer from a group", "p[_SEEN] &= ~(1 << _OBSERVE)", "pass"),
    ("no CON from a group", "or p[_MTYPE] != NON or not 0 < p[_CODE] < 32:", "or not 0 < p[_CODE] < 32:"),
    ("no Reset to a group", "        if is_multicast:\n", "        if is_multicast and _index(p, data) < 0:\n"),
    ("no error to a group", "reply[0] < 96 and 64 <= reply[1] < 128 and", "reply[0] < 96 and"),
    ("no ACK to a group", "and reply[0] < 96 and 64", "and 64"),
    # the format, section 3
    ("only a CON is reset", "if len(data) < 4 or data[0] >> 4 != 4:", "if len(data) < 4:"),
    ("the version", "at = (b & 0xCF ^ 0x40) + 4", "at = (b & 15) + 4"),
    ("tokens up to 8 bytes", "if at > 12:", "if False:"),
    ("a marker has a payload", "if at == n:\n                return at\n", "if False:\n                return at\n"),
    ("an extended delta", "b = data[at - 1] + 13 + b", "b = data[at - 1] + b"),
    ("a delta of two bytes", "b = 0 if b == 13 else data[at - 2] + 1 << 8", "b = 0 if b == 13 else data[at - 2] << 8"),
    ("a delta that is cut", "if at > n or b == 15:", "if b == 15:"),
    ("a reserved delta", "if at > n or b == 15:", "if at > n:"),
    ("an extended length", "length = data[at - 1] + 13 + length", "length = data[at - 1] + length"),
    ("a length of two bytes", "length = 0 if length == 13 else data[at - 2] + 1 << 8",
     "length = 0 if length == 13 else data[at - 2] << 8"),
    ("a length that is cut", "if at > n or length == 15:", "if length == 15:"),
    ("a reserved length", "if at > n or length == 15:", "if at > n:"),
    ("a long critical option", "if length > 255 and number + b", "if False and number + b"),
    ("reserved classes", "if not _CLASSES >> (number >> 5) & 1 or not number and n > 4:", "if not number and n > 4:"),
    ("an empty message is empty", "& 1 or not number and n > 4:", "& 1:"),
    ("repeated critical options", "and (b or _REPEATABLE >> number & 1):", ":"),
    ("option numbers up to 65535", "if number > 65535:", "if False:"),
    # the time of the next event
    ("a message to send is due", "self._queue and self._startable(now_ms) is not None:", "False:"),
    ("the soonest event", "                if left_ms < soonest_ms:", "                if soonest_ms == 1 << 29:"),
    ("the reason of the next event", "\"retransmit\" if record.transmissions_left else", ""),
    # the clock's wrap
    ("a wrap before a retransmission", "ticks_diff(now_ms, record.next_event_ms) >= 0",
     "now_ms >= record.next_event_ms"),
    ("a wrap before the next event", "ticks_diff(record.next_event_ms, now_ms)", "record.next_event_ms - now_ms"),
    ("a wrap before the deadline", "- ticks_diff(now_ms, record.transmitted_ms)", "- (now_ms - record.transmitted_ms)"),
    ("a wrap before MAX_TRANSMIT_SPAN",
     "ticks_diff(now_ms, record.transmitted_ms) <", "now_ms - record.transmitted_ms <"),
    ("a wrap before duplicates are forgotten", "self._wake_ms is not None and ticks_diff(now_ms, self._wake_ms) >= 0",
     "self._wake_ms is not None and now_ms >= self._wake_ms"),
    ("a wrap while process waits", "timeout_ms - ticks_diff(now_ms, begin_ms)", "timeout_ms - (now_ms - begin_ms)"),
    # the application's requests
    ("one response to a request",
     "if self.has_responded:\n            raise ValueError(\"the message was answered\")\n        response",
     "if False:\n            raise ValueError(\"the message was answered\")\n        response"),
    ("one ACK to a request", "elif self.message.mtype != CON or self.is_acknowledged or",
     "elif self.message.mtype != CON or"),
    ("a separate response after the ACK", "elif self.is_acknowledged:", "elif False:"),
    ("the answer to a duplicate", "                duplicates.remember(slot, packed)\n", "                pass\n"),
    ("ignored CONs are acknowledged", "record.ack()\n", "pass\n"),
    # the endpoint
    ("16 datagrams", "if self._left <= 0 and timeout_ms is not None or self._left", "if self._left"),
    ("errors of sendto", "        except _SEND_ERRORS:\n", "        except KeyError:\n"),
    ("errors of recvfrom", "(self._left == left) != isinstance(error, OSError)", "self._left == left"),
    ("errors of recvfrom, polled", "                except (MemoryError, OSError)", " " * 16 + "except MemoryError"),
    ("an empty datagram", "        if not got[0]:\n", "        if False:\n"),
    ("an empty datagram on an ESP32", "            if self.reopens_on_empty:\n", "            if False:\n"),
    ("reopened once a second", "0 <= ticks_diff(now_ms, self._reopened_ms) < _REOPEN_MS:", "False:"),
    ("names are looked up once", "if remote not in names:", "if True:"),
    ("records wait for process", "self._held.append(other)", "pass"),
    ("records that find no room", "other.respond(SERVICE_UNAVAILABLE, max_age=_RETRY_S)", "pass"),
    ("close ends exchanges", "self.end(record, Closed)", "pass"),
    # preconditions, groups, extensions
    ("4.12 by If-Match", "(b\"\" in opt.if_match or etag in opt.if_match)", "True"),
    ("an empty If-Match is any", "b\"\" in opt.if_match or etag", "etag"),
    ("4.12 by If-None-Match", "not opt.if_none_match and (b", "True and (b"),
    ("If-Match of nothing", "is_met = not opt.if_match\n", "is_met = True\n"),
    ("2.03 by ETag", "opt.etag in self._request.opt.etags:", "False:"),
    ("2.03 has no payload", "                    r[_PAYLOAD] = b\"\"\n", ""),
    ("preconditions need an etag hook", "refused &= ~_CONDITIONAL", "pass"),
    ("4.15", "return UNSUPPORTED_CONTENT_FORMAT", "return 0"),
    ("a last segment that varies", "resource = self._routes.get(None)", "resource = None"),
    ("it is one segment", "and p[_STOP] == p[_PATH_END]:", "and True:"),
    ("leisure of an application", "record.answer_ms))", "None))"),
    ("no Reset to a group by an application", "if self.answer_ms is None:", "if True:"),
    ("leisure", "* (self.tuning.leisure_ms + 1) >> 16", "* 0"),
    ("no empty reply to a group", " < 128 and self._response.packet[_PAYLOAD]:", " < 128:"),
    ("a resource silent to groups", "if asked == _ANSWER_TO_GROUP and not resource.groups:", "if False:"),
    ("delayed answers are bounded", "if len(self._answers) < self._limits[_MAX_QUEUED]:", "if True:"),
    ("4.01 unprotected", "if resource.is_secure and not self._is_unwrapped and not self.is_secure:", "if False:"),
    ("unwrapped requests are handled once", "refusal) and not engine._is_unwrapped:", "refusal):"),
    ("extensions in the order of their ranks", "at += each.rank < extension.rank", "at += 0"),
    ("responses pass from the top",
     "if name in (\"response\", \"outgoing\", \"wrap\"):\n                hooks.reverse()",
     "if False:\n                hooks.reverse()"),
    ("what extensions understand", "self._critical &= ~extension.understood", "pass"),
    ("a parked exchange stays open", "if record.state == _PARKED:\n            record.response",
     "if False:\n            record.response"),
    ("a parked exchange holds no place", "busy += record.state != _PARKED", "busy += 1"),
    ("Size1 of too long ones", "elif refusal == REQUEST_ENTITY_TOO_LARGE and not engine", "elif False and not engine"),
    ("... but not where there are blocks", "== REQUEST_ENTITY_TOO_LARGE and not engine.sends_blocks:",
     "== REQUEST_ENTITY_TOO_LARGE:"),
    ("a slash before a path", 'if path[:1] == "/":', "if False:"),
    ("unasked notifications are reset", "elif p[_SEEN] & 1 << _OBSERVE:  # a", "elif False:  # a"),
)  # fmt: skip


# (rule, text of lib/coap_dtls.py that occurs there once, what replaces it)
DTLS_MUTANTS = (
    # who may begin a session, and with what
    ("a DTLS key's size", "if not 0 < len(value) <= longest:", "if not 0 < len(value):"),
    ("only a request begins a session", "if data[0] & 0x20 or data[1] > 31 or self._client is None or", "if"),
    ("no session with a group", " or coap.is_multicast(remote):", ":"),
    ("a DTLS transport is secure", "is_secure = True", "is_secure = False"),
    ("4 datagrams wait", "elif len(session.waiting) < _WAITING and", "elif"),
    # sessions and handshakes, RFC 6347 section 4.2
    ("each session is another remote", "session.remote = _remote(address, self._count)", "pass"),
    ("a ClientHello that is repeated", "if session.address == address and session.hello == hello:", "if False:"),
    ("a handshake gives way", "if count >= self._limits[1]:", "if False:"),
    ("sessions are limited", "return taken < self._limits[0] or", "return True or"),
    ("a session in use stays", "(idle_ms >= self._limits[2] or name == identity or has_several)", "True"),
    ("a handshake without end", "elif ticks_diff(now_ms, session.until_ms) >= 0:", "elif False:"),
    ("a silent server gets another handshake", "elif ticks_diff(now_ms, session.asked_ms) > _SILENT_MS and",
     "elif False and"),
    ("a POST stays in its session", "_SILENT_MS and not is_known:", "_SILENT_MS:"),
    ("close_notify ends a session", "if not got:  # close_notify", "if False:"),
    # what is not to be trusted, and what is told
    ("records of epoch 0 in a session", "part = _protected(data)", "part = data"),
    ("a wrong key is told to the client", "session.write(_DECRYPT_ERROR)", "pass"),
    ("a refused handshake ends its requests", "endpoint.end(record, Refused)", "pass"),
)  # fmt: skip

# (rule, text of lib/coap_observe.py that occurs there once, what replaces it)
OBSERVE_MUTANTS = (
    # the list of observers, RFC 7641 section 4.1
    ("a host's share of the observers", "if len(mine) < self._limits[1]:", "if True:"),
    ("observers are limited", "if len(crowd) < self._limits[0]:", "if True:"),
    ("the oldest observer is asked",
     "not oldest or ticks_diff(observer[_CONFIRM_MS], oldest[_CONFIRM_MS]) < 0", "not oldest"),
    ("a registration replaces that of its token", "observer = observer or self._add(p, resource)",
     "observer = self._add(p, resource)"),
    ("... for another resource, too", "            observer[_RESOURCE] = resource\n", ""),
    ("a body in blocks is not observed", "or p[_PAYLOAD] is not None", ""),
    ("a Reset of a late notification", "observer[_PEER] == peer and mid in observer[_MIDS]", "False"),
    # notifications, sections 4.2 to 4.5
    ("an error is the last notification", "            self._remove(observer)\n\n    # -- notifications",
     "            pass\n\n    # -- notifications"),
    ("another format is the last one", "elif code >> 5 == 2 and content_format != observer[_FORMAT]:", "elif False:"),
    ("the interval of NON", "left_ms = min(left_ms, ticks_diff(observer[_EARLIEST_MS], now_ms))", "left_ms = 0"),
    ("one CON at a time", "if not record and (is_con", "if (is_con"),
    ("half of the table is left to others", "self.pending < (transmissions + 1) // 2", "True"),
    ("who does not acknowledge goes", "            if record.error:\n", "            if False:\n"),
    # the client, section 3
    ("late notifications are not passed on",
     "if heard_ms is not None and not is_newer(number, self.number, ticks_diff(engine.now_ms, heard_ms)):",
     "if False:"),
    ("after 128 s any number is newer", "< _HALF or wait_ms > _REORDER_MS", "< _HALF"),
    ("an error ends it, with Observe or without", "message.code >> 5 != 2 or number is None", "number is None"),
    ("registered again in time", "fresh_ms + 5000 + spread_ms", "fresh_ms + 50000 + spread_ms"),
)  # fmt: skip


# (rule, text of lib/coap_block.py that occurs there once, what replaces it)
BLOCK_MUTANTS = (
    # the server: bodies that come in
    ("a reserved SZX of Block2", "if block2 & 7 == 7:", "if False:"),
    ("a block's length", "or more and len(payload) < block_len:", ":"),
    ("blocks in their order", "elif offset != body[_LENGTH]:", "elif False:"),
    ("a body is of one peer and one context",
     "return request.remote, answer, request.code, context_of and context_of(request), options",
     "return answer, request.code, options"),
    ("a body's limit", "if max(offset + len(data), total) > limit_len:", "if False:"),
    ("a host's share of the bodies", "if len(crowd) < self.per_host:", "if True:"),
    ("a slow body gives way", "max(_GRACE * pace_ms, body[_LENGTH] * pace_ms // _PACE)", "1 << 28"),
    ("a silent body gives way to its host's next", "ticks_diff(body[_UNTIL_MS], now_ms) - early_ms)",
     "ticks_diff(body[_UNTIL_MS], now_ms))"),
    ("... but not to another host's", "            early_ms = 0\n", ""),
    ("an earlier block once more", "== body[_LENGTH] or request.opt.request_tag:", "== body[_LENGTH]:"),
    ("... if it is surely of this body", "== body[_LENGTH] or request.opt.request_tag:", "== body[_LENGTH] or True:"),
    ("verified peers keep their places",
     "if not self.is_verified(body[_KEY][0]) and self.is_verified(peer):", "if self.is_verified(peer):"),
    ("idle bodies are forgotten, each at its time",
     "                self.engine.wake(body[_UNTIL_MS])\n", "                pass\n"),
    # the server: what goes out
    ("a short body in a small datagram", "                if self.szx:", "                if True:"),
    ("unverified peers get short datagrams", "limit_len = min(limit_len, self.unverified_len)", "pass"),
    ("a block behind the end", "if offset and total <= offset:", "if False:"),
    ("what is kept of an answer is a copy", "payload = bytes(payload)\n            body", "pass\n            body"),
    ("a later block of a POST runs no handler", "if request.code == _FETCH and request.payload:",
     "if request.payload:"),
    # the client
    ("4.13 without end", "code == _REQUEST_ENTITY_TOO_LARGE and block & 7 < szx:",
     "code == _REQUEST_ENTITY_TOO_LARGE and block >= 0:"),
    ("another body's blocks", "if is_shorter or opt.etag != transfer.etag:", "if is_shorter:"),
    ("a body that changes without end", "if not restarts or not can_repeat:", "if not can_repeat:"),
    ("a block is where it was asked for", "or (block >> 4) * block_len != offset", ""),
    ("a transfer is one request's",
     "        finally:\n            self.next = None\n", "        finally:\n            pass\n"),
)  # fmt: skip


# (rule, text of lib/coap_echo.py that occurs there once, what replaces it)
ECHO_MUTANTS = (
    ("an Echo is of one peer", "self._key + stamp + repr(peer).encode()", "self._key + stamp"),
    ("an Echo is of its time", "self._key + stamp +", "self._key +"),
    ("nobody else can make an Echo", "self._key + stamp +", "stamp +"),
    ("an old Echo", "if age_ms > self._limits[2]:", "if False:"),
    ("an Echo is used once", "or used_ms is not None and ticks_diff(stamp_ms, used_ms) <= 0:\n            return False",
     ":\n            return False"),
    ("... also by who had to make room", "self._forgotten = used_ms", "pass"),
    ("who is verified is so for a while", "ticks_diff(entry[0], self.engine.now_ms) > 0", "True"),
    ("a peer in the table pushes nobody out", "if peer not in peers and len(peers)", "if len(peers)"),
    ("verified peers are limited", "len(peers) >= self._limits[0]:", "False:"),
    ("freshness is demanded of verified peers, too", "if not demands and self.is_verified", "if self.is_verified"),
    ("no observation of an unverified peer", "if demands or not changes and request.opt.observe == 0:", "if demands:"),
    ("a long answer is not sent", "        if is_long:\n", "        if False:\n"),
    ("a handler that has run is not asked again", "if code == _GET or code == _FETCH:  # else", "if True:  # else"),
    ("the key of a day", "if ticks_diff(now_ms, self._key_ms) >= _KEY_MS:", "if not hasattr(self, '_key'):"),
    ("challenges without end", "or repeats == _REPEATS:", ":"),
)  # fmt: skip


# (rule, text of lib/coap_oscore.py that occurs there once, what replaces it)
OSCORE_MUTANTS = (
    # nonces and sequence numbers, RFC 8613 section 7.2 and Appendix B.1.1
    ("our IV", "iv ^ len(sender_id) << 96", "iv ^ len(recipient_id) << 96"),
    ("numbers go on behind the reserved ones", "self.next = stored and stored + step", "self.next = stored"),
    ("the first write of a run is done twice",
     "        if self.limit is None:\n            self.store.save(number)\n", ""),
    ("two endpoints with one store", "elif stored != self.stored:", "elif False:"),
    ("what is stored is read back", "if bytes(self.read(k)) != _record(number):", "if False:"),
    ("no number behind the last", "if number > _LAST_NUMBER:\n            raise", "if False:\n            raise"),
    ("a request's nonce answers once", "            exchange.nonce = None\n            outer", "            outer"),
    ("a challenge has a nonce of its own", "exchange.nonce = None  # the request may", "pass  # the request may"),
    # what is accepted, sections 7.4 and 8
    ("replays", "return age >= _WINDOW or self.seen >> age & 1 != 0", "return age >= _WINDOW"),
    ("behind the replay window",
     "return age >= _WINDOW or self.seen >> age & 1 != 0", "return self.seen >> age & 1 != 0"),
    ("after a restart an Echo is needed", "(context.highest is None or number <= context.asked)", "False"),
    ("... also of what was asked for one", " or number <= context.asked)", ")"),
    ("nothing is accepted that was not verified",
     "        context.accept(number)\n        if has_echo", "        if has_echo"),
    ("a request's code inside", "and lowest_code <= p[_CODE] <= highest_code", ""),
    ("critical options inside", "elif p[_SEEN] & self.engine._critical:", "elif False:"),
    ("late notifications of a protected resource",
     "is_late = exchange.is_observed and number <= exchange.number", "is_late = False"),
    ("a malformed option in a response", "        if header is None:\n            return False\n", ""),
    # what must not be in the clear, nor bound to another request
    ("an answer in the clear is none", "if exchange is None or not is_protected:", "if exchange is None:"),
    ("all is to be protected",
     "            if self._needs_all:\n                raise", "            if False:\n                raise"),
    ("a token of a promise", "self._refusal = _TOKEN_IN_USE\n        elif", "self._refusal = 0\n        elif"),
    ("a token of another context", "if self._is_taken(p, context):", "if False:"),
    ("promises of two peers with one token", "exchange.token == token and exchange.remote == r[_REMOTE]",
     "exchange.token == token"),
    ("observations of two peers with one token",
     "other.is_observed and other.token == exchange.token and other.remote == exchange.remote",
     "other.is_observed and other.token == exchange.token"),
    ("contexts with the same keys", "if context.sender_key in keys or context.recipient_key in keys:", "if False:"),
    ("the outer No-Response", "p[_SEEN] &= ~_HAS_NO_RESPONSE  # the outer one", "pass  # the outer one"),
)  # fmt: skip
BY_FILE = {
    "coap.py": MUTANTS,
    "coap_dtls.py": DTLS_MUTANTS,
    "coap_observe.py": OBSERVE_MUTANTS,
    "coap_block.py": BLOCK_MUTANTS,
    "coap_echo.py": ECHO_MUTANTS,
    "coap_oscore.py": OSCORE_MUTANTS,
}


def mutate(source, mutant):
    """Returns the source with one rule broken; raises ValueError unless its text is there once."""
    name, old, new = mutant
    if source.count(old) != 1:
        raise ValueError(f"{name}: the text is {source.count(old)} times in the source: {old!r}")
    mutated = source.replace(old, new)
    compile(mutated, name, "exec")
    return mutated


def snapshot(folder):
    """Copies the portable tests, so that editing them meanwhile changes nothing; returns the folder."""
    tests = Path(folder, "tests")
    tests.mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, tests)
    return tests


def fails_a_test(file, source, tests):
    """Whether one of the `tests` fails with this text of a file of the library; so does one that hangs."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tests, f"{folder}/tests")
        shutil.copytree(ROOT / "lib", f"{folder}/lib")
        Path(folder, "lib", file).write_text(source)
        paths = sorted(Path(folder, "tests").glob("test_*.py"), key=lambda path: path.stem not in FIRST[file])
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": ""}  # the file server is not there
        words = [*command, *paths]
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return True
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode == 1


def survivors(mutants, file="coap.py"):
    """Returns the names of the mutants of a file of lib/ that no test notices.

    Raises ValueError if one does not fit the source.
    """
    source = (ROOT / "lib" / file).read_text()
    sources = [mutate(source, mutant) for mutant in mutants]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = snapshot(folder)
        if fails_a_test(file, source, tests):
            raise ValueError("the tests fail without a mutant")
        caught = list(pool.map(lambda mutated: fails_a_test(file, mutated, tests), sources))
    return [mutant[0] for mutant, is_caught in zip(mutants, caught) if not is_caught]


def main(words):
    """Runs the mutants whose names contain one of the words, all without words; returns the exit code."""
    survived = []
    count = 0
    for file, mutants in BY_FILE.items():
        chosen = [mutant for mutant in mutants if not words or any(word in mutant[0] for word in words)]
        count += len(chosen)
        try:
            survived += survivors(chosen, file) if chosen else []
        except ValueError as error:
            print(f"lib/{file}: {error}")
            return 2
    if not count:
        print("no rule has such a word in its name")
        return 2
    for name in survived:
        print("survived:", name)
    print(f"{count - len(survived)} of {count} mutants caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
