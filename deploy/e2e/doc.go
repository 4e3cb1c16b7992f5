// Package e2e tests agent and hub together: the import rules between the modules, and a world of simulated miners, an
// agent, a hub and PostgreSQL that runs virtual days in seconds. The real programs as processes are package localrun's.
package e2e
