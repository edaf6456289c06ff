# shellcheck shell=bash
# The programs of the local cluster, built from the Go module proxy. Sourced, never run.
#
# Each folder here with a go.mod is a group of programs that are built together; go.sum fixes every byte.

KUBERNETES_VERSION=1.34.4
HELM_VERSION=3.22.0

# binary NAME: prints the program's path and builds it first when the cache has none.
binary() {
	local name=$1 group folder
	case $name in
	kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | kubectl) group=kubernetes ;;
	coredns | helm) group=coredns ;; # most of both is the same Kubernetes client
	etcd | kubeconform | versitygw) group=$name ;;
	*) fail "hack/tool knows no program $name." ;;
	esac
	folder=$(binaries_folder "$group")
	[ -x "$folder/$name" ] || with_lock "build-$group" build_group "$group" "$folder" || return 1
	echo "$folder/$name"
}

binaries_folder() {
	local source=hack/kubernetes
	[ "$1" = kubernetes ] || source=hack/kubernetes/$1
	echo "$PODWRIGHT_CACHE/bin/$1-$(cd "$REPOSITORY" && linker_flags "$1" | key_of "$source"/{go.mod,go.sum,*.go})"
}

# What the programs say of their own version, and what Helm takes as the cluster's when it has none.
linker_flags() {
	local set minor
	minor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")
	echo "-s -w"
	case $1 in
	kubernetes)
		set=k8s.io/component-base/version
		echo "-X $set.gitVersion=v$KUBERNETES_VERSION -X $set.gitMajor=1 -X $set.gitMinor=$minor"
		echo "-X $set.gitTreeState=archive -X k8s.io/client-go/pkg/version.gitVersion=v$KUBERNETES_VERSION"
		;;
	coredns)
		set=helm.sh/helm/v3
		echo "-X $set/internal/version.version=v$HELM_VERSION"
		echo "-X $set/pkg/chartutil.k8sVersionMajor=1 -X $set/pkg/chartutil.k8sVersionMinor=$minor"
		echo "-X $set/pkg/lint/rules.k8sVersionMajor=1 -X $set/pkg/lint/rules.k8sVersionMinor=$minor"
		;;
	esac
}

build_group() {
	local group=$1 folder=$2 source packages flags
	[ ! -d "$folder" ] || return 0 # built while we waited for the lock
	command -v go >/dev/null || fail "Go is missing (1.26 or later): the cluster's programs are built from source. See https://go.dev/doc/install."
	source=$REPOSITORY/hack/kubernetes/$group
	case $group in
	kubernetes)
		source=$REPOSITORY/hack/kubernetes
		packages=(k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl})
		;;
	etcd) packages=(.) ;;
	coredns) packages=(. helm.sh/helm/v3/cmd/helm) ;;
	kubeconform) packages=(github.com/yannh/kubeconform/cmd/kubeconform) ;;
	versitygw) packages=(github.com/versity/versitygw/cmd/versitygw) ;;
	*) fail "no build is known for $group." ;;
	esac
	flags=$(linker_flags "$group")
	need_space "$PODWRIGHT_CACHE" 4
	say "building $group from the Go module proxy (up to some minutes the first time)"
	rm -rf "$folder.new"
	mkdir -p "$folder.new"
	(
		cd "$source"
		# The toolchain that is here, its module flags as they are, and no C. Debug information would be stripped, so
		# none is made, and the compiler collects garbage only when it has 2 GiB of it: a build takes a third less
		# time (coredns on two cores: 2:40 minutes before).
		CGO_ENABLED=0 GOFLAGS="-mod=readonly" GOGC=off GOMEMLIMIT=2GiB quietly \
			"Building $group failed: is the Go module proxy reachable, and Go 1.26 or later?" \
			go build -buildvcs=false -trimpath -gcflags=all=-dwarf=false -ldflags "${flags//$'\n'/ }" \
			-o "$folder.new/" "${packages[@]}"
	) || return 1
	mv "$folder.new" "$folder"
	say "built $group"
}
