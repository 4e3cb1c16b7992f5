package identity

// ErrorDomain is the domain of the ErrorInfo detail with which a hub says why it refuses a site.
const ErrorDomain = "hashinsight"

// Reasons with which a hub refuses a site's call, as the reason of the status's ErrorInfo detail. They are labels of
// metrics too: the list is closed.
const (
	ReasonCertUnknown = "CERTIFICATE_UNKNOWN" // not issued by this hub, or no longer in its database
	ReasonCertExpired = "CERTIFICATE_EXPIRED" // or not valid yet
	ReasonCertRevoked = "CERTIFICATE_REVOKED"
	ReasonCertMissing = "CERTIFICATE_MISSING" // none was shown: only joining and recovering go without
	// ReasonCertSuperseded: a newer certificate of the site has been used; the agent connects again with that one at once.
	ReasonCertSuperseded = "CERTIFICATE_SUPERSEDED"

	ReasonSiteRevoked = "SITE_REVOKED"
	ReasonSiteUnknown = "SITE_UNKNOWN"
	ReasonCloned      = "AGENT_CLONED" // a second live agent with the site's identity
	ReasonForked      = "CHAIN_FORKED" // the site signed two batches with one name

	ReasonTokenUnknown = "TOKEN_UNKNOWN"
	ReasonTokenExpired = "TOKEN_EXPIRED"
	ReasonTokenUsed    = "TOKEN_USED" // by other keys
	ReasonTokenRevoked = "TOKEN_REVOKED"
	ReasonTokenNetwork = "TOKEN_WRONG_NETWORK" //nolint:gosec // a reason's name, not a credential
	ReasonTokenRefused = "TOKEN_REFUSED"       // a person at the hub said no

	ReasonKeyWeak        = "KEY_WEAK"
	ReasonKeyTaken       = "KEY_TAKEN" // somebody else's
	ReasonKeyOther       = "KEY_OTHER" // the site has another one
	ReasonProof          = "PROOF_INVALID"
	ReasonChallenge      = "CHALLENGE_EXPIRED"
	ReasonHubFull        = "HUB_FULL"
	ReasonTooOld         = "PROTOCOL_TOO_OLD" // the agent's
	ReasonTooNew         = "PROTOCOL_TOO_NEW" // the agent's
	ReasonRecoveriesUsed = "RECOVERIES_USED_UP"
	ReasonTooMany        = "TOO_MANY_ATTEMPTS"
)

// whatNext says at the site what a refusal means and what to do. The hub's own text says what happened there.
var whatNext = map[string]string{ //nolint:gosec // texts, not credentials
	ReasonCertUnknown: "the hub does not know this site's certificate: ask the hub's operator for a token and enrol again",
	ReasonCertExpired: "this site's certificate has run out; the agent recovers by itself once it reaches the hub: check both clocks if that fails",
	ReasonCertRevoked: "this site was revoked at the hub, by its operator: ask why; polling and buffering go on; to come back, enrol again with a new token for the same site",
	ReasonCertMissing: "the hub wants this site's certificate, and none was shown: enrol with a token",
	ReasonCertSuperseded: "a newer certificate of this site has been used: unless the agent connects again with that one at once, another machine uses a copy of its key; " +
		"tell the hub's operator",
	ReasonSiteRevoked: "this site was revoked at the hub, by its operator: ask why; polling and buffering go on; to come back, enrol again with a new token for the same site",
	ReasonSiteUnknown: "the hub does not know this site: is it the right hub, or was its database made anew? Enrol again with a token",
	ReasonCloned: "the hub serves another agent with this site's identity: one of the two is a copy; stop it, delete the copied identity there and " +
		"enrol it as a site of its own",
	ReasonForked:       "two different batches were signed with one name: a copied spool is in use; stop the copy and ask the hub's operator",
	ReasonTokenUnknown: "the hub does not know this token: copy the whole token, or ask for a new one (hashinsight-hub token create)",
	ReasonTokenExpired: "the token has expired: ask the hub's operator for a new one",
	ReasonTokenUsed:    "the token was used already, with other keys: if not by you, tell the hub's operator at once; ask for a new token",
	ReasonTokenRevoked: "the hub's operator has withdrawn the token: ask for a new one",
	ReasonTokenNetwork: "the token may not be used from this network: use it where it was made for, or ask for one without a source range",
	ReasonTokenRefused: "the hub's operator did not approve this agent's fingerprint: compare it again, then ask for a new token",
	ReasonKeyWeak:      "the hub does not take a key of this kind: move the identity directory away and enrol again, which makes new keys",
	ReasonKeyTaken: "another site has one of these keys: the identity directory was copied; on the copy, move it away and enrol again, " +
		"which makes new keys",
	ReasonKeyOther:       "the site has another key at the hub: if that is lost, ask for a token with --replace-key; for another site, ask for a token of its own",
	ReasonProof:          "the hub could not verify that this agent holds its keys: compare the versions of agent and hub",
	ReasonChallenge:      "the exchange took too long: run the command again",
	ReasonHubFull:        "the hub has no room for another site: its operator has to make some (WG_NETWORK, or old sites)",
	ReasonTooOld:         "this agent is too old for the hub: install the agent's newer version",
	ReasonTooNew:         "this agent is newer than the hub: ask for the hub to be upgraded, or install an older agent",
	ReasonRecoveriesUsed: "the site has recovered its certificate too often of late: ask the hub's operator to allow it (hashinsight-hub ca allow-recovery)",
	ReasonTooMany:        "too many attempts from this address: wait, then run the command again",
}

// WhatNext says what a refusal with this reason means for the site and what to do; "" for a reason that this version does
// not know.
func WhatNext(reason string) string { return whatNext[reason] }

// Reasons returns every reason.
func Reasons() []string {
	out := make([]string, 0, len(whatNext))
	for r := range whatNext {
		out = append(out, r)
	}
	return out
}

// Permanent reports whether a refusal stands until a person does something.
func Permanent(reason string) bool {
	return reason != "" && reason != ReasonChallenge && reason != ReasonTooMany && reason != ReasonCertExpired
}
