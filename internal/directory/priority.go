package directory

import "context"

// Priority says whom a tenant drops first when it throttles. It raises no quota.
type Priority int8

// The zero value is the product's default.
const (
	Low    Priority = -1 // reconciliation: it can always be later
	Normal Priority = 0
	High   Priority = 1 // taking access away, and the reads that it waits for
)

type priorityKey struct{}

// WithPriority gives every request made under ctx priority p.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityOf returns what WithPriority set, else Normal.
func PriorityOf(ctx context.Context) Priority {
	p, _ := ctx.Value(priorityKey{}).(Priority)
	return p
}
