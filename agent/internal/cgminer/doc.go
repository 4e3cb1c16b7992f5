// Package cgminer speaks the cgminer API (TCP 4028) as mining hardware really answers it: a client with
// one connection per request and hard limits, and one tolerant parser that agrees with encoding/json on
// valid input and mends the faults known from firmware outside of strings, naming each repair. It knows
// framing, status records and text that stands for numbers; it does not know what any field means. Package
// asic, its only user, gives the fields their meaning.
package cgminer
