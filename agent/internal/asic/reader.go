package asic

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Config is what a Reader needs.
type Config struct {
	Address string           // host:port
	Client  *cgminer.Client  // shared by all readers
	Now     func() time.Time // nil means time.Now
}

// Reader reads one miner and remembers between polls what it is, whether it takes joined commands and
// which commands it refuses. It is for one goroutine at a time: a miner serves one connection.
type Reader struct {
	c      Config
	id     identity
	known  bool // id was established and has fitted every reply since
	joined joinedState
	denied commands // refused for good (invalid, access denied) since identification

	uptime   time.Duration // at the last answer, to notice a restart
	asleep   bool          // at the last answer
	boards   int           // most boards seen since identification
	fans     uint16        // fan positions that have ever turned since identification
	kept     []string      // texts of earlier observations, to share instead of copying again
	joinSet  commands      // asked for last
	joinText string        // as it is sent
}

// joinedState is what is known about joined commands.
type joinedState uint8

const (
	joinedUntried joinedState = iota
	joinedWorks
	joinedFails // single commands until the miner restarts
)

// NewReader returns a Reader for the miner at c.Address. It does not connect.
func NewReader(c Config) *Reader {
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Reader{c: c}
	r.id.info.Address = c.Address
	return r
}

// Read polls the miner once. It always returns an Observation: a failed poll is one with its Outcome and an
// error text. Observation.Miner and MinerInfo.Miner are left zero. The MinerInfo is what is known so far.
func (r *Reader) Read(ctx context.Context) (telemetry.Observation, telemetry.MinerInfo) {
	start := r.c.Now()
	p := &poll{r: r, ctx: ctx}
	defer p.release()
	p.run()
	p.obs.At = r.c.Now().UTC()
	if n := len(p.replies); n > 0 && p.obs.Outcome == telemetry.OutcomeOK {
		// The client may have waited a moment longer for the miner to close.
		p.obs.At = p.obs.At.Add(-time.Since(p.replies[n-1].Received()))
	}
	p.obs.Took = p.obs.At.Sub(start)
	return p.obs, r.id.info
}

// poll is one Read in progress.
type poll struct {
	r        *Reader
	ctx      context.Context // lives as long as the call of Read
	obs      telemetry.Observation
	replies  []*cgminer.Reply
	parts    [commandCount]cgminer.Part
	answered commands
	failed   error // first error of a command that should have been answered
	over     bool  // no further request makes sense
	rates    rates
	fits     bool // the driver found the sections it is made for

	deadBoards int  // reported as dead or sick
	fault      bool // the firmware reports a fault
	chainIdeal unit.Hashrate
}

func (p *poll) release() {
	for _, r := range p.replies {
		r.Release()
	}
}

func (p *poll) run() {
	r := p.r
	fresh := !r.known
	if fresh {
		p.identify()
	}
	if !p.over {
		p.ask(r.asks())
	}
	if fresh && !p.over && r.id.family == familyGeneric {
		// Some firmware names itself only in the replies that a poll asks for.
		if p.sniff(); r.id.family != familyGeneric {
			p.describeWhatsminer()
			p.ask(r.asks() &^ p.answered)
		}
	}
	if more := r.id.driver().more; more != nil {
		more(p)
	}
	p.obs.Outcome = cgminer.OutcomeOf(p.failed)
	if p.answered != 0 {
		p.obs.Outcome = telemetry.OutcomeOK
		if p.failed != nil {
			p.obs.Outcome = telemetry.OutcomePartial
		}
		r.id.driver().decode(p)
		p.judge()
	} else if p.failed == nil {
		// Every command was refused for good: that is an answer of the API, not a fault on the way.
		p.obs.Outcome = telemetry.OutcomeAPIError
		p.addError("the miner refuses every command that reads its state")
	}
	if p.failed != nil {
		p.addError(p.failed.Error())
	}
	for _, reply := range p.replies {
		p.obs.Repairs |= reply.Repairs()
	}
	p.remember()
}

// asks returns what a poll asks of this miner now.
func (r *Reader) asks() commands {
	asks := r.id.driver().asks
	if r.id.family == familyWhatsminer && r.denied&cmdEdevs.set() != 0 {
		// Older firmware knows "devs" and no "edevs"; the oldest neither, but its "stats" (67 kB) names the boards.
		asks |= cmdDevs.set()
		if r.denied&cmdDevs.set() != 0 {
			asks |= cmdStats.set()
		}
	}
	return asks
}

// remember keeps what the next poll needs and drops the identification when the miner restarted or no
// longer answers like itself: a restart may have brought other firmware.
func (p *poll) remember() {
	r := p.r
	switch p.obs.Outcome {
	case telemetry.OutcomeOK, telemetry.OutcomePartial:
		up, ok := p.obs.Uptime.Get()
		restarted := ok && up < r.uptime
		if ok {
			r.uptime = up
		}
		// What a sleeping miner refused says nothing about it awake.
		asleep := p.obs.State == telemetry.StateSleeping
		woke := r.asleep && !asleep
		if r.asleep = asleep; asleep {
			r.denied = 0
		}
		r.known = (p.fits || p.obs.Outcome == telemetry.OutcomePartial) && !restarted && !woke
	case telemetry.OutcomeGarbage, telemetry.OutcomeAPIError:
		r.known = false
	case telemetry.OutcomeRefused:
		// It may come back with firmware that listens on the other port.
		r.known = r.known && r.id.family != familyWhatsminer3
	}
}

// ask sends the commands, joined where that works, and keeps the parts that were answered.
func (p *poll) ask(want commands) {
	r := p.r
	want &^= r.denied
	if want == 0 || p.over {
		return
	}
	if r.joined != joinedFails && want.many() && p.askJoined(want) {
		return
	}
	single := false
	for c := range want.all() {
		if p.over {
			return
		}
		single = p.askOne(c) || single
	}
	if single && want.many() {
		r.joined = joinedFails
	}
}

// askJoined reports whether nothing is left to be asked one by one.
func (p *poll) askJoined(want commands) bool {
	r := p.r
	reply, err := r.c.Client.Do(p.ctx, r.c.Address, r.join(want))
	if errors.Is(err, cgminer.ErrCutOff) {
		reply, err = r.c.Client.Do(p.ctx, r.c.Address, r.join(want))
	}
	if err != nil {
		switch cgminer.OutcomeOf(err) {
		case telemetry.OutcomeDenied, telemetry.OutcomeReset, telemetry.OutcomeGarbage, telemetry.OutcomeTooLarge:
			return false
		case telemetry.OutcomeTimeout:
			if r.joined == joinedUntried {
				r.joined = joinedFails // tried one by one next time, and again joined after the next restart
			}
		}
		p.fail(err)
		p.over = true
		return true
	}
	p.replies = append(p.replies, reply)
	any := false
	for c := range want.all() {
		any = any || reply.Part(c.String()).Value.Exists()
	}
	if !any { // the firmware refuses joined requests with one error of its own
		return false
	}
	r.joined = joinedWorks
	for c := range want.all() {
		p.take(c, reply.Part(c.String()))
	}
	return true
}

// askOne sends one command and reports whether the miner answered at all.
func (p *poll) askOne(c command) bool {
	reply, err := p.r.c.Client.Do(p.ctx, p.r.c.Address, c.String())
	if errors.Is(err, cgminer.ErrCutOff) {
		reply, err = p.r.c.Client.Do(p.ctx, p.r.c.Address, c.String())
	}
	if err != nil {
		p.fail(err)
		switch cgminer.OutcomeOf(err) {
		case telemetry.OutcomeRefused, telemetry.OutcomeTimeout, telemetry.OutcomeUnreachable, telemetry.OutcomeDenied:
			p.over = true
		}
		return false
	}
	p.replies = append(p.replies, reply)
	p.take(c, reply.Part(c.String()))
	return true
}

// take keeps the reply to one command. A refusal that will not pass by itself is remembered, so that the
// command is not sent again, and is no failure of the poll; any other refusal is.
func (p *poll) take(c command, part cgminer.Part) {
	p.parts[c] = part
	err := part.Err()
	if err == nil {
		p.answered |= c.set()
		return
	}
	if e, ok := errors.AsType[*cgminer.APIError](err); ok {
		switch e.Code {
		case cgminer.CodeInvalidCommand, cgminer.CodeAccessDenied, cgminer.CodeMissingCommand:
			p.r.denied |= c.set()
			return
		}
	}
	p.fail(err)
}

func (p *poll) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
}

func (p *poll) has(c command) bool { return p.answered&c.set() != 0 }

// addError adds a text to the observation's errors, within its bounds.
func (p *poll) addError(text string) {
	if len(p.obs.Errors) < telemetry.MaxErrors {
		p.obs.Errors = append(p.obs.Errors, cut(text))
	}
}

// keep returns a copy of a view into a reply, shared with earlier observations that said the same.
func (r *Reader) keep(view string) string {
	view = cut(view)
	if view == "" {
		return ""
	}
	for _, k := range r.kept {
		if k == view {
			return k
		}
	}
	if len(r.kept) >= 48 {
		r.kept = r.kept[:0]
	}
	r.kept = append(r.kept, strings.Clone(view))
	return r.kept[len(r.kept)-1]
}

// cut holds a text within telemetry.MaxText without splitting a character. The parser has made it valid
// UTF-8.
func cut(s string) string {
	if len(s) <= telemetry.MaxText {
		return s
	}
	n := telemetry.MaxText
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// set changes an attribute when the miner reports another one.
func set(field *string, view string) {
	if view = strings.TrimSpace(cut(view)); view != "" && view != *field {
		*field = strings.Clone(view)
	}
}

// maxCount is beyond what any counter reaches; larger numbers are a firmware's unsigned minus one.
const maxCount = 1 << 62

// count reads what cannot be negative.
func count(v cgminer.Value) unit.Opt[int64] {
	if n, ok := v.Int(); ok && n >= 0 && n <= maxCount {
		return unit.Some(n)
	}
	return unit.Opt[int64]{}
}

func optInt32(v cgminer.Value) unit.Opt[int32] {
	if n, ok := v.Int(); ok && n > -1<<31 && n < 1<<31 {
		return unit.Some(int32(n))
	}
	return unit.Opt[int32]{}
}

// chips reads a number of chips; the largest board known has a few hundred.
func chips(v cgminer.Value) unit.Opt[int32] {
	if n, ok := v.Int(); ok && n >= 0 && n <= 100_000 {
		return unit.Some(int32(n))
	}
	return unit.Opt[int32]{}
}
