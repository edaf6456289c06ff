# shellcheck shell=bash
# The programs of the local cluster, built from the Go module proxy. Sourced, never run.
#
# Each folder here with a go.mod is a group of programs that are built together; go.sum fixes every byte.

KUBERNETES_VERSION=v1.34.4
KUBERNETES_LDFLAGS="-X k8s.io/component-base/version.gitVersion=$KUBERNETES_VERSION
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34
	-X k8s.io/component-base/version.gitTreeState=archive
	-X k8s.io/client-go/pkg/version.gitVersion=$KUBERNETES_VERSION"

# binary NAME: prints the program's path and builds it first when the cache has none.
binary() {
	local name=$1 group folder
	case $name in
	kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | kubectl) group=kubernetes ;;
	etcd | coredns | helm | kubeconform) group=$name ;;
	*) fail "hack/tool knows no program $name." ;;
	esac
	folder=$(binaries_folder "$group")
	[ -x "$folder/$name" ] || with_lock "build-$group" build_group "$group" "$folder" || return 1
	echo "$folder/$name"
}

binaries_folder() {
	local source=hack/kubernetes
	[ "$1" = kubernetes ] || source=hack/kubernetes/$1
	echo "$PODWRIGHT_CACHE/bin/$1-$(cd "$REPOSITORY" && build_command | key_of "$source"/{go.mod,go.sum,*.go})"
}

build_command() { echo "build -trimpath -ldflags -s -w $KUBERNETES_LDFLAGS"; }

build_group() {
	local group=$1 folder=$2 source packages ldflags="-s -w"
	[ ! -d "$folder" ] || return 0 # built while we waited for the lock
	command -v go >/dev/null || fail "Go is missing (1.26 or later): the cluster's programs are built from source. See https://go.dev/doc/install."
	source=$REPOSITORY/hack/kubernetes/$group
	case $group in
	kubernetes)
		source=$REPOSITORY/hack/kubernetes
		packages=(k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl})
		ldflags="$ldflags ${KUBERNETES_LDFLAGS//[$'\n\t']/ }"
		;;
	etcd | coredns) packages=(.) ;;
	helm) packages=(helm.sh/helm/v3/cmd/helm) ;;
	kubeconform) packages=(github.com/yannh/kubeconform/cmd/kubeconform) ;;
	*) fail "no build is known for $group." ;;
	esac
	need_space "$PODWRIGHT_CACHE" 4
	say "building $group from the Go module proxy (up to some minutes the first time)"
	rm -rf "$folder.new"
	mkdir -p "$folder.new"
	(
		cd "$source"
		# The toolchain that is here, its module flags as they are, and no C.
		CGO_ENABLED=0 GOFLAGS="-mod=readonly" quietly "Building $group failed: is the Go module proxy reachable, and Go 1.26 or later?" \
			go build -buildvcs=false -trimpath -ldflags "$ldflags" -o "$folder.new/" "${packages[@]}"
	) || return 1
	mv "$folder.new" "$folder"
	say "built $group"
}
