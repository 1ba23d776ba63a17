package tenant

import (
	"net/http"
	"slices"
	"strings"
)

// A route is one call of Graph v1.0 that the tenant answers.
type route struct {
	method string
	path   string // segments; {} is any one
	units  int    // base price
	any    []string
	handle func(*call) answer

	parts []string
}

// The permissions that let a call through; any one of a list does.
var (
	readUsers  = []string{"User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
	writeUsers = []string{"User.ReadWrite.All", "Directory.ReadWrite.All"}
	// patchUsers only opens the door: which property takes which is judged there.
	patchUsers    = append([]string{"User.EnableDisableAccount.All", "User-LifeCycleInfo.ReadWrite.All", "User-PasswordProfile.ReadWrite.All"}, writeUsers...)
	revoke        = append([]string{"User.RevokeSessions.All"}, writeUsers...)
	deleteRestore = append([]string{"User.DeleteRestore.All"}, writeUsers...)
	writeMembers  = []string{"GroupMember.ReadWrite.All", "Group.ReadWrite.All", "Directory.ReadWrite.All"}
	readGroups    = append([]string{"GroupMember.Read.All", "Group.Read.All", "Directory.Read.All"}, writeMembers...)
	readMembers   = append([]string{"GroupMember.ReadBasic.All"}, readGroups...)
	readBelonging = union(readMembers, readUsers)
	writeUnits    = []string{"AdministrativeUnit.ReadWrite.All", "Directory.ReadWrite.All"}
	readUnits     = append([]string{"AdministrativeUnit.Read.All", "Directory.Read.All"}, writeUnits...)
	readTenant    = []string{"Organization.Read.All", "Organization.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
)

var routes = []*route{
	{method: "POST", path: "users", any: writeUsers, handle: createUser},
	{method: "GET", path: "users", units: 2, any: readUsers, handle: listUsers},
	{method: "GET", path: "users/$count", units: 2, any: readUsers, handle: countUsers},
	{method: "GET", path: "users/{}", any: readUsers, handle: getUser},
	{method: "PATCH", path: "users/{}", any: patchUsers, handle: patchUser},
	{method: "DELETE", path: "users/{}", any: deleteRestore, handle: deleteUser},
	{method: "POST", path: "users/{}/revokeSignInSessions", any: revoke, handle: revokeSessions},
	{method: "POST", path: "users/{}/microsoft.graph.revokeSignInSessions", any: revoke, handle: revokeSessions},
	{method: "GET", path: "users/{}/manager", any: readUsers, handle: getManager},
	{method: "GET", path: "users/{}/manager/$ref", any: readUsers, handle: getManagerRef},
	{method: "PUT", path: "users/{}/manager/$ref", any: writeUsers, handle: putManager},
	{method: "DELETE", path: "users/{}/manager/$ref", any: writeUsers, handle: deleteManager},
	{method: "GET", path: "users/{}/memberOf", units: 2, any: readBelonging, handle: memberOf},
	{method: "GET", path: "users/{}/memberOf/{}", units: 2, any: readBelonging, handle: memberOf},
	{method: "GET", path: "users/{}/transitiveMemberOf", units: 2, any: readBelonging, handle: memberOf},
	{method: "GET", path: "users/{}/transitiveMemberOf/{}", units: 2, any: readBelonging, handle: memberOf},
	{method: "POST", path: "users/{}/getMemberGroups", units: 2, any: readBelonging, handle: getMemberGroups},
	{method: "POST", path: "users/{}/checkMemberGroups", units: 4, any: readBelonging, handle: checkMemberGroups},
	{method: "GET", path: "groups", any: readGroups, handle: listGroups},
	{method: "GET", path: "groups/{}", any: readGroups, handle: getGroup},
	{method: "GET", path: "groups/{}/members", units: 3, any: readMembers, handle: listMembers},
	{method: "GET", path: "groups/{}/members/{}", units: 3, any: readMembers, handle: listMembers},
	{method: "POST", path: "groups/{}/members/$ref", any: writeMembers, handle: addMember},
	{method: "DELETE", path: "groups/{}/members/{}/$ref", any: writeMembers, handle: removeMember},
	{method: "DELETE", path: "groups/{}/members/{}", any: deleteRestore, handle: deleteThroughGroup},
	{method: "GET", path: "directory/administrativeUnits", any: readUnits, handle: listUnits},
	{method: "GET", path: "directory/administrativeUnits/{}", any: readUnits, handle: getUnit},
	{method: "GET", path: "directory/administrativeUnits/{}/members", units: 3, any: readUnits, handle: listMembers},
	{method: "GET", path: "directory/administrativeUnits/{}/members/{}", units: 3, any: readUnits, handle: listMembers},
	{method: "POST", path: "directory/administrativeUnits/{}/members/$ref", any: writeUnits, handle: addMember},
	{method: "DELETE", path: "directory/administrativeUnits/{}/members/{}/$ref", any: writeUnits, handle: removeMember},
	{method: "GET", path: "directory/deletedItems/microsoft.graph.user", any: union(readUsers, deleteRestore), handle: listDeleted},
	{method: "GET", path: "directory/deletedItems/{}", any: union(readUsers, deleteRestore), handle: getDeleted},
	{method: "POST", path: "directory/deletedItems/{}/restore", any: deleteRestore, handle: restoreDeleted},
	{method: "POST", path: "directory/deletedItems/{}/microsoft.graph.restore", any: deleteRestore, handle: restoreDeleted},
	{method: "DELETE", path: "directory/deletedItems/{}", any: deleteRestore, handle: purgeDeleted},
	{method: "GET", path: "organization", any: readTenant, handle: organization},
	{method: "GET", path: "organization/{}", any: readTenant, handle: organization},
}

func init() {
	for _, r := range routes {
		r.parts = strings.Split(r.path, "/")
		if r.units == 0 {
			r.units = 1
		}
	}
}

// find matches a call to its route. A path that is known with another method
// is a 405, one that is not known names its first unknown segment.
func (c *call) find() (*route, *refusal) {
	deep, otherMethod := 0, false
	for _, r := range routes {
		n := matching(r.parts, c.parts)
		if n == len(r.parts) && n == len(c.parts) {
			if r.method == c.method {
				return r, nil
			}
			otherMethod = true
		}
		deep = max(deep, n)
	}
	if otherMethod {
		return nil, &refusal{status: http.StatusMethodNotAllowed, code: "Request_BadRequest", message: "Specified HTTP method is not allowed for the request target."}
	}
	segment := ""
	if len(c.parts) > 0 {
		segment = c.parts[min(deep, len(c.parts)-1)]
	}
	return nil, &refusal{status: http.StatusBadRequest, code: "BadRequest", message: "Resource not found for the segment '" + segment + "'."}
}

// matching counts the leading segments that agree.
func matching(pattern, parts []string) int {
	n := 0
	for n < len(pattern) && n < len(parts) && (pattern[n] == parts[n] || pattern[n] == "{}" && !strings.HasPrefix(parts[n], "$")) {
		n++
	}
	return n
}

// split unescapes a path after the version, and writes the short cast that
// SDKs send (graph.user) in full.
func split(escaped string) ([]string, bool) {
	raw := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, p := range raw {
		u, err := unescape(p)
		if err != nil {
			return nil, false
		}
		if strings.HasPrefix(u, "graph.") {
			u = "microsoft." + u
		}
		raw[i] = u
	}
	return raw, true
}

// optionsOf are the query options that a route takes beside $select, $top,
// $count and $skiptoken. Another one is refused: ignored in silence it would
// answer a question that was not asked.
var optionsOf = map[string][]string{
	"users": {"$filter", "$expand"}, "users/$count": {"$filter"}, "users/{}": {"$expand"},
	"groups": {"$filter"}, "directory/administrativeUnits": {"$filter"}, "directory/deletedItems/microsoft.graph.user": {"$filter"},
}

func (c *call) checkOptions(r *route) *refusal {
	for name := range c.query {
		switch name {
		case "$select", "$top", "$count", "$skiptoken":
			continue
		}
		if strings.HasPrefix(name, "$") && !slices.Contains(optionsOf[r.path], name) {
			return unsupported("The query option '%s' is not supported for this request.", name)
		}
	}
	return nil
}

// writes reports whether a call counts against the write quota: queries in the
// form of a POST do not.
func (r *route) writes() bool {
	return r.method != "GET" && !slices.Contains([]string{"getMemberGroups", "checkMemberGroups"}, r.parts[len(r.parts)-1])
}
