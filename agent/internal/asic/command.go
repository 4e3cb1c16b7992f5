package asic

import (
	"iter"
	"math/bits"
	"strings"
)

// command is a read-only API command.
type command uint8

// The order is that of asking.
const (
	cmdVersion command = iota
	cmdDevdetails
	cmdGetVersion
	cmdStatus
	cmdSummary
	cmdStats
	cmdEstats
	cmdEdevs
	cmdDevs
	cmdTemps
	cmdFans
	cmdPower
	cmdConfig
	cmdProfiles
	cmdEvents
	cmdAsccount
	cmdPools
	commandCount
)

var commandNames = [commandCount]string{
	"version", "devdetails", "get_version", "status", "summary", "stats", "estats", "edevs", "devs", "temps", "fans",
	"power", "config", "profiles", "events", "asccount", "pools",
}

// String returns the command as it is sent.
func (c command) String() string { return commandNames[c] }

func (c command) set() commands { return 1 << c }

// commands is a set of commands.
type commands uint32

func setOf(cs ...command) (s commands) {
	for _, c := range cs {
		s |= c.set()
	}
	return s
}

func (s commands) many() bool { return s&(s-1) != 0 }

func (s commands) all() iter.Seq[command] {
	return func(yield func(command) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(command(bits.TrailingZeros32(uint32(s)))) {
				return
			}
		}
	}
}

// join returns the text of a joined request. A reader mostly asks for the same set.
func (r *Reader) join(s commands) string {
	if r.joinSet == s {
		return r.joinText
	}
	var names []string
	for c := range s.all() {
		names = append(names, c.String())
	}
	r.joinSet, r.joinText = s, strings.Join(names, "+")
	return r.joinText
}
