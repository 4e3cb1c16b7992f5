// Package scaleout tests hubs that share one PostgreSQL, as processes of their own: agents that know them all lose nothing when
// one is killed.
package scaleout
