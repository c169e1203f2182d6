package tiles

// noWait is nothing here: a folder has no pipes, and package os opens no device by a
// name within a folder.
const noWait = 0
