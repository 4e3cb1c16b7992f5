package sla

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

var update = flag.Bool("update", false, "write the golden files again")

func hourRef(h int64, spool byte) HourRef {
	return HourRef{
		Site: siteA, Hour: uint32(h / hour), Spool: ident.SpoolID{spool}, Root: HexHash{1, spool}, HeaderHash: HexHash{2, spool}, State: HourAgreed,
		ReceivedMS: h + hour + minute,
	}
}

// vector is a small month with something of everything, and the restatement that follows it.
func vector(t testing.TB) (in RulesInput, facts map[MinerKey][]HourFacts, issue Issue) {
	t.Helper()
	in = input()
	v2 := goodTerms()
	v2.Version, v2.FromMS, v2.Unknown, v2.RateMHs = 2, at(20, 0, 0), UnknownExcused, 110_000_000
	in.Terms = append(in.Terms, v2)
	in.Assignments = append(in.Assignments, assign(2, 2, at(3, 10, 2), at(25, 0, 0)))
	in.Excuses = []Excuse{
		excuse(10, Maintenance, at(5, 12, 0), at(5, 13, 0), at(4, 0, 0)),
		ends(11, 10, Maintenance, at(5, 12, 30), at(5, 12, 20)),
		excuse(12, Curtailment, at(7, 0, 0), at(7, 3, 0), at(7, 0, 14), minerN(2)),
		excuse(13, Curtailment, at(8, 0, 0), at(8, 3, 0), at(8, 0, 16)),
	}
	in.AcceptUntilMS = in.AsOfMS
	out := world(func(ms int64) int64 {
		switch {
		case ms >= at(6, 0, 0) && ms < at(6, 8, 0):
			return 0
		case ms >= at(9, 0, 0) && ms < at(9, 1, 0), ms >= at(21, 0, 0) && ms < at(21, 4, 0):
			return -2
		case ms == at(10, 0, 0):
			return fullMH / 2
		default:
			return fullMH
		}
	})
	facts = map[MinerKey][]HourFacts{key(1): out.hours(november), key(2): out.hours(november)}
	issue = Issue{
		Supersedes: HexHash{0xab, 31: 0xcd}, Reason: `late facts of "Süd" accepted \ 补充证据 🧾`,
		Hours: []HourRef{hourRef(at(2, 0, 0), 1), hourRef(at(1, 1, 0), 2), hourRef(at(1, 1, 0), 1)},
	}
	issue.Hours[2].State, issue.Hours[2].Skewed = HourDisputed, 0xfff
	return in, facts, issue
}

func vectorStatement(t testing.TB) *Statement {
	t.Helper()
	in, facts, issue := vector(t)
	m := judge(t, in, facts)
	s, err := mustRules(t, in).NewStatement(&m, issue)
	require.NoError(t, err)
	return s
}

// TestVectorsOfCanonicalForms compares with files that hashes and signatures of issued statements rest on: what they hold must never change.
func TestVectorsOfCanonicalForms(t *testing.T) {
	in, _, _ := vector(t)
	s := vectorStatement(t)
	private := ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, ed25519.SeedSize))
	signature := evidence.SignStatement(private, s.Canonical())
	for name, b := range map[string][]byte{
		"statement.json": s.Canonical(), "terms.json": in.Terms[1].Canonical(), "excuse.json": in.Excuses[2].Canonical(),
		"ending.json": in.Excuses[1].Canonical(), "assignment.json": mustRules(t, in).Assignments()[0].Canonical(),
		"statement.sig": []byte(hex.EncodeToString(signature) + "\n"),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(path, b, 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(b), name)
	}
	assert.Equal(t, "b635ed29e4a7955ce402441c803f0f4123484b252a4c3293a8639273b5a154a3", HexHash(s.Hash()).String())
	assert.EqualValues(t, sha256.Sum256(s.Canonical()), s.Hash(), "what sha256sum says of the file")
	require.NoError(t, evidence.VerifyStatement(private.Public().(ed25519.PublicKey), s.Canonical(), signature))
	assert.Equal(t, HexHash(in.Terms[1].Hash()), s.Terms[1].Hash)
	assert.Equal(t, HexHash(in.Excuses[2].Hash()), s.Excuses[2].Hash)
}

func TestAStatementSaysWhatTheMonthIs(t *testing.T) {
	s := vectorStatement(t)
	assert.Equal(t, []int64{12, 0, 36, 0}, []int64{s.Excuses[0].Counted, s.Excuses[1].Counted, s.Excuses[2].Counted, s.Excuses[3].Counted},
		"six slots of two miners, then three hours of one, and none for the late order")
	assert.Equal(t, StatementSlots{
		Maintenance: 6, Up: 8640 - 6 - 96 - 12 - 48 - 1, Degraded: 1, Down: 96, UnknownDown: 12, UnknownExcused: 48,
	}, s.Miners[0].Slots)
	assert.Equal(t, []RecordRef{
		{idN(1), HexHash((&Assignment{idN(1), contractA, siteA, minerN(1), november.FromMS(), november.ToMS(), 0}).Hash())},
		{idN(2), HexHash((&Assignment{idN(2), contractA, siteA, minerN(2), at(3, 10, 2), at(25, 0, 0), 0}).Hash())},
	}, s.Assignments)
	assert.False(t, s.Result.Met)
	assert.Equal(t, StatementCredit{500, 5_001, 100_001, "EUR"}, s.Credit)
	assert.True(t, slices.IsSortedFunc(s.Hours, func(a, b HourRef) int { return a.Compare(&b) }))
}

func TestOnlyTheOneEncodingOfAStatementIsRead(t *testing.T) {
	s := vectorStatement(t)
	good := string(s.Canonical())
	back, err := ParseStatement([]byte(good))
	require.NoError(t, err)
	assert.Equal(t, s, back)
	for name, edit := range map[string][2]string{
		"white space":                  {`,"engine"`, `, "engine"`},
		"a line feed at the end":       {`}]}`, "}]}\n"},
		"a byte order mark":            {`{"form"`, "\ufeff" + `{"form"`},
		"an unknown key":               {`"engine"`, `"motor":1,"engine"`},
		"an unknown key deep inside":   {`"up":`, `"upper":1,"up":`},
		"a key twice":                  {`"engine":1`, `"engine":1,"engine":1`},
		"a key twice, deep inside":     {`"met":false`, `"met":true,"met":false`},
		"keys in another order":        {`"engine":1,"contract":"` + contractA.String() + `"`, `"contract":"` + contractA.String() + `","engine":1`},
		"a key in capitals":            {`"met"`, `"Met"`},
		"an escape that needs not be":  {`accepted`, `\u0061ccepted`},
		"an escape in capitals":        {`\u00fc`, `\u00FC`},
		"a character not escaped":      {`\u00fc`, `ü`},
		"half a character":             {`\ud83e\uddfe`, `\ud83e`},
		"an escaped slash":             {`late facts`, `late\/facts`},
		"a number as text":             {`"engine":1`, `"engine":"1"`},
		"a sum as a number":            {`"den":"` + s.Result.Den.String() + `"`, `"den":` + s.Result.Den.String()},
		"a sum with a leading zero":    {`"den":"`, `"den":"0`},
		"a sum beyond 128 bits":        {`"den":"`, `"den":"9999999999999999999999999999999999`},
		"a number beyond 64 bits":      {`"ppm":`, `"ppm":99999999999999999999`},
		"a fraction":                   {`"met":false`, `"met":0.0`},
		"an hour beyond 32 bits":       {`"hour":`, `"hour":9999999`},
		"a hash in capitals":           {`"supersedes":"ab`, `"supersedes":"AB`},
		"a hash that is short":         {`"supersedes":"ab`, `"supersedes":"`},
		"null for a list":              {good[strings.Index(good, `"hours":`):strings.Index(good, `,"result"`)], `"hours":null`},
		"another form":                 {`hsi/statement/v1`, `hsi/terms/v1`},
		"a month like another":         {`"2026-11"`, `"2026-11-01"`},
		"nothing":                      {good, ``},
		"deeply nested":                {good, strings.Repeat(`{"result":`, 20_000)},
		"a comment":                    {`{"form"`, `/**/{"form"`},
		"a control character":          {`late facts`, `late\u0000facts`},
		"one that turns the direction": {`late facts`, `late\u202efacts`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, edit[0], edit[1], 1)
			require.NotEqual(t, good, bad)
			_, err := ParseStatement([]byte(bad))
			require.Error(t, err)
		})
	}
	_, err = ParseStatement(make([]byte, maxStatement+1))
	require.ErrorContains(t, err, "more than 67108864 are not read")
}

func TestAStatementThatDoesNotAddUpIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Statement){
		"of sla engine 2, which is not known":       func(s *Statement) { s.Engine = 2 },
		"no contract or no customer":                func(s *Statement) { s.Customer = ident.UUID{} },
		"not after the month's end":                 func(s *Statement) { s.IssuedMS, s.AcceptUntilMS = november.ToMS(), 0 },
		"which is not before it was issued":         func(s *Statement) { s.AcceptUntilMS = s.IssuedMS + 1 },
		"give both or neither":                      func(s *Statement) { s.Reason = "" },
		"only a restatement accepts late facts":     func(s *Statement) { s.Reason, s.Supersedes = "", HexHash{} },
		"give at most 1000":                         func(s *Statement) { s.Reason = strings.Repeat("x", 1001) },
		"names no terms":                            func(s *Statement) { s.Terms = nil },
		"out of order":                              func(s *Statement) { s.Hours[0], s.Hours[1] = s.Hours[1], s.Hours[0] },
		"names something twice":                     func(s *Statement) { s.Miners[1] = s.Miners[0] },
		"terms version 2 without a hash":            func(s *Statement) { s.Terms[1].Hash = HexHash{} },
		"without a hash, or for -1 slots":           func(s *Statement) { s.Excuses[0].Counted = -1 },
		"its excuses count for 49 slots":            func(s *Statement) { s.Excuses[3].Counted = 1 },
		"is not in the month":                       func(s *Statement) { s.Hours[2].Hour += 24 * 30 },
		"wait until it is agreed":                   func(s *Statement) { s.Hours[0].State = "pending" },
		"without root or header hash":               func(s *Statement) { s.Hours[0].Root = HexHash{} },
		"or with slots it does not have":            func(s *Statement) { s.Hours[0].Skewed = 0x1000 },
		"after the statement was issued":            func(s *Statement) { s.Hours[0].ReceivedMS = s.IssuedMS + 1 },
		"2 miners with 1 assignments":               func(s *Statement) { s.Assignments = s.Assignments[:1] },
		"the month has 8640":                        func(s *Statement) { s.Miners[0].Slots.Up++ },
		"slots of one state":                        func(s *Statement) { s.Miners[0].Slots.Up, s.Miners[0].Slots.Down = -1, 8641 },
		"more than can be":                          func(s *Statement) { s.Miners[0].Hashes = Sum{Hi: 1} },
		"does not follow from its slots and hashes": func(s *Statement) { s.Miners[0].PPM++ },
		"not the sum of its miners":                 func(s *Statement) { s.Totals.Hashes = s.Totals.Hashes.Plus(1) },
		"does not follow from its totals":           func(s *Statement) { s.Result.PPM++ },
		"does not follow from its availability":     func(s *Statement) { s.Result.Met = true },
		"target of 0 ppm":                           func(s *Statement) { s.Result.TargetPPM = 0 },
		"a credit of 5000 for":                      func(s *Statement) { s.Credit.Minor = 5_000 },
		"a credit although the target is met":       func(s *Statement) { s.Result.TargetPPM, s.Result.Met = 1, true },
		"a code of ISO 4217":                        func(s *Statement) { s.Credit.Currency = "euro" },
	} {
		t.Run(want, func(t *testing.T) {
			s := vectorStatement(t)
			change(s)
			require.ErrorContains(t, s.Check(), want)
			_, err := ParseStatement(s.Canonical())
			require.Error(t, err)
		})
	}
}

func TestAReasonIsText(t *testing.T) {
	in, facts, issue := vector(t)
	m := judge(t, in, facts)
	for _, bad := range []string{"\xff", "two\nlines", "\x00", "\u202e", strings.Repeat("x", 1001)} {
		issue.Reason = bad
		_, err := mustRules(t, in).NewStatement(&m, issue)
		require.ErrorContains(t, err, "reason")
	}
}

func TestAStatementWaitsUntilTheMonthIsClosed(t *testing.T) {
	in := input()
	facts := map[MinerKey][]HourFacts{key(1): always(fullMH).hours(november)}
	in.AsOfMS = november.ToMS() + 72*hour
	m := judge(t, in, facts)
	_, err := mustRules(t, in).NewStatement(&m, Issue{})
	require.ErrorContains(t, err, "issue its statement after that", "a fact may still come at the deadline")
	in.AsOfMS++
	r := mustRules(t, in)
	m = judge(t, in, facts)
	_, err = r.NewStatement(&m, Issue{})
	require.NoError(t, err)
	// Days that were judged while the month ran do not do.
	early := in
	early.AsOfMS = at(10, 0, 0)
	open := judge(t, early, facts)
	_, err = r.NewStatement(&open, Issue{})
	require.ErrorContains(t, err, "slots that are still open")
	_, err = r.NewStatement(&m, Issue{Reason: "no statement named"})
	require.ErrorContains(t, err, "give both or neither")
	// The longest backfill of the versions that hold decides.
	v2 := goodTerms()
	v2.Version, v2.FromMS, v2.BackfillS = 2, at(20, 0, 0), 100*3600
	in.Terms = append(in.Terms, v2)
	assert.Equal(t, november.ToMS()+100*hour, mustRules(t, in).ClosesMS())
}

func TestWhatHappensLaterChangesNoStatement(t *testing.T) {
	in, facts, issue := vector(t)
	before := vectorStatement(t)
	// After it was issued the assignments end, a further version and further excuses are recorded, and a window of the month is ended.
	in.Assignments[0].ToMS = november.ToMS() + 20*day
	v3 := goodTerms()
	v3.Version, v3.FromMS, v3.DegradedPPM = 3, november.ToMS(), 1
	in.Terms = append(in.Terms, v3)
	later := in.AsOfMS + 1
	in.Excuses = append(in.Excuses,
		excuse(30, Maintenance, november.ToMS(), november.ToMS()+day, at(1, 0, 0)),
		excuse(31, Curtailment, at(6, 0, 0), at(6, 8, 0), later),
		ends(32, 12, Curtailment, at(7, 1, 0), later))
	in.Assignments = append(in.Assignments, assign(9, 9, november.ToMS(), 0))
	m := judge(t, in, facts)
	after, err := mustRules(t, in).NewStatement(&m, issue)
	require.NoError(t, err)
	assert.Equal(t, string(before.Canonical()), string(after.Canonical()))
}

func TestAnEmptyMonthHasAStatementToo(t *testing.T) {
	in := input()
	in.Assignments = nil
	m := judge(t, in, nil)
	s, err := mustRules(t, in).NewStatement(&m, Issue{})
	require.NoError(t, err)
	assert.True(t, s.Result.Met)
	back, err := ParseStatement(s.Canonical())
	require.NoError(t, err)
	assert.Equal(t, s, back)
}

func FuzzStatement(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "statement.json"))
	require.NoError(f, err)
	f.Add(golden)
	in := input()
	in.Assignments = nil
	r := mustRules(f, in)
	m, err := r.Month(nil)
	require.NoError(f, err)
	empty, err := r.NewStatement(&m, Issue{})
	require.NoError(f, err)
	f.Add(empty.Canonical())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatement(b)
		if err != nil {
			return
		}
		require.Equal(t, string(b), string(s.Canonical()))
		require.NoError(t, s.Check())
	})
}

func FuzzInputs(f *testing.F) {
	in, _, _ := vector(f)
	f.Add(in.Terms[0].Canonical())
	f.Add(in.Assignments[0].Canonical())
	f.Add(in.Excuses[2].Canonical())
	f.Fuzz(func(t *testing.T, b []byte) {
		read := 0
		if v, err := ParseTerms(b); err == nil {
			read++
			require.Equal(t, string(b), string(v.Canonical()))
			require.NoError(t, v.Check())
		}
		if v, err := ParseAssignment(b); err == nil {
			read++
			require.Equal(t, string(b), string(v.Canonical()))
		}
		if v, err := ParseExcuse(b); err == nil {
			read++
			require.Equal(t, string(b), string(v.Canonical()))
		}
		require.LessOrEqual(t, read, 1, "one form never passes for another")
	})
}
