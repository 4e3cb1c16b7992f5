package verifytest

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
	"github.com/hashinsight/hashinsight/pkg/proof/prooftest"
)

// MonthOf describes one.
type MonthOf struct {
	Seed   uint64
	Miners int                     // of the contract, at one site
	Others int                     // of others there
	Hours  int                     // signed, from the month's beginning
	Change func(st *sla.Statement) // by a hub that lies, before it signs
	Leaves func(hour uint32, leaves []evidence.Leaf)
	// Hour signs an hour instead of random leaves: a site that has batches behind them.
	Hour func(w *prooftest.World, site ident.SiteID, spool ident.SpoolID, miners []ident.MinerID, hour uint32) prooftest.SignedHour
}

// Parts makes the parts of the month's bundle, anchored.
func (o MonthOf) Parts(t testing.TB) (*prooftest.Parts, *prooftest.World) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := prooftest.New(o.Seed)
	month := sla.NewCalendarMonth(2026, 11)
	begin, end := month.FromMS(), month.ToMS()
	hubKey := w.HubKeyEntry(begin - 1000)
	site := w.Site(begin - 1000)
	spool := ident.SpoolID(w.ID())

	terms := sla.DefaultTerms()
	terms.Contract, terms.Customer, terms.Version, terms.FromMS = w.ID(), w.ID(), 1, begin
	terms.RateMHs, terms.FeeMinor, terms.Currency = 100_000_000, 100_000, "EUR"
	b := prooftest.BundleOf{HubKey: hubKey}
	termsEntry := proof.TermsBody{Contract: terms.Contract, Version: 1, Hash: terms.Hash()}
	b.Terms = []prooftest.Doc{{Bytes: terms.Canonical(), Index: w.Add(termsEntry.Entry(begin - 900))}}
	excuse := sla.Excuse{
		ID: w.ID(), Kind: sla.Maintenance, Site: site, FromMS: begin + 5*3_600_000, ToMS: begin + 7*3_600_000, RecordedMS: begin - 2*86_400_000,
	}
	excuseEntry := proof.ExcuseBody{ID: excuse.ID, Hash: excuse.Hash()}
	b.Excuses = []prooftest.Doc{{Bytes: excuse.Canonical(), ID: excuse.ID, Index: w.Add(excuseEntry.Entry(excuse.RecordedMS))}}

	miners := make([]ident.MinerID, o.Miners+o.Others)
	var assignments []sla.Assignment
	for i := range miners {
		miners[i] = w.ID()
		if i < o.Miners {
			assignments = append(assignments, sla.Assignment{ID: w.ID(), Contract: terms.Contract, Site: site, Miner: miners[i], FromMS: begin, ToMS: end})
		}
	}
	slices.SortFunc(assignments, func(a, b sla.Assignment) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for i := range assignments {
		b.Assignments = append(b.Assignments, prooftest.Doc{Bytes: assignments[i].Canonical(), ID: assignments[i].ID})
	}
	rules, err := sla.NewRules(sla.RulesInput{
		Engine: sla.EngineVersion, Month: month, AsOfMS: end + 73*3_600_000, Terms: []sla.Terms{terms}, Assignments: assignments, Excuses: []sla.Excuse{excuse},
	})
	must(err)

	var refs []sla.HourRef
	known := map[ident.MinerID][]sla.HourFacts{}
	for i := range o.Hours {
		hour := uint32(begin/evidence.HourMS) + uint32(i)
		h := o.hour(w, site, spool, miners, hour, i)
		leaves := h.Leaves
		b.Hours = append(b.Hours, h)
		ref := sla.HourRef{
			Site: site, Hour: hour, Spool: spool, Root: sla.HexHash(h.Hour.Root), HeaderHash: sla.HexHash(sha256.Sum256(h.RawHeader)), State: sla.HourAgreed,
			ReceivedMS: (int64(hour)+1)*evidence.HourMS + 120_000,
		}
		if i%11 == 10 {
			ref.State = sla.HourDisputed
		}
		if i%7 == 6 {
			ref.Skewed = 0b11
		}
		refs = append(refs, ref)
		for j := range leaves {
			l := &leaves[j]
			known[l.Miner] = append(known[l.Miner], sla.HourFacts{
				Hour: hour, Spool: spool, Slots: l.Slots, Skewed: ref.Skewed, Disputed: ref.State == sla.HourDisputed, ReceivedMS: ref.ReceivedMS,
			})
		}
	}
	var kept []sla.MinerDays
	for _, k := range rules.Miners() {
		m := sla.MinerDays{MinerKey: k}
		for day := month.FirstDay(); day < month.FirstDay()+month.Days(); day++ {
			d, err := rules.Plan(k).Day(day, known[k.Miner])
			must(err)
			m.Days = append(m.Days, d.DaySums)
		}
		kept = append(kept, m)
	}
	result, err := rules.Month(kept)
	must(err)
	st, err := rules.NewStatement(&result, sla.Issue{Hours: refs})
	must(err)
	if o.Change != nil {
		o.Change(st)
	}
	b.Statement = st.Canonical()
	b.Entry = w.Issue(b.Statement, 1, st.IssuedMS)
	b.Head = w.Anchor(st.IssuedMS + 3_600_000)
	parts, err := w.Bundle(&b)
	must(err)
	return parts, w
}

func (o *MonthOf) hour(w *prooftest.World, site ident.SiteID, spool ident.SpoolID, miners []ident.MinerID, hour uint32, i int) prooftest.SignedHour {
	if o.Hour != nil {
		return o.Hour(w, site, spool, miners, hour)
	}
	leaves := make([]evidence.Leaf, 0, len(miners))
	for j, m := range miners {
		if (i+j)%17 != 3 { // now and then one is not there
			leaves = append(leaves, w.Leaf(site, m, hour, spool))
		}
	}
	if o.Leaves != nil {
		o.Leaves(hour, leaves)
	}
	return w.Hour(leaves, (int64(hour)+1)*evidence.HourMS+90_000)
}
