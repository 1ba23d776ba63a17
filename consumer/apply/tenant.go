package apply

import (
	"context"

	"jmlbridge/internal/directory"
)

// Looker reads accounts. What it returns may come from a replica that lags.
type Looker interface {
	Get(ctx context.Context, id string) (directory.Account, directory.Receipt, error)
	GetByUPN(ctx context.Context, upn string) (directory.Account, directory.Receipt, error)
	FindByMark(ctx context.Context, mark string) ([]directory.Account, directory.Receipt, error)
	FindByEmployeeID(ctx context.Context, employeeID string) ([]directory.Account, directory.Receipt, error)
	Groups(ctx context.Context, id string) ([]string, directory.Receipt, error)
	Manager(ctx context.Context, id string) (string, directory.Receipt, error)
}

// Cutter takes access away. It has a credential slot of its own, so that the identity which disables a
// leaver need not be able to create anybody. Every method makes one attempt; all are idempotent.
type Cutter interface {
	Looker
	Disable(ctx context.Context, id string) (directory.Receipt, error)
	RevokeSessions(ctx context.Context, id string) (directory.Receipt, error)
	RemoveMember(ctx context.Context, groupID, id string) (directory.Receipt, error)
	Delete(ctx context.Context, id string) (directory.Receipt, error)
}

// Granter gives access and changes who someone is. Create alone is not idempotent: before it is
// repeated somebody must look.
type Granter interface {
	Looker
	Create(ctx context.Context, n directory.NewAccount) (directory.Account, directory.Receipt, error)
	Update(ctx context.Context, id string, from, to directory.Attributes) (directory.Receipt, error)
	Enable(ctx context.Context, id string) (directory.Receipt, error)
	AddMember(ctx context.Context, groupID, id string) (directory.Receipt, error)
	SetManager(ctx context.Context, id, managerID string) (directory.Receipt, error)
	ClearManager(ctx context.Context, id string) (directory.Receipt, error)
}
