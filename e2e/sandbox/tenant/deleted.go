package tenant

import (
	"net/http"
	"strings"
	"time"
)

// trashed resolves a soft-deleted user as seen at t.
func (c *call) trashed(t int64) (*entry, *user, *refusal) {
	id := fold(c.parts[2])
	e := c.s.dir.users[id]
	if e == nil {
		return nil, nil, notFound(c.parts[2])
	}
	u := e.seen(t)
	if u == nil || u.deleted.IsZero() || c.now.Sub(u.deleted) > deletedKept {
		return nil, nil, notFound(c.parts[2])
	}
	return e, u, nil
}

func getDeleted(c *call) answer {
	fields, bad := c.s.dir.selection(c.query.Get("$select"))
	if bad != nil {
		return refuse(bad)
	}
	e, u, bad := c.trashed(c.view)
	if bad != nil {
		return refuse(bad)
	}
	return jsonAnswer(http.StatusOK, append(appendUser(nil, e, u, fields,
		c.context("directoryObjects/$entity")+`,"@odata.type":"#microsoft.graph.user"`), '}'))
}

func restoreDeleted(c *call) answer {
	props := map[string]any{}
	if len(c.body) > 0 { // the body is optional
		var bad *refusal
		if props, bad = decodeObject(c.body); bad != nil {
			return refuse(bad)
		}
	}
	e, u, bad := c.trashed(primary)
	if bad != nil {
		return refuse(bad)
	}
	if e.privileged() && !c.app.overPrivileged() {
		return refuse(denied())
	}
	d := c.s.dir
	next := u.copyOf()
	next.deleted = time.Time{}
	next.text[pUPN] = strings.TrimPrefix(u.text[pUPN], strings.ReplaceAll(e.id, "-", ""))
	if name, ok := props["newUserPrincipalName"].(string); ok {
		if bad := d.checkUPN(name); bad != nil {
			return refuse(bad)
		}
		next.text[pUPN] = name
	}
	if bad := d.unique(e, next); bad != nil {
		return refuse(bad)
	}
	d.publish(e, next, c.nano())
	c.did(Change{Op: "restore", ID: e.id, Name: next.text[pUPN]})
	fields, _ := d.selection("") // the default set is always known
	return jsonAnswer(http.StatusOK, append(appendUser(nil, e, next, fields,
		c.context("directoryObjects/$entity")+`,"@odata.type":"#microsoft.graph.user"`), '}'))
}

func purgeDeleted(c *call) answer {
	e, u, bad := c.trashed(primary)
	if bad != nil {
		return refuse(bad)
	}
	if e.privileged() && !c.app.overPrivileged() {
		return refuse(denied())
	}
	c.s.dir.purge(e)
	c.did(Change{Op: "purge", ID: e.id, Name: u.text[pUPN]})
	return noContent()
}

func organization(c *call) answer {
	t := c.s.cfg.Seed.Tenant
	one := len(c.parts) == 2
	if one && fold(c.parts[1]) != c.s.tenantID {
		return refuse(notFound(c.parts[1]))
	}
	b := []byte("{")
	if one {
		b = append(b, c.context("organization/$entity")+","...)
	} else {
		b = append(b, c.context("organization")+`,"value":[{`...)
	}
	b = append(b, `"id":`...)
	b = appendText(b, c.s.tenantID)
	b = append(b, `,"displayName":`...)
	b = appendText(b, t.DisplayName)
	b = append(b, `,"verifiedDomains":[`...)
	for i, name := range t.Domains {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendText(b, name)
		b = append(b, `,"isDefault":`...)
		if i == 0 {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
		b = append(b, `,"isInitial":false,"type":"Managed","capabilities":"Email"}`...)
	}
	b = append(b, "]}"...)
	if !one {
		b = append(b, "]}"...)
	}
	return jsonAnswer(http.StatusOK, b)
}
