package plan

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
