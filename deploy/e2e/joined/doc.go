// Package joined tests sites that have joined with a token and stream through the tunnel: what becomes of their streams when
// the hub, which is a process of its own here, is restarted, and when keys and certificates change. The agents run in the test's
// process, each with its device; nothing needs a privilege.
package joined
