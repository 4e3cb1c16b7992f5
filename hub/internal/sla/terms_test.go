package sla

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/ident"
)

var (
	contractA = mustUUID("aaaaaaaa-0000-4000-8000-000000000001")
	customerA = mustUUID("cccccccc-0000-4000-8000-000000000001")
	siteA     = ident.SiteID(mustUUID("51000000-0000-4000-8000-000000000001"))
)

func minerN(n int) ident.MinerID {
	return ident.MinerID{0: 0x31, 6: 0x40, 8: 0x80, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

// mustUUID reads an id written in a test.
func mustUUID(s string) ident.UUID {
	u, err := ident.ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}

func idN(n int) ident.UUID {
	return ident.UUID{0: 0x1d, 6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)}
}

// goodTerms hold from the first of November 2026, for miners of 100 TH/s.
func goodTerms() Terms {
	t := DefaultTerms()
	t.Contract, t.Customer, t.Version = contractA, customerA, 1
	t.FromMS = NewCalendarMonth(2026, 11).FromMS()
	t.RateMHs = 100_000_000
	t.FeeMinor, t.Currency = 100_001, "EUR"
	return t
}

func TestDefaultTermsNeedOnlyWhatHasNoDefault(t *testing.T) {
	d := DefaultTerms()
	require.Error(t, d.Check())
	good := goodTerms()
	require.NoError(t, good.Check())
}

func TestTermsHaveOneEncodingWithAKnownHash(t *testing.T) {
	terms := goodTerms()
	want := `{"form":"hsi/terms/v1","contract":"aaaaaaaa-0000-4000-8000-000000000001","customer":"cccccccc-0000-4000-8000-000000000001","version":1,` +
		`"from_ms":1793491200000,"rate_mhs":100000000,"metric":"time","target_ppm":990000,"theta_ppm":800000,"degraded_ppm":100000,"unknown":"down",` +
		`"backfill_s":259200,"curtail_late_s":900,"maintenance_notice_s":86400,"curtail_cap_slots":-1,"maintenance_cap_slots":-1,` +
		`"tiers":[{"below_ppm":990000,"credit_bp":500},{"below_ppm":980000,"credit_bp":1000},{"below_ppm":950000,"credit_bp":2500}],` +
		`"credit_cap_bp":10000,"fee_minor":100001,"currency":"EUR"}`
	assert.Equal(t, want, string(terms.Canonical()))
	assert.EqualValues(t, sha256.Sum256([]byte(want)), terms.Hash())
	back, err := ParseTerms(terms.Canonical())
	require.NoError(t, err)
	assert.Equal(t, terms, back)
}

func TestOnlyTheOneEncodingOfTermsIsRead(t *testing.T) {
	terms := goodTerms()
	good := string(terms.Canonical())
	for name, edit := range map[string][2]string{
		"white space":                      {`,"version"`, `, "version"`},
		"a line feed at the end":           {`"EUR"}`, "\"EUR\"}\n"},
		"a second document":                {`"EUR"}`, `"EUR"}{}`},
		"an unknown key":                   {`"currency"`, `"colour":1,"currency"`},
		"a key twice":                      {`"version":1`, `"version":1,"version":1`},
		"a key twice, the first one other": {`"version":1`, `"version":2,"version":1`},
		"a missing key":                    {`"version":1,`, ``},
		"keys in another order":            {`"fee_minor":100001,"currency":"EUR"`, `"currency":"EUR","fee_minor":100001`},
		"a key in capitals":                {`"version"`, `"Version"`},
		"an escape":                        {`"EUR"`, `"\u0045UR"`},
		"an escaped key":                   {`"version"`, `"\u0076ersion"`},
		"an exponent":                      {`"fee_minor":100001`, `"fee_minor":100001e0`},
		"a fraction":                       {`"fee_minor":100001`, `"fee_minor":100001.0`},
		"a leading zero":                   {`"fee_minor":100001`, `"fee_minor":0100001`},
		"minus nothing":                    {`"fee_minor":100001`, `"fee_minor":-0`},
		"a number beyond 64 bits":          {`"fee_minor":100001`, `"fee_minor":18446744073709551617`},
		"a number beyond the bound":        {`"fee_minor":100001`, `"fee_minor":1000000000000001`},
		"a number as text":                 {`"fee_minor":100001`, `"fee_minor":"100001"`},
		"null":                             {`"fee_minor":100001`, `"fee_minor":null`},
		"null tiers":                       {terms20(good), `"tiers":null`},
		"a UUID in capitals":               {`aaaaaaaa-`, `AAAAAAAA-`},
		"a UUID without hyphens":           {`aaaaaaaa-0000-4000-8000-000000000001`, `aaaaaaaa000040008000000000000001`},
		"bytes that are no UTF-8":          {`"EUR"`, "\"\xff\xfe\xfd\""},
		"another form":                     {`hsi/terms/v1`, `hsi/terms/v2`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, edit[0], edit[1], 1)
			require.NotEqual(t, good, bad)
			_, err := ParseTerms([]byte(bad))
			require.Error(t, err)
		})
	}
}

func terms20(good string) string {
	i := strings.Index(good, `"tiers":`)
	return good[i : strings.Index(good[i:], "]")+i+1]
}

func TestTermsThatContradictThemselvesSayWhatToDo(t *testing.T) {
	for want, change := range map[string]func(*Terms){
		"name both":                        func(t *Terms) { t.Customer = ident.UUID{} },
		"version is 0: give 1":             func(t *Terms) { t.Version = 0 },
		"from_ms is -1":                    func(t *Terms) { t.FromMS = -1 },
		"rate_mhs is 0: give 1":            func(t *Terms) { t.RateMHs = 0 },
		"rate_mhs is 1000000000001":        func(t *Terms) { t.RateMHs = MaxRateMHs + 1 },
		`give "time" or "hashrate"`:        func(t *Terms) { t.Metric = "luck" },
		"target_ppm is 1000001":            func(t *Terms) { t.TargetPPM = Whole + 1 },
		"theta_ppm is 0":                   func(t *Terms) { t.ThetaPPM = 0 },
		"degraded_ppm is 800001: give 1":   func(t *Terms) { t.DegradedPPM = 800_001 },
		`"down", "excused" or "pool"`:      func(t *Terms) { t.Unknown = "up" },
		"backfill_s is -1":                 func(t *Terms) { t.BackfillS = -1 },
		"curtail_cap_slots is -2: give -1": func(t *Terms) { t.CurtailCapSlots = -2 },
		"a target that is met":             func(t *Terms) { t.TargetPPM = 985_000 },
		"in descending order":              func(t *Terms) { t.Tiers[1].BelowPPM = 990_000 },
		"less availability earns more":     func(t *Terms) { t.Tiers[1].CreditBP = 500 },
		"credit_bp is 10001":               func(t *Terms) { t.Tiers[2].CreditBP = WholeBP + 1 },
		"credit_cap_bp is 10001":           func(t *Terms) { t.CreditCapBP = WholeBP + 1 },
		"fee_minor is -5":                  func(t *Terms) { t.FeeMinor = -5 },
		"a code of ISO 4217 like EUR":      func(t *Terms) { t.Currency = "" },
		"at most 16":                       func(t *Terms) { t.Tiers = make([]Tier, 17) },
	} {
		t.Run(want, func(t *testing.T) {
			terms := goodTerms()
			change(&terms)
			require.ErrorContains(t, terms.Check(), want)
		})
	}
}

func TestAnExcusesMinersAreASet(t *testing.T) {
	x := Excuse{ID: idN(1), Kind: Maintenance, Site: siteA, Miners: []ident.MinerID{minerN(2), minerN(1), minerN(2)}, FromMS: 2000, ToMS: 3000, RecordedMS: 1000}
	y := x
	y.Miners = []ident.MinerID{minerN(1), minerN(2)}
	assert.Equal(t, x.Hash(), y.Hash())
	assert.Equal(t, minerN(2), x.Miners[0], "the caller's order is the caller's")
	back, err := ParseExcuse(x.Canonical())
	require.NoError(t, err)
	assert.Equal(t, y, back)
	_, err = ParseExcuse([]byte(strings.Replace(string(x.Canonical()), minerN(1).String(), minerN(2).String(), 1)))
	require.ErrorIs(t, err, ErrNotCanonical)
}

func TestAssignmentsHaveOneEncoding(t *testing.T) {
	a := Assignment{ID: idN(1), Contract: contractA, Site: siteA, Miner: minerN(1), FromMS: 1000, RateMHs: 7}
	back, err := ParseAssignment(a.Canonical())
	require.NoError(t, err)
	assert.Equal(t, a, back)
	terms := goodTerms()
	_, err = ParseAssignment(terms.Canonical())
	require.Error(t, err, "one form never passes for another")
}

func TestMonthsAreUTC(t *testing.T) {
	for text, days := range map[string]int{"2026-01": 31, "2026-02": 28, "2028-02": 29, "2100-02": 28, "2000-02": 29, "2026-04": 30, "2026-12": 31} {
		m, err := ParseMonth(text)
		require.NoError(t, err)
		assert.Equal(t, text, m.String())
		assert.Equal(t, days, m.Days(), text)
		assert.Equal(t, m, MonthOf(m.FromMS()))
		assert.Equal(t, m, MonthOf(m.ToMS()-1))
		assert.Equal(t, m+1, MonthOf(m.ToMS()))
	}
	for _, text := range []string{"", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "1969-12", "2026-1 "} {
		_, err := ParseMonth(text)
		require.Error(t, err, text)
	}
}
