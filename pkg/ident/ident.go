// Package ident holds the identifiers that agent, hub and verifier share. Each is a type of its
// own, is valid once parsed, and needs no second check.
package ident

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// MinerID names a miner for its whole life: a random UUID that the agent makes at first sight and
// keeps in its inventory. Address, MAC and serial are attributes of it, never its identity.
type MinerID [16]byte

// SiteID names a place with one active agent.
type SiteID [16]byte

// SpoolID names one spool directory: 16 random bytes made with it. (site, spool id, sequence) names a batch.
type SpoolID [16]byte

// KeyID names a signing key: the first 8 bytes of SHA-256 of its public key.
type KeyID [8]byte

// NewMinerID returns a random miner id.
func NewMinerID() MinerID { return MinerID(NewUUID()) }

// NewSiteID returns a random site id.
func NewSiteID() SiteID { return SiteID(NewUUID()) }

// NewSpoolID returns a random spool id.
func NewSpoolID() SpoolID { return SpoolID(NewUUID()) }

// KeyIDOf returns the id of an Ed25519 public key.
func KeyIDOf(pub ed25519.PublicKey) KeyID {
	sum := sha256.Sum256(pub)
	return KeyID(sum[:8])
}

// ParseMinerID reads the canonical text form of a miner id.
func ParseMinerID(s string) (MinerID, error) {
	id, err := parse(s, "miner")
	return MinerID(id), err
}

// ParseSiteID reads the canonical text form of a site id.
func ParseSiteID(s string) (SiteID, error) {
	id, err := parse(s, "site")
	return SiteID(id), err
}

// ParseSpoolID reads the canonical text form of a spool id.
func ParseSpoolID(s string) (SpoolID, error) {
	id, err := parse(s, "spool")
	return SpoolID(id), err
}

func parse(s, what string) (UUID, error) {
	id, err := ParseUUID(s)
	if err != nil {
		return UUID{}, fmt.Errorf("%s id %.60q is %w", what, s, err)
	}
	return id, nil
}

// String returns the canonical text form.
func (id MinerID) String() string { return UUID(id).String() }

// String returns the canonical text form.
func (id SiteID) String() string { return UUID(id).String() }

// String returns the canonical text form.
func (id SpoolID) String() string { return UUID(id).String() }

// String returns the id as 16 hex digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Compare orders miner ids by their bytes.
func (id MinerID) Compare(other MinerID) int { return bytes.Compare(id[:], other[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id MinerID) MarshalText() ([]byte, error) { return UUID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *MinerID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseMinerID(string(b))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (id SiteID) MarshalText() ([]byte, error) { return UUID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *SiteID) UnmarshalText(b []byte) (err error) { *id, err = ParseSiteID(string(b)); return err }

// MarshalText implements encoding.TextMarshaler.
func (id SpoolID) MarshalText() ([]byte, error) { return UUID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *SpoolID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseSpoolID(string(b))
	return err
}
