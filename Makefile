# The front door. Each target sets up what it needs first; what is there already is left alone.

export SIDETONE_HOME := $(CURDIR)/.sidetone
SIDETONE := target/release/sidetone
# Engines that answer from a script are compiled in for tests only.
TESTED := --features fake
# The build whose MIDI goes through ALSA.
ALSA := --no-default-features --features whisper,sherpa,otlp,midi-alsa

# In CI a test that lacks one of its peers fails; elsewhere it says that it was skipped.
ifeq ($(CI),true)
export SIDETONE_REQUIRE_ALL := 1
endif

.PHONY: help setup build demo demo-fabric demo-rig run test lint fuzz bench contract clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Install packages (by sudo, after saying which) and fetch libraries
	@deploy/setup.sh packages python

build: setup ## Build the release binary and fetch the models
	cargo build --release
	$(SIDETONE) models fetch --all

demo: build ## Ask three things through JACK, hear the answers, see where the time went
	deploy/demo.sh

demo-fabric: build ## Kill hosts in the middle of their answers, and see others finish them
	deploy/demo-fabric.sh

demo-rig: build ## Set a host off by OSC and a pedal, and see notes, lights and a stop come out
	@deploy/setup.sh rig
	deploy/demo-rig.sh

run: build ## Run a host on your JACK server and microphone; ARGS='…' are passed on
	$(SIDETONE) run $(ARGS)

test: setup lint ## Run every check and test, with real peers
	@deploy/setup.sh peers rig tools nextest asyncapi
	cargo run --quiet $(TESTED) -- models fetch --all
	deploy/test.sh $(TESTED)
	deploy/check-asyncapi.sh subjects/asyncapi.yaml

fuzz: setup ## Feed noise to what reads OSC, MIDI and the bus, for a minute
	@deploy/setup.sh fuzz
	deploy/fuzz.sh

lint: setup ## Check formatting and lints
	cargo fmt --check
	cargo clippy --all-targets $(TESTED) -- -D warnings
	@if pkg-config --exists alsa; then set -x; cargo clippy $(ALSA) -- -D warnings; \
	else echo "MIDI by ALSA is not checked: apt install libasound2-dev"; fi

# The audio path runs under an allocator that aborts inside a callback; the last build leaves the ordinary program behind.
bench: build ## Compare with the bare parts; prints ratios
	cargo bench --features rt-check -- audio
	cargo bench -- bus fabric speech chat host rig

contract: setup ## Write subjects/, deploy/nats/ and deploy/systemd/ anew from the Rust types
	cargo run --quiet -- contract subjects
	for of in one cluster; do cargo run --quiet -- deploy nats --hosts deploy/nats/$$of/hosts.toml --out deploy/nats/$$of || exit; done
	cargo run --quiet -- deploy systemd --out deploy/systemd

clean: ## Remove what was built, fetched and recorded, but no packages
	cargo clean
	rm -rf .sidetone
