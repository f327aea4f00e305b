"""The `coap` command: see tools/coap. The stack itself is lib/coap.py; what is here asks, shows and tells."""
