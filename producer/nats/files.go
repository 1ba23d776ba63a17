// Package nats holds the files by which NATS servers of your own become a mid-point: README.md says how. The end-to-end
// tests run three servers on exactly these.
package nats

import "embed"

// Files are server.conf, stream.json, stream-dark.json and consumer.json.
//
//go:embed server.conf *.json
var Files embed.FS
