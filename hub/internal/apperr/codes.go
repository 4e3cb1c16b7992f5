package apperr

import (
	"maps"
	"slices"
)

// Code is a stable name that clients may branch on. A code never changes its meaning.
type Code string

// Info describes a code.
type Info struct {
	Code     Code
	HTTP     int    // status it comes with; VALID_001 also comes with 422
	Meaning  string // what happened
	Help     string // what to do next, for anyone
	Operator string // what to do next, for who runs the hub; "" where Help says it all
}

// listed is every code there is. New ones follow the same form and are added here.
var listed = map[Code]Info{
	"AUTH_001":       {HTTP: 401, Meaning: "not signed in", Help: "Sign in again."},
	"AUTH_002":       {HTTP: 403, Meaning: "permission missing", Help: "Ask the administrator."},
	"AUTH_003":       {HTTP: 401, Meaning: "session expired", Help: "Sign in again."},
	"AUTH_004":       {HTTP: 401, Meaning: "a site's certificate is unknown, expired or revoked", Help: "Ask the hub's operator for a token and enrol again.", Operator: "Give the site a token (hashinsight-hub token create); a site without one joins by hand (site register)."},
	"AUTH_005":       {HTTP: 403, Meaning: "a client certificate is missing, or does not count", Help: "Use a client certificate that the operator issued for you.", Operator: "Issue one with hashinsight-hub ca issue, or look at MTLS_CA_CERT_PATH, MTLS_ALLOWED_DN_PATTERNS and MTLS_CRL."},
	"DB_001":         {HTTP: 500, Meaning: "database not reachable", Help: "Try again in a minute.", Operator: "Check DATABASE_URL."},
	"DB_002":         {HTTP: 500, Meaning: "query timed out", Help: "Narrow the query."},
	"CACHE_001":      {HTTP: 503, Meaning: "Redis not available (only where Redis is required)", Help: "Try again in a minute.", Operator: "Check Redis."},
	"API_001":        {HTTP: 429, Meaning: "too many requests", Help: "Wait as long as Retry-After says."},
	"API_002":        {HTTP: 500, Meaning: "outside API failed", Help: "Try later."},
	"API_003":        {HTTP: 503, Meaning: "the hub is starting", Help: "Wait as long as Retry-After says."},
	"API_004":        {HTTP: 503, Meaning: "the module is not run by this hub process", Help: "Ask at the address of a hub process that runs it.", Operator: "Name the module in MODULES of a process, and let the balancer send it these requests."},
	"BLOCKCHAIN_001": {HTTP: 500, Meaning: "chain key not configured", Help: "Ask the administrator.", Operator: "Set BLOCKCHAIN_PRIVATE_KEY."},
	"ENCRYPTION_001": {HTTP: 500, Meaning: "encryption key not configured", Help: "Ask the administrator.", Operator: "Set ENCRYPTION_PASSWORD to the value this database was made with."},
	"PEER_001":       {HTTP: 409, Meaning: "every tunnel address has been given", Help: "Ask the administrator.", Operator: "Widen WG_NETWORK to a network that holds the present one, such as 10.8.0.0/15 for 10.8.0.0/16."},
	"VALID_001":      {HTTP: 400, Meaning: "the request is not valid", Help: "Correct what the text names."},
	"NOTFOUND_001":   {HTTP: 404, Meaning: "it does not exist, or not for you", Help: "Check the address or the id."},
	"CONFLICT_001":   {HTTP: 409, Meaning: "it does not fit the present state", Help: "Look at the present state and try again."},
}

// Codes lists every code, in order.
func Codes() []Info {
	var all []Info
	for _, c := range slices.Sorted(maps.Keys(listed)) {
		info := listed[c]
		info.Code = c
		all = append(all, info)
	}
	return all
}
