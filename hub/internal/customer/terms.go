package customer

import (
	"slices"

	"github.com/hashinsight/hashinsight/hub/internal/sla"
)

// TermsOrder is what somebody orders of terms. Nil stays as it was: in the version before, or by default.
type TermsOrder struct {
	FromMS              *int64
	RateMHs             *int64
	Metric              *string
	TargetPPM           *int64
	ThetaPPM            *int64
	DegradedPPM         *int64
	Unknown             *string
	BackfillS           *int64
	CurtailLateS        *int64
	MaintenanceNoticeS  *int64
	CurtailCapSlots     *int64
	MaintenanceCapSlots *int64
	Tiers               *[]sla.Tier
	CreditCapBP         *int64
	FeeMinor            *int64
	Currency            *string
}

// Apply returns terms that say what the order says, and else what base does. Without an order for it FromMS is 0: now.
func (o *TermsOrder) Apply(base sla.Terms) sla.Terms {
	t := base
	t.FromMS = 0
	for to, from := range map[*int64]*int64{
		&t.FromMS: o.FromMS, &t.RateMHs: o.RateMHs, &t.TargetPPM: o.TargetPPM, &t.ThetaPPM: o.ThetaPPM, &t.DegradedPPM: o.DegradedPPM, &t.BackfillS: o.BackfillS,
		&t.CurtailLateS: o.CurtailLateS, &t.MaintenanceNoticeS: o.MaintenanceNoticeS, &t.CurtailCapSlots: o.CurtailCapSlots,
		&t.MaintenanceCapSlots: o.MaintenanceCapSlots, &t.CreditCapBP: o.CreditCapBP, &t.FeeMinor: o.FeeMinor,
	} {
		if from != nil {
			*to = *from
		}
	}
	if o.Metric != nil {
		t.Metric = sla.Metric(*o.Metric)
	}
	if o.Unknown != nil {
		t.Unknown = sla.UnknownPolicy(*o.Unknown)
	}
	if o.Currency != nil {
		t.Currency = *o.Currency
	}
	if o.Tiers != nil {
		t.Tiers = slices.Clone(*o.Tiers)
		return t
	}
	// A target below the tiers that nobody named: only those below it can earn a credit.
	t.Tiers = slices.DeleteFunc(slices.Clone(t.Tiers), func(tier sla.Tier) bool { return tier.BelowPPM > t.TargetPPM })
	return t
}
