package statement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/hashinsight/hashinsight/hub/internal/archive"
	"github.com/hashinsight/hashinsight/hub/internal/facts"
	"github.com/hashinsight/hashinsight/hub/internal/sla"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// Verdict is what a recomputation found.
type Verdict struct {
	Same        bool
	Differences []string // at most maxDifferences, and then how many more
}

// maxDifferences bounds how many differences are named.
const maxDifferences = 200

// ErrUnchecked means that some of the evidence is not there or cannot be read, so that a statement can be called neither right nor wrong.
var ErrUnchecked = errors.New("some of its evidence cannot be read")

const (
	// Batches that sign hours of a site, as the ledger has them: which hours there are is not asked of what the hub made of them.
	qHourBatches = `
SELECT spool_id, seq, received_at FROM batch WHERE site_id = $1 AND first_at >= $2 AND first_at < $3 AND kind = 3 AND disposition = 1 ORDER BY first_at, spool_id, seq`
	qReceived = `SELECT max(received_at) FROM batch WHERE site_id = $1 AND spool_id = $2 AND seq >= $3 AND seq <= $4`
	qKeptDays = `SELECT miner_id, sums, states FROM sla_day WHERE contract_id = $1 AND site_id = $2 AND day = $3`
)

// recomputation is one on its way.
type recomputation struct {
	s         *Store
	w         io.Writer
	st        *sla.Statement
	rules     *sla.Rules
	named     map[hourKey]sla.HourRef // in the statement
	compare   bool                    // kept days too: the statement is the newest of its month
	hours     []sla.HourRef
	days      map[sla.MinerKey][]sla.DaySums
	diffs     []string
	more      int
	unchecked []error
}

// hourKey names a signed hour of one chain.
type hourKey struct {
	site  ident.SiteID
	hour  uint32
	spool ident.SpoolID
}

func (r *recomputation) say(format string, args ...any) error {
	_, err := fmt.Fprintf(r.w, format+"\n", args...)
	return err
}

// differ takes down a difference.
func (r *recomputation) differ(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(r.diffs) >= maxDifferences {
		r.more++
		return nil
	}
	r.diffs = append(r.diffs, text)
	return r.say("DIFFERENT: %s", text)
}

func (r *recomputation) verdict() (Verdict, error) {
	v := Verdict{Same: len(r.diffs) == 0, Differences: r.diffs}
	if r.more > 0 {
		v.Differences = append(v.Differences, fmt.Sprintf("and %d more", r.more))
	}
	if v.Same && len(r.unchecked) > 0 {
		return v, fmt.Errorf("%w: %w", ErrUnchecked, errors.Join(r.unchecked[:min(len(r.unchecked), 10)]...))
	}
	result := "the statement is what the evidence gives, byte for byte"
	if !v.Same {
		result = fmt.Sprintf("the statement is not what the evidence gives: %d differences", len(r.diffs)+r.more)
	}
	return v, r.say("%s", result)
}

// Recompute computes a statement again from the signed batches alone, wherever they lie: facts of every hour, compared with the signed roots; days, month and
// bytes, compared with the statement; and where it is the newest of its month, the kept days. It tells w each step. Beside the evidence it takes the hub's word
// for what no site can sign: when batches came, which stand in the ledger, and in which slots a site's clock was measured wrong, which stand in the
// statement. An error, ErrUnchecked among them, means that it could not be checked.
func (s *Store) Recompute(ctx context.Context, hash evidence.Hash, w io.Writer) (Verdict, error) {
	i, err := s.statement(ctx, s.c.Pool, Scope{}, hash)
	if err != nil {
		return Verdict{}, err
	}
	r := &recomputation{s: s, w: w, named: map[hourKey]sla.HourRef{}, days: map[sla.MinerKey][]sla.DaySums{}}
	if err := r.say("statement %x: contract %s, %s, number %d, %d bytes", hash, i.Contract, i.Month, i.Seq, len(i.Bytes)); err != nil {
		return Verdict{}, err
	}
	if sha256.Sum256(i.Bytes) != hash {
		if err := r.differ("its bytes have the hash %x", sha256.Sum256(i.Bytes)); err != nil {
			return Verdict{}, err
		}
		return r.verdict()
	}
	if err := r.signature(&i); err != nil {
		return Verdict{}, err
	}
	if r.st, err = sla.ParseStatement(i.Bytes); err != nil {
		if errors.Is(err, sla.ErrEngine) {
			return Verdict{}, err
		}
		if err := r.differ("%v", err); err != nil {
			return Verdict{}, err
		}
		return r.verdict()
	}
	for _, h := range r.st.Hours {
		r.named[hourKey{h.Site, h.Hour, h.Spool}] = h
	}
	r.compare = i.SupersededBy == (evidence.Hash{})
	in, err := s.inputs(ctx, s.c.Pool, uuid.UUID(r.st.Contract), r.st.Month)
	if err != nil {
		return Verdict{}, err
	}
	in.Engine, in.AsOfMS, in.AcceptUntilMS = r.st.Engine, r.st.IssuedMS, r.st.AcceptUntilMS
	if r.rules, err = newRules(in); err != nil {
		return Verdict{}, err
	}
	if r.rules == nil {
		if err := r.differ("nothing is contracted in %s any more", r.st.Month); err != nil {
			return Verdict{}, err
		}
		return r.verdict()
	}
	if err := r.say("engine %d; terms, assignments and excuses: %d, %d, %d", r.st.Engine, len(r.rules.Terms()), len(r.rules.Assignments()), len(r.rules.Excuses())); err != nil {
		return Verdict{}, err
	}
	for _, w := range windows(r.rules.Assignments(), r.st.Month) {
		if err := r.site(ctx, w); err != nil {
			return Verdict{}, fmt.Errorf("site %s: %w", w.site, err)
		}
	}
	if err := r.month(i.Bytes); err != nil {
		return Verdict{}, err
	}
	return r.verdict()
}

func (r *recomputation) signature(i *Issued) error {
	if key := r.s.key(); key == nil {
		return errors.New("this process does not have the hub's evidence key, by which the signature is checked")
	} else if !bytes.Equal(key.Public().(ed25519.PublicKey), i.PublicKey) { //nolint:forcetypeassert // ed25519 has no other
		return r.differ("it is signed with key %s, which is not this hub's", i.Key)
	}
	if err := evidence.VerifyStatement(i.PublicKey, i.Bytes, i.Signature); err != nil {
		return r.differ("%v", err)
	}
	return r.say("signed with the hub's evidence key %s", i.Key)
}

// signedHour is a batch that signs an hour.
type signedHour struct {
	evidence.Hour
	header   evidence.Hash
	inSpool  ident.SpoolID
	inSeq    uint64
	received time.Time
}

// site computes the days of one site.
func (r *recomputation) site(ctx context.Context, w window) error {
	signed, err := r.signedHours(ctx, w)
	if err != nil {
		return err
	}
	at := 0
	for day := int(w.first / 24); day <= int((w.last-1)/24); day++ {
		begin := at
		for at < len(signed) && int(signed[at].Hour.Hour/24) <= day {
			at++
		}
		if err := r.day(ctx, group{w.site, day}, signed[begin:at]); err != nil {
			return fmt.Errorf("%s: %w", dayName(day), err)
		}
	}
	return nil
}

// signedHours reads the batches that sign a site's hours and had come when the statement was issued, in order of (hour, chain, time of coming).
func (r *recomputation) signedHours(ctx context.Context, w window) ([]signedHour, error) {
	rows, err := r.s.c.Pool.Query(ctx, qHourBatches, w.site, time.Unix(int64(w.first)*3600, 0), time.Unix(int64(w.last)*3600, 0))
	if err != nil {
		return nil, fmt.Errorf("listing signed hours: %w", err)
	}
	var list []signedHour
	var h signedHour
	var seq int64
	if _, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&h.inSpool), &seq, &h.received}, func() error {
		h.inSeq = uint64(seq)
		if h.received.UnixMilli() <= r.st.IssuedMS {
			list = append(list, h)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("listing signed hours: %w", err)
	}
	for i := range list {
		h := &list[i]
		b, err := r.s.batch(ctx, w.site, h.inSpool, h.inSeq)
		if err == nil {
			h.Hour, err = facts.CheckHour(&b.Header, b.Payload)
			h.header = b.Header.Hash()
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// batch returns one batch as it was signed, its signature checked with the site's key.
func (s *Store) batch(ctx context.Context, site ident.SiteID, spool ident.SpoolID, seq uint64) (b archive.Batch, err error) {
	err = archive.Chain(ctx, s.c.Pool, s.c.Archive, site, spool, seq, seq, func(found *archive.Batch, err error) error {
		if err != nil {
			return err
		}
		b = *found
		return nil
	})
	if err == nil && b.RawHeader == nil {
		err = fmt.Errorf("batch %d of spool %s: %w", seq, spool, archive.ErrNotFound)
	}
	if err != nil {
		return b, err
	}
	key, err := s.c.SiteKey(ctx, site, b.Header.Key)
	if err != nil {
		return b, err
	}
	if err := evidence.VerifyHeader(key, b.RawHeader, b.Signature); err != nil {
		return b, fmt.Errorf("batch %d of spool %s: %w", seq, spool, err)
	}
	return b, nil
}

// day computes one day of a site from the batches of its signed hours.
func (r *recomputation) day(ctx context.Context, g group, signed []signedHour) error {
	wanted := map[ident.MinerID]bool{}
	for _, k := range r.rules.Miners() {
		if k.Site == g.site {
			wanted[k.Miner] = true
		}
	}
	known := map[ident.MinerID][]sla.HourFacts{}
	hours, batches, polls, whole := 0, 0, int64(0), len(r.unchecked)
	for i := 0; i < len(signed); {
		first := &signed[i]
		k := hourKey{g.site, first.Hour.Hour, first.Spool}
		roots := map[evidence.Hash]bool{}
		for ; i < len(signed) && signed[i].Hour.Hour == k.hour && signed[i].Spool == k.spool; i++ {
			if signed[i].received.Before(first.received) {
				first = &signed[i]
			}
			roots[signed[i].Root] = true
		}
		found, leaves, err := r.hour(ctx, k, first, len(roots) > 1)
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		hours, batches, polls = hours+1, batches+found.Batches, polls+found.Polls
		for j := range leaves {
			if l := &leaves[j]; wanted[l.Miner] {
				ref := &r.hours[len(r.hours)-1]
				known[l.Miner] = append(known[l.Miner], sla.HourFacts{
					Hour: l.Hour, Spool: l.Spool, Slots: l.Slots, Skewed: ref.Skewed, Disputed: ref.State == sla.HourDisputed, ReceivedMS: ref.ReceivedMS,
				})
			}
		}
	}
	kept, err := r.keptOf(ctx, g)
	if err != nil {
		return err
	}
	n := 0
	var failed error // of telling differences
	err = eachDay(ctx, r.rules, g, func(_ context.Context, miners []ident.MinerID, f func(ident.MinerID, sla.HourFacts)) error {
		for _, m := range miners {
			for _, h := range known[m] {
				f(m, h)
			}
		}
		return nil
	}, func(m ident.MinerID, d *sla.DayResult) {
		n++
		k := sla.MinerKey{Site: g.site, Miner: m}
		r.days[k] = append(r.days[k], d.DaySums)
		if have, ok := kept[m]; r.compare && len(r.unchecked) == whole && (!ok || !bytes.Equal(have.sums, packSums(&d.DaySums)) || have.states != d.States.Pack()) {
			failed = errors.Join(failed, r.differ("the day %s of miner %s at site %s that the hub keeps is not what the evidence gives", dayName(g.day), m, g.site))
		}
		delete(kept, m)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	for m := range kept {
		if err := r.differ("the hub keeps a day %s of miner %s at site %s, which has no slot on it", dayName(g.day), m, g.site); err != nil {
			return err
		}
	}
	return r.say("%s, site %s: %d signed hours from %d batches with %d polls; %d miners", dayName(g.day), g.site, hours, batches, polls, n)
}

// hour computes one signed hour; nil when it could not be judged by the time the statement was issued, and did not count.
func (r *recomputation) hour(ctx context.Context, k hourKey, signed *signedHour, twice bool) (*facts.Recomputed, []evidence.Leaf, error) {
	ref, named := r.named[k]
	name := fmt.Sprintf("hour %s of chain %s of site %s", time.Unix(int64(k.hour)*3600, 0).UTC().Format("2006-01-02T15"), k.spool, k.site)
	found, err := r.s.c.Facts.Recompute(ctx, k.site, k.hour, k.spool)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, nil, err
	case err != nil && !named && errors.Is(err, facts.ErrNotRecomputed):
		return nil, nil, r.say("%s is not whole, as when the statement was issued: unknown", name)
	case err != nil:
		r.unchecked = append(r.unchecked, err)
		return nil, nil, r.say("%s cannot be computed: %v", name, err)
	}
	received := signed.received
	var last *time.Time
	if err := r.s.c.Pool.QueryRow(ctx, qReceived, k.site, k.spool, int64(found.Signed.FirstSeq), int64(found.Signed.LastSeq)).Scan(&last); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if last != nil && last.After(received) {
		received = *last
	}
	state := sla.HourAgreed
	if twice || !found.Agreed {
		state = sla.HourDisputed
	}
	switch {
	case !found.Agreed && found.Dropped != "":
		return nil, nil, r.say("%s: the site has dropped %s: unknown", name, found.Dropped)
	case received.UnixMilli() > r.st.IssuedMS:
		return nil, nil, r.say("%s was whole only at %s, after the statement was issued: unknown", name, text(received.UnixMilli()))
	case !named:
		if err := r.differ("%s had come and is not in the statement", name); err != nil {
			return nil, nil, err
		}
	case ref.Root != sla.HexHash(found.Signed.Root) || ref.HeaderHash != sla.HexHash(found.Header):
		if err := r.differ("%s is signed with root %x in batch %x, the statement says %s in %s", name, found.Signed.Root, found.Header, ref.Root, ref.HeaderHash); err != nil {
			return nil, nil, err
		}
	case ref.State != state:
		if err := r.differ("%s is %s by its batches, which give root %x; the statement says %s", name, state, found.Root, ref.State); err != nil {
			return nil, nil, err
		}
	case ref.ReceivedMS != received.UnixMilli():
		if err := r.differ("%s had come at %s by the ledger, the statement says %s", name, text(received.UnixMilli()), text(ref.ReceivedMS)); err != nil {
			return nil, nil, err
		}
	}
	r.hours = append(r.hours, sla.HourRef{
		Site: k.site, Hour: k.hour, Spool: k.spool, Root: sla.HexHash(found.Signed.Root), HeaderHash: sla.HexHash(found.Header), State: state, Skewed: ref.Skewed,
		ReceivedMS: received.UnixMilli(),
	})
	delete(r.named, k)
	return &found, found.Leaves, nil
}

// packedDay is a kept day as it lies in the table.
type packedDay struct {
	sums   []byte
	states sla.PackedStates
}

func (r *recomputation) keptOf(ctx context.Context, g group) (map[ident.MinerID]packedDay, error) {
	kept := map[ident.MinerID]packedDay{}
	if !r.compare {
		return kept, nil
	}
	rows, err := r.s.c.Pool.Query(ctx, qKeptDays, r.st.Contract, g.site, g.day)
	if err != nil {
		return nil, fmt.Errorf("reading kept days: %w", err)
	}
	var m ident.MinerID
	var sums, states []byte
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&m), &sums, &states}, func() error {
		d := packedDay{sums: bytes.Clone(sums)}
		copy(d.states[:], states)
		kept[m] = d
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading kept days: %w", err)
	}
	return kept, nil
}

// month adds the days up, makes the statement and compares it.
func (r *recomputation) month(signed []byte) error {
	for k := range r.named { // what is left
		if len(r.unchecked) > 0 {
			break // it may be one of those
		}
		if err := r.differ("the statement names hour %d of chain %s of site %s, which no batch signs", k.hour, k.spool, k.site); err != nil {
			return err
		}
	}
	kept := make([]sla.MinerDays, 0, len(r.days))
	for k, days := range r.days {
		kept = append(kept, sla.MinerDays{MinerKey: k, Days: days})
	}
	result, err := r.rules.Month(kept)
	if err != nil {
		return err
	}
	got, err := r.rules.NewStatement(&result, sla.Issue{Supersedes: r.st.Supersedes, Reason: r.st.Reason, Hours: r.hours})
	if err != nil {
		return err
	}
	if err := r.say("availability %d ppm, credit %d/10000, %d minor units; the statement says %d ppm, %d/10000, %d", got.Result.PPM, got.Credit.BP, got.Credit.Minor,
		r.st.Result.PPM, r.st.Credit.BP, r.st.Credit.Minor); err != nil {
		return err
	}
	if bytes.Equal(got.Canonical(), signed) || len(r.unchecked) > 0 {
		return nil
	}
	return r.parts(got)
}

// parts names what differs between the statement and its recomputation.
func (r *recomputation) parts(got *sla.Statement) (err error) {
	sla.Differences(r.st, got, func(format string, args ...any) { err = errors.Join(err, r.differ(format, args...)) })
	if err == nil && len(r.diffs) == 0 {
		err = r.differ("the bytes, from %d on", firstDifference(got.Canonical(), r.st.Canonical()))
	}
	return err
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
