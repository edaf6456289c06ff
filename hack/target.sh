# shellcheck shell=bash
# The cluster that a script works on. Sourced, never run.
#
# The caller's KUBECONFIG counts only when he says that he means it (CLUSTER=current): many have one exported,
# and nobody wants a demo on the cluster that it happens to name.

CLUSTER=${CLUSTER:-local}

case $CLUSTER in
local) export KUBECONFIG=$CLUSTER_KUBECONFIG ;;
current) ;;
*) fail "CLUSTER is $CLUSTER, and should be local or current." ;;
esac

kubectl() { "$KUBECTL" "$@"; }

# The user's own kubectl goes with the user's own cluster.
find_kubectl() {
	if [ "$CLUSTER" = local ]; then
		KUBECTL=$(binary kubectl)
	else
		KUBECTL=$(type -P kubectl) || fail "CLUSTER=current needs kubectl on the PATH."
	fi
}

# The user's own Helm, when there is one, spares building it.
find_helm() {
	HELM=
	[ "$CLUSTER" = local ] || HELM=$(type -P helm) || true
	[ -n "$HELM" ] || HELM=$(binary helm)
}

# sandbox_image: the reference of the default sandbox image, there for the cluster to run.
sandbox_image() {
	if [ -n "${SANDBOX_IMAGE:-}" ]; then
		echo "$SANDBOX_IMAGE"
	elif [ "$CLUSTER" = local ]; then
		hack/image load sandbox
	else
		pushed podwright-sandbox-default
	fi
}

podwright_image() {
	if [ -n "${PODWRIGHT_IMAGE:-}" ]; then
		echo "$PODWRIGHT_IMAGE"
	elif [ "$CLUSTER" = local ]; then
		hack/image load podwright
	else
		pushed podwright
	fi
}

# What `make image PUSH=REGISTRY` has pushed last from this clone.
pushed() {
	grep "/$1:" .build/pushed 2>/dev/null || fail "CLUSTER=current needs images that the cluster can pull: run make image PUSH=REGISTRY first."
}
