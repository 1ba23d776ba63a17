package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"jmlbridge/internal/program"
)

// stamp is a time for people; a dash where there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// age is how long ago t was, in the two largest units.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t).Round(time.Second)
	switch {
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d)
	}
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// persons counts people.
func persons(n int) string {
	if n == 1 {
		return "1 person"
	}
	return strconv.Itoa(n) + " persons"
}

// peopleTable prints rows about people, the last cell of each its issuer. That column is there where several issuers are
// followed: the same subject is another person of each.
func (a *app) peopleTable(issuers, heading []string, rows [][]string) error {
	if len(issuers) > 1 {
		return program.Table(a.out, append(heading, "ISSUER"), rows)
	}
	for i, row := range rows {
		rows[i] = row[:len(heading)]
	}
	return program.Table(a.out, heading, rows)
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
