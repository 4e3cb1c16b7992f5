package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashinsight/hashinsight/hub/internal/batches"
	"github.com/hashinsight/hashinsight/hub/internal/statement/export"
	"github.com/hashinsight/hashinsight/hub/internal/verify"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// withEvidence computes with what computes the statement, and where there are batches in a directory compares the facts with them. It puts what that came to before the notes.
func withEvidence(dir string, compute func(sla proof.SLA) (*proof.Report, error)) (*proof.Report, error) {
	sla := verify.NewSLA()
	if dir == "" {
		r, err := compute(sla)
		if err == nil && r.Statement != nil && r.Kind != proof.KindStatement {
			note(r, "note-evidence", "the facts are those that the site has signed: --evidence computes them from its signed batches")
		}
		return r, err
	}
	d, err := batches.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("the evidence: %w", err)
	}
	defer d.Close()
	compared := batches.Compare(d, sla)
	r, err := compute(compared)
	if err != nil {
		return nil, err
	}
	if s, ok := compared.Step(); ok {
		beforeNotes(r, s)
	}
	return r, nil
}

// beforeNotes puts a step where steps end.
func beforeNotes(r *proof.Report, s proof.Step) {
	at := slices.IndexFunc(r.Steps, func(s proof.Step) bool { return s.State == proof.Note && s.ID != proof.StepSLA })
	if at < 0 {
		at = len(r.Steps)
	}
	r.Steps = slices.Insert(r.Steps, at, s)
}

// recompute computes a bundle's statement again, from its leaves, and where there are batches those from them. Without an endpoint the anchor is no part of the question.
func recompute(ctx context.Context, in io.Reader, o *options, chain *verify.Endpoints) (report, error) {
	r, err := withEvidence(o.evidence, func(sla proof.SLA) (*proof.Report, error) { return check(ctx, in, o, chain, sla), nil })
	if err != nil {
		return report{}, err
	}
	if chain.Len() == 0 {
		r.Steps = slices.DeleteFunc(r.Steps, func(s proof.Step) bool { return s.ID == proof.StepAnchor || s.ID == proof.StepTime })
		note(r, "note-anchor", "no chain was asked: hashinsight-verify bundle does it")
	}
	if r.Kind != proof.KindBundle && r.Verdict() != proof.False {
		beforeNotes(r, proof.Step{ID: proof.StepSLA, State: proof.Unknown, Text: fmt.Sprintf("a file of a %s has no facts to compute a statement from: download the statement's bundle", r.Kind)})
	}
	return newReport(r), nil
}

// recomputeExport does the same with a directory of hashinsight-hub statement export.
func recomputeExport(ctx context.Context, name string, o *options, chain *verify.Endpoints) (report, error) {
	if len(o.rpc) > 0 || o.contract != nil || o.chainID != 0 || o.logKey != nil {
		return report{}, errors.New("a directory of statement export names neither log nor chain: --rpc, --contract, --chain-id and --log-key are for the statement's bundle")
	}
	root, err := os.OpenRoot(name) // what lies outside is none of it, whatever links say
	if err != nil {
		return report{}, err
	}
	defer root.Close()
	evidence := o.evidence
	if info, err := root.Lstat(export.Evidence); evidence == "" && err == nil && info.IsDir() {
		evidence = filepath.Join(name, export.Evidence)
	}
	r, err := withEvidence(evidence, func(sla proof.SLA) (*proof.Report, error) {
		r, err := verify.CheckExport(ctx, root.FS(), o.trust(chain), sla)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return &r, err
	})
	if err != nil {
		return report{}, err
	}
	out := newReport(r)
	out.Kind = "export"
	return out, nil
}
