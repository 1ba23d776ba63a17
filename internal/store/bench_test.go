package store

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The shape of intake: batches of 500 messages, each with a wide row, two small ones under text keys
// and one that is updated.
func BenchmarkIntakeShape(b *testing.B) {
	s := testSchema
	s.DDL = `CREATE TABLE message (id INTEGER PRIMARY KEY, iss TEXT, stream TEXT, generation INTEGER, seq INTEGER, payload BLOB, jws TEXT);
		CREATE UNIQUE INDEX message_place ON message (iss, stream, generation, seq, payload);
		CREATE TABLE subject (iss TEXT, sub TEXT, lane INTEGER, due INTEGER, facts BLOB, PRIMARY KEY (iss, sub)) WITHOUT ROWID;
		CREATE TABLE entry (idx INTEGER PRIMARY KEY, body BLOB);
		CREATE TABLE stream (iss TEXT, stream TEXT, head INTEGER, PRIMARY KEY (iss, stream)) WITHOUT ROWID;`
	path := filepath.Join(b.TempDir(), "state.db")
	if err := Create(path, s); err != nil {
		b.Fatal(err)
	}
	db, err := Open(path, s)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	const batch = 500
	jws := fmt.Sprintf("%02900d", 7)
	body := make([]byte, 750)
	payload := make([]byte, 32)
	n := 0
	before := cpu(b)
	for b.Loop() {
		err := db.Tx(context.Background(), func(tx *Tx) error {
			for range batch {
				n++
				payload[0], payload[1], payload[2] = byte(n), byte(n>>8), byte(n>>16)
				if _, err := tx.Exec("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", n, "https://iam.mssp.example/jml", "hr", 1, n, payload, jws); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO entry VALUES (?, ?)", n, body); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO subject VALUES (?, ?, 1, 0, ?) ON CONFLICT DO UPDATE SET facts = excluded.facts", "https://iam.mssp.example/jml", fmt.Sprintf("E%07d", n*7919%100000), body[:200]); err != nil {
					return err
				}
			}
			_, err := tx.Exec("INSERT INTO stream VALUES ('i', 's', ?) ON CONFLICT DO UPDATE SET head = excluded.head", n)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/message")
	b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/message")
}

// cpu is the processor time that this process has used, in nanoseconds: what is left of a figure
// when others use the machine.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkDo(b *testing.B) {
	db := create(b)
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := db.Do(context.Background(), put(fmt.Sprint(n.Add(1)))); err != nil {
				b.Fatal(err)
			}
		}
	})
}
