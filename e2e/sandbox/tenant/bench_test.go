package tenant_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"jmlbridge/e2e/sandbox/tenant"
)

// BenchmarkPatch is one disable over TLS, client included: what the tenant
// adds to a benchmark that shares its cores.
func BenchmarkPatch(b *testing.B) {
	s, err := tenant.Start(b.Context(), tenant.Config{Seed: seed(), JournalKeep: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	token, err := s.Token(b.Context(), "cut")
	if err != nil {
		b.Fatal(err)
	}
	tr := s.Transport()
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), "PATCH", s.Endpoints().GraphV1+"/users/"+breakGlass, bytes.NewReader([]byte(`{"accountEnabled":false}`)))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 204 {
			b.Fatal(resp.StatusCode)
		}
	}
}
