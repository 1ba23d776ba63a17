package schema

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiled returns the validators of every embedded schema by file name.
func compiled(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	names, err := fs.Glob(Schemas(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		raw, err := fs.ReadFile(Schemas(), name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m := doc.(map[string]any); m["$schema"] != "https://json-schema.org/draft/2020-12/schema" || m["$id"] != SchemaBase+name {
			t.Errorf("%s: want $schema 2020-12 and the $id %s", name, SchemaBase+name)
		}
		if err := c.AddResource(SchemaBase+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]*jsonschema.Schema{}
	for _, name := range names {
		if all[name], err = c.Compile(SchemaBase + name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

func validate(s *jsonschema.Schema, payload []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

func TestEveryEventHasASchema(t *testing.T) {
	all := compiled(t)
	for _, k := range Kinds {
		if all[string(k)+".v1.json"] == nil {
			t.Errorf("%s has no schema", k)
		}
	}
	if want := len(Kinds) + 2; len(all) != want {
		t.Errorf("want %d schemas, got %d", want, len(all))
	}
}

func TestSchemasAgreeWithVectors(t *testing.T) {
	all := compiled(t)
	set, core := all["set.v1.json"], all["cut-core.json"]
	for _, v := range vectors(t, "accepted") {
		if err := validate(set, v.payload); err != nil {
			t.Errorf("accepted/%s: %v", v.name, err)
		}
		_, want := DecodeCutCore(v.payload)
		if got := validate(core, v.payload); (got == nil) != (want == nil) {
			t.Errorf("accepted/%s: cut core: DecodeCutCore says %v, the schema says %v", v.name, want, got)
		}
	}
	for _, v := range vectors(t, "refused") {
		err := validate(set, v.payload)
		if want := v.field["schema"]; (want == "refuses") != (err != nil) {
			t.Errorf("refused/%s: want the schema's word %q, got %v", v.name, want, err)
		}
	}
	for _, v := range vectors(t, "newer") {
		if err := validate(set, v.payload); err == nil {
			t.Errorf("newer/%s: the schema of version 1 accepts it", v.name)
		}
		if _, err := DecodeCutCore(v.payload); err == nil {
			if err := validate(core, v.payload); err != nil {
				t.Errorf("newer/%s: %v", v.name, err)
			}
		} else if codeOf(err) != CodeDuplicate && validate(core, v.payload) == nil {
			t.Errorf("newer/%s: the schema of the cut core accepts what DecodeCutCore refuses: %v", v.name, err)
		}
	}
}
