// Package binding is the contract AnchorLog for Go: what abigen (version 2) makes of hub/contracts/out. It is generated, decides nothing and sends nothing.
// Package anchor calls it.
package binding

//go:generate go test -count=1 -run TestBindingIsWhatTheContractGives . -update
