package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds on the parts of a message, checked before it is unmarshalled: two bytes make a message of 200, one byte an
// integer of 8, and a few kB decompress to maxRaw. They keep what a lying sender can make a hub allocate below 300 MB for
// each Decoder. An honest payload of MaxSamples has 48 columns of its own and about 13 million integers in all.
const (
	maxColumns  = 512
	maxIntegers = 16 << 20
)

// shape counts the parts of a message.
type shape struct{ columns, integers, strings, infos, tables int }

// shapeOf walks over a Samples message and refuses one with more parts than a payload may have. What else is wrong with
// it is for message.parse and the checks after it.
func shapeOf(raw []byte) (s shape, err error) {
	err = eachField(raw, func(num protowire.Number, value []byte) error {
		switch num {
		case 2, 3: // rows_per_miner, time_delta_ms
			s.addIntegers(value)
		case 4:
			return s.addColumn(value)
		case 5, 6, 7: // boards, pools, errors; a second one of a kind would be merged with the first
			if s.tables++; s.tables > 3 {
				return errors.New("a table comes twice")
			}
			return eachField(value, func(num protowire.Number, value []byte) error {
				switch num {
				case 1: // counts
					s.addIntegers(value)
					return s.check()
				case 2:
					return s.addColumn(value)
				}
				return nil
			})
		case 8:
			s.strings++
		case 9:
			s.infos++
		}
		return s.check()
	})
	return s, err
}

func (s *shape) addColumn(b []byte) error {
	s.columns++
	err := eachField(b, func(num protowire.Number, value []byte) error {
		if num == 3 { // deltas
			s.addIntegers(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.check()
}

// addIntegers counts the integers of a packed field, or a single one.
func (s *shape) addIntegers(packed []byte) {
	for _, b := range packed {
		if b < 0x80 {
			s.integers++
		}
	}
}

func (s *shape) check() error {
	switch {
	case s.columns > maxColumns:
		return fmt.Errorf("more than %d columns", maxColumns)
	case s.integers > maxIntegers:
		return fmt.Errorf("more than %d integers", maxIntegers)
	case s.strings > maxStrings:
		return fmt.Errorf("more than %d texts", maxStrings)
	case s.infos > MaxSamples:
		return fmt.Errorf("more than %d descriptions of miners", MaxSamples)
	}
	return nil
}

// eachField calls f with every field of a message: with the content of a length-delimited one, else with the value's bytes.
func eachField(b []byte, f func(num protowire.Number, value []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return protowire.ParseError(n)
		}
		value := b[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(b) // has just been consumed
		}
		if err := f(num, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
