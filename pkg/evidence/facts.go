package evidence

import (
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Facts computes the facts of the hours of one chain from its observations: the agent as it commits batches, the hub and whoever
// doubts them from the batches. Both ends feed it what package wire has decoded, so that both see the same bytes.
type Facts struct{}

// NewFacts begins a chain, or goes on anywhere in it: what lies more than an hour before an observation changes nothing.
func NewFacts(site ident.SiteID, spool ident.SpoolID) *Facts { return &Facts{} }

// Add takes the next observation: batches in order of their sequence numbers, and within a batch in the payload's order.
func (f *Facts) Add(seq uint64, o *telemetry.Observation) {}

// Hours returns the hours that have facts and are not closed, in order.
func (f *Facts) Hours() []uint32 { return nil }

// Close returns the leaves of an hour, in order of miner ids and without salts, and forgets it: nothing counts towards it any more.
// last is the newest sequence number of the chain.
func (f *Facts) Close(hour uint32, last uint64) []Leaf { return nil }
