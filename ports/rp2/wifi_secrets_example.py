"""The WiFi of the board: copy this file to wifi_secrets.py, which git ignores, and fill that in."""

SSID = ""  # the name of a 2.4 GHz network
PASSWORD = ""  # "" for an open network
COUNTRY = ""  # yours, as in "DE": without it, channels 12 and 13 are not used
