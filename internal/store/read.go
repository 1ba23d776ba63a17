package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// Reader is the pool of reading connections. It keeps the prepared form of each query for the next time, since
// preparing costs more than running; queries are constants, and values go through args.
type Reader struct {
	*sql.DB

	mu    sync.Mutex // guards stmts; never held while a query runs
	stmts map[string]*sql.Stmt
}

func newReader(db *sql.DB) *Reader { return &Reader{DB: db, stmts: map[string]*sql.Stmt{}} }

// stmt is nil where the query is to be run without.
func (r *Reader) stmt(query string) *sql.Stmt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.stmts[query]; ok {
		return s
	}
	if len(r.stmts) >= maxStatements {
		return nil
	}
	s, err := r.DB.Prepare(query)
	if err != nil {
		return nil // running it fails the same way, where the caller sees it
	}
	r.stmts[query] = s
	return s
}

// Query is [sql.DB.Query].
func (r *Reader) Query(query string, args ...any) (*sql.Rows, error) {
	return r.QueryContext(context.Background(), query, args...)
}

// QueryContext is [sql.DB.QueryContext].
func (r *Reader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := r.stmt(query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return r.DB.QueryContext(ctx, query, args...)
}

// Each runs a query and calls row for every row; scan reads its columns. An error of row ends it.
func (r *Reader) Each(query string, args []any, row func(scan func(...any) error) error) error {
	rows, err := r.Query(query, args...)
	if err != nil {
		return err
	}
	return drain(rows, row)
}

// QueryRow is [sql.DB.QueryRow].
func (r *Reader) QueryRow(query string, args ...any) *sql.Row {
	return r.QueryRowContext(context.Background(), query, args...)
}

// QueryRowContext is [sql.DB.QueryRowContext].
func (r *Reader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := r.stmt(query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return r.DB.QueryRowContext(ctx, query, args...)
}

// Snapshot lets f read the database as it is at one moment, whatever is written meanwhile. f reads nothing by the
// Reader itself: that would show another moment.
func (r *Reader) Snapshot(ctx context.Context, f func(*Snapshot) error) error {
	tx, err := r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
	}
	s := &Snapshot{r: r, tx: tx}
	defer func() {
		_ = tx.Rollback() // nothing was written
		for _, query := range s.fresh {
			r.stmt(query)
		}
	}()
	return f(s)
}

// Snapshot is the database as it was when it was first read. It belongs to the call that it was given to.
type Snapshot struct {
	r     *Reader
	tx    *sql.Tx
	fresh []string // queries that have no prepared form: made now it would take a further connection
}

// stmt is nil where the query is to be run without.
func (s *Snapshot) stmt(query string) *sql.Stmt {
	s.r.mu.Lock()
	p := s.r.stmts[query]
	s.r.mu.Unlock()
	if p == nil {
		s.fresh = append(s.fresh, query)
		return nil
	}
	return s.tx.Stmt(p)
}

// QueryRow runs a query for at most one row.
func (s *Snapshot) QueryRow(query string, args ...any) *sql.Row {
	if p := s.stmt(query); p != nil {
		return p.QueryRow(args...)
	}
	return s.tx.QueryRow(query, args...)
}

// Each runs a query and calls row for every row; scan reads its columns. An error of row ends it.
func (s *Snapshot) Each(query string, args []any, row func(scan func(...any) error) error) error {
	rows, err := s.rows(query, args)
	if err != nil {
		return err
	}
	return drain(rows, row)
}

func (s *Snapshot) rows(query string, args []any) (*sql.Rows, error) {
	if p := s.stmt(query); p != nil {
		return p.Query(args...)
	}
	return s.tx.Query(query, args...)
}

// Close closes the statements and the connections.
func (r *Reader) Close() error {
	r.mu.Lock()
	for query, s := range r.stmts {
		_ = s.Close()
		delete(r.stmts, query)
	}
	r.mu.Unlock()
	return r.DB.Close()
}

// drain calls row for every row and closes rows.
func drain(rows *sql.Rows, row func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
