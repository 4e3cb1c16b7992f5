// Package unit gives physical quantities a type each, so that a reading cannot be added to one of
// another unit, and Opt, a reading that may be absent. Firmware reports MH/s, GH/s or TH/s and numbers as
// text; package asic of the agent converts, once. Everything behind it uses these types.
package unit

import "math"

// Hashrate is hashes per second.
type Hashrate float64

// Multiples of hashes per second, as firmware reports them.
const (
	MegahashPerSecond Hashrate = 1e6
	GigahashPerSecond Hashrate = 1e9
	TerahashPerSecond Hashrate = 1e12
)

// Megahashes is h in whole MH/s, halves away from zero: the form in which it is signed and stored.
func (h Hashrate) Megahashes() int64 { return int64(math.Round(float64(h) / 1e6)) }

// Terahashes is h in TH/s, for people.
func (h Hashrate) Terahashes() float64 { return float64(h) / 1e12 }

// Celsius is a temperature in degrees Celsius.
type Celsius float64

// Watts is electrical power.
type Watts float64

// RPM is a fan's speed in revolutions per minute.
type RPM int32

// Opt is a value that may be absent. The zero Opt is absent: a reading that was not reported is
// not zero, and no code can mistake it for zero without asking.
type Opt[T any] struct {
	value T
	ok    bool
}

// Some returns a present value.
func Some[T any](v T) Opt[T] { return Opt[T]{value: v, ok: true} }

// Get returns the value and whether it is present.
func (o Opt[T]) Get() (T, bool) { return o.value, o.ok }

// Present reports whether there is a value.
func (o Opt[T]) Present() bool { return o.ok }

// Or returns the value, or d when it is absent.
func (o Opt[T]) Or(d T) T {
	if o.ok {
		return o.value
	}
	return d
}
