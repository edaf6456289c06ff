# shellcheck shell=bash
# Where the scripts keep things. Sourced, never run.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What was built or downloaded once. Outside the clone, and each entry is named by a hash of what it was
# made from, so that every clone on the machine shares it and nothing in it is ever out of date.
PODWRIGHT_CACHE=${PODWRIGHT_CACHE:-$HOME/.cache/podwright}

# The running cluster. One a machine, since it owns a bridge, iptables chains and the ports below.
CLUSTER_STATE=/var/lib/podwright-cluster
# shellcheck disable=SC2034 # read by the scripts that source this file
CLUSTER_KUBECONFIG=$CLUSTER_STATE/kubeconfig
# shellcheck disable=SC2034
CONTAINERD_SOCKET=$CLUSTER_STATE/containerd.sock

mkdir -p "$PODWRIGHT_CACHE"

# key_of FILE...: twelve hex digits that stand for the names and contents of these files and for stdin.
key_of() {
	{
		cat
		cd "$REPOSITORY" && sha256sum -- "$@"
	} | sha256sum | cut -c1-12
}

# with_lock NAME COMMAND...: one process at a time in this cache; the second finds the first one's work.
with_lock() {
	local name=$1
	shift
	(
		flock 9
		"$@" 9>&-
	) 9>"$PODWRIGHT_CACHE/$name.lock"
}

# need_space DIRECTORY GIGABYTES
need_space() {
	local free
	free=$(df --output=avail -k "$1" | tail -n 1)
	if [ "$free" -lt $(($2 * 1024 * 1024)) ]; then
		fail "$1 has $((free / 1024)) MiB free and $2 GiB are needed: free some, or set PODWRIGHT_CACHE to another disk."
	fi
}
