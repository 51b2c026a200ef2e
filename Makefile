# fence_virtd: build, test, demonstrate. `make demo` and `make check` install
# what they need with apt where apt is there.

CARGO ?= cargo
# Where the targets below look for what was built.
export CARGO_TARGET_DIR := $(CURDIR)/target
# Time after which `make test` ends a test that hangs, in seconds; the build is included.
TEST_LIMIT ?= 2400
FUZZ_SECONDS ?= 60
FUZZ_TARGETS = packet session config answer answer_2 line stdin scanner xml group history holds agent

.PHONY: all build release agents demo check check-cluster check-debian13 check-peers check-power check-protocol check-wire forget-skips lint test compliance check-agents check-msrv \
	e2e deny fuzz bench bench-cluster bench-power build-deps test-peers e2e-peers tools clean

all: build

# install, uninstall, dist, deb, rpm, check-packages: docs/PACKAGING.md.
include dist/packaging.mk

build:
	$(CARGO) build --locked
	ln -sf fence_virt "$(CARGO_TARGET_DIR)/debug/fence_xvm"

# The daemon, and the agents as `make agents` builds them.
release:
	$(CARGO) build --locked --release --bin fence_virtd
	CARGO="$(CARGO)" dist/build-agents
	ln -sf fence_virt "$(CARGO_TARGET_DIR)/release/fence_xvm"

# The agents alone and small, for guests: needs neither libvirt nor its headers.
agents:
	@dist/need cc:gcc
	CARGO="$(CARGO)" dist/build-agents
	ln -sf fence_virt "$(CARGO_TARGET_DIR)/release/fence_xvm"

# libvirt's headers and pkg-config: all that building needs beside cargo.
build-deps:
	@dist/need pkg-config:pkg-config cc:gcc /usr/include/stdio.h:libc6-dev /usr/include/libvirt/libvirt.h:libvirt-dev

# The C suite to test against, and what its tests run on.
test-peers: build-deps
	@dist/need /usr/sbin/fence_virtd:fence-virtd /usr/sbin/fence_xvm:fence-virt ip:iproute2 \
		/usr/sbin/libvirtd:libvirt-daemon-system virsh:libvirt-clients fence_dummy:fence-agents \
		xmllint:libxml2-utils readelf:binutils mandoc:mandoc zsh:zsh
	@dist/fetch-schema target/peers

demo: build-deps build
	dist/demo

# Everything that this machine can run. What it cannot is named at the end; with
# FENCE_SKIP=fail it fails.
check: export FENCE_SKIPPED = $(CURDIR)/target/skipped
check: forget-skips test-peers lint test compliance check-agents check-msrv e2e deny fuzz
	@[ ! -s "$(FENCE_SKIPPED)" ] || { echo '*** NOT EVERYTHING WAS RUN:'; cat "$(FENCE_SKIPPED)"; }

forget-skips:
	@mkdir -p target && rm -f target/skipped

lint: build-deps
	@! grep -rnE '^(<{7}|={7}|>{7})( |$$)' *.md Makefile .ci src tests docs dist benches examples fuzz/fuzz_targets
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --lib --bins -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features daemon --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib --document-private-items
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --bin fence_virtd --document-private-items

test: test-peers
	timeout $(TEST_LIMIT) $(CARGO) test --locked

# The same compliance tests with the C daemon, with the C agents, and with both:
# what they expect is what those do. (`make test` has ours with ours.)
compliance: test-peers
	FENCE_UNDER_TEST=ours FENCE_AGENT=theirs $(CARGO) test --locked --test compliance
	FENCE_UNDER_TEST=theirs FENCE_AGENT=ours $(CARGO) test --locked --test compliance
	FENCE_UNDER_TEST=theirs FENCE_AGENT=theirs $(CARGO) test --locked --test compliance

# What the agents link, and their size.
check-agents: build-deps
	CARGO=$(CARGO) dist/check-agents

# The minimum Rust version, in a Debian 13 chroot below target/msrv; 32-bit and big-endian targets.
check-msrv:
	@code=0; CARGO=$(CARGO) dist/check-msrv || code=$$?; \
		[ $$code = 0 ] || { [ $$code = 77 ] && [ "$$FENCE_SKIP" != fail ]; }

# A host that loses its bridge, an address and libvirtd; real pacemaker and corosync, with one host and with two; hosts
# that pacemaker fences; fence agents of other projects; QEMU guests that ask over their serial lines, vmchannels and vsock, that hang, that migrate, and
# that fence each other; three hosts with corosync. `make check-peers` does the same with the C daemon, where it can. Skips are for
# machines that cannot.
E2E_TESTS = host-changes pacemaker:own-keys pacemaker:cpg host-fencing:brief agent cluster guests hung migration race serial:ours vsock:ours vsock-tap
e2e: export KINDS = ooo

e2e: test-peers e2e-peers build
	$(CARGO) build --locked --example group-member --example vm-line
	@for test in $(E2E_TESTS); do \
		name=$${test%:*}; code=0; unset DAEMON BACKEND BRIEF KEYS; \
		case $$test in \
		*:cpg) export BACKEND=cpg ;; \
		*:own-keys) export KEYS=own ;; \
		*:brief) export BRIEF=1 ;; \
		*:ours) export DAEMON=target/debug/fence_virtd ;; \
		*:theirs) export DAEMON=/usr/sbin/fence_virtd ;; \
		esac; \
		echo "tests/e2e/$$name.sh $$DAEMON $$BACKEND $$KEYS"; \
		tests/e2e/$$name.sh || code=$$?; \
		[ $$code = 0 ] || { [ $$code = 77 ] && [ "$$FENCE_SKIP" != fail ]; } || exit 1; \
	done

# Guests that ask the C daemon: what the scripts expect is what it does.
check-peers:
	$(MAKE) e2e E2E_TESTS="serial:theirs vsock:theirs"

# Simulations take half the time with opt-level 3.
FAST = CARGO_PROFILE_RELEASE_OPT_LEVEL=3 $(CARGO) test --locked --release

# Hosts with corosync, all ours, all C, and mixed (C daemons hang now and then: the script says where it tried again),
# with longer freezes of libvirtd and more cuts; hosts that pacemaker fences, more random steps, and longer schedules.
check-cluster: test-peers e2e-peers build
	$(CARGO) build --locked --example group-member --example vm-line
	@for kinds in ooo ccc oco coc ooocc oooooooo; do \
		echo "tests/e2e/cluster.sh $$kinds"; \
		NODES=$${#kinds} KINDS=$$kinds BURST=1500 HEALS=5 RESTARTS=60 FREEZES="5+ 20+ 31+" CUTS=12 tests/e2e/cluster.sh || exit 1; \
	done
	tests/e2e/host-fencing.sh
	WATCHDOG=1 tests/e2e/host-fencing.sh
	FENCE_SEED=new FENCE_STEPS=180000000 $(FAST) --test cluster -- --nocapture
	FENCE_DEEPER=1 $(FAST) --test exhaustive -- --nocapture
	FENCE_DEEPER=2 $(FAST) --test exhaustive -- faults --nocapture

# The same with what Debian 13 has, in a chroot of it: pacemaker 3 on the hosts, libvirt 11, the C suite 4.16.
check-debian13: e2e-peers build
	$(CARGO) build --locked --example group-member --example vm-line
	tests/e2e/debian13.sh

# A million runs of the attacker between agents and daemons of version 2 of the wire.
check-wire:
	FENCE_RUNS=1000000 $(CARGO) test --locked --release --test wire_2 -- --nocapture

# VMs that hang; guests that fence each other, thirty rounds of each agent and transport; more random steps.
check-power: test-peers e2e-peers build
	tests/e2e/hung.sh
	ROUNDS=30 tests/e2e/race.sh
	tests/e2e/cluster-race.sh
	FENCE_STEPS=10000000 $(CARGO) test --locked --release --test arbiter

# The model of version 2 of the wire: no attack in it, and one in each model that lacks a part of the protocol.
check-protocol:
	@dist/check-protocol

e2e-peers:
	@dist/need corosync:corosync pacemakerd:pacemaker stonith_admin:pacemaker-cli-utils \
		qemu-system-x86_64:qemu-system-x86 \
		/usr/sbin/fence_pve:fence-agents sshd:openssh-server ssh:openssh-client openssl:openssl

# Licences and bans, offline.
deny: tools
	$(CARGO) fetch --locked --quiet
	$(CARGO) deny --offline --locked check licenses bans sources

# Each parser of outside bytes, from its seeds; three side by side.
FUZZ = $(CARGO) +nightly fuzz
fuzz: tools build-deps
	@if $(CARGO) +nightly --version >/dev/null 2>&1; then \
		$(FUZZ) build --sanitizer none && \
		for target in $(FUZZ_TARGETS); do mkdir -p fuzz/corpus/$$target; done && \
		printf '%s\n' $(FUZZ_TARGETS) | xargs -P 3 -I TARGET \
			$(FUZZ) run --sanitizer none TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=5 -verbosity=0 -print_final_stats=1; \
	else \
		echo '*** no nightly toolchain: the seeded random tests (tests/random.rs) stand in for the fuzzers ***'; \
		FENCE_RANDOM=1000000 $(CARGO) test --locked --release --test random; \
	fi

# Ours beside the C daemon.
bench: test-peers
	$(CARGO) bench --locked --bench compare

# Groups of hosts, of ours and of the C daemon.
bench-cluster: test-peers e2e-peers
	$(CARGO) build --locked --release --bins --examples
	benches/cluster.sh

# Power operations with a real libvirtd, beside VMs that hang.
bench-power: test-peers e2e-peers
	$(CARGO) build --locked --release --bins --examples
	benches/power.sh

tools:
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny \
		|| $(CARGO) install --locked cargo-deny --version 0.18.3 # for Rust 1.85
	@! $(CARGO) +nightly --version >/dev/null 2>&1 || $(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz

clean:
	$(CARGO) clean
