"""tests/reference_api.py is complete, names tests that exist, and names what lib/coap.py has."""


import pytest

import coap
import fake
from reference_api import ROWS
from test_portable import expected_tests

# The members of both APIs, as their documentation and sources have them
MEMBERS = {
    "aiocoap": {
        "": "Message NoResponse UndecidedRemote",
        "Message": """version mtype code mid token payload opt remote direction transport_tuning request
            unresolved_remote requested_scheme requested_proxy_uri requested_hostinfo requested_path requested_query
            copy decode encode get_cache_key get_request_uri get_request_uri(local_is_server) set_request_uri
            set_request_uri(set_uri_host) payload_html __repr__""",
        "Options": """block1 block2 content_format etag observe accept uri_host uri_port proxy_uri proxy_scheme size1
            size2 oscore max_age no_response echo hop_limit uri_path_abbrev request_hash uri_path uri_query
            location_path location_query etags if_match request_tag if_none_match edhoc
            add_option delete_option get_option option_list encode decode __eq__ __delattr__""",
        "BlockwiseTuple": "number more szx size start size_exponent",
        "EndpointAddress": """hostinfo hostinfo_local uri uri_base scheme is_multicast is_multicast_locally
            maximum_block_size_exp maximum_payload_size as_response_address authenticated_claims blockwise_key""",
        "TransportTuning": """ACK_TIMEOUT ACK_RANDOM_FACTOR MAX_RETRANSMIT NSTART DEFAULT_LEISURE MAX_LATENCY
            MAX_TRANSMIT_SPAN MAX_TRANSMIT_WAIT MAX_RTT EXCHANGE_LIFETIME EMPTY_ACK_DELAY DEFAULT_BLOCK_SIZE_EXP
            OBSERVATION_RESET_TIME reliability""",
    },
    "CoAPy": {
        "": "EndPoint Message TransmissionRecord ReceptionRecord is_multicast",
        "EndPoint": """process send register_socket register socket bind address bindDiscovery MAX_TX_HISTORY_SEC
            _markAsUnacknowledged _removeTransmission""",
        "Message": """OptionKeywords CON NON ACK RST version transaction_type code payload options addOption
            replaceOption deleteOption findOption decode""",
        "Message.decode ->": "xid",
        "TransmissionRecord": """end_point message remote packed transaction_id transmission_time last_event_time
            next_event_time transmissions_left response_type response responses is_unacknowledged""",
        "ReceptionRecord": """end_point packed message remote transaction_id pertains_to has_responded ack reset""",
    },
}

ENGINE = fake.engine()
SAMPLES = {
    "Message": coap.Message(),
    "Options": coap.Message().opt,
    "Tuning": coap.Tuning(),
    "Engine": ENGINE,
    "Endpoint": coap.Endpoint(sock=fake.Transport()),
    "TransmissionRecord": ENGINE.send(coap.Message(coap.GET), fake.PEER),
    "ReceptionRecord": coap.ReceptionRecord(ENGINE, coap.Message(), None),
}


def listed_members():
    """(API, member) of everything in MEMBERS."""
    members = set()
    for api, classes in MEMBERS.items():
        for name, words in classes.items():
            separator = " " if name.endswith("->") else "." if name else ""
            members.update((api, name + separator + word) for word in words.split())
    return members


def missing_members(rows):
    """Members that no row is about."""
    return sorted(listed_members() - {row[:2] for row in rows})


def wrong_rows(rows):
    """Rows about what is no member, and rows that are there twice."""
    members = [row[:2] for row in rows]
    return sorted({member for member in members if member not in listed_members() or members.count(member) > 1})


def unproved(rows):
    """Rows whose test does not exist."""
    names = expected_tests()
    return [row for row in rows if row[4] not in names]


def is_ours(path):
    """Whether coap has `path`: a name, or a class and an attribute of it or of its instances."""
    name, _, attribute = path.partition(".")
    if not attribute:
        return hasattr(coap, name)
    return hasattr(coap, name) and (hasattr(getattr(coap, name), attribute) or hasattr(SAMPLES.get(name), attribute))


def unfounded(rows):
    """Rows that name what coap has not."""
    return [row for row in rows if not is_ours(row[2])]


def plain(path):
    """The last name of a path, without underscores and capitals."""
    return path.rpartition(".")[2].replace("_", "").lower()


def unexplained(rows):
    """Rows without a reason whose member has another name in ours."""
    return [row for row in rows if not row[3] and plain(row[1]) != plain(row[2])]


def test_every_member_has_a_row():
    assert missing_members(ROWS) == []


def test_every_row_is_about_one_member():
    assert wrong_rows(ROWS) == []


def test_every_row_names_a_test_that_exists():
    assert unproved(ROWS) == []


def test_every_row_names_what_the_library_has():
    assert unfounded(ROWS) == []


def test_every_other_name_has_a_reason():
    assert unexplained(ROWS) == []


@pytest.mark.parametrize("check, rows", [
    (missing_members, ROWS[1:]),
    (wrong_rows, (*ROWS, ("aiocoap", "Message.nothing", "Message", "", ""))),
    (wrong_rows, (*ROWS, ROWS[0])),
    (unproved, [(*ROWS[0][:4], "test_reference_api.test_nothing")]),
    (unproved, [(*ROWS[0][:4], "test_nothing.test_version_when_read_then_1")]),
    (unfounded, [("aiocoap", "Message.copy", "Message.copies", "", "")]),
    (unfounded, [("aiocoap", "Message.copy", "Nothing", "", "")]),
    (unfounded, [("aiocoap", "Message.copy", "Message.copy.deep", "", "")]),
    (unexplained, [("aiocoap", "Message.copy", "Message.encode", "", "")]),
])  # fmt: skip
def test_the_checks_see_a_wrong_table(check, rows):
    assert check(rows)
