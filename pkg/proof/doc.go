// Package proof defines what the hub's transparency log holds and what a proof file is made of, and checks one without trusting the hub: every byte of it
// is covered by a hash, a signature or the contract's event on a chain. It imports nothing but the standard library and packages of this module that do the
// same. It keeps no log and asks no chain: the hub's package proof does the first, and who checks brings the second. Formats: the byte tables at the types.
package proof
