package plan

import (
	"slices"

	"jmlbridge/consumer/fence"
)

// Lane is the order in which work is done across all persons: a lower lane goes first. Its values
// stand in the database.
type Lane int

const (
	Idle    Lane = iota // nothing to do until a fact or a date
	Disable             // account disabled: leavers, suspensions, local cuts
	Revoke              // sessions revoked
	Take                // roles that a mover no longer names
	Give                // create, update, enable, add
	Strip               // memberships of a closed engagement
	Delete              // soft delete after grace
)

var laneNames = [...]string{"idle", "disable", "revoke", "take", "give", "strip", "delete"}

func (l Lane) String() string {
	if l < 0 || int(l) >= len(laneNames) {
		return "unknown"
	}
	return laneNames[l]
}

// Between is the lane of the work that leads from one view of a person to another, whatever led there. owed says that there
// may be an open account of somebody who is to have no access: it is to be cut, also where it was to be before. Idle: the
// work that stands, if any, serves.
func Between(before, after fence.View, owed bool) Lane {
	switch {
	case after.Access && before.Access && slices.ContainsFunc(before.Want.Roles, func(r string) bool { return !slices.Contains(after.Roles(), r) }):
		return Take
	case after.Access:
		return Give
	case after.Why == fence.WhyUnknown:
		return Idle
	case before.Access, owed, after.Closed && !before.Closed:
		return Disable
	case before.Why == after.Why:
		return Idle
	case after.Why == fence.WhyNotStarted:
		return Strip // a look, for an account of before that nobody knows of
	}
	return Disable
}
