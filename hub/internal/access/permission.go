package access

import (
	"slices"

	"github.com/google/uuid"
)

// Permission names one thing a key may do, as resource:action.
type Permission string

// The permissions that exist. A key of the owner holds all of them, those of later versions too.
const (
	APIKeysRead      Permission = "apikeys:read"      // API keys, without their secrets
	APIKeysWrite     Permission = "apikeys:write"     // making and revoking keys that may do no more than its holder
	CustomersRead    Permission = "customers:read"    // customers
	CustomersWrite   Permission = "customers:write"   // adding customers
	ContractsRead    Permission = "contracts:read"    // contracts, their terms and miners, and the excuses that concern them
	ContractsWrite   Permission = "contracts:write"   // contracts, their versions, and which miners belong to them
	ExcusesWrite     Permission = "excuses:write"     // announcing maintenance and ordering curtailment
	SLARead          Permission = "sla:read"          // verdicts on slots, availability and what it rests on
	StatementsRead   Permission = "statements:read"   // signed statements of months
	StatementsWrite  Permission = "statements:write"  // issuing and superseding them
	DisputesRead     Permission = "disputes:read"     // hours whose signed facts are not what the batches give
	RateLimitsWrite  Permission = "ratelimits:write"  // the rate limit, everyone's and of single keys
	AuditRead        Permission = "audit:read"        // the audit log
	CertificatesRead Permission = "certificates:read" // certificates, roots and what is revoked
	PeersRead        Permission = "peers:read"        // sites' ends of the tunnel, and the hub's
	PeersWrite       Permission = "peers:write"       // adding, changing, rotating and removing them
	SitesRead        Permission = "sites:read"        // sites, their links and counts
	SitesWrite       Permission = "sites:write"       // tokens with which sites join, and approving sites
	SitesRevoke      Permission = "sites:revoke"      // cutting sites off
	AgentsRead       Permission = "agents:read"       // agents with address, version and certificate
	MinersRead       Permission = "miners:read"       // miners, their latest values, series and live changes
)

// Owner, in a key's list, stands for every permission there is.
const Owner Permission = "owner"

// Permissions returns every permission, in a fixed order.
func Permissions() []Permission {
	return []Permission{
		AgentsRead, APIKeysRead, APIKeysWrite, AuditRead, CertificatesRead, ContractsRead, ContractsWrite, CustomersRead, CustomersWrite, DisputesRead, ExcusesWrite,
		MinersRead, PeersRead, PeersWrite, RateLimitsWrite, SitesRead, SitesRevoke, SitesWrite, SLARead, StatementsRead, StatementsWrite,
	}
}

// CustomerPermissions returns what a key of a customer may hold, in a fixed order. Each of their operations reads only what is that customer's: the
// database refuses wider keys too.
func CustomerPermissions() []Permission { return []Permission{ContractsRead, SLARead, StatementsRead} }

// Principal is who makes a request: a key, directly or through a session that it opened.
type Principal struct {
	KeyID     [16]byte
	Name      string
	Granted   []Permission // as stored with the key
	Session   [16]byte     // zero when the key itself was shown
	RateLimit *int         // requests a minute of its own; 0 is exempt, nil is everyone's
	Expires   int64        // Unix seconds when the key or the session ends; 0 means never
	// Customer is whose rows the principal may read, and no others; zero: it is the operator's, and reads all.
	Customer     uuid.UUID
	CustomerName string
}

// May reports whether the principal holds p.
func (p Principal) May(perm Permission) bool {
	if p.Customer != uuid.Nil && !slices.Contains(CustomerPermissions(), perm) {
		return false // whatever is stored with the key
	}
	return slices.Contains(p.Granted, Owner) || slices.Contains(p.Granted, perm)
}

// Permissions returns what the principal may do, with the owner's written out, in a fixed order.
func (p Principal) Permissions() []Permission {
	out := make([]Permission, 0, len(Permissions()))
	for _, perm := range Permissions() {
		if p.May(perm) {
			out = append(out, perm)
		}
	}
	return out
}
