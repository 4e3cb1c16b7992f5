package cgminer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// Bounds of one document. The deepest reply known nests six levels, the largest (67 kB) has 5,000 values.
const (
	maxDepth = 32
	maxNodes = 1 << 17
)

// ErrCutOff says that the text ended in the middle of a document: nothing of it can be trusted.
var ErrCutOff = errors.New("reply is cut off in the middle")

// Parse reads one document from b, which it copies. What is not JSON is mended where the reference
// names the fault, only outside of strings, and recorded in Repairs; anything else is an error. Text
// replies ("STATUS=S,...|") are read into the same shape as their JSON form.
func (d *Doc) Parse(b []byte) error {
	d.buf = append(d.buf[:0], b...)
	return d.parse()
}

// parse reads the document in d.buf.
func (d *Doc) parse() error {
	d.nodes, d.members, d.repairs, d.err, d.size = d.nodes[:0], 0, 0, nil, len(d.buf)
	d.keyOff, d.keyLen, d.parent = 0, 0, -1
	if d.gen == 0 {
		d.seed = [2]uint64{rand.Uint64(), rand.Uint64()} //nolint:gosec // spreads hash slots; the runtime seeds it anew in every process
	}
	if d.gen++; d.gen == 0 { // wrapped: old entries would look new
		clear(d.table)
		d.gen = 1
	}
	src, after := d.buf, []byte(nil)
	if i := bytes.IndexByte(src, 0); i >= 0 {
		src, after = src[:i], src[i+1:]
	}
	i := space(src, 0)
	if i == len(src) {
		return fmt.Errorf("reply holds no document (%d bytes)", len(d.buf))
	}
	switch c := src[i]; c {
	case ',':
		// ",\"id\":1}": the opening brace was lost on the way.
		d.repairs |= telemetry.RepairMissingBrace
		d.nodes = append(d.nodes, node{kind: Object})
		i = d.object(src, i+1, 1, 0)
	case 'S', 'C':
		if isText(src[i:]) {
			d.text(src, i)
			i = len(src)
			break
		}
		fallthrough
	default:
		i = d.value(src, i, 0)
	}
	if d.err != nil {
		d.nodes = d.nodes[:0]
		return d.err
	}
	if k := d.nodes[0].kind; i < len(src) && k != Object && k != Array {
		if j := space(src, i); j < len(src) {
			d.nodes = d.nodes[:0]
			return fmt.Errorf("reply is not a document: byte %d follows its value", j)
		}
	} else if len(bytes.Trim(src[i:], " \t\r\n")) > 0 || len(bytes.Trim(after, "\x00 \t\r\n")) > 0 {
		d.repairs |= telemetry.RepairSecondDocument
	}
	return nil
}

func space(src []byte, i int) int {
	for i < len(src) && src[i] <= ' ' && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

func (d *Doc) fail(i int, what string) int {
	if d.err == nil {
		d.err = fmt.Errorf("byte %d: %s", i, what)
	}
	return i
}

func (d *Doc) cutOff(i int) int {
	if d.err == nil {
		d.err = ErrCutOff
	}
	return i
}

// push adds a node with the key that is due and returns its index.
func (d *Doc) push(kind Kind, off, n int) int32 {
	i := int32(len(d.nodes))
	if i >= maxNodes {
		d.fail(off, "more values than any miner sends")
	}
	d.nodes = append(d.nodes, node{keyOff: d.keyOff, keyLen: d.keyLen, off: uint32(off), n: uint32(n), end: i + 1, kind: kind})
	if d.parent >= 0 {
		d.enter(d.parent, i)
		d.parent = -1
	}
	return i
}

// value parses the value at src[i], which is no space, and returns the index behind it.
func (d *Doc) value(src []byte, i, depth int) int {
	switch c := src[i]; {
	case c == '"':
		off, n, next := d.str(src, i+1)
		d.push(String, off, n)
		return next
	case c >= '0' && c <= '9', c == '-':
		end := number(src, i)
		if end < 0 {
			if len(bytes.Trim(src[i:], "0123456789+-.eE")) == 0 {
				return d.cutOff(i)
			}
			return d.word(src, i)
		}
		d.push(Number, i, end-i)
		return end
	case c == '{':
		self := d.push(Object, i, 0)
		d.keyLen = 0
		return d.object(src, i+1, depth+1, self)
	case c == '[':
		self := d.push(Array, i, 0)
		d.keyLen = 0
		return d.array(src, i+1, depth+1, self)
	default:
		return d.word(src, i)
	}
}

// object parses members up to the closing brace; self is the object's node.
func (d *Doc) object(src []byte, i, depth int, self int32) int {
	if depth > maxDepth {
		return d.fail(i, "nested too deeply")
	}
	var comma, filled bool // a comma stands before src[i]; at least one member was read
	var n uint32
	for d.err == nil {
		if i = space(src, i); i >= len(src) {
			return d.cutOff(i)
		}
		switch src[i] {
		case '"':
			if filled && !comma {
				d.repairs |= telemetry.RepairMissingComma
			}
			off, kn, next := d.str(src, i+1)
			if i = space(src, next); d.err != nil {
				return i
			}
			if i >= len(src) {
				return d.cutOff(i)
			}
			if src[i] != ':' {
				return d.fail(i, "no colon after a name")
			}
			if i = space(src, i+1); i >= len(src) {
				return d.cutOff(i)
			}
			d.keyOff, d.keyLen, d.parent = uint32(off), uint32(kn), self
			i = d.value(src, i, depth)
			comma, filled = false, true
			n++
		case ',':
			if comma || !filled {
				d.repairs |= telemetry.RepairExtraComma
			}
			comma = true
			i++
		case '}':
			if comma {
				d.repairs |= telemetry.RepairExtraComma
			}
			d.nodes[self].end, d.nodes[self].n = int32(len(d.nodes)), n
			return i + 1
		default:
			return d.fail(i, "neither a name nor the end of an object")
		}
	}
	return i
}

// array parses elements up to the closing bracket; self is the array's node.
func (d *Doc) array(src []byte, i, depth int, self int32) int {
	if depth > maxDepth {
		return d.fail(i, "nested too deeply")
	}
	var comma, filled bool
	var n uint32
	for d.err == nil {
		if i = space(src, i); i >= len(src) {
			return d.cutOff(i)
		}
		switch c := src[i]; c {
		case ',':
			if comma || !filled {
				d.repairs |= telemetry.RepairExtraComma
			}
			comma = true
			i++
			continue
		case ']':
			if comma {
				d.repairs |= telemetry.RepairExtraComma
			}
			d.nodes[self].end, d.nodes[self].n = int32(len(d.nodes)), n
			return i + 1
		default:
			if filled && !comma {
				// The fault seen in firmware is "}{"; only what begins unmistakably is taken for a new element.
				if c != '{' && c != '[' && c != '"' {
					return d.fail(i, "no comma between the elements of a list")
				}
				d.repairs |= telemetry.RepairMissingComma
			}
		}
		d.keyOff, d.keyLen = 0, 0
		elem := int32(len(d.nodes))
		i = d.value(src, i, depth)
		if d.err == nil && d.nodes[elem].kind == String {
			if j := space(src, i); j < len(src) && src[j] == ':' {
				i = d.pair(src, j+1, depth, elem)
			}
		}
		comma, filled = false, true
		n++
	}
	return i
}

// pair reads ["110":"text"], a list written like a map, as the list of one-member objects that newer
// firmware sends: the string node elem becomes the object, its text the name of the member.
func (d *Doc) pair(src []byte, i, depth int, elem int32) int {
	d.repairs |= telemetry.RepairListAsMap
	if i = space(src, i); i >= len(src) {
		return d.cutOff(i)
	}
	key := d.nodes[elem]
	d.nodes[elem] = node{kind: Object, n: 1}
	d.keyOff, d.keyLen, d.parent = key.off, key.n, elem
	i = d.value(src, i, depth+1)
	d.nodes[elem].end = int32(len(d.nodes))
	return i
}

// number returns the index behind the JSON number at src[i], or -1 if there is none.
func number(src []byte, i int) int {
	if src[i] == '-' {
		i++
	}
	if i >= len(src) {
		return -1
	}
	switch c := src[i]; {
	case c == '0':
		i++
	case c >= '1' && c <= '9':
		i = digits(src, i)
	default:
		return -1
	}
	if i < len(src) && src[i] == '.' {
		j := digits(src, i+1)
		if j == i+1 {
			return -1
		}
		i = j
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		j := digits(src, i)
		if j == i {
			return -1
		}
		i = j
	}
	return i
}

func digits(src []byte, i int) int {
	for i < len(src) && src[i]-'0' <= 9 {
		i++
	}
	return i
}

// word parses what stands bare and is no number: the three literals, and nan and inf as C prints them,
// which are readings that are not there.
func (d *Doc) word(src []byte, i int) int {
	end := i
	for end < len(src) && (src[end]|0x20 >= 'a' && src[end]|0x20 <= 'z' || src[end] == '-' || src[end] == '+') {
		end++
	}
	switch w := src[i:end]; string(w) {
	case "true", "false":
		d.push(Bool, i, len(w))
		return end
	case "null":
		d.push(Null, i, len(w))
		return end
	default:
		if notANumber(w) {
			d.repairs |= telemetry.RepairNotANumber
			d.push(Null, i, len(w))
			return end
		}
		if end == len(src) && end-i < len("-infinity") {
			return d.cutOff(i)
		}
		return d.fail(i, "neither a value nor a fault that can be mended")
	}
}

func notANumber[T []byte | string](w T) bool {
	if len(w) > 0 && (w[0] == '-' || w[0] == '+') {
		w = w[1:]
	}
	var low [8]byte
	if len(w) > len(low) {
		return false
	}
	for i := range len(w) {
		low[i] = w[i] | 0x20
	}
	switch string(low[:len(w)]) {
	case "nan", "inf", "infinity":
		return true
	}
	return false
}

// str parses the string whose first byte is src[i] and returns where its decoded text lies in d.buf,
// and the index behind the closing quote.
func (d *Doc) str(src []byte, i int) (off, n, next int) {
	start := i
	for ; i+8 <= len(src); i += 8 {
		if m := special(binary.LittleEndian.Uint64(src[i:])); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			if src[i] == '"' {
				return start, i - start, i + 1
			}
			return d.strSlow(src, start, i)
		}
	}
	for ; i < len(src); i++ {
		switch c := src[i]; {
		case c == '"':
			return start, i - start, i + 1
		case c == '\\' || c < 0x20 || c >= utf8.RuneSelf:
			return d.strSlow(src, start, i)
		}
	}
	return start, 0, d.cutOff(i)
}

// special marks the high bit of the first byte of w that is a quote, a backslash, a control character
// or not ASCII. Bits above the first are not reliable.
func special(w uint64) uint64 {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	q := w ^ lo*'"'
	b := w ^ lo*'\\'
	return ((q-lo)&^q | (b-lo)&^b | (w-lo*0x20)&^w | w) & hi
}

// strSlow decodes a string that is more than plain ASCII, from src[start], into the tail of d.buf;
// src[i] is the first byte that needs it.
func (d *Doc) strSlow(src []byte, start, i int) (off, n, next int) {
	off = len(d.buf)
	out := append(d.buf, src[start:i]...)
	for i < len(src) {
		switch c := src[i]; {
		case c == '"':
			d.buf = out
			return off, len(out) - off, i + 1
		case c == '\\':
			if i+1 >= len(src) {
				i = len(src)
				continue
			}
			i++
			switch e := src[i]; e {
			case '"', '\\', '/':
				out = append(out, e)
			case 'b':
				out = append(out, '\b')
			case 'f':
				out = append(out, '\f')
			case 'n':
				out = append(out, '\n')
			case 'r':
				out = append(out, '\r')
			case 't':
				out = append(out, '\t')
			case 'u':
				r, used := unicodeEscape(src[i+1:])
				if used == 0 {
					d.repairs |= telemetry.RepairBadEscape
					out = append(out, 'u')
					break
				}
				out = utf8.AppendRune(out, r)
				i += used
			default: // "\'": the backslash is dropped, and what follows is read as itself
				d.repairs |= telemetry.RepairBadEscape
				continue
			}
			i++
		case c < 0x20:
			d.repairs |= telemetry.RepairControlChar
			out = append(out, c)
			i++
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			r, size := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && size == 1 {
				d.repairs |= telemetry.RepairInvalidUTF8
			}
			out = utf8.AppendRune(out, r)
			i += size
		}
	}
	d.buf = out
	return off, 0, d.cutOff(i)
}

// unicodeEscape decodes the hex digits behind \u, and a second escape that completes a surrogate pair;
// half a pair becomes U+FFFD, as in encoding/json. used is 0 when the digits are none.
func unicodeEscape(src []byte) (r rune, used int) {
	hi := hex4(src)
	if hi < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(hi) {
		return hi, 4
	}
	if len(src) >= 10 && src[4] == '\\' && src[5] == 'u' {
		if lo := hex4(src[6:]); lo >= 0 {
			if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
				return r, 10
			}
		}
	}
	return utf8.RuneError, 4
}

func hex4(src []byte) rune {
	if len(src) < 4 {
		return -1
	}
	var r rune
	for _, c := range src[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
