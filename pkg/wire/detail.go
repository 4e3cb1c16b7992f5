package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// A detail is what a row holds beside the readings that a table has columns of its own for: further readings, boards, pools and errors, in a
// compact form that one row can be read from alone. It is storage, never evidence.
//
//	detail  = version (1 byte) readings boards pools errors
//	reading = field (uvarint, not 0) value (varint); field 0 ends the readings
//	table   = rows (uvarint), and unless 0: columns, ended by field 0
//	column  = field (uvarint, not 0), presence (uvarint, bit i set: row i has a value), then each value: of a text its length (uvarint; 0: the
//	          same as the text before it in this detail) and bytes, else the difference (varint) from the value before it in the column

const detailVersion = 1

// MaxDetail is the most bytes a detail may have.
const MaxDetail = 2 + 80*12 + // readings
	telemetry.MaxBoards*maxSubfield*10 + telemetry.MaxPools*(2*(telemetry.MaxText+2)+maxSubfield*10) + telemetry.MaxErrors*(telemetry.MaxText+2) +
	3*(3+maxSubfield*6)

// Details makes details of the rows of one Samples. It is for one goroutine.
type Details struct {
	s        *Samples
	readings []fieldCol
	tables   [3]detailTable
}

type fieldCol struct {
	field Field
	text  bool
	col   *Col
}

type detailTable struct {
	start   []int32
	columns []fieldCol
}

// Details returns the maker of details of s that leave out the readings named by except, which the caller keeps in columns of its own.
func (s *Samples) Details(except []Field) *Details {
	d := &Details{s: s}
	for f := range s.columns {
		if s.columns[f].Values != nil && !slices.Contains(except, Field(f)) {
			d.readings = append(d.readings, fieldCol{field: Field(f), col: &s.columns[f]})
		}
	}
	for i, t := range []*subtable{&s.boards, &s.pools, &s.errors} {
		d.tables[i].start = t.start
		for f, c := range t.columns {
			d.tables[i].columns = append(d.tables[i].columns, fieldCol{f, isText(tableBoards+tableKind(i), f), c})
		}
		slices.SortFunc(d.tables[i].columns, func(a, b fieldCol) int { return int(a.field) - int(b.field) })
	}
	return d
}

// Append appends the detail of row i to b, at most MaxDetail bytes. It appends nothing when the row has none.
func (d *Details) Append(b []byte, i int) []byte {
	begin := len(b)
	empty := true
	b = append(b, detailVersion)
	for k := range d.readings {
		r := &d.readings[k]
		if r.col.Has == nil || r.col.Has[i] {
			b = binary.AppendUvarint(b, uint64(r.field))
			b = binary.AppendVarint(b, r.col.Values[i])
			empty = false
		}
	}
	b = append(b, 0)
	last := int64(-1)
	for k := range d.tables {
		t := &d.tables[k]
		if t.start == nil || t.start[i] == t.start[i+1] {
			b = append(b, 0)
			continue
		}
		empty = false
		b = t.append(b, int(t.start[i]), int(t.start[i+1]), d.s.strings, &last)
	}
	if empty {
		return b[:begin]
	}
	return b
}

// append appends the rows from to to of a table; last is the text before, by its index.
func (t *detailTable) append(b []byte, from, to int, texts []string, last *int64) []byte {
	b = binary.AppendUvarint(b, uint64(to-from))
	for k := range t.columns {
		c := &t.columns[k]
		var presence uint64
		for j := from; j < to; j++ {
			if (c.col.Has == nil || c.col.Has[j]) && (!c.text || texts[c.col.Values[j]] != "") {
				presence |= 1 << (j - from)
			}
		}
		if presence == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(c.field))
		b = binary.AppendUvarint(b, presence)
		var before int64
		for j := from; j < to; j++ {
			v := c.col.Values[j]
			switch {
			case presence&(1<<(j-from)) == 0:
			case !c.text:
				b = binary.AppendVarint(b, v-before)
				before = v
			case v == *last:
				b = append(b, 0)
			default:
				*last = v
				b = binary.AppendUvarint(b, uint64(len(texts[v])))
				b = append(b, texts[v]...)
			}
		}
	}
	return append(b, 0)
}

// Assembler puts observations together from columns and details. It is for one goroutine.
type Assembler struct {
	samples [FieldDuty0 + telemetry.MaxFans]*column[obs] // by field: every row passes here
	boards  map[Field]*column[telemetry.Board]
	pools   map[Field]*column[telemetry.Pool]
	errors  map[Field]*column[string]
	text    []string // the text before, alone: what setters index into
}

// NewAssembler returns an Assembler.
func NewAssembler() *Assembler {
	a := &Assembler{boards: byField(boardColumns()), pools: byField(poolColumns()), errors: byField(errorColumns()), text: []string{""}}
	for f, c := range byField(sampleColumns()) {
		a.samples[f] = c
	}
	return a
}

func byField[T any](columns []column[T]) map[Field]*column[T] {
	out := make(map[Field]*column[T], len(columns))
	for i := range columns {
		out[columns[i].field] = &columns[i]
	}
	return out
}

// Set sets one reading of o to the integer that a column holds of it. A field that it does not know changes nothing.
func (a *Assembler) Set(o *telemetry.Observation, f Field, v int64) {
	if int(f) < len(a.samples) && a.samples[f] != nil {
		a.samples[f].set(o, v, nil)
	}
}

var errDetail = errors.New("a row's detail is damaged")

// Detail adds what a detail holds to o. An error means that the bytes are not what Details makes.
func (a *Assembler) Detail(o *telemetry.Observation, detail []byte) error {
	if len(detail) == 0 {
		return nil
	}
	if detail[0] != detailVersion {
		return fmt.Errorf("a row's detail has version %d, this program knows %d: use a newer one", detail[0], detailVersion)
	}
	r := reader{b: detail[1:]}
	a.text[0] = ""
	for {
		f := r.uvarint()
		if f == 0 {
			break
		}
		a.Set(o, Field(f), r.varint())
	}
	o.Boards = readTable(&r, a, tableBoards, a.boards, telemetry.MaxBoards)
	o.Pools = readTable(&r, a, tablePools, a.pools, telemetry.MaxPools)
	o.Errors = readTable(&r, a, tableErrors, a.errors, telemetry.MaxErrors)
	if r.bad || len(r.b) > 0 {
		return errDetail
	}
	return nil
}

func readTable[T any](r *reader, a *Assembler, kind tableKind, columns map[Field]*column[T], most uint64) []T {
	n := r.uvarint()
	if n > most {
		r.bad = true
	}
	if n == 0 || r.bad {
		return nil
	}
	out := make([]T, n)
	for {
		f := Field(r.uvarint())
		if f == 0 || r.bad {
			return out
		}
		presence := r.uvarint()
		if presence >= 1<<n {
			r.bad = true
			return out
		}
		c := columns[f]
		var v int64
		for j := range out {
			if presence&(1<<j) == 0 {
				continue
			}
			if isText(kind, f) {
				if size := r.uvarint(); size > 0 {
					a.text[0] = r.text(size)
				}
			} else {
				v += r.varint()
			}
			if c != nil && !r.bad {
				c.set(&out[j], v, a.text)
			}
		}
	}
}

// reader reads a detail; bad is set, and everything reads as 0, once the bytes end too early.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text(n uint64) string {
	if n > telemetry.MaxText || n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	t := string(r.b[:n])
	r.b = r.b[n:]
	return t
}
