package wire

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of samples.proto, read and written here by hand: what generated code does needs a runtime with reflection, which would be most of the programs that only read
// evidence. Tests hold both against each other. Bytes refer to what was parsed; texts are copies.

// message is Samples.
type message struct {
	miners       []byte
	rowsPerMiner []uint32
	timeDeltaMS  []int64
	columns      []*columnMessage
	boards       *tableMessage
	pools        *tableMessage
	errors       *tableMessage
	strings      []string
	infos        []*infoMessage
	timesMS      []byte
}

// columnMessage is Column.
type columnMessage struct {
	field   uint32
	present []byte
	deltas  []int64
	packed  []byte
}

// tableMessage is Table.
type tableMessage struct {
	counts  []uint32
	columns []*columnMessage
}

// infoMessage is MinerInfo: its texts by field number, from 2 on.
type infoMessage struct {
	miner []byte
	texts [infoTexts]string
}

const (
	firstInfoText = 2
	infoTexts     = 11
)

// rawField is one field of a message.
type rawField struct {
	num   protowire.Number
	typ   protowire.Type
	bytes []byte // of a length-delimited one
	value uint64 // of a varint
}

// fields calls f with every field of a message. One of another type than the message has under its number is f's to skip, as unknown ones are.
func fields(b []byte, f func(v *rawField) error) error {
	for len(b) > 0 {
		var v rawField
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		v.num, v.typ = num, typ
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v.value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(&v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// integers appends a repeated field's numbers, packed or single.
func integers[T uint32 | int64](into *[]T, v *rawField, of func(uint64) T) error {
	if v.typ == protowire.VarintType {
		*into = append(*into, of(v.value))
		return nil
	}
	if v.typ != protowire.BytesType {
		return nil
	}
	if *into == nil {
		n := 0
		for _, b := range v.bytes {
			if b < 0x80 {
				n++
			}
		}
		*into = make([]T, 0, n)
	}
	for b := v.bytes; len(b) > 0; {
		x, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		*into = append(*into, of(x))
		b = b[n:]
	}
	return nil
}

func unsigned(v uint64) uint32 { return uint32(v) }

var errText = errors.New("a text that is no UTF-8")

func textOf(v *rawField) (string, error) {
	if !utf8.Valid(v.bytes) {
		return "", errText
	}
	return string(v.bytes), nil
}

func (m *message) parse(raw []byte) error {
	return fields(raw, func(v *rawField) (err error) {
		isBytes := v.typ == protowire.BytesType
		switch {
		case v.num == 2:
			err = integers(&m.rowsPerMiner, v, unsigned)
		case v.num == 3:
			err = integers(&m.timeDeltaMS, v, protowire.DecodeZigZag)
		case !isBytes:
		case v.num == 1:
			m.miners = v.bytes
		case v.num == 4:
			c := &columnMessage{}
			m.columns = append(m.columns, c)
			err = c.parse(v.bytes)
		case v.num == 5:
			err = parseTable(&m.boards, v.bytes)
		case v.num == 6:
			err = parseTable(&m.pools, v.bytes)
		case v.num == 7:
			err = parseTable(&m.errors, v.bytes)
		case v.num == 8:
			var s string
			s, err = textOf(v)
			m.strings = append(m.strings, s)
		case v.num == 9:
			i := &infoMessage{}
			m.infos = append(m.infos, i)
			err = i.parse(v.bytes)
		case v.num == 10:
			m.timesMS = v.bytes
		}
		return err
	})
}

func (c *columnMessage) parse(b []byte) error {
	return fields(b, func(v *rawField) (err error) {
		switch {
		case v.num == 3:
			err = integers(&c.deltas, v, protowire.DecodeZigZag)
		case v.num == 1 && v.typ == protowire.VarintType:
			c.field = uint32(v.value)
		case v.typ != protowire.BytesType:
		case v.num == 2:
			c.present = v.bytes
		case v.num == 4:
			c.packed = v.bytes
		}
		return err
	})
}

// parseTable reads a table; one that comes twice is added to.
func parseTable(t **tableMessage, b []byte) error {
	if *t == nil {
		*t = &tableMessage{}
	}
	return fields(b, func(v *rawField) (err error) {
		switch {
		case v.num == 1:
			err = integers(&(*t).counts, v, unsigned)
		case v.num == 2 && v.typ == protowire.BytesType:
			c := &columnMessage{}
			(*t).columns = append((*t).columns, c)
			err = c.parse(v.bytes)
		}
		return err
	})
}

func (i *infoMessage) parse(b []byte) error {
	return fields(b, func(v *rawField) (err error) {
		switch at := int(v.num) - firstInfoText; {
		case v.typ != protowire.BytesType:
		case v.num == 1:
			i.miner = v.bytes
		case at >= 0 && at < infoTexts:
			i.texts[at], err = textOf(v)
		}
		return err
	})
}

// append writes the message as protobuf does: fields in the order of their numbers, what is empty left out.
func (m *message) append(b []byte) []byte {
	b = appendBytes(b, 1, m.miners)
	b = appendUnsigned(b, 2, m.rowsPerMiner)
	b = appendSigned(b, 3, m.timeDeltaMS)
	b = appendColumns(b, 4, m.columns)
	for i, t := range []*tableMessage{m.boards, m.pools, m.errors} {
		if t != nil {
			b = protowire.AppendTag(b, protowire.Number(fieldBoards+i), protowire.BytesType)
			b = protowire.AppendBytes(b, appendColumns(appendUnsigned(nil, 1, t.counts), 2, t.columns))
		}
	}
	for _, s := range m.strings {
		b = protowire.AppendTag(b, 8, protowire.BytesType)
		b = protowire.AppendString(b, s)
	}
	for _, i := range m.infos {
		one := appendBytes(nil, 1, i.miner)
		for at, s := range i.texts {
			one = appendBytes(one, protowire.Number(firstInfoText+at), []byte(s))
		}
		b = protowire.AppendTag(b, 9, protowire.BytesType)
		b = protowire.AppendBytes(b, one)
	}
	return appendBytes(b, 10, m.timesMS)
}

func appendColumns(b []byte, num protowire.Number, columns []*columnMessage) []byte {
	var one []byte
	for _, c := range columns {
		one = one[:0]
		if c.field != 0 {
			one = protowire.AppendTag(one, 1, protowire.VarintType)
			one = protowire.AppendVarint(one, uint64(c.field))
		}
		one = appendBytes(one, 2, c.present)
		one = appendSigned(one, 3, c.deltas)
		one = appendBytes(one, 4, c.packed)
		b = protowire.AppendTag(b, num, protowire.BytesType)
		b = protowire.AppendBytes(b, one)
	}
	return b
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendUnsigned(b []byte, num protowire.Number, list []uint32) []byte {
	if len(list) == 0 {
		return b
	}
	n := 0
	for _, v := range list {
		n += protowire.SizeVarint(uint64(v))
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(n))
	for _, v := range list {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return b
}

func appendSigned(b []byte, num protowire.Number, list []int64) []byte {
	if len(list) == 0 {
		return b
	}
	n := 0
	for _, v := range list {
		n += protowire.SizeVarint(protowire.EncodeZigZag(v))
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(n))
	for _, v := range list {
		b = protowire.AppendVarint(b, protowire.EncodeZigZag(v))
	}
	return b
}
