package tenant

import (
	"fmt"
	"testing"
	"time"
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

// What no replica can show any more is not kept: neither old versions, nor old
// index entries, nor removed memberships.
func TestThePastIsForgotten(t *testing.T) {
	d := fuzzDirectory()
	d.horizon = 10 * time.Second
	fill(d, 1)
	e := d.order[1]
	g := &container{node: node{id: "g"}}
	d.addContainer(g)
	var at int64
	for i := range 1000 {
		at += int64(time.Second)
		next := e.cur.copyOf()
		next.text[pEmployeeID] = fmt.Sprintf("N%d", i)
		d.publish(e, next, at)
		d.toggle(g, &e.node, i%2 == 0, at)
	}
	if len(e.old) > 12 || len(d.index[pEmployeeID].one) > 14 || len(d.due) > 50 || len(g.edges) > 100 {
		t.Fatalf("kept: %d versions, %d values, %d due, %d edges", len(e.old), len(d.index[pEmployeeID].one), len(d.due), len(g.edges))
	}
	for back := range int64(10) {
		if got, want := e.seen(at - back*int64(time.Second)).text[pEmployeeID], fmt.Sprintf("N%d", 999-back); got != want {
			t.Errorf("%d s back: %s, want %s", back, got, want)
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
