package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"jmlbridge/internal/ledger/archive"
	"jmlbridge/internal/store"
)

// Archived is the ID of the last message that is in the archive: up to it the caller need not keep
// the messages in the database for the archive's sake.
func Archived(db *store.DB) (cursor int64, err error) {
	if err = db.Read().QueryRow("SELECT cursor FROM ledger_archived").Scan(&cursor); err != nil {
		return 0, fmt.Errorf("read how far the archive goes: %w", err)
	}
	return cursor, nil
}

func (p *Publisher) publishArchive(ctx context.Context) error {
	if p.c.Archive == nil {
		return nil
	}
	cursor, err := Archived(p.c.DB)
	if err != nil {
		return err
	}
	for {
		rows, err := p.c.Archive.Unarchived(ctx, cursor, archiveRows)
		if err != nil {
			return fmt.Errorf("read messages for the archive: %w", err)
		}
		more := len(rows) == archiveRows
		for len(rows) > 0 {
			n, day := 1, archive.DayOf(rows[0].Day)
			for n < len(rows) && archive.DayOf(rows[n].Day) == day {
				n++
			}
			if rows[0].ID <= cursor {
				return fmt.Errorf("archive: message %d was handed out after message %d", rows[0].ID, cursor)
			}
			if err := p.archiveDay(ctx, day, rows[:n]); err != nil {
				return err
			}
			cursor = rows[n-1].ID
			rows = rows[n:]
		}
		if !more {
			return nil
		}
	}
}

// archiveDay appends rows to the file of a day. The file comes first and then the database's word on
// its length: a crash between the two leaves a tail that the next write cuts off and writes again.
func (p *Publisher) archiveDay(ctx context.Context, day string, rows []archive.Row) error {
	var length, count int64
	err := p.c.DB.Read().QueryRowContext(ctx, "SELECT length, rows FROM ledger_archive WHERE day = ?", day).Scan(&length, &count)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read the length of archive %s: %w", day, err)
	}
	member, err := archive.Member(rows)
	if err != nil {
		return fmt.Errorf("compress archive %s: %w", day, err)
	}
	path := filepath.Join(p.c.Dir, ArchiveFolder, archive.FileName(day))
	err = p.around(StepArchive, path, func() error {
		var d disk
		if err := d.putAt(path, length, member, dayMode, dayDirMode); err != nil {
			return err
		}
		return d.settle()
	})
	if err != nil {
		return fmt.Errorf("write archive %s: %w", day, err)
	}
	err = p.around(StepArchiveRecorded, "", func() error {
		return p.c.DB.Tx(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec("INSERT OR REPLACE INTO ledger_archive VALUES (?, ?, ?)", day, length+int64(len(member)), count+int64(len(rows))); err != nil {
				return err
			}
			_, err := tx.Exec("UPDATE ledger_archived SET cursor = ? WHERE one = 1", rows[len(rows)-1].ID)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("record archive %s: %w", day, err)
	}
	return nil
}
