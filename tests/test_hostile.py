"""Hostile datagrams: malformed, forged, late and oversized ones, to a server and to a waiting client.

A row of the server tables is (name, datagram, allowed outcomes, rule or published flaw). A datagram is
written in hexadecimal with spaces where they help; `61*256` is 256 times the byte 61. An outcome is `ignore`,
`RST`, or the code of the reply; `any` is each of them. The server has `/t`, of which GET gives a text and PUT
stores one. After every datagram a ping must be answered.

Where a number stands alone in a rule, it is the section of RFC 7252.
"""

from binascii import hexlify, unhexlify

import check
import coap

PEER = ("192.0.2.1", 5683)
PING = b"\x40\x00\xff\xfe"
PONG = b"\x70\x00\xff\xfe"


def source_of_bytes(seed):
    """A function n -> n bytes, the same on every run (a linear congruential generator)."""
    state = [seed]

    def draw(n):
        out = bytearray()
        for _ in range(n):
            state[0] = (state[0] * 75 + 74) % 65537
            out.append(state[0] >> 4 & 255)
        return bytes(out)

    return draw


def from_hex(text):
    """The bytes of a row: hexadecimal pieces, `61*256` for a piece repeated."""
    out = b""
    for piece in text.split():
        digits, _, times = piece.partition("*")
        out += unhexlify(digits) * int(times or 1)
    return out


def make_server():
    """An engine that serves /t, and the list of payloads stored there."""
    engine = coap.Engine(source_of_bytes(1))
    resource = engine.resource("t", ct=coap.TEXT)
    stored = []

    def read(request, response):
        return "text"

    def write(request, response):
        stored.append(bytes(request.payload))

    resource.get(read)
    resource.put(write)
    return engine, stored


def outcome(data, reply):
    """What `reply` is to the datagram `data`: "ignore", "RST", the code, or what is wrong with it."""
    if reply is None:
        return "ignore"
    reply = bytes(reply)
    kind = data[0] >> 4 & 3
    if kind > 1:
        return "answered an ACK or RST"
    if reply[1] == 0:
        if reply == b"\x60\0" + data[2:4] and kind == 0:
            return "ACK"
        if len(reply) != 4 or reply[0] >> 4 & 3 != 3:
            return "empty message " + str(hexlify(reply))
        return "RST" if reply[0] == 0x70 and reply[2:] == data[2:4] else "RST of another message"
    token_end = 4 + (data[0] & 15)
    if reply[0] & 0xCF != 0x40 | data[0] & 15 or reply[4:token_end] != data[4:token_end]:
        return "another token or version"
    if reply[0] >> 4 & 3 != (2 if kind == 0 else 1):
        return "reply of type %d to one of type %d" % (reply[0] >> 4 & 3, kind)
    if kind == 0 and reply[2:4] != data[2:4]:
        return "ACK of another message"
    return "%d.%02d" % (reply[1] >> 5, reply[1] & 31)


def is_allowed(found, allowed):
    if found in allowed.split("|"):
        return True
    return allowed == "any" and (found in ("ignore", "RST") or found[1:2] == ".")


def serve(engine, data, peer, is_multicast=False):
    """The outcome of `data`; also says what is wrong behind it: a second reply, or the ping unanswered."""
    try:
        found = outcome(data, engine.receive(data, peer, 0, is_multicast))
    except Exception as error:
        return "raised %r" % error
    if engine.due(0) is not None:
        return found + " and a second datagram"
    if engine.received is not None:
        return found + " and handed to the application"
    if engine.receive(PING, peer, 0) != PONG:
        return found + " and a ping unanswered"
    return found


def run_server(rows):
    """Send every row to a new server and to one that saw the rows before; raises with all that went wrong."""
    veteran, _ = make_server()
    wrong = []
    for number, (name, text, allowed, _) in enumerate(rows):
        data = from_hex(text)
        for engine in make_server()[0], veteran:
            found = serve(engine, data, ("192.0.2.9", 1024 + number))
            if not is_allowed(found, allowed):
                wrong.append("%s: %s, not %s" % (name, found, allowed))
    check.eq(wrong, [], "outcomes")


HEADERS = (
    ("len0", "", "ignore", "3: less than 4 bytes"),
    ("len1", "40", "ignore", "3"),
    ("len2", "4001", "ignore", "3"),
    ("len3", "400112", "ignore", "3"),
    ("len1_tkl15", "4f", "ignore", "3"),
    ("ver0", "00010001b174", "ignore", "3: unknown version"),
    ("ver2", "80010001b174", "ignore", "3"),
    ("ver3", "c0010001b174", "ignore", "3"),
    ("ver0_zeros", "00*4", "ignore", "3"),
    ("ver3_ones", "ff*16", "ignore", "3"),
    ("ver2_tkl15", "8f010001b174", "ignore", "3"),
    ("con_tkl9", "49010010 aa*9 b174", "RST", "3: token length 9 to 15 is a format error"),
    ("con_tkl10", "4a010010 aa*10 b174", "RST|2.05", "3, RFC 8974 2.1"),
    ("con_tkl11", "4b010010 aa*11 b174", "RST|2.05", "3, RFC 8974 2.1"),
    ("con_tkl12", "4c010010 aa*12 b174", "RST", "3"),
    ("con_tkl13", "4d010010 01 aa*14 b174", "RST", "3; RIOT PR 21075"),
    ("con_tkl14", "4e010010 0001 aa*270 b174", "RST", "3; RIOT PR 21075"),
    ("con_tkl15", "4f010010 aa*15 b174", "RST", "3: 15 is an error in RFC 8974 too"),
    ("con_tkl13_trunc", "4d010016", "RST|ignore", "RFC 8974; RIOT GHSA-p9hp"),
    ("con_tkl14_trunc", "4e010016", "RST", "RIOT GHSA-p9hp"),
    ("con_tkl14_trunc1", "4e01001600", "RST", "RIOT GHSA-p9hp"),
    ("riot_cve_2026_27703", "4e010010 0100 aa*525 bb2e77656c6c2d6b6e6f776e 04636f7265", "RST", "RIOT"),
    ("non_tkl9", "59010010 aa*9 b174", "ignore", "4.3"),
    ("ack_tkl9", "69450010 aa*9 ff61", "ignore", "4.2"),
    ("rst_tkl15", "7f000010", "ignore", "4.2"),
    ("tkl_trunc", "4401001aaabb", "RST", "3; RIOT 14074, CVE-2020-12886"),
    ("tkl_trunc_all", "4101001b", "RST", "3"),
    ("tkl8_trunc1", "4801001c aa*7", "RST", "3"),
    ("non_tkl_trunc", "5401001aaabb", "ignore", "4.3"),
    ("ack_tkl_trunc", "6445001aaabb", "ignore", "4.2"),
    ("tkl8", "4801001d 0001020304050607 b174", "2.05", "3: token of 8 bytes"),
    ("tkl0", "4001001eb174", "2.05", "5.3.1: the empty token is legal"),
    ("token_no_text", "4401001f fffe80c0 b174", "2.05", "5.3.1: CVE-2018-12679, CVE-2018-12680"),
    ("non_token_zeros", "54010020 00*4 b174", "2.05", "5.3.1"),
    ("ping", "40000001", "RST", "4.3"),
    ("ping_token", "41000003aa", "RST", "4.1: an empty message ends behind the message ID"),
    ("ping_tkl_trunc", "48000003", "RST", "4.1"),
    ("ping_option", "40000005b174", "RST", "4.1"),
    ("ping_payload", "40000005ff61", "RST", "4.1"),
    ("ping_zero", "4000000500", "RST", "4.1"),
    ("non_empty_code0", "50000006", "ignore|RST", "4.3"),
    ("non_empty_bytes", "50000007b174", "ignore", "4.3"),
    ("ack_unknown", "60000007", "ignore", "4.2"),
    ("ack_bytes", "6000000761", "ignore", "4.2"),
    ("rst_unknown", "70000008", "ignore", "4.2, 4.3"),
    ("rst_bytes", "70000008ff61", "ignore", "4.2"),
)


def test_header_when_hostile_then_allowed_outcome():
    """RFC 7252 section 3, 4.2, 4.3: version, token length, empty messages."""
    run_server(HEADERS)


CODES = (
    ("con_class_1", "4020000fb174", "RST", "4.2: reserved class"),
    ("con_class_1_end", "403f000fb174", "RST", "4.2"),
    ("con_class_c0", "40c000c0", "RST", "4.2"),
    ("con_class_6_end", "40df00c1", "RST", "4.2"),
    ("con_class_e1", "40e100e1", "RST", "4.2: signalling is for TCP only, RFC 8323"),
    ("con_class_ff", "40ff00ff", "RST", "4.2"),
    ("non_class_1", "5020000fb174", "ignore", "4.3"),
    ("non_class_7", "50e100e1", "ignore", "4.3"),
    ("ack_class_6", "60c000c0", "ignore", "4.2"),
    ("rst_class_7", "70e100e1", "ignore", "4.2"),
    ("con_method_8", "40080020b174", "4.05", "5.8: unknown method"),
    ("con_method_31", "401f0020b174", "4.05", "5.8"),
    ("non_unk_method", "501f0021b174", "4.05", "5.8"),
    ("con_method_31_no_path", "401f0021", "4.04|4.05", "5.8"),
    ("post", "40020021b174ff61", "4.05", "5.8: /t has no POST"),
    ("delete", "40040021b174", "4.05", "5.8"),
    ("fetch", "40050021b174ff61", "4.05", "RFC 8132"),
    ("patch", "40060021b174ff61", "4.05", "RFC 8132"),
    ("ipatch", "40070021b174ff61", "4.05", "RFC 8132"),
    ("con_response_unk", "42450022bbbbff61", "RST", "4.2, 5.3.2: nobody asked; libcoap acknowledges it"),
    ("con_response_no_token", "40450022ff61", "RST", "4.2, 5.3.2"),
    ("con_response_error", "42840022bbbb", "RST", "4.2, 5.3.2"),
    ("con_response_class_3", "42650022bbbb", "RST", "4.2, 5.3.2"),
    ("con_response_5_31", "42bf0022bbbb", "RST", "4.2, 5.3.2"),
    ("con_response_critical", "42450022bbbb 90ff61", "RST", "5.4.1"),
    ("non_response_unk", "52450023bbbbff61", "ignore|RST", "4.3, 5.3.2"),
    ("ack_response_unk", "62450024bbbbff61", "ignore", "4.2"),
    ("ack_response_no_token", "60450024", "ignore", "4.2"),
    ("ack_request", "60010009b174", "ignore", "4.2: libcoap 4.3.1 and Californium execute it"),
    ("ack_put", "60030009b174ff61", "ignore", "4.2"),
    ("ack_method_31", "601f0009b174", "ignore", "4.2"),
    ("rst_request", "7001000bb174", "ignore", "4.2: node-coap 1.5.0 executes it"),
    ("rst_put", "7003000bb174ff61", "ignore", "4.2"),
    ("rst_response", "7245000cbbbbff61", "ignore", "4.2"),
    ("get_alone", "40010025", "4.04", "5.8: no option at all; CVE-2024-31029"),
    ("get_payload", "40010025b174ff616263", "2.05", "4.3: a payload of GET is ignored"),
    ("non_get", "50010025b174", "2.05", "5.2.3"),
    ("non_put", "50030025b174ff61", "2.04", "5.2.3"),
    ("put_empty", "40030025b174", "2.04", "5.8.3"),
    ("wellknown", "40010026 bb2e77656c6c2d6b6e6f776e 04636f7265", "2.05", "RFC 6690 section 4"),
    ("wellknown_put", "40030026 bb2e77656c6c2d6b6e6f776e 04636f7265 ff61", "4.05", "RFC 6690 section 4"),
)


def test_code_when_hostile_then_allowed_outcome():
    """RFC 7252 section 4.2, 5.2, 5.8: reserved classes, unknown methods, responses nobody asked for."""
    run_server(CODES)


OPTIONS = (
    ("delta15", "40010024f0", "RST", "3.1"),
    ("delta15_behind", "40010024b174f161", "RST", "3.1"),
    ("len15", "400100261f", "RST", "3.1"),
    ("len15_behind", "40010026b1740f", "RST", "3.1"),
    ("d13_trunc", "40010027d0", "RST", "3.1"),
    ("d14_trunc", "40010028e0", "RST", "3.1"),
    ("d14_trunc1", "40010029e001", "RST", "3.1"),
    ("l13_trunc", "4001002a0d", "RST", "3.1"),
    ("l14_trunc", "4001002b0e", "RST", "3.1"),
    ("l14_trunc1", "4001002c0e01", "RST", "3.1"),
    ("d13_l13_trunc", "4001002ddd", "RST", "3.1; CVE-2020-12883"),
    ("d13_l13_trunc1", "4001002edd00", "RST", "3.1"),
    ("d14_l14_trunc", "4001002fee", "RST", "3.1"),
    ("d14_l14_trunc3", "40010030ee000000", "RST", "3.1"),
    ("value_trunc", "40010030b274", "RST", "3.1: the value ends behind the datagram"),
    ("value_trunc_all", "40010030b1", "RST", "3.1"),
    ("value_trunc_l13", "40010030bd00 61*12", "RST", "3.1"),
    ("value_trunc_l14", "40010030be0000 61*268", "RST", "3.1"),
    ("value_trunc_ffff", "400100300effff 61*64", "RST", "3.1"),
    ("query_trunc", "40010030b1744561", "RST", "3.1; CVE-2020-12884"),
    ("len_wrap", "400100300efef3", "RST", "3.1: length 65536; microcoap 48"),
    ("non_value_trunc", "50010030b274", "ignore", "4.3"),
    ("non_delta15", "50010030f0", "ignore", "4.3"),
    ("ack_value_trunc", "60450030b274", "ignore", "4.2"),
    ("marker_nopay_noopt", "40010031ff", "RST", "3: a marker with nothing behind it"),
    ("marker_nopay", "40010031b174ff", "RST", "3"),
    ("marker_nopay_token", "44010031 aa*4 ff", "RST", "3"),
    ("put_marker_nopay", "40030031b174ff", "RST", "3"),
    ("non_marker_nopay", "50010031b174ff", "ignore", "3, 4.3"),
    ("ack_marker_nopay", "60450031ff", "ignore", "3, 4.2"),
    ("marker_twice", "40010031b174ffff", "2.05", "3: the second is payload"),
    ("optnum_wrap", "40010032e0fef3b174", "RST|4.02", "option 65536+11; CVE-2020-10063, CVE-2020-12887"),
    ("optnum_65536", "40010032e0fef3", "RST", "5.4.6: numbers end at 65535; libcoap 4.3.1 wraps"),
    ("optnum_65535", "40010032e0fef2", "4.02", "5.4.6: the last one, critical"),
    ("optnum_65535_10", "40010032e0fef210", "RST", "5.4.6"),
    ("optnum_sum", "40010033e07fffe07fff", "RST", "5.4.6: 33036 twice; CVE-2020-12887"),
    ("optnum_ffff", "40010033e0ffff", "RST", "5.4.6"),
    ("optnum_ffff_many", "40010033 e0ffff*100", "RST", "CVE-2020-10063"),
    ("opt0", "4001003400b174", "2.05|4.02", "5.4: number 0 is reserved, elective"),
    ("opt0_value", "400100340161b174", "2.05|4.02", "5.4"),
    ("opt0_many", "40010034 00*900 b174", "2.05|4.02", "CVE-2020-12884"),
    ("options_42", "40010034b174 10 20*41", "2.05|4.02", "RIOT 10753: more than the table"),
    ("options_1100", "40010034b174 10 00*1100", "2.05", "RIOT 10753: Content-Format 1100 times"),
    ("paths_100", "4001004a b161 0161*99", "4.04", "RIOT 10753"),
    ("paths_1100_empty", "4001004a b0 00*1100", "4.04", "12929: empty, repeated, no endless loop"),
    ("queries_900_empty", "4001004a b17440 00*900", "2.05", "12929"),
    ("queries_500", "4001004a b1744161 0161*500", "2.05", "5.10.1"),
    ("etags_200", "4001004a 4161 0161*200 7174", "2.05", "5.10.6: ETag may be repeated in a request"),
    ("rep40", "40*64", "any", "all bytes alike"),
    ("rep44", "44*1152", "any", "all bytes alike"),
    ("rep11", "40010001 11*1148", "any", "574 options"),
    ("repdd", "40010001 dd*1148", "any", "extended options"),
    ("repe0", "40010001 e0*1148", "any", "extended options"),
    ("rep4f", "4f*1152", "RST", "3"),
    ("rep4f_1280", "4f*1280", "RST", "3: too large is no excuse"),
    ("tkl9_len_1280", "49010061 61*1276", "RST", "3"),
    ("class_1_len_1280", "40200061 61*1276", "RST", "3: reserved class"),
    ("empty_len_1280", "40000061 61*1276", "RST", "4.1"),
    ("non_tkl9_len_1280", "59010061 61*1276", "ignore", "4.3"),
    ("ack_tkl9_len_1280", "69450061 61*1276", "ignore", "4.2"),
    ("len_1152", "40030061b174ff 61*1145", "2.04", "4.6: 1152 bytes must be taken"),
    ("len_1153", "40030061b174ff 61*1146", "4.13", "4.6"),
    ("len_1280_token", "48030061 a0*8 b174ff 61*1265", "4.13", "4.6"),
    ("non_len_1280", "50030061b174ff 61*1273", "4.13|ignore", "4.6"),
    ("ack_len_1280", "60450061ff 61*1275", "ignore", "4.2"),
    ("rst_len_1280", "70000061 61*1276", "ignore", "4.2"),
    ("ver2_len_1280", "80010061b174ff 61*1273", "ignore", "3"),
    ("con_response_len_1280", "40450061ff 61*1275", "RST|ignore", "4.2"),
)


def test_option_when_hostile_then_allowed_outcome():
    """RFC 7252 section 3, 3.1, 4.6: option headers, payload marker, sizes."""
    run_server(OPTIONS)


def test_datagram_when_beyond_any_mtu_then_allowed_outcome():
    """RFC 7252 section 4.6: 60,000 bytes, of which a socket would show the first 1153."""
    try:
        check.eq(len(from_hex("61*60000")), 60000)
        run_server((("big_60000", "40010061b174ff 61*60000", "4.13|ignore|2.05|RST", "4.6"),))
    except MemoryError:
        raise check.Skip("memory for a datagram of 60,000 bytes")


# Behind b174 (Uri-Path "t") stands the delta from 11.
CRITICAL = (
    ("crit_unk", "40010035b174e1fcd161", "4.02", "5.4.1: option 65001"),
    ("crit_unk_odd", "40010037b174e006e9", "4.02", "5.4.1: option 2049"),
    ("crit_13", "40010037b1742161", "4.02", "5.4.1"),
    ("crit_13_len_300", "40010037b1742e001f 61*300", "4.02", "5.4.1"),
    ("crit_19", "40010037b1748161", "4.02", "5.4.1, RFC 9177: Q-Block1"),
    ("crit_21", "40010037b174a161", "4.02", "5.4.1"),
    ("crit_25", "40010037b174d10161", "4.02", "5.4.1"),
    ("crit_29", "40010037b174d10561", "4.02", "5.4.1"),
    ("crit_31", "40010037b174d10761", "4.02", "5.4.1, RFC 9177: Q-Block2"),
    ("crit_37", "40010037b174d10d61", "4.02", "5.4.1: between Proxy-Uri and Proxy-Scheme"),
    ("crit_253", "40010037b174d1e561", "4.02", "5.4.1"),
    ("crit_before_path", "400100379161 2174", "4.02", "5.4.1: option 9, OSCORE"),
    ("crit_no_resource", "40010037b178d10561", "4.02|4.04", "5.4.1"),
    ("crit_unk_method", "401f0037b174d10561", "4.02|4.05", "5.4.1"),
    ("put_crit", "40030037b174d10561ff61", "4.02", "5.4.1: before the resource is changed"),
    ("non_crit", "50010037b174d10561", "ignore|RST|4.02", "5.4.1, 4.3"),
    ("non_put_crit", "50030037b174d10561ff61", "ignore|RST|4.02", "5.4.1, 4.3"),
    ("elective_unk", "40010039b174e0fcd0", "2.05", "5.4.1: option 65000"),
    ("crit_unk_small", "40010036b174e006e8", "2.05", "5.4.6: 2048 is even, so elective"),
    ("elective_2", "400100362161 9174", "2.05", "5.4.1"),
    ("elective_10_len_300", "40010036ae001f 61*300 1174", "2.05", "5.4.1"),
    ("elective_18", "40010036b1747161", "2.05", "5.4.1"),
    ("elective_26", "40010036b174d10261", "2.05", "5.4.1"),
    ("elective_30", "40010036b174d10661", "2.05", "5.4.1"),
    ("elective_65534", "40010036b174e2fee66161", "2.05", "5.4.1"),
    ("put_elective", "40030036b174d10261ff61", "2.04", "5.4.1"),
    ("dup_uriport", "4001003d7216330216334174", "4.02", "5.4.5: Uri-Port twice"),
    ("dup_urihost", "4001003e316101628174", "4.02", "5.4.5: Uri-Host twice"),
    ("dup_urihost_same", "4001003e316101618174", "4.02", "5.4.5"),
    ("dup_accept", "4001003eb1746000", "4.02", "5.4.5: Accept twice"),
    ("dup_cf", "4003003fb17411000100ff61", "2.04", "5.4.5: Content-Format twice, elective"),
    ("dup_maxage", "4001003fb17431010102", "2.05", "5.4.5: Max-Age twice, elective"),
    ("dup_observe", "4001003f60005174", "2.05", "5.4.5: Observe twice, elective"),
    ("dup_size1", "4001003fb174d124610161", "2.05", "5.4.5: Size1 twice, elective"),
    ("non_dup_urihost", "5001003e316101628174", "ignore|RST|4.02", "5.4.5"),
    ("urihost_empty", "40010040308174", "4.02", "5.4.3: a bad length is an unknown option"),
    ("urihost_255", "400100403df2 61*255 8174", "2.05|4.04|5.05", "5.4.3"),
    ("urihost_256", "400100403df3 61*256 8174", "4.02", "5.4.3; CVE-2025-34468"),
    ("urihost_300", "400100403e001f 61*300 8174", "4.02", "5.4.3; CVE-2025-34468"),
    ("urihost_no_text", "4001004032ffc0 8174", "2.05|4.00|4.02|4.04", "5.10.1"),
    ("urihost", "400100403b6578616d706c652e636f6d 8174", "2.05|4.04|5.05", "5.10.1"),
    ("uriport", "4001004072 1633 4174", "2.05", "5.10.1: the port it came to"),
    ("uriport_lead0", "4001004072 0000 4174", "2.05|4.04|5.05", "3.2"),
    ("uriport_len3", "4001004073 001633 4174", "4.02", "5.4.3"),
    ("accept_0", "40010041b17460", "2.05", "3.2: an empty uint is 0"),
    ("accept_lead0", "40010041b174620000", "2.05|4.06", "3.2: leading zeros"),
    ("accept_1byte0", "40010041b1746100", "2.05", "3.2"),
    ("accept_60", "40010041b174613c", "4.06", "5.10.4"),
    ("accept_65535", "40010041b17462ffff", "4.06", "5.10.4"),
    ("accept_len3", "40010041b17463000000", "4.02", "5.4.3"),
    ("non_accept_60", "50010041b174613c", "4.06", "5.10.4"),
    ("uripath_255", "40010042bdf2 61*255", "4.04", "5.4.3"),
    ("uripath_256b", "40010043bdf3 61*256", "4.02|4.04", "5.4.3"),
    ("uripath_256_behind", "40010043b1740df3 61*256", "4.02", "5.4.3"),
    ("uriquery_255", "40010044b1744df2 61*255", "2.05", "5.4.3"),
    ("uriquery_256", "40010044b1744df3 61*256", "4.02", "5.4.3"),
    ("uriquery_no_text", "40010044b17442ffc0", "2.05|4.00|4.02", "5.10.1"),
    ("ifmatch_9", "40030045 19 61*9 a174 ff61", "4.02", "5.4.3"),
    ("ifmatch_empty", "40030045 10 a174 ff61", "2.04|4.12|4.02", "5.10.8.1"),
    ("ifmatch", "40030045 1161 a174 ff61", "4.12|4.02", "5.10.8.1"),
    ("ifnonematch", "40030045 50 6174 ff61", "4.12|4.02|2.04", "5.10.8.2"),
    ("ifnonematch_1", "40030045 5161 6174 ff61", "4.02", "5.4.3"),
    ("etag0", "4001005a407174", "2.05", "5.4.3: ETag has 1 to 8 bytes, elective"),
    ("etag9", "4001005a49 61*9 7174", "2.05", "5.4.3: libcoap RST, Californium 4.02"),
    ("etag300", "4001005a4e001f 61*300 7174", "2.05", "CVE-2024-32017"),
    ("observe_4", "400100566400000000 5174", "2.05", "5.4.3; RFC 7641"),
    ("cf_len3", "40030056b17413000000ff61", "2.04", "5.4.3"),
    ("cf_lead0", "40030056b174120000ff61", "2.04", "3.2"),
    ("cf_unk", "40030056b17412fde8ff61", "2.04|4.15", "5.10.3"),
    ("maxage_5", "40010056b17435 00*5", "2.05", "5.4.3"),
    ("size1_5", "40010056b174d524 00*5", "2.05", "5.4.3"),
    ("size2_5", "40010056b174d504 00*5", "2.05", "5.4.3"),
    ("locationpath_256", "400100568df3 61*256 3174", "2.05", "5.4.3"),
    ("locationquery_256", "40010056b1749df3 61*256", "2.05", "5.4.3"),
    ("hoplimit_0", "40010056b1745100", "4.00", "RFC 8768 section 3: 0 is rejected"),
    ("hoplimit_len2", "40010056b174520000", "2.05", "RFC 8768"),
    ("noresponse_2", "40010056b174d2ea0000", "2.05", "RFC 7967: 0 or 1 byte"),
    ("echo_41", "40010056b174dde41c 61*41", "2.05", "RFC 9175: 1 to 40 bytes"),
    ("requesttag_9", "40010056b174e9000c 61*9", "2.05", "RFC 9175: 0 to 8 bytes"),
)


def test_option_when_unknown_or_repeated_or_sized_wrongly_then_allowed_outcome():
    """RFC 7252 section 5.4: critical ones are refused with 4.02, elective ones ignored."""
    run_server(CRITICAL)


PATHS = (
    ("path_case", "40010046b154", "4.04", "6.1: paths are case-sensitive"),
    ("path_slash", "40010046b2742f", "4.04", "5.10.1: a segment may hold a slash"),
    ("path_slash_before", "40010046b22f74", "4.04", "5.10.1"),
    ("path_nul", "40010046b27400", "4.04", "5.10.1"),
    ("path_percent", "40010046b3253734", "4.04", "6.4: no percent-encoding in options"),
    ("path_empty", "40010046b0", "4.04", "6.5"),
    ("path_empty_before", "40010046b00174", "4.04", "6.4; ccoap 4"),
    ("path_empty_behind", "40010046b17400", "4.04", "6.4"),
    ("path_twice", "40010046b1740174", "4.04", "6.4"),
    ("path_no_text", "40010046b2ffc0", "4.00|4.02|4.04", "5.10.1"),
    ("path_overlong", "40010046b2c080", "4.00|4.02|4.04", "5.10.1: overlong UTF-8"),
    ("path_surrogate", "40010046b3eda080", "4.00|4.02|4.04", "5.10.1"),
    ("path_bom", "40010046b4efbbbf74", "4.04", "5.10.1"),
    ("uripath_dotdot", "40010046b22e2e022e2e06706173737764", "4.00|4.02|4.04", "5.10.1"),
    ("path_dot", "40010046b12e0174", "4.00|4.02|4.04", "5.10.1"),
    ("path_dotdot_end", "40010046b174022e2e", "4.00|4.02|4.04", "5.10.1"),
    ("path_backslash", "40010046b52e2e5c2e2e", "4.04", "5.10.1"),
    ("wellknown_one", "40010046bd032e77656c6c2d6b6e6f776e2f636f7265", "4.04", "one segment with a slash"),
    ("wellknown_query", "40010046bb2e77656c6c2d6b6e6f776e04636f72654472743d2a", "2.05", "RFC 6690 4.1"),
    ("wellknown_no_text", "40010046bb2e77656c6c2d6b6e6f776e04636f726542ffc0", "4.00|4.02|2.05", "5.10.1"),
    ("proxy_uri", "40010057dd1603636f61703a2f2f782f61616161616161", "5.05|4.02", "5.7.2, 5.10.2"),
    ("proxy_uri_alone", "40010057dd1600636f61703a2f2f782f61616161", "5.05|4.02", "5.7.2"),
    ("proxy_uri_empty", "40010057d016", "5.05|4.02", "5.10.2"),
    ("proxy_uri_300", "40010057de16001f 61*300", "5.05|4.02", "5.10.2; CVE-2025-34468"),
    ("proxy_uri_1034", "40010057de1602fd 61*1034", "5.05|4.02", "5.10.2"),
    ("proxy_uri_1035", "40010057de1602fe 61*1035", "5.05|4.02", "5.10.2"),
    ("proxy_uri_twice", "40010057d116610161", "5.05|4.02", "5.4.5"),
    ("proxy_uri_no_text", "40010057d216ffc0", "5.05|4.02|4.00", "5.10.2"),
    ("proxy_scheme", "40010057b174d40f636f6170", "5.05|4.02", "5.10.2"),
    ("proxy_scheme_host", "4001005731788174d40f68747470", "5.05|4.02", "5.10.2"),
    ("proxy_uri_crit", "40010057dd1600636f61703a2f2f782f61616161 2161", "5.05|4.02", "5.4.1, 5.7.2"),
    ("non_proxy_uri", "50010057dd1600636f61703a2f2f782f61616161", "5.05|4.02|ignore|RST", "5.7.2"),
    ("observe_0", "40010056605174", "2.05", "RFC 7641: may be ignored"),
    ("observe_1", "4001005661015174", "2.05", "RFC 7641"),
    ("observe_2", "4001005661025174", "2.05", "RFC 7641 section 2"),
    ("observe_ffffff", "4001005663ffffff5174", "2.05", "RFC 7641"),
    ("block1_num5", "40030050b174d1035eff 61*1024", "4.08|4.02", "RFC 7959 section 2.9.2"),
    ("block1_first", "40030050b174d1030eff 61*1024", "2.31|4.02", "RFC 7959"),
    ("block1_szx7", "40030052b174d10307ff61", "4.00|4.02", "RFC 7959 section 2.2"),
    ("block1_short", "40030052b174d1030eff61", "4.00|4.02", "RFC 7959 section 2.2: 1 byte, not 1024"),
    ("block1_huge_size1", "40030054b174d1030ed414ffffffffff 61*1024", "2.31|4.13|4.02", "RFC 7959 section 4"),
    ("block1_4bytes", "40030052b174d40300000000ff61", "4.02", "5.4.3"),
    ("block1_num_max", "40030052b174d303ffffffff61", "4.00|4.08|4.13|4.02", "RFC 7959"),
    ("block1_get", "40010052b174d10306", "4.00|4.02|2.05", "RFC 7959"),
    ("block2_num5", "40010052b174c156", "4.00|4.02|2.05", "RFC 7959 section 2.4"),
    ("block2_szx7", "40010052b174c107", "4.00|4.02", "RFC 7959 section 2.2"),
    ("block2_4bytes", "40010052b174c400000000", "4.02", "5.4.3"),
    ("size1_huge", "40030054b174d424ffffffffff61", "2.04", "RFC 7959 section 4: nothing to allocate"),
    ("oscore_bad", "4002005d91ff", "4.02", "RFC 8613 section 8.2: a server without OSCORE"),
    ("oscore_get", "4001005d9009 2174", "4.02|RST", "RFC 8613"),
    ("oscore_empty", "4002005d90ff61616161616161616161", "4.02", "RFC 8613"),
    ("non_oscore", "5002005d91ff", "4.02|ignore|RST", "RFC 8613"),
    ("noresponse_26", "40010056b174d1ea1a", "ACK", "RFC 7967 2: no response, but the CON is acknowledged"),
    ("echo_8", "40010056b174d8e4 61*8", "2.05", "RFC 9175: elective"),
    ("k_contiki2238", "5151510080515151514e51515151515151f506", "ignore|RST", "contiki-os 2238"),
    ("k_contiki2239", "53*8 84 53*7 5d00000e5353537332", "ignore|RST", "contiki-os 2239"),
    ("k_contiki2240", "424342424242429e8042422801 e1*14 bfe10000100043425342ff49", "RST", "contiki-os 2240"),
    ("k_contiki2240b", "424342424242429e8042422801 e1*15 bfe10000100043425342ff49", "RST", "the same"),
    ("k_wakaama425", "4402e6e2e2e68167b2726411", "RST", "CVE-2019-9004"),
    (
        "k_ccoap4",
        "400133a5ff 784b6d33566431415853437a5665343234576c37"
        " 79346e6c416e65594c72516563565a6b754832665145545831",
        "2.05|4.04",
        "ccoap 4: payload and no option",
    ),
    (
        "k_libcoap970",
        "54014d32c98669bf410d756173796e6343623d3011e4711943558ec1d014",
        "ignore|RST|4.02|4.04",
        "libcoap 970: Block2 and Block1 together",
    ),
    ("k_libcoap970_con", "44014d32c98669bf410d756173796e6343623d3011e4711943558ec1d014", "4.02|4.04", "970"),
    ("k_libcoap_wrap", "40010032e0fef3b174", "RST|4.02", "libcoap 4.3.1 serves 65536+11 as Uri-Path"),
    ("k_wakaama_len", "4402e6e3e2e68167bdff", "RST", "CVE-2021-41040: lengths unchecked"),
)


def test_path_and_extension_when_hostile_then_allowed_outcome():
    """RFC 7252 section 5.7, 5.10: paths, proxying, options of other RFCs, published crashes."""
    run_server(PATHS)


SERVER_TABLES = (HEADERS, CODES, OPTIONS, CRITICAL, PATHS)


def each_datagram():
    """Every (name, datagram) of the tables that has a header."""
    for rows in SERVER_TABLES:
        for name, text, _, _ in rows:
            data = from_hex(text)
            if len(data) >= 4:
                yield name, data


def test_any_datagram_when_ack_or_reset_then_silence():
    """RFC 7252 section 4.2: nothing answers an Acknowledgement or a Reset."""
    engine, stored = make_server()
    wrong = []
    for name, data in each_datagram():
        for mtype in coap.ACK, coap.RST:
            changed = bytes((data[0] & 0xCF | mtype << 4,)) + data[1:]
            found = serve(engine, changed, PEER)
            if found != "ignore":
                wrong.append("%s as type %d: %s" % (name, mtype, found))
    check.eq(wrong, [], "outcomes")
    check.eq(stored, [], "stored")


def test_any_datagram_when_other_version_then_silence():
    """RFC 7252 section 3: messages with unknown version numbers are silently ignored."""
    engine, stored = make_server()
    wrong = []
    for name, data in each_datagram():
        for version in 0, 2, 3:
            found = serve(engine, bytes((data[0] & 0x3F | version << 6,)) + data[1:], PEER)
            if found != "ignore":
                wrong.append("%s as version %d: %s" % (name, version, found))
    check.eq(wrong, [], "outcomes")
    check.eq(stored, [], "stored")


def test_any_datagram_when_multicast_then_success_of_non_or_silence():
    """RFC 7252 section 8.1, 8.2: to a group no Reset, no error, and no answer to a Confirmable message."""
    wrong = []
    for name, data in each_datagram():
        for mtype in coap.CON, coap.NON:
            engine, _ = make_server()
            changed = bytes((data[0] & 0xCF | mtype << 4,)) + data[1:]
            found = serve(engine, changed, PEER, True)
            if found != "ignore" and (found[0] != "2" or mtype == coap.CON):
                wrong.append("%s as type %d: %s" % (name, mtype, found))
    check.eq(wrong, [], "outcomes")


def test_put_when_refused_then_not_stored():
    """RFC 7252 section 5.4.1: what is refused or malformed does not reach the resource."""
    wrong = []
    for rows in SERVER_TABLES:
        for name, text, _, _ in rows:
            engine, stored = make_server()
            data = from_hex(text)
            found = outcome(data, engine.receive(data, PEER, 0))
            if len(stored) != (1 if found == "2.04" else 0):
                wrong.append("%s: %s, stored %r" % (name, found, stored))
    check.eq(wrong, [], "stored")


# ---- sequences to a server ----


def test_request_when_duplicated_then_same_reply_and_one_execution():
    """RFC 7252 section 4.5: a duplicate of a CON gets the reply again, of a NON nothing; it runs once."""
    engine, stored = make_server()
    put = from_hex("42031234 abcd b174 ff61")
    first = bytes(engine.receive(put, PEER, 0))
    check.eq(first, from_hex("62441234 abcd"))
    for now_ms in 1, 1000, 246000:
        check.eq(engine.receive(put, PEER, now_ms), first, "duplicate at %d" % now_ms)
    check.eq(stored, [b"a"])
    engine.receive(put, ("192.0.2.1", 5684), 0)
    check.eq(len(stored), 2, "stored from another port")
    non = from_hex("52031235 abcd b174 ff62")
    check.eq(outcome(non, engine.receive(non, PEER, 0)), "2.04")
    check.eq(engine.receive(non, PEER, 1), None)
    check.eq(stored[2:], [b"b"])


def test_duplicate_when_token_differs_then_still_a_duplicate():
    """RFC 7252 section 4.5: endpoint and message ID tell duplicates, not the token."""
    engine, stored = make_server()
    first = bytes(engine.receive(from_hex("42031234 abcd b174 ff61"), PEER, 0))
    check.eq(engine.receive(from_hex("42031234 abce b174 ff62"), PEER, 1), first)
    check.eq(stored, [b"a"])


def test_duplicate_when_an_older_message_had_its_id_then_still_a_duplicate():
    """RFC 7252 section 4.5: an ID may come again after NON_LIFETIME; the new message is kept all the same."""
    engine, stored = make_server()
    engine.receive(from_hex("40010001 b174"), PEER, 0)
    engine.receive(from_hex("50011234 b174"), PEER, 10000)
    put = from_hex("40031234 b174 ff61")
    for now_ms in 200000, 202000:
        while engine.due(now_ms) is not None:
            pass
        check.eq(engine.receive(put, PEER, now_ms), from_hex("60441234"))
    check.eq(stored, [b"a"])


def test_con_when_malformed_then_reset_each_time():
    """RFC 7252 section 4.2: a Reset is no reply that is remembered; every copy gets it."""
    engine, stored = make_server()
    for now_ms in range(3):
        check.eq(engine.receive(from_hex("40031234 b174 ff"), PEER, now_ms), from_hex("70001234"))
        check.eq(engine.receive(from_hex("40001234"), PEER, now_ms), from_hex("70001234"))
    check.eq(engine.receive(from_hex("40031234 b174 ff61"), PEER, 9), from_hex("60441234"))
    check.eq(stored, [b"a"])


def test_refusal_when_duplicated_then_same_reply():
    """RFC 7252 section 4.5: errors are replies like any other."""
    for rest in "03 abcd 6162 b174 d10561", "03 abcd 6162 b178", "02 abcd 6162 b174", "01 abcd 6162 b174613c":
        text = "42" + rest
        engine, _ = make_server()
        first = bytes(engine.receive(from_hex(text), PEER, 0))
        assert first[0] == 0x62 and first[1] >= 0x80, text
        check.eq(engine.receive(from_hex(text), PEER, 1), first, text)


def test_handler_when_it_reads_text_that_is_none_then_4_02():
    """RFC 7252 section 5.4.1, 5.10.1: a query that is no UTF-8 is a bad option, not an exception."""
    engine = coap.Engine(source_of_bytes(1))

    def read(request, response):
        return ",".join(request.opt.uri_query + request.opt.uri_path)

    engine.resource("t").get(read)
    for text, expected in (
        ("40010001b17442ffc0", "4.02"),
        ("50010002b17442ffc0", "4.02"),
        ("40010003b1744161", "2.05"),
    ):
        check.eq(outcome(from_hex(text), engine.receive(from_hex(text), PEER, 0)), expected, text)


def test_handler_when_it_raises_then_5_00_and_it_is_logged():
    """RFC 7252 section 5.9.3.1: what a handler raises stays in the engine, and does not run it again."""
    engine = coap.Engine(source_of_bytes(1))
    runs = []
    logged = []

    def fail(request, response):
        runs.append(1)
        response.payload = "half"
        raise KeyError("secret")

    engine.resource("t")(fail)
    engine.log = lambda text, value: logged.append((text, value))
    put = from_hex("42031234 abcd b174")
    first = bytes(engine.receive(put, PEER, 0))
    check.eq(first, from_hex("62a01234 abcd"))
    check.eq(engine.receive(put, PEER, 1), first)
    check.eq(len(runs), 1, "runs")
    check.eq(len(logged), 1, "logged")
    check.eq(engine.receive(PING, PEER, 2), PONG)


def test_handler_when_it_answers_nonsense_then_5_00():
    """RFC 7252 section 5.9.3.1: what is no response is an internal error, and does not leave the engine."""
    wrong = []
    for name, result, code in (
        ("returns a float", 3.5, coap.CONTENT),
        ("returns a method", coap.GET, coap.CONTENT),
        ("returns a list", ["a"], coap.CONTENT),
        ("returns a code that is text", ("2.05", b""), coap.CONTENT),
        ("returns a number as payload", (coap.CONTENT, 7), coap.CONTENT),
        ("returns too many", (coap.CONTENT, b"", 1), coap.CONTENT),
        ("sets no code", None, None),
        ("sets a method", None, coap.GET),
    ):
        engine = coap.Engine(source_of_bytes(1))

        def answer(request, response, result=result, code=code):
            response.code = code
            return result

        engine.resource("t")(answer)
        found = serve(engine, from_hex("42031234 abcd b174"), PEER)
        if found != "5.00":
            wrong.append("%s: %s" % (name, found))
    check.eq(wrong, [], "outcomes")


def test_every_byte_when_changed_then_at_most_one_reply():
    """RFC 7252 section 4: every single-byte change of a PUT leaves a server that answers."""
    engine, _ = make_server()
    data = from_hex("42031234 abcd 3161 4216 33 41 74 1100 6100 ff 6162")
    wrong = []
    for at in range(len(data)):
        for value in range(256):
            changed = data[:at] + bytes((value,)) + data[at + 1 :]
            found = serve(engine, changed, (at, value))
            if not is_allowed(found, "any"):
                wrong.append("byte %d as %d: %s" % (at, value, found))
    check.eq(wrong, [], "outcomes")


def test_every_prefix_when_sent_then_reset_or_refusal():
    """RFC 7252 section 3: a datagram cut anywhere is served as what it then is, or reset."""
    engine, stored = make_server()
    data = from_hex("42031234 abcd 3161 8174 1100 dd230c 61*25 ff 6162")
    for length in range(len(data)):
        found = serve(engine, data[:length], ("192.0.2.1", length))
        assert found in ("ignore" if length < 4 else "RST", "4.04", "2.04"), "%d bytes: %s" % (length, found)


# ---- a client that waits ----
# A row is (name, type of the request, step, outcome, step, outcome, ...). A step is a sender and a datagram.
# S is the server asked, A another address, P another port of the server; m is the request's message ID, n the
# next one, t its token, t- the token without its last byte, t+ with one more, t^ with its last bit changed.
# Afterwards the genuine response must be accepted, unless the exchange has ended.

SENDERS = {"S": ("192.0.2.1", 5683), "A": ("192.0.2.2", 5683), "P": ("192.0.2.1", 5684)}

CLIENT = (
    ("ack_response", "CON", "S 6845 m t ff61", "accepted"),
    ("ack_response_other_address", "CON", "A 6845 m t ff61", "ignored"),
    ("ack_response_other_port", "CON", "P 6845 m t ff61", "ignored"),
    ("ack_response_wrong_mid", "CON", "S 6845 n t ff61", "ignored"),
    ("ack_response_wrong_token", "CON", "S 6845 m t^ ff61", "ignored"),
    ("ack_response_token_prefix", "CON", "S 6745 m t- ff61", "ignored"),
    ("ack_response_token_empty", "CON", "S 6045 m ff61", "ignored"),
    ("ack_response_token_longer", "CON", "S 6945 m t+ ff61", "ignored"),
    ("ack_response_twice", "CON", "S 6845 m t ff61", "accepted", "S 6845 m t ff61", "ignored"),
    ("ack_response_class_3", "CON", "S 6865 m t", "accepted"),
    ("ack_response_2_31_unknown", "CON", "S 685e m t", "accepted"),
    ("ack_response_error", "CON", "S 68bf m t", "accepted"),
    ("ack_class_1", "CON", "S 6821 m t ff61", "ignored"),
    ("ack_class_6", "CON", "S 68c5 m t ff61", "ignored"),
    ("ack_class_7", "CON", "S 68e5 m t ff61", "ignored"),
    ("ack_request_code", "CON", "S 6801 m t ff61", "ignored"),
    ("ack_request_code_31", "CON", "S 681f m t", "ignored"),
    ("ack_malformed_marker", "CON", "S 6845 m t ff", "ignored"),
    ("ack_malformed_option", "CON", "S 6845 m t c2", "ignored"),
    ("ack_malformed_delta15", "CON", "S 6845 m t f061", "ignored"),
    ("ack_malformed_version", "CON", "S a845 m t ff61", "ignored"),
    ("ack_malformed_short", "CON", "S 6845 m t-", "ignored"),
    ("ack_critical_unknown", "CON", "S 6845 m t d10c61 ff61", "Rejected"),
    ("ack_critical_large", "CON", "S 6845 m t e1fcd261", "ignored|Rejected"),
    ("ack_critical_oscore", "CON", "S 6845 m t 90 ff61", "Rejected"),
    ("ack_elective_unknown", "CON", "S 6845 m t d10d61 ff61", "accepted"),
    ("ack_elective_bad_length", "CON", "S 6845 m t 49 61*9 ff61", "accepted"),
    ("ack_elective_twice", "CON", "S 6845 m t c000 ff61", "accepted"),
    ("ack_critical_bad_length", "CON", "S 6845 m t d4 0a 00*4 ff61", "Rejected"),
    ("empty_ack", "CON", "S 6000 m", "waiting"),
    ("empty_ack_twice", "CON", "S 6000 m", "waiting", "S 6000 m", "ignored"),
    ("empty_ack_other_address", "CON", "A 6000 m", "ignored"),
    ("empty_ack_other_port", "CON", "P 6000 m", "ignored"),
    ("empty_ack_wrong_mid", "CON", "S 6000 n", "ignored"),
    ("empty_ack_token", "CON", "S 6800 m t", "ignored"),
    ("empty_ack_bytes", "CON", "S 6000 m ff61", "ignored"),
    ("empty_ack_then_reset", "CON", "S 6000 m", "waiting", "A 7000 m", "ignored"),
    ("reset", "CON", "S 7000 m", "Reset"),
    ("reset_other_address", "CON", "A 7000 m", "ignored"),
    ("reset_other_port", "CON", "P 7000 m", "ignored"),
    ("reset_wrong_mid", "CON", "S 7000 n", "ignored"),
    ("reset_code", "CON", "S 7045 m ff61", "ignored"),
    ("reset_code_token", "CON", "S 7845 m t ff61", "ignored"),
    ("reset_request_code", "CON", "S 7001 m", "ignored"),
    ("reset_bytes", "CON", "S 7000 m 61", "ignored"),
    ("reset_then_response", "CON", "S 7000 m", "Reset", "S 4845 a001 t ff61", "RST"),
    ("empty_con", "CON", "S 4000 m", "RST"),
    ("empty_non", "CON", "S 5000 m", "ignored"),
    ("separate", "CON", "S 6000 m", "waiting", "S 4845 a001 t ff61", "accepted+ACK"),
    ("separate_same_mid", "CON", "S 6000 m", "waiting", "S 4845 m t ff61", "accepted+ACK"),
    ("separate_other_address", "CON", "S 6000 m", "waiting", "A 4845 a001 t ff61", "RST"),
    ("separate_other_port", "CON", "S 6000 m", "waiting", "P 4845 a001 t ff61", "RST"),
    ("separate_wrong_token", "CON", "S 6000 m", "waiting", "S 4845 a001 t^ ff61", "RST"),
    ("separate_token_prefix", "CON", "S 6000 m", "waiting", "S 4745 a001 t- ff61", "RST"),
    ("separate_token_empty", "CON", "S 6000 m", "waiting", "S 4045 a001 ff61", "RST"),
    ("separate_token_longer", "CON", "S 6000 m", "waiting", "S 4945 a001 t+ ff61", "RST"),
    ("separate_malformed", "CON", "S 6000 m", "waiting", "S 4845 a001 t ff", "RST"),
    ("separate_class_7", "CON", "S 6000 m", "waiting", "S 48e5 a001 t", "RST"),
    ("separate_critical", "CON", "S 6000 m", "waiting", "S 4845 a001 t d10c61", "Rejected+RST"),
    ("separate_non", "CON", "S 6000 m", "waiting", "S 5845 a001 t ff61", "accepted"),
    ("separate_non_wrong_token", "CON", "S 6000 m", "waiting", "S 5845 a001 t^ ff61", "ignored"),
    (
        "separate_duplicate",
        "CON",
        "S 6000 m",
        "waiting",
        "S 4845 a001 t ff61",
        "accepted+ACK",
        "S 4845 a001 t ff61",
        "ACK",
        "S 4845 a001 t ff61",
        "ACK",
        "S 4845 a002 t ff61",
        "RST",
        "A 4845 a001 t ff61",
        "RST",
    ),
    ("con_before_ack", "CON", "S 4845 a001 t ff61", "accepted+ACK"),
    ("con_before_ack_then_ack", "CON", "S 4845 a001 t ff61", "accepted+ACK", "S 6000 m", "ignored"),
    ("con_before_ack_malformed", "CON", "S 4845 a001 t c2", "RST"),
    ("con_before_ack_critical", "CON", "S 4845 a001 t d10c61", "Rejected+RST"),
    ("con_before_ack_wrong_token", "CON", "S 4845 a001 t^ ff61", "RST"),
    ("con_before_ack_other_address", "CON", "A 4845 a001 t ff61", "RST"),
    ("con_request", "CON", "S 4801 a001 t b178", "4.04"),
    ("non_to_con", "CON", "S 5845 a001 t ff61", "accepted"),
    ("non_other_address", "CON", "A 5845 a001 t ff61", "ignored"),
    ("non_other_port", "CON", "P 5845 a001 t ff61", "ignored"),
    ("non_wrong_token", "CON", "S 5845 m t^ ff61", "ignored"),
    ("non_token_empty", "CON", "S 5045 m ff61", "ignored"),
    ("non_malformed", "CON", "S 5845 a001 t ff", "ignored"),
    ("non_class_6", "CON", "S 58c5 a001 t", "ignored"),
    ("non_critical", "CON", "S 5845 a001 t d10c61", "ignored|Rejected"),
    ("late_con", "CON", "S 6845 m t ff61", "accepted", "S 4845 a001 t ff62", "RST"),
    ("late_non", "CON", "S 6845 m t ff61", "accepted", "S 5845 a001 t ff62", "ignored"),
    ("late_reset", "CON", "S 6845 m t ff61", "accepted", "S 7000 m", "ignored"),
    ("cancelled_con", "CON", "cancel", "", "S 4845 a001 t ff61", "RST"),
    ("cancelled_ack", "CON", "cancel", "", "S 6845 m t ff61", "ignored"),
    ("cancelled_empty_ack", "CON", "cancel", "", "S 6000 m", "ignored"),
    ("cancelled_non", "CON", "cancel", "", "S 5845 a001 t ff61", "ignored"),
    ("cancelled_reset", "CON", "cancel", "", "S 7000 m", "ignored"),
    ("non_request_non", "NON", "S 5845 a001 t ff61", "accepted"),
    ("non_request_non_same_mid", "NON", "S 5845 m t ff61", "accepted"),
    ("non_request_con", "NON", "S 4845 a001 t ff61", "accepted+ACK"),
    ("non_request_con_twice", "NON", "S 4845 a001 t ff61", "accepted+ACK", "S 4845 a001 t ff61", "ACK"),
    ("non_request_ack_response", "NON", "S 6845 m t ff61", "ignored"),
    ("non_request_empty_ack", "NON", "S 6000 m", "ignored"),
    ("non_request_reset", "NON", "S 7000 m", "Reset"),
    ("non_request_reset_wrong_mid", "NON", "S 7000 n", "ignored"),
    ("non_request_reset_other_address", "NON", "A 7000 m", "ignored"),
    ("non_request_other_address", "NON", "A 5845 a001 t ff61", "ignored"),
    ("non_request_other_port_con", "NON", "P 4845 a001 t ff61", "RST"),
    ("non_request_wrong_token", "NON", "S 5845 a001 t^ ff61", "ignored"),
    ("non_request_malformed", "NON", "S 5845 a001 t ff", "ignored"),
    ("non_request_non_twice", "NON", "S 5845 a001 t ff61", "accepted", "S 5845 a001 t ff61", "ignored"),
)


def ask(mtype, peer=SENDERS["S"], seed=7):
    """An engine that serves /t and has sent a GET of `mtype` to `peer`; and the request's record."""
    engine = coap.Engine(source_of_bytes(seed))
    engine.resource("t", ct=coap.TEXT)
    record = engine.send(coap.Message(coap.GET, mtype=mtype, uri_path=("x",)), peer)
    datagram = engine.due(0)
    check.eq(bytes(datagram[4 : 4 + len(record.token)]), bytes(record.token))
    check.eq(engine.peer, peer)
    check.eq(engine.due(0), None)
    return engine, record


def fill(text, record):
    """The datagram of a step, see above."""
    token = bytes(record.token)
    out = b""
    for piece in text.split():
        if piece == "m" or piece == "n":
            mid = record.mid + (piece == "n") & 0xFFFF
            out += bytes((mid >> 8, mid & 255))
        elif piece == "t":
            out += token
        elif piece == "t-":
            out += token[:-1]
        elif piece == "t+":
            out += token + b"\0"
        elif piece == "t^":
            out += token[:-1] + bytes((token[-1] ^ 1,))
        else:
            out += from_hex(piece)
    return out


def take(engine, record, data, peer):
    """Give `data` to the waiting client; returns what came of it."""
    was_done = record.is_done()
    was_acknowledged = record.response_type == coap.ACK
    timer = record.next_event_ms, record.transmissions_left
    reply = engine.receive(data, peer, 100)
    reply = b"" if reply is None else bytes(reply)
    is_delivered = engine.received is not None
    if is_delivered and (engine.received.pertains_to is not record or engine.received is not record.response):
        return "delivered, but not as the response"
    if engine.due(100) is not None:
        return "a second datagram"
    if reply == b"\x60\0" + data[2:4]:
        found = "ACK"
    elif reply == b"\x70\0" + data[2:4]:
        found = "RST"
    else:
        found = outcome(data, reply) if reply else ""
    if was_done or not record.is_done():
        if is_delivered:
            return "delivered without an end"
        if not was_done and not was_acknowledged and record.response_type == coap.ACK:
            is_quiet = record.transmissions_left == 0 and not found
            return "waiting" if is_quiet else "acknowledged, but sends on"
        if timer != (record.next_event_ms, record.transmissions_left):
            return "the timer was touched"
        return found or "ignored"
    if record.error is None:
        state = "accepted" if is_delivered else "ended"
        if is_delivered and record.response.message.request is not record.message:
            return "response without its request"
    else:
        state = record.error.__name__
        if (state == "Reset") != is_delivered:
            return state + " and delivered" if is_delivered else state + " and not delivered"
    return state + "+" + found if found else state


def genuine(record):
    """The response that a correct server sends now."""
    if record.message.mtype == coap.NON:
        return fill("5845 a0ff t ff 6f6b", record), "accepted"
    if record.response_type == coap.ACK:
        return fill("4845 a0ff t ff 6f6b", record), "accepted+ACK"
    return fill("6845 m t ff 6f6b", record), "accepted"


def run_client_row(row):
    """What is wrong with one row of CLIENT, or None."""
    engine, record = ask(coap.NON if row[1] == "NON" else coap.CON)
    for at in range(2, len(row), 2):
        sender, _, text = row[at].partition(" ")
        if sender == "cancel":
            record.cancel()
            continue
        found = take(engine, record, fill(text, record), SENDERS[sender])
        if found not in row[at + 1].split("|"):
            return "%s, step %d: %s, not %s" % (row[0], at // 2, found, row[at + 1])
    if not record.is_done():
        data, expected = genuine(record)
        found = take(engine, record, data, record.remote)
        if found != expected or record.response.message.payload != b"ok":
            return "%s, genuine response: %s, not %s" % (row[0], found, expected)
    if engine.receive(PING, PEER, 200) != PONG:
        return "%s: ping unanswered" % row[0]
    return None


def test_client_when_forged_or_late_or_malformed_then_allowed_outcome():
    """RFC 7252 section 4.2, 4.3, 5.3.2: only a message of the right peer, token and message ID counts."""
    wrong = []
    for row in CLIENT:
        try:
            found = run_client_row(row)
        except Exception as error:
            found = "%s: raised %r" % (row[0], error)
        if found:
            wrong.append(found)
    check.eq(wrong, [], "outcomes")


def test_client_when_link_local_of_another_interface_then_ignored():
    """RFC 7252 section 5.3.2: fe80::1 on interface 1 is not fe80::1 on interface 2."""
    engine, record = ask(coap.CON, ("fe80::1", 5683, 0, 1))
    data = genuine(record)[0]
    check.eq(take(engine, record, data, ("fe80::1", 5683, 0, 2)), "ignored")
    check.eq(take(engine, record, data, ("fe80::1", 5683, 0, 1)), "accepted")


def test_client_when_token_is_cut_or_extended_then_ignored():
    """RFC 7252 section 5.3.1: all bytes of the token count, and its length, whatever follows it."""
    engine = coap.Engine(source_of_bytes(7))
    record = engine.send(coap.Message(coap.GET, token=b"ab"), PEER)
    engine.due(0)
    for text in (
        "6345 m 616263 ff61",
        "6145 m 61 620000 ff61",  # the option header behind it is the byte cut off
        "6445 m 61620000 ff61",
        "6145 m 62 ff61",
        "6245 m 6261 ff61",
        "6045 m 6100 ff61",
    ):
        check.eq(take(engine, record, fill(text, record), PEER), "ignored", text)
    check.eq(take(engine, record, fill("6245 m t ff 6f6b", record), PEER), "accepted")


def test_client_when_peer_is_sockaddr_bytes_then_address_and_port_count():
    """RFC 7252 section 5.3.2: the addresses of MicroPython's unix port are bytes."""
    peer = from_hex("0200 1633 c0000201 00*8")
    engine, record = ask(coap.CON, peer)
    data = genuine(record)[0]
    check.eq(take(engine, record, data, from_hex("0200 1634 c0000201 00*8")), "ignored")
    check.eq(take(engine, record, data, from_hex("0200 1633 c0000202 00*8")), "ignored")
    check.eq(take(engine, record, data, peer), "accepted")


def test_client_when_two_requests_are_open_then_each_gets_its_own_response():
    """RFC 7252 section 5.3.2: the token of one peer's request is worth nothing from another peer."""
    engine, first = ask(coap.CON)
    second = engine.send(coap.Message(coap.GET), SENDERS["A"])
    engine.due(0)
    for_first = genuine(first)[0]
    for_second = genuine(second)[0]
    assert first.token != second.token and first.mid != second.mid
    check.eq(take(engine, second, for_first, SENDERS["A"]), "ignored")
    check.eq(take(engine, first, for_second, SENDERS["S"]), "ignored")
    check.eq(take(engine, second, for_second, SENDERS["A"]), "accepted")
    check.eq(first.is_done(), False)
    check.eq(take(engine, first, for_first, SENDERS["S"]), "accepted")


def test_client_when_token_of_one_with_id_of_other_then_ignored():
    """RFC 7252 section 5.3.2: a piggybacked response matches by message ID and token together."""
    engine = coap.Engine(source_of_bytes(7), tuning=coap.Tuning(nstart=2))
    first = engine.send(coap.Message(coap.GET), PEER)
    second = engine.send(coap.Message(coap.GET), PEER)
    engine.due(0)
    engine.due(0)
    data = fill("6845", first) + genuine(second)[0][2:4] + bytes(first.token)
    check.eq(engine.receive(data, PEER, 1), None)
    check.eq((first.is_done(), second.is_done(), engine.received), (False, False, None))
    for record in first, second:
        check.eq(take(engine, record, genuine(record)[0], PEER), "accepted")


def test_client_when_forged_answers_come_then_same_bytes_are_sent_again_in_time():
    """RFC 7252 section 4.2: what does not match leaves the retransmission as it was."""
    engine, record = ask(coap.CON)
    first = bytes(record.packed)
    due_ms = record.next_event_ms
    for text in "6845 m t^ ff61", "6045 m", "6000 n", "7000 n", "6845 n t", "6801 m t", "7045 m":
        check.eq(engine.receive(fill(text, record), PEER, 50), None, text)
    check.eq(engine.due(due_ms - 1), None)
    check.eq(bytes(engine.due(due_ms)), first)
    check.eq(take(engine, record, genuine(record)[0], PEER), "accepted")


def test_client_when_hostile_server_datagrams_come_then_the_exchange_goes_on():
    """RFC 7252 section 4.2: none of the server's hostile datagrams ends a request that is open."""
    engine, record = ask(coap.CON)
    wrong = []
    for name, data in each_datagram():
        if data[2:4] != bytes((record.mid >> 8, record.mid & 255)):
            engine.receive(data, PEER, 100)
            if record.is_done() or engine.received is not None:
                wrong.append(name)
    check.eq(wrong, [], "rows that ended the request")
    check.eq(take(engine, record, genuine(record)[0], PEER), "accepted")


def test_ping_when_answered_then_only_by_the_reset_of_its_peer():
    """RFC 7252 section 4.3: a ping of ours ends with the Reset of the peer it went to."""
    engine = coap.Engine(source_of_bytes(3))
    record = engine.send(coap.Message(0), PEER)
    check.eq(bytes(engine.due(0)), fill("4000 m", record))
    for sender, text in ("A", "7000 m"), ("S", "7000 n"), ("S", "6045 m"), ("S", "6845 m 00*8"):
        check.eq(engine.receive(fill(text, record), SENDERS[sender], 1), None, text)
        check.eq(record.is_done(), False, text)
    check.eq(engine.receive(fill("7000 m", record), PEER, 2), None)
    check.eq(record.error, coap.Reset)
