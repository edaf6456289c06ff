// Command etcd is the cluster's store. It is built from here because etcd's own module has replace
// directives, which `go install` refuses.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
