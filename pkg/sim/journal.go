package sim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashinsight/hashinsight/pkg/unit"
)

// Answer is one summary that a miner answered: it was written to the connection in full, and the client had not closed.
type Answer struct {
	Miner    string        // host:port
	Serial   uint64        // the Best Share it carried; rises per miner, may skip after a crash of the simulator
	At       time.Time     // when its last byte was written, UTC
	Hashrate unit.Hashrate // served as the shortest rate, before rounding
	Window   time.Duration // of that rate
	Healthy  bool          // no fault in force that a tolerant reader does not mend, and the window holds the usual rate only
	Complete bool          // the bytes carried everything; false for damage that nobody can mend
	Fault    string        // behaviour in force, as in "malformed/nan"; "" for none
}

// line is an Answer in the record file: short keys, because a day of 10,000 miners is 10^8 of them.
type line struct {
	Miner    string  `json:"m"`
	Serial   uint64  `json:"n"`
	At       int64   `json:"t"` // Unix time in ns
	Hashrate float64 `json:"r"` // H/s
	Window   float64 `json:"w"` // s
	Healthy  bool    `json:"h"`
	Complete bool    `json:"c"`
	Fault    string  `json:"f,omitempty"`
}

// appendJSON writes the line by hand: this runs for every answer of the fleet. Miner and Fault hold no character that
// JSON escapes.
func (a *Answer) appendJSON(b []byte) []byte {
	b = append(b, `{"m":"`...)
	b = append(b, a.Miner...)
	b = append(b, `","n":`...)
	b = strconv.AppendUint(b, a.Serial, 10)
	b = append(b, `,"t":`...)
	b = strconv.AppendInt(b, a.At.UnixNano(), 10)
	b = append(b, `,"r":`...)
	b = strconv.AppendFloat(b, float64(a.Hashrate), 'f', 0, 64)
	b = append(b, `,"w":`...)
	b = strconv.AppendFloat(b, a.Window.Seconds(), 'f', -1, 64)
	b = append(b, `,"h":`...)
	b = strconv.AppendBool(b, a.Healthy)
	b = append(b, `,"c":`...)
	b = strconv.AppendBool(b, a.Complete)
	if a.Fault != "" {
		b = append(b, `,"f":"`...)
		b = append(b, a.Fault...)
		b = append(b, '"')
	}
	return append(b, "}\n"...)
}

// ReadAnswers reads a record file and calls fn for each answer. A line that a crash cut off is skipped and counted.
func ReadAnswers(r io.Reader, fn func(Answer) error) (broken int, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 4096), 1<<20)
	for in.Scan() {
		var l line
		if json.Unmarshal(in.Bytes(), &l) != nil {
			broken++
			continue
		}
		a := Answer{l.Miner, l.Serial, time.Unix(0, l.At).UTC(), unit.Hashrate(l.Hashrate),
			time.Duration(l.Window * float64(time.Second)), l.Healthy, l.Complete, l.Fault}
		if err := fn(a); err != nil {
			return broken, err
		}
	}
	return broken, in.Err()
}

// flushInterval is the longest that an answer stays out of the record file.
const flushInterval = 100 * time.Millisecond

// flushBytes is how much may gather before it is written at once.
const flushBytes = 1 << 20

// journal keeps what was answered: the last ones in memory, all of them in a file.
type journal struct {
	path string
	last int
	call func(Answer)

	mu   sync.Mutex
	file *os.File
	buf  []byte
	err  error // first one of the file; every later flush gives it
	ring []Answer
	next int    // where ring continues once it is full
	lost uint64 // answers that ring no longer holds
}

func newJournal(c Config) *journal {
	return &journal{path: c.RecordFile, last: c.KeepLast, call: c.OnAnswer}
}

// open opens the record for appending. A line that a crash cut off is ended, so that it spoils no other.
func (j *journal) open() error {
	if j.path == "" {
		return nil
	}
	file, err := os.OpenFile(j.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("record of answers: %w", err)
	}
	if end, err := file.Seek(0, io.SeekEnd); err == nil && end > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], end-1); err == nil && last[0] != '\n' {
			j.buf = append(j.buf, '\n')
		}
	}
	j.file = file
	return nil
}

func (j *journal) add(a Answer) {
	if j.call != nil {
		j.call(a)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.last == 0:
	case len(j.ring) < j.last:
		j.ring = append(j.ring, a)
	default:
		j.ring[j.next] = a
		j.next = (j.next + 1) % j.last
		j.lost++
	}
	if j.file != nil && j.err == nil {
		if j.buf = a.appendJSON(j.buf); len(j.buf) >= flushBytes {
			j.write()
		}
	}
}

// write empties the buffer into the file; the caller holds the lock.
func (j *journal) write() {
	if j.err != nil || j.file == nil || len(j.buf) == 0 {
		return
	}
	if _, err := j.file.Write(j.buf); err != nil {
		j.err = fmt.Errorf("record of answers: %w; it is incomplete from here on, so the fleet stops", err)
	}
	j.buf = j.buf[:0]
}

func (j *journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write()
	return j.err
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	had := j.err
	j.write()
	err := j.file.Close()
	j.file = nil
	if had != nil { // Run has it already
		return nil
	}
	return errors.Join(j.err, err)
}

// Answers returns the answers kept in memory, oldest first: the last Config.KeepLast of them.
func (f *Fleet) Answers() []Answer {
	j := f.answers
	j.mu.Lock()
	defer j.mu.Unlock()
	return append(append(make([]Answer, 0, len(j.ring)), j.ring[j.next:]...), j.ring[:j.next]...)
}

// Stats counts what the fleet has done since it began to run.
type Stats struct {
	Connections uint64 `json:"connections"`       // served, answered or not
	Answers     uint64 `json:"answers"`           // summaries answered
	Forgotten   uint64 `json:"answers_forgotten"` // answers that Answers no longer holds
}

// Stats returns the counts.
func (f *Fleet) Stats() Stats {
	f.answers.mu.Lock()
	lost := f.answers.lost
	f.answers.mu.Unlock()
	return Stats{Connections: f.served.Load(), Answers: f.answered.Load(), Forgotten: lost}
}
