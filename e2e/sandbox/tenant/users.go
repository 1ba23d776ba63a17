package tenant

import (
	"fmt"
	"net/http"
	"strings"
)

// target resolves the user that a write names: at the primary, except that an
// object younger than the write lag is not known there yet.
func (c *call) target(key string) (*entry, *refusal) {
	e, u := c.s.dir.byNameOrID(key, primary)
	if u == nil || e.born > c.known {
		return nil, notFound(key)
	}
	return e, nil
}

func createUser(c *call) answer {
	props, bad := decodeObject(c.body)
	if bad != nil {
		return refuse(bad)
	}
	d := c.s.dir
	next := &user{at: c.nano(), created: c.now, sessionsFrom: c.now}
	next.text[pUserType] = "Member"
	did, bad := d.assign(next, props, true)
	if bad == nil {
		bad = d.checkNew(next, props)
	}
	if bind, there := props["manager@odata.bind"]; bad == nil && there {
		next.manager, bad = c.boundUser(bind)
	}
	if bad == nil && hasSensitiveLifecycle(props) && !c.app.allows("User-LifeCycleInfo.ReadWrite.All") {
		bad = denied()
	}
	if bad != nil {
		return refuse(bad)
	}
	e := d.addUser(newID(), next)
	c.did(Change{Op: "create", ID: e.id, Name: next.text[pUPN], Set: did})
	fields, _ := d.selection("") // the default set is always known
	a := jsonAnswer(http.StatusCreated, append(appendUser(nil, e, next, fields, c.context("users/$entity")), '}'))
	a.set("Location", c.s.root+"/v1.0/directoryObjects/"+e.id+"/Microsoft.DirectoryServices.User")
	return a
}

func hasSensitiveLifecycle(props map[string]any) bool {
	_, there := props["employeeLeaveDateTime"]
	return there
}

// boundUser resolves an @odata.id or @odata.bind value to a user.
func (c *call) boundUser(v any) (*entry, *refusal) {
	id, bad := c.reference(v)
	if bad != nil {
		return nil, bad
	}
	return c.target(id)
}

// reference takes the object id out of an absolute URL of this Graph.
func (c *call) reference(v any) (string, *refusal) {
	s, _ := v.(string)
	rest := ""
	for _, root := range c.s.roots {
		if r, ok := strings.CutPrefix(s, root+"/v1.0/"); ok {
			rest = r
		}
	}
	kind, id, ok := strings.Cut(strings.Trim(rest, "/"), "/")
	if !ok || id == "" || strings.Contains(id, "/") || (kind != "users" && kind != "directoryObjects" && kind != "groups") {
		return "", badRequest("Invalid URL format specified in @odata.id for reference link.")
	}
	id, err := unescape(id)
	if err != nil {
		return "", badRequest("Invalid URL format specified in @odata.id for reference link.")
	}
	return id, nil
}

func getUser(c *call) answer {
	d := c.s.dir
	fields, bad := d.selection(c.query.Get("$select"))
	if bad != nil {
		return refuse(bad)
	}
	e, u := d.byNameOrID(c.parts[1], c.view)
	if u == nil {
		return refuse(notFound(c.parts[1]))
	}
	what := "users/$entity"
	if sel := c.query.Get("$select"); sel != "" {
		what = "users(" + sel + ")/$entity"
	}
	b := appendUser(nil, e, u, fields, c.context(what))
	b, bad = c.expand(b, u)
	if bad != nil {
		return refuse(bad)
	}
	return jsonAnswer(http.StatusOK, append(b, '}'))
}

// expand adds what $expand asks for: the manager, with its own $select.
func (c *call) expand(b []byte, u *user) ([]byte, *refusal) {
	want := c.query.Get("$expand")
	if want == "" {
		return b, nil
	}
	name, options, _ := strings.Cut(strings.TrimSuffix(want, ")"), "(")
	sel, onlySelect := strings.CutPrefix(options, "$select=")
	if name != "manager" || options != "" && !onlySelect {
		return nil, unsupported("$expand of '%s' is not supported here.", want)
	}
	fields, bad := c.s.dir.selection(sel)
	if bad != nil {
		return nil, bad
	}
	if u.manager == nil {
		return b, nil
	}
	m := u.manager.seen(c.view)
	if !m.live() {
		return b, nil
	}
	b = append(b, `,"manager":`...)
	return append(appendUser(b, u.manager, m, fields, `"@odata.type":"#microsoft.graph.user"`), '}'), nil
}

// patchAllowed judges a PATCH property by property (documented): enabling and
// disabling, passwords and leave dates have permissions of their own.
func patchAllowed(app *registration, props map[string]any) bool {
	for name := range props {
		if strings.HasPrefix(name, "@odata.") {
			continue
		}
		ok := app.allows(writeUsers...)
		switch name {
		case "accountEnabled":
			ok = ok || app.allows("User.EnableDisableAccount.All") && app.allows(readUsers...)
		case "passwordProfile":
			ok = app.allows("User-PasswordProfile.ReadWrite.All")
		case "employeeLeaveDateTime":
			ok = app.allows("User-LifeCycleInfo.ReadWrite.All") && app.allows(readUsers...)
		}
		if !ok {
			return false
		}
	}
	return true
}

func patchUser(c *call) answer {
	props, bad := decodeObject(c.body)
	if bad != nil {
		return refuse(bad)
	}
	if !patchAllowed(c.app, props) {
		return refuse(denied())
	}
	e, bad := c.target(c.parts[1])
	if bad != nil {
		return refuse(bad)
	}
	for name := range props {
		if sensitive[name] && e.privileged() && !c.app.overPrivileged() {
			return refuse(denied())
		}
	}
	d := c.s.dir
	next := e.cur.copyOf()
	did, bad := d.assign(next, props, false)
	if bad == nil {
		bad = d.unique(e, next)
	}
	if bad != nil {
		return refuse(bad)
	}
	d.publish(e, next, c.nano())
	c.did(Change{Op: "update", ID: e.id, Name: next.text[pUPN], Set: did})
	return noContent()
}

func deleteUser(c *call) answer { return c.softDelete(c.parts[1]) }

// deleteThroughGroup is the documented trap: without $ref the DELETE goes to
// the member itself, not to its membership.
func deleteThroughGroup(c *call) answer { return c.softDelete(c.parts[3]) }

func (c *call) softDelete(key string) answer {
	e, bad := c.target(key)
	if bad != nil {
		return refuse(bad)
	}
	if e.privileged() && !c.app.overPrivileged() {
		return refuse(denied())
	}
	next := e.cur.copyOf()
	next.deleted = c.now
	// The name becomes free: Entra puts the object id in front of it.
	next.text[pUPN] = strings.ReplaceAll(e.id, "-", "") + next.text[pUPN]
	c.s.dir.publish(e, next, c.nano())
	c.did(Change{Op: "delete", ID: e.id, Name: e.cur.text[pUPN]})
	return noContent()
}

func revokeSessions(c *call) answer {
	e, bad := c.target(c.parts[1])
	if bad != nil {
		return refuse(bad)
	}
	if e.cur.text[pUserType] != "Guest" { // documented: no effect on external users
		next := e.cur.copyOf()
		next.sessionsFrom = c.now
		c.s.dir.publish(e, next, c.nano())
		c.did(Change{Op: "revoke", ID: e.id, Name: next.text[pUPN], Set: map[string]any{"signInSessionsValidFromDateTime": stamp(c.now)}})
	}
	return jsonAnswer(http.StatusOK, []byte("{"+c.context("Edm.Boolean")+`,"value":true}`))
}

func getManager(c *call) answer {
	fields, bad := c.s.dir.selection(c.query.Get("$select"))
	if bad != nil {
		return refuse(bad)
	}
	m, mu, bad := c.manager()
	if bad != nil {
		return refuse(bad)
	}
	return jsonAnswer(http.StatusOK, append(appendUser(nil, m, mu, fields,
		c.context("directoryObjects/$entity")+`,"@odata.type":"#microsoft.graph.user"`), '}'))
}

func getManagerRef(c *call) answer {
	m, _, bad := c.manager()
	if bad != nil {
		return refuse(bad)
	}
	return jsonAnswer(http.StatusOK, fmt.Appendf(nil, `{%s,"@odata.id":"%s/v1.0/users/%s"}`, c.context("$ref"), c.s.root, m.id))
}

func (c *call) manager() (*entry, *user, *refusal) {
	_, u := c.s.dir.byNameOrID(c.parts[1], c.view)
	if u == nil {
		return nil, nil, notFound(c.parts[1])
	}
	if u.manager == nil {
		return nil, nil, notFound("manager")
	}
	mu := u.manager.seen(c.view)
	if !mu.live() {
		return nil, nil, notFound("manager")
	}
	return u.manager, mu, nil
}

func putManager(c *call) answer {
	props, bad := decodeObject(c.body)
	if bad != nil {
		return refuse(bad)
	}
	e, bad := c.target(c.parts[1])
	if bad != nil {
		return refuse(bad)
	}
	m, bad := c.boundUser(props["@odata.id"])
	if bad != nil {
		return refuse(bad)
	}
	next := e.cur.copyOf()
	next.manager = m
	c.s.dir.publish(e, next, c.nano())
	c.did(Change{Op: "set-manager", ID: e.id, Name: next.text[pUPN], Target: m.id})
	return noContent()
}

func deleteManager(c *call) answer {
	e, bad := c.target(c.parts[1])
	if bad != nil {
		return refuse(bad)
	}
	if e.cur.manager == nil {
		return refuse(notFound("manager"))
	}
	next := e.cur.copyOf()
	next.manager = nil
	c.s.dir.publish(e, next, c.nano())
	c.did(Change{Op: "clear-manager", ID: e.id, Name: next.text[pUPN]})
	return noContent()
}
