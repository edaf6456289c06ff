# shellcheck shell=bash
# Takes the local cluster off the machine: processes, mounts, network and state. Sourced, never run.

# stop NAME: SIGTERM, then SIGKILL after ten seconds (the API server waits for its long requests).
stop() {
	local pid
	running "$1" || return 0
	say "stopping $1"
	pid=$(cat "$CLUSTER_STATE/run/$1.pid")
	end_process "$pid"
	rm -f "$CLUSTER_STATE/run/$1.pid"
}

end_process() {
	kill "$1" 2>/dev/null || return 0
	wait_for_end 40 "$1" && return 0
	kill -KILL "$1" 2>/dev/null || true
	wait_for_end 40 "$1" || say "process $1 does not end"
}

wait_for_end() {
	local quarters=$1
	while [ -d "/proc/$2" ] && [ "$quarters" -gt 0 ]; do
		sleep 0.25
		quarters=$((quarters - 1))
	done
	[ ! -d "/proc/$2" ]
}

stop_control_plane() {
	# What writes goes first; the API server's clients are gone when it is asked to stop.
	stop coredns
	stop kube-proxy
	stop kube-scheduler
	stop kube-controller-manager
	stop kube-apiserver
	stop etcd
}

# Containers are ended after the kubelet, which would start them again.
stop_node() {
	local name
	stop kubelet
	if running containerd; then
		say "ending containers"
		for name in $(containerd_ctr tasks list -q 2>/dev/null); do
			containerd_ctr tasks delete -f "$name" >/dev/null 2>&1 || true
		done
		for name in $(containerd_ctr containers list -q 2>/dev/null); do
			containerd_ctr containers delete "$name" >/dev/null 2>&1 || true
		done
	fi
	stop containerd
	stop_shims
}

# A shim names its containerd's socket in its arguments; only ours are ended, and their containers with them.
stop_shims() {
	local folder pid container containers
	for folder in /proc/[0-9]*; do
		pid=${folder#/proc/}
		[ "$(cat "$folder/comm" 2>/dev/null)" = containerd-shim ] || continue
		grep -qzx "$CONTAINERD_SOCKET" "$folder/cmdline" 2>/dev/null || continue
		read -r -d '' -a containers < <(cat "$folder/task/"*/children 2>/dev/null) || true
		for container in "${containers[@]}"; do
			kill -KILL "$container" 2>/dev/null || true
		done
		end_process "$pid"
	done
}

unmount_all() {
	local target
	say "unmounting"
	# The image builder's store, and what a build that was killed has left in it. A build that goes on keeps its mounts.
	while read -r target; do
		umount "$(printf '%b' "$target")" 2>/dev/null || true
	done < <(awk -v root="$PODWRIGHT_CACHE/containers/" 'index($2, root) == 1 {print $2}' /proc/mounts | sort -r)
	# The deepest first; the kernel writes blanks in a path as \040.
	while read -r target; do
		umount -l "$(printf '%b' "$target")" 2>/dev/null || true
	done < <(awk -v root="$CLUSTER_STATE/" 'index($2, root) == 1 {print $2}' /proc/mounts | sort -r)
	! grep -q " $CLUSTER_STATE/" /proc/mounts ||
		fail "Something under $CLUSTER_STATE is still mounted: $(awk -v root="$CLUSTER_STATE/" 'index($2, root) == 1 {print $2; exit}' /proc/mounts)."
}

remove_network() {
	local save restore rules
	say "removing the network"
	for save in iptables-save ip6tables-save; do
		restore=${save/save/restore}
		rules=$("$save" 2>/dev/null) || continue
		# Whole tables are replaced: chains that are not named again are gone.
		grep -vE 'KUBE-|CNI-' <<<"$rules" | "$restore"
	done
	! ip link show "$BRIDGE" >/dev/null 2>&1 || ip link delete "$BRIDGE"
	rm -f /var/lib/cni/results/podwright-*
}

remove_cgroups() {
	local root
	for root in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
		[ ! -d "$root" ] || find "$root" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
}
