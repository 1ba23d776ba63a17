package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

var (
	errReadOnly = errors.New("this database was opened for reading only")
	errClosed   = errors.New("the database is closed")
	errEnded    = errors.New("the transaction has ended")
)

// writer is the one connection that writes. Whoever holds turn owns conn and stmts.
type writer struct {
	turn   chan struct{} // capacity 1: a token in it means taken
	closed chan struct{}
	conn   *sql.Conn
	stmts  map[string]*sql.Stmt // prepared on conn, by their text; preparing costs more than running
}

func newWriter(db *sql.DB) (*writer, error) {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	return &writer{turn: make(chan struct{}, 1), closed: make(chan struct{}), conn: conn, stmts: map[string]*sql.Stmt{}}, nil
}

func (w *writer) take(ctx context.Context) error {
	select {
	case <-w.closed:
		return errClosed
	default:
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-w.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) put() { <-w.turn }

func (w *writer) close() {
	close(w.closed)
	for _, s := range w.stmts {
		_ = s.Close()
	}
	_ = w.conn.Close()
}

func (w *writer) stmt(query string) (*sql.Stmt, error) {
	if s, ok := w.stmts[query]; ok {
		return s, nil
	}
	if len(w.stmts) >= maxStatements {
		for q, s := range w.stmts {
			_ = s.Close()
			delete(w.stmts, q)
		}
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = s
	return s, nil
}

func (w *writer) exec(query string) error {
	s, err := w.stmt(query)
	if err != nil {
		return err
	}
	_, err = s.Exec()
	return err
}

// Tx is one unit of work: all of it becomes durable or nothing. It belongs to the goroutine and the
// call that it was given to. It has no context: work inside a transaction is local and bounded, and
// half-done because someone pressed Ctrl-C is what it exists to prevent.
type Tx struct {
	w      *writer
	values map[any]any

	running map[string]bool // queries whose prepared form Each is reading from
	before  []func() error
	after   []func()
	ended   bool
}

// Exec runs a statement; its prepared form is kept for the next transaction. query is a constant,
// values go through args.
func (tx *Tx) Exec(query string, args ...any) (sql.Result, error) {
	if tx.ended {
		return nil, errEnded
	}
	s, err := tx.w.stmt(query)
	if err != nil {
		return nil, err
	}
	return s.Exec(args...)
}

// QueryRow runs a query for at most one row, prepared as in Exec. Scan it before the next call.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	if tx.ended {
		// *sql.Row cannot be made with an error of ours; a cancelled context is one that says so.
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errEnded)
		return tx.w.conn.QueryRowContext(ctx, query, args...)
	}
	s, err := tx.w.stmt(query)
	if err != nil {
		return tx.w.conn.QueryRowContext(context.Background(), query, args...) // fails the same way, in Scan
	}
	return s.QueryRow(args...)
}

// Query runs a query. It is prepared anew each time, since the same text may be running already; [Tx.Each]
// knows better. Close the rows before the unit ends.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	if tx.ended {
		return nil, errEnded
	}
	return tx.w.conn.QueryContext(context.Background(), query, args...)
}

// Each runs a query and calls row for every row; scan reads its columns. An error of row ends it.
func (tx *Tx) Each(query string, args []any, row func(scan func(...any) error) error) error {
	rows, done, err := tx.rows(query, args)
	if err != nil {
		return err
	}
	defer done()
	return drain(rows, row)
}

// rows runs a query in its prepared form, unless that is running already.
func (tx *Tx) rows(query string, args []any) (rows *sql.Rows, done func(), err error) {
	if tx.ended || tx.running[query] {
		rows, err = tx.Query(query, args...)
		return rows, func() {}, err
	}
	s, err := tx.w.stmt(query)
	if err != nil {
		return nil, nil, err
	}
	if tx.running == nil {
		tx.running = map[string]bool{}
	}
	rows, err = s.Query(args...)
	tx.running[query] = err == nil
	return rows, func() { tx.running[query] = false }, err
}

// script runs SQL of several statements.
func (tx *Tx) script(sql string) error {
	_, err := tx.w.conn.ExecContext(context.Background(), sql)
	return err
}

// Value returns what SetValue kept under key in this unit, or nil. Packages whose tables are written
// from many places of one unit keep a cache here; it ends with the unit, also when it is undone.
func (tx *Tx) Value(key any) any { return tx.values[key] }

// SetValue keeps v under key until the unit ends. The key is a private type, as with contexts.
func (tx *Tx) SetValue(key, v any) {
	if tx.values == nil {
		tx.values = map[any]any{}
	}
	tx.values[key] = v
}

// Before calls f once, at the end of the unit and inside it: what f writes is part of it, and its
// error undoes it.
func (tx *Tx) Before(f func() error) { tx.before = append(tx.before, f) }

// After calls f once the unit is durable, before the caller hears of it. f must not use tx or the
// database, and be quick: it is for waking someone up.
func (tx *Tx) After(f func()) { tx.after = append(tx.after, f) }

// run is fn with its Before calls.
func (tx *Tx) run(fn func(*Tx) error) error {
	defer func() { tx.ended = true }()
	if err := fn(tx); err != nil {
		return err
	}
	for i := 0; i < len(tx.before); i++ { // by index: one may register another
		if err := tx.before[i](); err != nil {
			return err
		}
	}
	return nil
}

// Tx runs fn in a transaction of its own and returns when it is durable. An error of fn, or a panic,
// undoes it. An error of the commit itself says only that durability is not known: whoever repeats
// must recognise what is there. ctx ends the wait for the writer, not fn.
func (db *DB) Tx(ctx context.Context, fn func(*Tx) error) error {
	if db.w == nil {
		return errReadOnly
	}
	if err := db.w.take(ctx); err != nil {
		return fmt.Errorf("wait for the writer: %w", err)
	}
	defer db.w.put()
	return db.w.transact(fn)
}

// transact needs w to be taken.
func (w *writer) transact(fn func(*Tx) error) error {
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	done := false
	defer func() {
		if !done { // also on a panic of fn
			_ = w.exec("ROLLBACK")
		}
	}()
	tx := &Tx{w: w}
	if err := tx.run(fn); err != nil {
		return err
	}
	if err := w.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	done = true
	for _, f := range tx.after {
		f()
	}
	return nil
}
