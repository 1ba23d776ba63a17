package entra

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sandbox "jmlbridge/e2e/sandbox/tenant"
	"jmlbridge/internal/directory"
)

// TestFaultsTwice: each write, each fault, lost and done; the verdict never claims more than is known, and
// exactly one request is made of it.
func TestFaultsTwice(t *testing.T) {
	writes := []struct {
		op   string
		call func(*rehearsal, string) error
		path string
	}{
		{"disable", func(r *rehearsal, id string) error { _, err := r.cut.Disable(t.Context(), id); return err }, "/users/[^/]+$"},
		{"revoke", func(r *rehearsal, id string) error { _, err := r.cut.RevokeSessions(t.Context(), id); return err }, "/revokeSignInSessions"},
		{"add-member", func(r *rehearsal, id string) error { _, err := r.grant.AddMember(t.Context(), groupID, id); return err }, `/members/\$ref`},
		{"remove-member", func(r *rehearsal, id string) error {
			_, err := r.cut.RemoveMember(t.Context(), groupID, id)
			return err
		}, `/members/.+/\$ref`},
		{"set-manager", func(r *rehearsal, id string) error { _, err := r.grant.SetManager(t.Context(), id, bossID); return err }, `/manager/\$ref`},
		{"delete", func(r *rehearsal, id string) error { _, err := r.cut.Delete(t.Context(), id); return err }, "/users/[^/]+$"},
		{"create", func(r *rehearsal, id string) error {
			n := joiner()
			n.UPN, n.MailNickname = "n-"+id+"@rehearsal.example", "n-"+id
			_, _, err := r.grant.Create(t.Context(), n)
			return err
		}, "/users$"},
	}
	type row struct {
		name  string
		fault sandbox.Fault
		want  error // nil: success or ambiguity, by whether the true answer has a body
		after time.Duration
	}
	rows := []row{
		{"throttled", sandbox.Fault{Kind: sandbox.Throttle, RetryAfter: 3 * time.Second}, directory.ErrThrottled, 3 * time.Second},
		{"throttled without a time", sandbox.Fault{Kind: sandbox.Throttle, RetryAfter: -1}, directory.ErrThrottled, 0},
		{"revoked", sandbox.Fault{Kind: sandbox.Unauthorized}, directory.ErrDenied, 0},
		{"challenged", sandbox.Fault{Kind: sandbox.Unauthorized, Claims: true}, directory.ErrDenied, 0},
		{"broken off", sandbox.Fault{Kind: sandbox.Break}, directory.ErrAmbiguous, 0},
		{"garbage", sandbox.Fault{Kind: sandbox.Garbage}, nil, 0},
	}
	for _, applied := range []bool{false, true} {
		word := map[bool]string{false: "lost", true: "done"}[applied]
		for _, status := range []int{500, 502, 503, 504} {
			f := sandbox.Fault{Kind: sandbox.Error, Status: status, Applied: applied}
			if status == 503 {
				f.RetryAfter = 4 * time.Second
			}
			rows = append(rows, row{fmt.Sprintf("%d, %s", status, word), f, directory.ErrAmbiguous, f.RetryAfter})
		}
		rows = append(rows,
			row{"connection, " + word, sandbox.Fault{Kind: sandbox.Drop, Applied: applied}, directory.ErrAmbiguous, 0},
			row{"html, " + word, sandbox.Fault{Kind: sandbox.HTML, Applied: applied}, directory.ErrAmbiguous, 0},
			row{"gateway, " + word, sandbox.Fault{Kind: sandbox.Gateway, Applied: applied}, directory.ErrAmbiguous, 0})
	}
	for _, http1 := range []bool{false, true} {
		protocol := map[bool]string{false: "HTTP2", true: "HTTP1"}[http1]
		t.Run(protocol, func(t *testing.T) {
			now := time.Now() // so that the credential may be renewed at every refusal
			var mu sync.Mutex
			clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
			r := rehearse(t, sandbox.Config{HTTP1: http1, Seed: sandbox.Seed{Groups: []sandbox.SeedGroup{aGroup},
				Users: []sandbox.SeedUser{{ID: bossID, UserPrincipalName: "boss@rehearsal.example", DisplayName: "Boss"}}}})
			r.cut.token.now, r.grant.token.now = clock, clock
			for _, w := range writes {
				for i, row := range rows {
					t.Run(w.op+" "+row.name, func(t *testing.T) {
						mu.Lock()
						now = now.Add(dropInterval)
						mu.Unlock()
						id := fmt.Sprintf("cccccccc-0000-0000-%04d-%012d", i, len(r.Journal()))
						groups := []string{}
						if w.op == "remove-member" {
							groups = append(groups, "SOC")
						}
						if err := r.Plant(sandbox.Seed{Users: []sandbox.SeedUser{{ID: id, DisplayName: "X",
							UserPrincipalName: "u-" + id + "@rehearsal.example", Groups: groups}}}); err != nil {
							t.Fatal(err)
						}
						f := row.fault
						f.Path, f.Count = w.path, 1
						if _, err := r.AddFaults(f); err != nil {
							t.Fatal(err)
						}
						before := uint64(len(r.Journal()))
						err := w.call(r, id)
						r.RemoveFault("")
						var graph []sandbox.Entry
						for _, e := range r.JournalSince(before) {
							if strings.HasPrefix(e.Path, "/v1.0/") {
								graph = append(graph, e)
							}
						}
						if len(graph) != 1 {
							t.Fatalf("%d requests instead of one: %+v", len(graph), graph)
						}
						if graph[0].Fault == "" {
							t.Fatal("the fault did not strike")
						}
						switch {
						case row.want != nil:
							if !errors.Is(err, row.want) || errors.Is(err, directory.ErrUnsent) {
								t.Errorf("%v, expected %v", err, row.want)
							}
						case graph[0].Status == 204: // no body that could be broken
							if err != nil {
								t.Error(err)
							}
						case !errors.Is(err, directory.ErrAmbiguous):
							t.Errorf("%v, expected %v", err, directory.ErrAmbiguous)
						}
						if row.want == directory.ErrThrottled && graph[0].Applied {
							t.Error("a throttled request was applied")
						}
						if got := directory.RetryAfter(err); got != row.after {
							t.Errorf("retry after %s, expected %s", got, row.after)
						}
						// Once more without the fault: whatever was true, the tenant ends as it should.
						if err := w.call(r, id); err != nil && !errors.Is(err, directory.ErrAlready) &&
							!errors.Is(err, directory.ErrConflict) && !errors.Is(err, directory.ErrNotFound) {
							t.Errorf("again: %v", err)
						}
					})
				}
			}
		})
	}
}
