# What packagers use; docs/PACKAGING.md describes variables and targets.
# Included by the Makefile.

PREFIX ?= /usr
SBINDIR ?= $(PREFIX)/sbin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
# Below it: fence-virt and fence-virtd.
DOCDIR ?= $(DATADIR)/doc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
POLKITDIR ?= $(DATADIR)/polkit-1/rules.d
FIREWALLDDIR ?= $(PREFIX)/lib/firewalld/services
BASHCOMPDIR ?= $(DATADIR)/bash-completion/completions
ZSHCOMPDIR ?= $(DATADIR)/zsh/site-functions
SYSCONFDIR ?= /etc
INITDIR ?= $(SYSCONFDIR)/init.d
# Where `make release` or `make agents` has left the programs.
BINARIES ?= $(CARGO_TARGET_DIR)/release
# Where the packages and the tarball go.
OUT ?= $(CURDIR)/target/packages
INSTALL ?= install

AGENT_MANS = fence_virt.8 fence_xvm.8
DAEMON_MANS = fence_virtd.8 fence_virt.conf.5
COMMON_DOCS = README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE docs/DIFFERENCES.md docs/UPGRADING.md
AGENT_DOCS = $(COMMON_DOCS) docs/AGENTS.md docs/TROUBLESHOOTING.md
DAEMON_DOCS = $(COMMON_DOCS) ARCHITECTURE.md fence_virt.conf.example \
	$(filter-out $(COMMON_DOCS),$(wildcard docs/*.md))
# For the unit; the administrator puts them into use.
DROP_INS = own-user.conf.example agent.conf.example
# From, to: a copy, with the folder of the programs put in.
PLACED = sed 's|/usr/sbin/|$(SBINDIR)/|g'

.PHONY: install install-agents install-daemon install-sysv install-openrc uninstall dist deb rpm \
	check-dist check-packages check-profiles

install: install-agents install-daemon

# The man pages that are there (a checkout may be without).
# mans PAGES
define mans
	@for page in $(1); do \
		[ ! -e man/$$page ] || $(INSTALL) -D -m 644 man/$$page "$(DESTDIR)$(MANDIR)/man$${page##*.}/$$page" || exit 1; \
	done
endef
# completions OF
define completions
	@[ ! -e completions/$(1).bash ] || $(INSTALL) -D -m 644 completions/$(1).bash "$(DESTDIR)$(BASHCOMPDIR)/$(1)"
	@[ ! -e completions/_$(1) ] || $(INSTALL) -D -m 644 completions/_$(1) "$(DESTDIR)$(ZSHCOMPDIR)/_$(1)"
endef

install-agents:
	@[ -x "$(BINARIES)/fence_virt" ] || { echo "no $(BINARIES)/fence_virt: run make release, or make agents, first" >&2; exit 1; }
	$(INSTALL) -D -m 755 "$(BINARIES)/fence_virt" "$(DESTDIR)$(SBINDIR)/fence_virt"
	ln -sf fence_virt "$(DESTDIR)$(SBINDIR)/fence_xvm"
	$(call mans,$(AGENT_MANS))
	$(call completions,fence_virt)
	$(call completions,fence_xvm)
	@[ ! -e completions/fence_xvm.bash ] || [ -e completions/fence_virt.bash ] || \
		ln -sf fence_xvm "$(DESTDIR)$(BASHCOMPDIR)/fence_virt"
	$(INSTALL) -d -m 755 "$(DESTDIR)$(DOCDIR)/fence-virt"
	$(INSTALL) -m 644 $(AGENT_DOCS) "$(DESTDIR)$(DOCDIR)/fence-virt"
	dist/link-docs "$(DESTDIR)$(DOCDIR)/fence-virt"

install-daemon:
	@[ -x "$(BINARIES)/fence_virtd" ] || { echo "no $(BINARIES)/fence_virtd: run make release first" >&2; exit 1; }
	$(INSTALL) -D -m 755 "$(BINARIES)/fence_virtd" "$(DESTDIR)$(SBINDIR)/fence_virtd"
	$(call mans,$(DAEMON_MANS))
	$(call completions,fence_virtd)
	$(INSTALL) -d -m 755 "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(DOCDIR)/fence-virtd/listeners" \
		"$(DESTDIR)$(DOCDIR)/fence-virtd/backends" "$(DESTDIR)$(DOCDIR)/fence-virtd/examples"
	# Packages make the first configuration from it: documentation may be left out.
	$(INSTALL) -D -m 644 fence_virt.conf.example "$(DESTDIR)$(DATADIR)/fence-virt/fence_virt.conf.example"
	$(PLACED) dist/systemd/fence_virtd.service >"$(DESTDIR)$(UNITDIR)/fence_virtd.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/fence_virtd.service"
	$(INSTALL) -D -m 644 dist/sysusers.d/fence_virt.conf "$(DESTDIR)$(SYSUSERSDIR)/fence_virt.conf"
	$(INSTALL) -D -m 644 dist/polkit-1/rules.d/60-fence_virtd.rules "$(DESTDIR)$(POLKITDIR)/60-fence_virtd.rules"
	$(INSTALL) -D -m 644 dist/firewalld/fence_virtd.xml "$(DESTDIR)$(FIREWALLDDIR)/fence_virtd.xml"
	$(INSTALL) -m 644 $(DAEMON_DOCS) "$(DESTDIR)$(DOCDIR)/fence-virtd"
	$(INSTALL) -m 644 docs/listeners/*.md "$(DESTDIR)$(DOCDIR)/fence-virtd/listeners"
	$(INSTALL) -m 644 docs/backends/*.md "$(DESTDIR)$(DOCDIR)/fence-virtd/backends"
	dist/link-docs "$(DESTDIR)$(DOCDIR)/fence-virtd"
	@for example in $(DROP_INS); do \
		$(PLACED) "dist/systemd/fence_virtd.service.d/$$example" \
			>"$(DESTDIR)$(DOCDIR)/fence-virtd/examples/$$example" && \
		chmod 644 "$(DESTDIR)$(DOCDIR)/fence-virtd/examples/$$example" || exit 1; \
	done
	$(INSTALL) -m 644 dist/default/fence_virtd "$(DESTDIR)$(DOCDIR)/fence-virtd/examples/fence_virtd.default"
	$(INSTALL) -m 644 dist/corosync/uidgid.d/fence_virtd "$(DESTDIR)$(DOCDIR)/fence-virtd/examples/corosync-uidgid"

# For hosts without systemd; not part of `install`.
install-sysv:
	$(INSTALL) -d -m 755 "$(DESTDIR)$(INITDIR)"
	$(PLACED) dist/sysv/fence_virtd >"$(DESTDIR)$(INITDIR)/fence_virtd"
	chmod 755 "$(DESTDIR)$(INITDIR)/fence_virtd"

install-openrc:
	$(INSTALL) -d -m 755 "$(DESTDIR)$(INITDIR)"
	$(PLACED) dist/openrc/fence_virtd >"$(DESTDIR)$(INITDIR)/fence_virtd"
	chmod 755 "$(DESTDIR)$(INITDIR)/fence_virtd"

# What `install` has put there. Configuration, keys and init scripts stay.
uninstall:
	rm -f $(foreach file, \
		$(addprefix $(SBINDIR)/,fence_virt fence_xvm fence_virtd) \
		$(addprefix $(MANDIR)/man8/,fence_virt.8 fence_xvm.8 fence_virtd.8) $(MANDIR)/man5/fence_virt.conf.5 \
		$(addprefix $(BASHCOMPDIR)/,fence_virt fence_xvm fence_virtd) \
		$(addprefix $(ZSHCOMPDIR)/_,fence_virt fence_xvm fence_virtd) \
		$(UNITDIR)/fence_virtd.service $(SYSUSERSDIR)/fence_virt.conf $(POLKITDIR)/60-fence_virtd.rules \
		$(FIREWALLDDIR)/fence_virtd.xml, "$(DESTDIR)$(file)")
	rm -rf "$(DESTDIR)$(DOCDIR)/fence-virt" "$(DESTDIR)$(DOCDIR)/fence-virtd" "$(DESTDIR)$(DATADIR)/fence-virt"

# The source with all crates: builds offline, with cargo build --frozen.
dist:
	dist/tarball "$(OUT)"

deb: build-deps release
	@dist/need dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev
	OUT="$(OUT)" MAKE="$(MAKE)" dist/deb/build

rpm: build-deps
	@dist/need rpmbuild:rpm
	OUT="$(OUT)" MAKE="$(MAKE)" dist/rpm/build

# The packages, in private roots of this machine: over the C ones and back.
check-packages: test-peers check-profiles
	@dist/need rpmbuild:rpm dpkg-shlibdeps:dpkg-dev
	tests/packages.sh

# What no package installs, or only some machines run: whether it compiles.
check-profiles:
	@dist/need checkmodule:checkpolicy semodule_package:semodule-utils apparmor_parser:apparmor dash:dash
	tests/packages/profiles.sh
