package agent

// defaultSessionCommand re-executes this very file, also when an upgrade has
// replaced it on the disk: supervisor and session process are one version.
func defaultSessionCommand() ([]string, error) {
	return []string{"/proc/self/exe", SessionArg}, nil
}
