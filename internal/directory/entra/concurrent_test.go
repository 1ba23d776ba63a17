package entra

import (
	"sync"
	"testing"

	sandbox "jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/directory"
)

// One Tenant serves many workers at once: the SDK's builders and its adapter must not share what they
// write to. Run with -race, or watch it die of concurrent map writes.
func TestManyAtOnce(t *testing.T) {
	s := rehearse(t, sandbox.Config{}).cut
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 40 {
				if _, _, err := s.FindByMark(t.Context(), directory.Mark("https://iam.example", "1")); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
}
