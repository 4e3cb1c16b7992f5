package access

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hashinsight/hashinsight/hub/internal/audit"
)

// Refusals that are recorded one by one: a burst, then so many a second in this process. The others are counted in the next
// one's details, so that nobody fills the audit log from outside.
const (
	recordBurst   = 20
	recordRate    = 5.0 // a second
	recordTimeout = 2 * time.Second
)

// refusals bounds how many refusals are recorded. The zero value is ready.
type refusals struct {
	mu      sync.Mutex
	used    float64
	at      time.Time
	dropped int64
}

// take reports whether one may be recorded now, and how many were not since the last.
func (r *refusals) take(now time.Time) (ok bool, dropped int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = max(0, r.used-now.Sub(r.at).Seconds()*recordRate)
	r.at = now
	if r.used > recordBurst-1 {
		r.dropped++
		return false, 0
	}
	r.used++
	dropped, r.dropped = r.dropped, 0
	return true, dropped
}

// recordRefusal records that somebody was not let in. The request does not wait long for it, nor fail with it.
func (a *Access) recordRefusal(ctx context.Context, e audit.Entry) {
	ok, dropped := a.refusals.take(a.now())
	if !ok {
		return
	}
	if dropped > 0 {
		e.Details["not_recorded_before"] = dropped
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := a.audit.Record(ctx, e); err != nil {
		a.log.WarnContext(ctx, "a refusal is not in the audit log", "action", e.Action, "err", err)
	}
}

// Denied records that a principal asked for what it may not do. What is the operation's method and route.
func (a *Access) Denied(ctx context.Context, p Principal, from netip.Addr, what string, need Permission) {
	a.recordRefusal(ctx, ActorOf(p, from).Entry(audit.Entry{
		Level: audit.Warning, Category: audit.Permission, Action: "access_denied", Status: audit.Denied,
		Details: map[string]any{"route": what, "permission": string(need)},
	}))
}

func (p Principal) role() string {
	switch {
	case p.Customer != uuid.Nil:
		return "customer"
	case p.May(Owner):
		return "owner"
	}
	return "key"
}

// addressText is empty for connections that have no address.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// Actor is who orders a change: a principal of a request, or the command line.
type Actor struct {
	ID      string // as in the audit log
	Role    string
	Address string // empty on the command line
	// Granted is what the actor may do and so may give away.
	Granted []Permission
	// Customer is whose key it is; zero: the operator's. A customer changes nothing.
	Customer uuid.UUID
}

// ActorOf is the principal of a request from an address.
func ActorOf(p Principal, from netip.Addr) Actor {
	return Actor{ID: uuid.UUID(p.KeyID).String(), Role: p.role(), Address: addressText(from), Granted: p.Granted, Customer: p.Customer}
}

// CommandLine is who has the database's password and the machine's shell: an owner.
func CommandLine() Actor { return Actor{ID: "command", Role: "owner", Granted: []Permission{Owner}} }

// Entry fills in who acts.
func (a Actor) Entry(e audit.Entry) audit.Entry {
	e.UserID, e.UserRole, e.IP = a.ID, a.Role, a.Address
	return e
}
