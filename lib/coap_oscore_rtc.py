"""A store of coap_oscore in the memory of a board's real-time clock, which deep sleep leaves as it is.

    import machine
    import coap_oscore, coap_oscore_rtc

    store = coap_oscore_rtc.RtcStore(machine.RTC())
    coap_oscore.attach(endpoint, "oscore.json", store)

A power cut clears that memory: the endpoint then finds no number and needs new keys. Whoever cannot rule that out
takes coap_oscore.FileStore.
"""

from coap_oscore import Store


class RtcStore(Store):
    """A Store in 32 bytes from `at` on of the memory of `machine.RTC()`, which a power cut clears."""

    def __init__(self, rtc, at=0):
        self.rtc = rtc
        self.at = at

    def read(self, k):
        """Record `k`."""
        at = self.at + 16 * k
        return self.rtc.memory()[at : at + 16]

    def write(self, k, record):
        """Write record `k`."""
        at = self.at + 16 * k
        memory = bytearray(self.rtc.memory())
        memory += bytes(max(0, at + 16 - len(memory)))
        memory[at : at + 16] = record
        self.rtc.memory(memory)
