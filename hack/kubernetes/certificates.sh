# shellcheck shell=bash
# The cluster's certificate authority, certificates and kubeconfigs. Sourced, never run.

NODE_NAME=podwright
NODE_ADDRESS=10.244.0.1
# shellcheck disable=SC2034 # read by components.sh
SERVICE_CIDR=10.96.0.0/16
API_PORT=6443
PKI=$CLUSTER_STATE/pki

make_certificates() {
	[ ! -f "$PKI/complete" ] || return 0
	say "making certificates"
	mkdir -p "$PKI"
	chmod 700 "$CLUSTER_STATE" "$PKI"
	quietly "openssl could not make the certificate authority." openssl req -x509 -newkey rsa:2048 -nodes \
		-keyout "$PKI/ca.key" -out "$PKI/ca.crt" -days 3650 -subj /CN=podwright-cluster
	certificate apiserver /CN=kube-apiserver serverAuth \
		"DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_ADDRESS"
	certificate kubelet-server "/CN=$NODE_NAME" serverAuth "DNS:$NODE_NAME,IP:127.0.0.1,IP:$NODE_ADDRESS"
	certificate apiserver-to-kubelet /O=system:masters/CN=apiserver-to-kubelet clientAuth
	client admin /O=system:masters/CN=admin
	client controller-manager /CN=system:kube-controller-manager
	client scheduler /CN=system:kube-scheduler
	client kubelet "/O=system:nodes/CN=system:node:$NODE_NAME"
	client kube-proxy /CN=system:kube-proxy
	client coredns /O=system:masters/CN=coredns
	quietly "openssl could not make the key of service account tokens." openssl genrsa -out "$PKI/service-account.key" 2048
	cp "$PKI/admin.kubeconfig" "$CLUSTER_KUBECONFIG"
	touch "$PKI/complete"
}

# client NAME SUBJECT: a client certificate and the kubeconfig that holds it.
client() {
	certificate "$1" "$2" clientAuth
	cat >"$PKI/$1.kubeconfig" <<-EOF
		apiVersion: v1
		kind: Config
		clusters:
		- name: podwright
		  cluster:
		    server: https://127.0.0.1:$API_PORT
		    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
		users:
		- name: $1
		  user:
		    client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
		    client-key-data: $(base64 -w0 "$PKI/$1.key")
		contexts:
		- name: podwright
		  context: {cluster: podwright, user: $1}
		current-context: podwright
	EOF
	chmod 600 "$PKI/$1.kubeconfig"
}

# certificate NAME SUBJECT USAGE [NAMES]
certificate() {
	local name=$1 subject=$2 usage=$3 names=${4:-}
	quietly "openssl could not make a request for $name." openssl req -newkey rsa:2048 -nodes \
		-keyout "$PKI/$name.key" -out "$PKI/$name.csr" -subj "$subject"
	{
		echo "basicConstraints=critical,CA:FALSE"
		echo "keyUsage=critical,digitalSignature,keyEncipherment"
		echo "extendedKeyUsage=$usage"
		[ -z "$names" ] || echo "subjectAltName=$names"
	} >"$PKI/$name.ext"
	quietly "openssl could not sign the certificate of $name." openssl x509 -req -in "$PKI/$name.csr" \
		-CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -out "$PKI/$name.crt" -days 3650 -extfile "$PKI/$name.ext"
	rm -f "$PKI/$name.csr" "$PKI/$name.ext"
}
