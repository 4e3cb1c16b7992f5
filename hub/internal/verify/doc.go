// Package verify is what hashinsight-verify checks proof files with, beside package proof, which reads them: endpoints of a chain asked by JSON-RPC (Endpoints), a bundle's
// statement computed again by the rules of package sla (NewSLA), and directories that hashinsight-hub statement export wrote (CheckExport). It trusts neither the hub nor a
// single endpoint, keeps nothing, and has no dependency but the standard library and packages of this repository that have none: a test of the imports says so. It does not print;
// cmd/hashinsight-verify does.
package verify
