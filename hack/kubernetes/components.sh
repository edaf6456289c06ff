# shellcheck shell=bash
# The processes of the local cluster: how each is configured, started and watched. Sourced, never run.
#
# Every process is detached (setsid) and has a pid file, so that starting what is not running is all that
# is needed after a crash or a restart of the machine.

BRIDGE=podwright0
POD_CIDR=10.244.0.0/16
CLUSTER_DNS=$NODE_ADDRESS
ETCD_URL=http://127.0.0.1:22379
COREDNS_READY=127.0.0.1:28181
PROXY_HEALTH=127.0.0.1:20256
# In the order in which they start.
# shellcheck disable=SC2034 # read by hack/cluster
COMPONENTS=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy coredns)

running() {
	local pid
	pid=$(cat "$CLUSTER_STATE/run/$1.pid" 2>/dev/null) || return 1
	# The name guards against a number that the kernel has given to another process since, the state
	# against one that has ended and that nobody has waited for yet.
	[[ "$(cat "/proc/$pid/stat" 2>/dev/null)" == "$pid (${1:0:15}) "[!ZX]* ]]
}

# start NAME COMMAND...
start() {
	local name=$1
	shift
	! running "$name" || return 0
	say "starting $name"
	mkdir -p "$CLUSTER_STATE/run" "$CLUSTER_STATE/log"
	# Nothing of the caller's is inherited: no terminal, no lock, no directory.
	(
		cd /
		setsid "$@" </dev/null >"$CLUSTER_STATE/log/$name.log" 2>&1 9>&- &
		echo $! >"$CLUSTER_STATE/run/$name.pid"
	)
}

# started NAME SECONDS COMMAND...: waits until the component answers and shows its log when it does not.
started() {
	local name=$1 seconds=$2
	shift 2
	wait_for "$seconds" "$name is ready" "$@" && return 0
	tail -n 20 "$CLUSTER_STATE/log/$name.log" >&2
	fail "$name did not become ready within $seconds s: its log is $CLUSTER_STATE/log/$name.log."
}

start_control_plane() {
	local arguments
	start etcd "$(binary etcd)" --data-dir "$CLUSTER_STATE/etcd" --unsafe-no-fsync \
		--listen-client-urls "$ETCD_URL" --advertise-client-urls "$ETCD_URL" \
		--listen-peer-urls http://127.0.0.1:22380 --initial-advertise-peer-urls http://127.0.0.1:22380 \
		--initial-cluster default=http://127.0.0.1:22380 --quota-backend-bytes 4294967296 \
		--auto-compaction-mode periodic --auto-compaction-retention 5m --log-level warn
	write_apiserver_arguments
	mapfile -t arguments <"$CLUSTER_STATE/apiserver.args"
	start kube-apiserver "${arguments[@]}"
	started kube-apiserver 90 kubectl get --raw /readyz
	start kube-controller-manager "$(binary kube-controller-manager)" --kubeconfig "$PKI/controller-manager.kubeconfig" \
		--leader-elect=false --use-service-account-credentials --bind-address 127.0.0.1 \
		--root-ca-file "$PKI/ca.crt" --service-account-private-key-file "$PKI/service-account.key" \
		--cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key"
	start kube-scheduler "$(binary kube-scheduler)" --kubeconfig "$PKI/scheduler.kubeconfig" \
		--leader-elect=false --bind-address 127.0.0.1
}

# The program and its arguments, one a line, so that a test can start a second API server on another port
# and stop it. (That one also needs --endpoint-reconciler-type=none, or it takes over the `kubernetes`
# Service: `hack/cluster apiserver-args PORT` prints the list with both changed.)
write_apiserver_arguments() {
	cat >"$CLUSTER_STATE/apiserver.args" <<-EOF
		$(binary kube-apiserver)
		--secure-port=$API_PORT
		--advertise-address=$NODE_ADDRESS
		--etcd-servers=$ETCD_URL
		--service-cluster-ip-range=$SERVICE_CIDR
		--authorization-mode=Node,RBAC
		--enable-admission-plugins=NodeRestriction
		--allow-privileged=true
		--client-ca-file=$PKI/ca.crt
		--tls-cert-file=$PKI/apiserver.crt
		--tls-private-key-file=$PKI/apiserver.key
		--kubelet-certificate-authority=$PKI/ca.crt
		--kubelet-client-certificate=$PKI/apiserver-to-kubelet.crt
		--kubelet-client-key=$PKI/apiserver-to-kubelet.key
		--kubelet-preferred-address-types=InternalIP
		--service-account-issuer=https://kubernetes.default.svc.cluster.local
		--service-account-key-file=$PKI/service-account.key
		--service-account-signing-key-file=$PKI/service-account.key
	EOF
}

# The node's address is the bridge's own, so that nothing depends on how the machine is connected.
make_bridge() {
	if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
		say "making the bridge $BRIDGE ($NODE_ADDRESS)"
		quietly "The bridge $BRIDGE could not be made: is this machine allowed to make network devices?" \
			ip link add "$BRIDGE" type bridge
	fi
	grep -q "$NODE_ADDRESS/16" <<<"$(ip address show dev "$BRIDGE")" ||
		quietly "$NODE_ADDRESS/16 could not be given to $BRIDGE: does another network use it?" \
			ip address add "$NODE_ADDRESS/16" dev "$BRIDGE"
	ip link set "$BRIDGE" up
	sysctl_at_least_one net/ipv4/ip_forward
	# Without it a pod that reaches itself or its neighbour through a Service gets the answer past the
	# address translation; `masqueradeAll` below covers the kernels that lack the module.
	modprobe br_netfilter 2>/dev/null || true
	[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || sysctl_at_least_one net/bridge/bridge-nf-call-iptables
}

sysctl_at_least_one() {
	[ "$(cat "/proc/sys/$1")" = 1 ] || echo 1 2>/dev/null >"/proc/sys/$1" ||
		fail "/proc/sys/$1 is 0 and can't be written: set it to 1 on the host."
}

start_node() {
	make_bridge
	write_containerd_configuration
	start containerd /usr/bin/containerd --config "$CLUSTER_STATE/containerd.toml"
	started containerd 30 containerd_ctr version
	hack/image load pause >/dev/null
	write_kubelet_configuration
	start kubelet "$(binary kubelet)" --config "$CLUSTER_STATE/kubelet.yaml" --kubeconfig "$PKI/kubelet.kubeconfig" \
		--root-dir "$CLUSTER_STATE/kubelet" --cert-dir "$CLUSTER_STATE/kubelet/pki" \
		--hostname-override "$NODE_NAME" --node-ip "$NODE_ADDRESS"
	write_dns_configuration
	start coredns "$(binary coredns)" -conf "$CLUSTER_STATE/Corefile"
}

start_network() {
	started kubelet 120 node_ready
	# Only now: it ends when the node's object is not there soon. And it ends when its file is written.
	running kube-proxy || write_proxy_configuration
	start kube-proxy "$(binary kube-proxy)" --config "$CLUSTER_STATE/proxy.yaml"
	started kube-proxy 60 curl --noproxy '*' -sf "http://$PROXY_HEALTH/healthz"
	started coredns 60 curl --noproxy '*' -sf "http://$COREDNS_READY/ready"
	# Pods are refused until the controller manager has made this.
	wait_for 60 "the namespace default has its ServiceAccount" kubectl get serviceaccount default ||
		fail "kube-controller-manager made no ServiceAccount: its log is $CLUSTER_STATE/log/kube-controller-manager.log."
}

# Both: what the API server says of the node may be from before a crash.
node_ready() {
	curl --noproxy '*' -sf http://127.0.0.1:10248/healthz &&
		kubectl wait --for=condition=Ready "node/$NODE_NAME" --timeout=0s
}

kubectl() { "$(binary kubectl)" --kubeconfig "$CLUSTER_KUBECONFIG" "$@"; }

containerd_ctr() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

write_containerd_configuration() {
	cat >"$CLUSTER_STATE/containerd.toml" <<-EOF
		version = 2
		root = "$CLUSTER_STATE/containerd"
		state = "$CLUSTER_STATE/containerd-state"
		disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
		[grpc]
		  address = "$CONTAINERD_SOCKET"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "$(hack/image reference pause)"
		  # Where CAP_SYS_RESOURCE is missing, every pod fails without it ("can't get final child's PID from pipe").
		  restrict_oom_score_adj = true
		  netns_mounts_under_state_dir = true
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    snapshotter = "$(snapshotter)"
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		    conf_dir = "$CLUSTER_STATE/cni"
	EOF
	mkdir -p "$CLUSTER_STATE/cni"
	cat >"$CLUSTER_STATE/cni/10-podwright.conflist" <<-EOF
		{"cniVersion": "1.0.0", "name": "podwright", "plugins": [
		  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": true, "hairpinMode": true,
		   "ipam": {"type": "host-local", "dataDir": "$CLUSTER_STATE/cni-addresses",
		            "ranges": [[{"subnet": "$POD_CIDR", "gateway": "$NODE_ADDRESS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	EOF
}

# An overlay can't be mounted on an overlay, which is what a container's own file system usually is.
snapshotter() {
	local try
	try=$(mktemp -d "$CLUSTER_STATE/overlay.XXXXXX")
	mkdir "$try"/{lower,upper,work,merged}
	if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/merged" 2>/dev/null; then
		umount "$try/merged"
		echo overlayfs
	else
		echo native
	fi
	rm -rf "$try"
}

write_kubelet_configuration() {
	cat >"$CLUSTER_STATE/kubelet.yaml" <<-EOF
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
		authorization: {mode: Webhook}
		tlsCertFile: $PKI/kubelet-server.crt
		tlsPrivateKeyFile: $PKI/kubelet-server.key
		podLogsDir: $CLUSTER_STATE/pod-logs
		volumePluginDir: $CLUSTER_STATE/volume-plugins
		clusterDomain: cluster.local
		clusterDNS: [$CLUSTER_DNS]
		resolvConf: /dev/null
		cgroupDriver: cgroupfs
		failCgroupV1: false
		failSwapOn: false
		oomScoreAdj: 0
		maxPods: 250
		# Images come from files, not from a registry: what is removed can't be pulled again.
		imageGCHighThresholdPercent: 100
		imageGCLowThresholdPercent: 99
		evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
		logging: {flushFrequency: 1s}
	EOF
}

write_proxy_configuration() {
	cat >"$CLUSTER_STATE/proxy.yaml" <<-EOF
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: iptables
		clientConnection: {kubeconfig: $PKI/kube-proxy.kubeconfig}
		hostnameOverride: $NODE_NAME
		clusterCIDR: $POD_CIDR
		bindAddress: $NODE_ADDRESS
		healthzBindAddress: $PROXY_HEALTH
		metricsBindAddress: 127.0.0.1:20249
		oomScoreAdj: 0
		iptables: {masqueradeAll: true}
		# Zero leaves the kernel's settings alone, which a container may not change.
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
	EOF
}

# Names outside the cluster go to the machine's own name server; with none, they do not exist.
write_dns_configuration() {
	local outside=$'template ANY ANY . {\n    rcode NXDOMAIN\n  }'
	! grep -q '^nameserver' /etc/resolv.conf || outside="forward . /etc/resolv.conf"
	cat >"$CLUSTER_STATE/Corefile" <<-EOF
		.:53 {
		  bind $CLUSTER_DNS
		  errors
		  ready $COREDNS_READY
		  kubernetes cluster.local in-addr.arpa ip6.arpa {
		    kubeconfig $PKI/coredns.kubeconfig podwright
		    ttl 5
		    fallthrough in-addr.arpa ip6.arpa
		  }
		  cache 5
		  $outside
		}
	EOF
}
