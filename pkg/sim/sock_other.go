//go:build !linux && !darwin

package sim

import "net"

// shortBacklog leaves the backlog to the system.
func shortBacklog(*net.TCPListener, int) error { return nil }

// gone is not known here.
func gone(net.Conn) bool { return false }

// raiseFileLimit has nothing to do: there is no such limit here.
func raiseFileLimit(int) error { return nil }
