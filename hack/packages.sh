# shellcheck shell=bash
# Debian packages, installed when they are missing. Sourced, never run.

need_root() {
	[ "$(id -u)" = 0 ] || fail "This needs root (it starts a container runtime, mounts and network devices): run it as root or with sudo."
}

# need_packages NAME...
need_packages() {
	local name missing=()
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "These packages are missing and there is no apt-get to install them: ${missing[*]}."
	need_root
	say "installing Debian packages: ${missing[*]}"
	# No recommended packages, and no service is started: the scripts run their own containerd.
	with_lock apt install_packages "${missing[@]}"
}

# What cargo needs beside itself: it links with gcc, and dependencies bring some C.
need_rust() {
	command -v "${CARGO:-cargo}" >/dev/null || fail "cargo is missing: install Rust 1.95 or later. See https://rustup.rs."
	need_packages gcc libc6-dev
}

install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	if ! apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; then
		# One unreachable list among several is no reason to stop: the installation is what counts.
		apt-get update -qq >/dev/null 2>&1 || say "apt-get update had errors"
		quietly "apt-get could not install: $*. Is a Debian mirror reachable?" \
			apt-get install -y -qq --no-install-recommends "$@"
	fi
}
