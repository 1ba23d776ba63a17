package tenant

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

func listGroups(c *call) answer { return c.containerList(false) }

func listUnits(c *call) answer { return c.containerList(true) }

// containerList lists groups or units; $filter takes displayName eq and
// startsWith, which is how people find a group.
func (c *call) containerList(unit bool) answer {
	context, t := "groups", c.view
	if unit {
		context = "directory/administrativeUnits"
	}
	match := func(*container) bool { return true }
	if text := c.query.Get("$filter"); text != "" {
		var bad *refusal
		if match, bad = nameFilter(text); bad != nil {
			return refuse(bad)
		}
		t = c.ixView
	}
	p, bad := newPage(c, context)
	if bad != nil {
		return refuse(bad)
	}
	p.open()
	sel := names(c.query.Get("$select"))
	for _, g := range c.s.dir.sorted {
		if g.unit != unit || g.born > t || g.seq <= p.after || !match(g) {
			continue
		}
		if p.full() {
			break
		}
		p.item(g.seq)
		p.body = append(appendContainer(p.body, g, sel, ""), '}')
	}
	return p.close()
}

// nameFilter reads the filter of groups and units: displayName or id, one
// comparison.
func nameFilter(text string) (func(*container) bool, *refusal) {
	toks, err := lexFilter(text)
	if err != nil {
		return nil, badFilter("%v", err)
	}
	word := func(i int, s string) bool {
		return i < len(toks) && !toks[i].quoted && strings.EqualFold(toks[i].text, s)
	}
	switch {
	case len(toks) == 3 && word(0, "displayName") && word(1, "eq") && toks[2].quoted:
		return func(g *container) bool { return fold(g.name) == fold(toks[2].text) }, nil
	case len(toks) == 3 && word(0, "id") && word(1, "eq") && toks[2].quoted:
		return func(g *container) bool { return g.id == fold(toks[2].text) }, nil
	case len(toks) == 6 && word(0, "startsWith") && word(1, "(") && word(2, "displayName") && word(3, ",") && toks[4].quoted && word(5, ")"):
		return func(g *container) bool { return strings.HasPrefix(fold(g.name), fold(toks[4].text)) }, nil
	}
	return nil, unsupported("Unsupported or invalid query filter clause specified for resource 'Group'.")
}

func getGroup(c *call) answer { return c.getContainer(1, false, "groups/$entity") }

func getUnit(c *call) answer {
	return c.getContainer(2, true, "directory/administrativeUnits/$entity")
}

func (c *call) getContainer(at int, unit bool, context string) answer {
	g, bad := c.container(at, unit, c.view)
	if bad != nil {
		return refuse(bad)
	}
	return jsonAnswer(http.StatusOK, append(appendContainer(nil, g, names(c.query.Get("$select")), c.context(context)), '}'))
}

// container resolves the group or unit in a path as seen at t.
func (c *call) container(at int, unit bool, t int64) (*container, *refusal) {
	g := c.s.dir.containers[fold(c.parts[at])]
	if g == nil || g.unit != unit || g.born > t {
		return nil, notFound(c.parts[at])
	}
	return g, nil
}

// holder resolves the container of a …/members path, and says where in the
// path "members" stands.
func (c *call) holder(t int64) (*container, int, *refusal) {
	at, unit := 1, false
	if c.parts[0] == "directory" {
		at, unit = 2, true
	}
	g, bad := c.container(at, unit, t)
	return g, at + 1, bad
}

// listMembers lists direct members, cast to users if asked: the cast reads the
// index and is an advanced query (documented).
func listMembers(c *call) answer {
	t := c.view
	g, at, bad := c.holder(t)
	if bad != nil {
		return refuse(bad)
	}
	usersOnly := false
	if len(c.parts) > at+1 {
		if c.parts[at+1] != "microsoft.graph.user" {
			return refuse(&refusal{status: 400, code: "BadRequest", message: "Resource not found for the segment '" + c.parts[at+1] + "'."})
		}
		if !c.counted() {
			return refuse(unsupported("The specified cast requires the ConsistencyLevel header set to eventual and $count."))
		}
		usersOnly, t = true, c.ixView
	}
	sel := c.query.Get("$select")
	fields, bad := c.s.dir.selection(sel)
	if bad != nil {
		return refuse(bad)
	}
	p, bad := newPage(c, "directoryObjects")
	if bad != nil {
		return refuse(bad)
	}
	p.open()
	for i := g.after(p.after); i < len(g.edges); i++ {
		m := &g.edges[i]
		if !m.seen(t) || usersOnly && m.n.entry == nil {
			continue
		}
		if p.full() {
			break
		}
		p.item(m.seq)
		if e := m.n.entry; e != nil {
			p.body = append(appendUser(p.body, e, e.seen(t), fields, `"@odata.type":"#microsoft.graph.user"`), '}')
		} else {
			p.body = append(appendContainer(p.body, m.n.group, names(sel), `"@odata.type":"#microsoft.graph.group"`), '}')
		}
	}
	return p.close()
}

// editable judges whether a container's members can be changed by hand. The
// code for dynamic groups is not documented; 400 is what integrations report.
func (c *call) editable(g *container) *refusal {
	switch {
	case g.roleAssignable && !c.app.allows("RoleManagement.ReadWrite.Directory"):
		return denied()
	case g.mailEnabled:
		return badRequest("Cannot Update a mail-enabled security groups and or distribution list.")
	case g.dynamic:
		return badRequest("Insufficient privileges to complete the operation. Members of a group with dynamic membership cannot be changed.")
	}
	return nil
}

func addMember(c *call) answer {
	props, bad := decodeObject(c.body)
	if bad != nil {
		return refuse(bad)
	}
	g, _, bad := c.holder(primary)
	if bad != nil {
		return refuse(bad)
	}
	if g.born > c.known { // documented: the same 400 as for a duplicate, with this text
		return refuse(badRequest("The source resource object or one of the objects being referenced don't exist."))
	}
	if bad := c.editable(g); bad != nil {
		return refuse(bad)
	}
	id, bad := c.reference(props["@odata.id"])
	if bad != nil {
		return refuse(bad)
	}
	n, bad := c.member(id)
	if bad != nil {
		return refuse(bad)
	}
	if g.had(n, c.known) {
		return refuse(badRequest("One or more added object references already exist for the following modified properties: 'members'."))
	}
	if !g.has(n) {
		c.s.dir.toggle(g, n, true, c.nano())
		c.did(Change{Op: "add-member", ID: n.id, Name: n.name(), Target: g.id, TargetName: g.name})
	}
	return noContent()
}

// member resolves the object that a reference names.
func (c *call) member(id string) (*node, *refusal) {
	if g := c.s.dir.containers[fold(id)]; g != nil && !g.unit && g.born <= c.known {
		return &g.node, nil
	}
	e, bad := c.target(id)
	if bad != nil {
		return nil, bad
	}
	return &e.node, nil
}

// name is what people call a node.
func (n *node) name() string {
	if n.entry != nil {
		return n.entry.cur.text[pUPN]
	}
	return n.group.name
}

func removeMember(c *call) answer {
	g, at, bad := c.holder(primary)
	if bad != nil {
		return refuse(bad)
	}
	if bad := c.editable(g); bad != nil {
		return refuse(bad)
	}
	id := c.parts[at+1]
	n, bad := c.member(id)
	if bad != nil {
		return refuse(bad)
	}
	if !g.had(n, c.known) {
		return refuse(notFound(id))
	}
	if g.has(n) {
		c.s.dir.toggle(g, n, false, c.nano())
		c.did(Change{Op: "remove-member", ID: n.id, Name: n.name(), Target: g.id, TargetName: g.name})
	}
	return noContent()
}

// memberOf serves memberOf and transitiveMemberOf, with a cast to groups or
// units as an advanced query (documented).
func memberOf(c *call) answer {
	t, want := c.view, ""
	if len(c.parts) == 4 {
		want = c.parts[3]
		if want != "microsoft.graph.group" && want != "microsoft.graph.administrativeUnit" && want != "microsoft.graph.directoryRole" {
			return refuse(&refusal{status: 400, code: "BadRequest", message: "Resource not found for the segment '" + want + "'."})
		}
		if !c.counted() {
			return refuse(unsupported("The specified cast requires the ConsistencyLevel header set to eventual and $count."))
		}
		t = c.ixView
	}
	e, u := c.s.dir.byNameOrID(c.parts[1], t)
	if u == nil {
		return refuse(notFound(c.parts[1]))
	}
	p, bad := newPage(c, "directoryObjects")
	if bad != nil {
		return refuse(bad)
	}
	sel := names(c.query.Get("$select"))
	list := e.memberOf(t, c.parts[2] == "transitiveMemberOf")
	list = slices.DeleteFunc(list, func(g *container) bool { return want != "" && g.kind() != want })
	if c.counted() {
		p.count = len(list)
	}
	p.open()
	for _, g := range list {
		if g.seq <= p.after {
			continue
		}
		if p.full() {
			break
		}
		p.item(g.seq)
		p.body = append(appendContainer(p.body, g, sel, `"@odata.type":"#`+g.kind()+`"`), '}')
	}
	return p.close()
}

func (c *container) kind() string {
	if c.unit {
		return "microsoft.graph.administrativeUnit"
	}
	return "microsoft.graph.group"
}

func getMemberGroups(c *call) answer {
	return c.memberGroups(func(string) bool { return true })
}

func checkMemberGroups(c *call) answer {
	var body struct {
		IDs []string `json:"groupIds"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil || body.IDs == nil {
		return refuse(badRequest("A value is required for property 'groupIds'."))
	}
	if len(body.IDs) > maxCheckGroups {
		return refuse(badRequest("Too many values specified for 'groupIds': %d. At most %d are allowed.", len(body.IDs), maxCheckGroups))
	}
	return c.memberGroups(func(id string) bool {
		return slices.ContainsFunc(body.IDs, func(s string) bool { return strings.EqualFold(s, id) })
	})
}

func (c *call) memberGroups(want func(string) bool) answer {
	e, u := c.s.dir.byNameOrID(c.parts[1], c.view)
	if u == nil {
		return refuse(notFound(c.parts[1]))
	}
	ids := []string{}
	for _, g := range e.memberOf(c.view, true) {
		if !g.unit && want(g.id) {
			ids = append(ids, g.id)
		}
	}
	return jsonAnswer(http.StatusOK, append(appendList([]byte("{"+c.context("Collection(Edm.String)")+`,"value":`), ids), '}'))
}
