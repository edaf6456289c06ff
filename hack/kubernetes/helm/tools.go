//go:build tools

// Package helm pins the program of that name.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
