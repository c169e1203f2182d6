// Command tucdesk is the operator's terminal client.
package main

import (
	"context"
	"os"

	"github.com/tucdesk/tucdesk/operator"
)

func main() { os.Exit(operator.Main(context.Background(), os.Args[1:])) }
