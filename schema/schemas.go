package schema

import (
	"embed"
	"io/fs"
)

//go:embed jsonschema/*.json
var schemas embed.FS

// SchemaBase is the URI against which the names of Schemas' files resolve: it begins every $id.
const SchemaBase = "https://jmlbridge.internal/schema/"

// Schemas holds the JSON Schemas (2020-12): set.v1.json for the claims, one file per event, and
// cut-core.json for the frozen part. They serve other implementations; Decode does not use them, since
// JSON Schema cannot express all of event.md (repeats, order, octets, canonical form).
func Schemas() fs.FS {
	sub, err := fs.Sub(schemas, "jsonschema")
	if err != nil {
		panic(err) // the name above is valid
	}
	return sub
}
