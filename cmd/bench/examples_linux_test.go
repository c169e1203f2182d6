package main

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli/helptest"
)

func TestHelpCanBeTypedAsItStands(t *testing.T) { helptest.Check(t, root) }
