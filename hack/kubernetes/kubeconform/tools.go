//go:build tools

// Package kubeconform pins the program of that name.
package kubeconform

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
