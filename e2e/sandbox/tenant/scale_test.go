package tenant

import (
	"fmt"
	"testing"
)

// fill makes n users as a bridge would leave them.
func fill(d *directory, n int) {
	for i := range n {
		u := &user{enabled: true}
		u.text[pUPN] = fmt.Sprintf("person%06d@rehearsal.example", i)
		u.text[pMailNickname] = fmt.Sprintf("person%06d", i)
		u.text[pEmployeeID] = fmt.Sprintf("E%06d", i)
		u.text[pExt15] = fmt.Sprintf("jmlbridge:0123456789ab:E%06d", i)
		u.text[pDisplayName] = "Person"
		d.addUser(newID(), u)
	}
}

// Finding one user among many looks at that one only.
func TestLookupsUseTheIndex(t *testing.T) {
	d := fuzzDirectory()
	fill(d, 5000)
	for _, text := range []string{"employeeId eq 'e004999'", "userPrincipalName eq 'person004999@rehearsal.example'", "mailNickname eq 'person004999'",
		"onPremisesExtensionAttributes/extensionAttribute15 eq 'jmlbridge:0123456789ab:E004999'", "accountEnabled eq true and employeeId in ('E004999','none')"} {
		f, bad := d.parseFilter(text)
		if bad != nil {
			t.Fatal(bad.message)
		}
		list, ok := d.candidates(f)
		if !ok || len(list) != 1 || list[0].cur.text[pEmployeeID] != "E004999" {
			t.Errorf("%s looks at %d users (index used: %t)", text, len(list), ok)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	d := fuzzDirectory()
	fill(d, 100_000)
	f, _ := d.parseFilter("employeeId eq 'E050000'")
	for b.Loop() {
		n := 0
		d.each(f, 1, 0, false, func(*entry, *user) bool { n++; return true })
		if n != 1 {
			b.Fatal(n)
		}
	}
}

func BenchmarkFill100k(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		fill(fuzzDirectory(), 100_000)
	}
}
