//go:build tools

// Package coredns pins the program of that name.
package coredns

import _ "github.com/coredns/coredns"
