//go:build tools

package main

// Helm is built with CoreDNS: most of both is the same Kubernetes client.
import _ "helm.sh/helm/v3/cmd/helm"
