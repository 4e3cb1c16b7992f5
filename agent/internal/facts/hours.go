package facts

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
)

// hourMS is an hour as observations count time.
const hourMS = int64(evidence.HourMS)

// hourOf returns the hour of an instant since 1970 UTC. Before that there are none.
func hourOf(ms int64) int64 { return max(0, ms) / hourMS }

// startOf and endOf bound an hour: the second is the first instant after it.
func startOf(hour uint32) int64 { return int64(hour) * hourMS }
func endOf(hour uint32) int64   { return startOf(hour) + hourMS }

// timeOf is an hour for people.
func timeOf(hour uint32) time.Time { return time.UnixMilli(startOf(hour)).UTC() }

// span is a run of hours, both ends included.
type span [2]uint32

// hourSet is a set of hours: spans in order, apart from each other.
type hourSet []span

// maxSpans bounds a set. Hours follow each other, so that only a clock that jumps about makes more.
const maxSpans = 1024

func (s hourSet) has(hour uint32) bool {
	i := s.after(hour)
	return i > 0 && hour <= s[i-1][1]
}

// after returns the place of the first span that begins after hour.
func (s hourSet) after(hour uint32) int {
	i, _ := slices.BinarySearchFunc(s, hour, func(r span, h uint32) int {
		if r[0] <= h {
			return -1
		}
		return 1
	})
	return i
}

// add puts an hour in.
func (s *hourSet) add(hour uint32) {
	if s.has(hour) {
		return
	}
	i := s.after(hour)
	*s = slices.Insert(*s, i, span{hour, hour})
	if i+1 < len(*s) && (*s)[i+1][0] == hour+1 {
		(*s)[i][1] = (*s)[i+1][1]
		*s = slices.Delete(*s, i+1, i+2)
	}
	if i > 0 && (*s)[i-1][1]+1 == hour {
		(*s)[i-1][1] = (*s)[i][1]
		*s = slices.Delete(*s, i, i+1)
	}
	if len(*s) > maxSpans { // what lies between the two oldest runs counts as done: never twice comes before never lost
		(*s)[0][1] = (*s)[1][1]
		*s = slices.Delete(*s, 1, 2)
	}
}

// sorted makes a set of what a file says, which may be in whatever order.
func (s hourSet) sorted() (out hourSet) {
	for _, r := range s {
		out = append(out, span{r[0], max(r[0], r[1])})
	}
	slices.SortFunc(out, func(a, b span) int { return int(int64(a[0]) - int64(b[0])) })
	return out
}

// noteName is the file beside the batches that says which hours are done. The hour batches say it too, as long as they are kept.
const noteName = "hours.json"

const noteVersion = 1

// note is hours.json.
type note struct {
	Version int         `json:"version"`
	Chains  []noteChain `json:"chains"`
	Last    *Signed     `json:"last,omitempty"` // the hour that was signed last
}

// noteChain are the hours of one chain that are signed, or never will be because something of them is gone.
type noteChain struct {
	Spool ident.SpoolID `json:"spool"`
	Done  hourSet       `json:"done"`
	Gone  hourSet       `json:"gone,omitempty"` // others, of which batches were let go because the clock was beyond them
	floor
}

// floor is where the batches begin that are still needed: hours from From on need none before Seq. The zero floor says nothing.
type floor struct {
	Seq  uint64 `json:"needed_seq"`
	From uint32 `json:"needed_for"`

	known bool // the batches from Seq on are here
}

// sound returns the first hour that can be computed from batches of which the first with readings begins at firstMS, and others before it
// are missing.
func (f floor) sound(firstMS int64) int64 {
	hour := hourOf(firstMS+hourMS) + 1 // what is missing is at least an hour older
	if f.known {
		hour = min(hour, int64(f.From))
	}
	return hour
}

// Signed is an hour that was signed.
type Signed struct {
	Hour   time.Time     `json:"hour"`  // its beginning
	Spool  ident.SpoolID `json:"spool"` // of the chain that its facts are of
	Seq    uint64        `json:"seq"`   // of the batch that holds it
	Miners uint32        `json:"miners"`
	At     time.Time     `json:"at"` // when
}

// readNote returns what is known of a spool directory's hours. A note that is damaged says nothing: the hour batches in the spool do.
func readNote(dir string, log *slog.Logger) (note, error) {
	b, err := spool.ReadNote(dir, noteName)
	if err != nil {
		return note{}, fmt.Errorf("signed hours: %w", err)
	}
	var n note
	if len(b) == 0 {
		return n, nil
	}
	if err := json.Unmarshal(b, &n); err != nil {
		log.Error("the note of signed hours is damaged; those that the spool still holds are known", "file", noteName, "err", err)
		return note{}, nil
	}
	if n.Version != noteVersion {
		return note{}, fmt.Errorf("signed hours: %s has version %d, this program knows %d: use the agent that wrote it, or a newer one", noteName, n.Version, noteVersion)
	}
	for i := range n.Chains {
		n.Chains[i].Done, n.Chains[i].Gone = n.Chains[i].Done.sorted(), n.Chains[i].Gone.sorted()
	}
	return n, nil
}

func marshalNote(n *note) ([]byte, error) {
	b, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("signed hours: %w", err)
	}
	return append(b, '\n'), nil
}
