package sim

import (
	"bytes"
	"slices"
)

// Form is one way of damaging a reply, after what real firmware was seen to do.
type Form string

// Forms that a tolerant reader can mend: the reply still carries everything.
const (
	SecondDocument Form = "second-document" // another document after a NUL
	MissingComma   Form = "missing-comma"   // }{ between two records
	NotANumber     Form = "nan"             // bare nan and inf for averages and percentages, as a fresh Avalon sends
	BadEscape      Form = "bad-escape"      // \' in a string
	ControlChar    Form = "control-char"    // a raw newline in a string
	ExtraComma     Form = "extra-comma"     // ,} and [,{
	MissingKeyGap  Form = "missing-key-gap" // ""temp0: no comma between a value and the next key
	ListAsMap      Form = "list-as-map"     // ["110":"…"]
	LeadingComma   Form = "leading-comma"   // a comma where the first brace should be
	StatusString   Form = "status-string"   // STATUS is a string, its members lie beside it
	PaddedNumber   Form = "padded-number"   // numbers as strings with blanks, and empty strings
	Deed           Form = "deed"            // a dead pool is "Deed", empty texts are "(null)"
	HugeInteger    Form = "huge-integer"    // 18446744073709551615
	DuplicateKey   Form = "duplicate-key"   // a key twice, and once more in another case
	NestedJSON     Form = "nested-json"     // JSON inside a string
	FlatBoards     Form = "flat-boards"     // "0 Temp 2": values of boards flattened into keys
	OwnWords       Form = "own-words"       // Description holds the operator's words, with }{ and nan, in them
	BadUTF8        Form = "bad-utf8"        // bytes that are not UTF-8 in a string
)

// Forms that nobody can mend: the reply does not carry what was asked for.
const (
	Cut      Form = "cut"       // ends in the middle
	Tail     Form = "tail"      // only ,"id":1}
	TextLine Form = "text-line" // a line of text in place of a reply
	HTTP     Form = "http"      // an HTTP error in place of a reply
	Garbage  Form = "garbage"   // bytes without meaning
)

// Forms lists every form, those that can be mended first.
func Forms() []Form {
	return append(mendable(), Cut, Tail, TextLine, HTTP, Garbage)
}

func mendable() []Form {
	return []Form{MissingComma, NotANumber, BadEscape, ControlChar, ExtraComma, StatusString, PaddedNumber, SecondDocument,
		MissingKeyGap, ListAsMap, LeadingComma, Deed, HugeInteger, DuplicateKey, NestedJSON, FlatBoards, OwnWords, BadUTF8}
}

// Mendable reports whether a reply damaged so still carries everything for a tolerant reader.
func (f Form) Mendable() bool { return slices.Contains(mendable(), f) }

func (f Form) known() bool { return slices.Contains(Forms(), f) }

// section damages the one reply that begins at start of b. Replies in text form stay whole: the damages are JSON's.
func (f Form) section(b []byte, start int, text bool) []byte {
	if f == "" || text {
		return b
	}
	doc := slices.Clone(b[start:])
	b = b[:start]
	switch f {
	case MissingComma:
		if i := outside(doc, 0, "},{"); i >= 0 {
			doc = slices.Delete(doc, i+1, i+2)
		}
	case NotANumber:
		for _, key := range []string{"MHS av", "GHS av", "Utility", "Work Utility"} {
			doc = setValue(doc, key, "nan")
		}
		doc = setValue(doc, "Device Hardware%", "-inf")
	case BadEscape:
		doc = inDescription(doc, `\'`)
	case ControlChar:
		doc = inDescription(doc, "\n\t")
	case ExtraComma:
		doc = bytes.Replace(doc, []byte(`}],"id":1}`), []byte(`,}],"id":1}`), 1)
		if i := outside(doc, 1, "[{"); i >= 0 {
			doc = slices.Insert(doc, i+1, ',')
		}
	case MissingKeyGap:
		doc = inRecord(doc, `"chip_data":"""temp0":31,`)
	case ListAsMap:
		doc = inRecord(doc, `"error_code":["110":"Intake fan speed error.","600":"Environment temperature is too high."],`)
	case StatusString:
		doc = flattenStatus(doc)
	case PaddedNumber:
		for _, key := range []string{"Best Share", "Accepted", "Elapsed", "Total MH"} {
			doc = quoteValue(doc, key)
		}
		doc = setValue(doc, "Discarded", `""`)
	case Deed:
		doc = bytes.ReplaceAll(doc, []byte(`"Status":"Dead"`), []byte(`"Status":"Deed"`))
		doc = bytes.ReplaceAll(doc, []byte(`"Proxy":""`), []byte(`"Proxy":"(null)"`))
	case HugeInteger:
		doc = inRecord(doc, `"Last Nonce":18446744073709551615,`)
		doc = setValue(doc, "Stale", "18446744073709551615") // a counter that somebody counted down from zero
	case DuplicateKey:
		doc = inRecord(doc, `"Elapsed":1,"ELAPSED":2,`)
	case NestedJSON:
		doc = inRecord(doc, `"json-stats":"{\"temps\":[61,63],\"asics\":{\"0\":{\"ok\":true}}}",`)
	case FlatBoards:
		doc = inRecord(doc, `"0 Temp 2":55.5,"1 Freq":490,`)
	case OwnWords:
		doc = inDescription(doc, `hall 3 }{ row nan, ,} [,{ - `)
	case BadUTF8:
		doc = inDescription(doc, "H\xe4lle \xff ")
	}
	return append(b, doc...)
}

// whole damages a complete reply.
func (f Form) whole(b []byte) []byte {
	switch f {
	case SecondDocument:
		return append(b, "\x00{\"STATUS\":[{\"STATUS\":\"E\",\"Code\":23,\"Msg\":\"Invalid JSON\"}],\"id\":1},\"id\":1}"...)
	case LeadingComma:
		if len(b) > 0 {
			b[0] = ','
		}
	case Cut:
		return b[:len(b)*2/3]
	case Tail:
		return append(b[:0], `,"id":1}`...)
	case TextLine:
		return append(b[:0], "Socket connect failed: Connection refused\n"...)
	case HTTP:
		return append(b[:0], "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Request"...)
	case Garbage:
		n := uint64(len(b))
		b = b[:0]
		for i := range uint64(256) {
			b = append(b, byte(mix64(n^i))|1)
		}
	}
	return b
}

// inDescription puts text at the beginning of every Description.
func inDescription(doc []byte, text string) []byte {
	const mark = `"Description":"`
	return bytes.ReplaceAll(doc, []byte(mark), []byte(mark+text))
}

// inRecord puts members at the beginning of the first payload record.
func inRecord(doc []byte, members string) []byte {
	if i := outside(doc, len(`{"STATUS":[{`), ":[{"); i >= 0 {
		return slices.Insert(doc, i+len(":[{"), []byte(members)...)
	}
	return doc
}

// value returns where the scalar value of key lies.
func value(doc []byte, key string) (from, to int, ok bool) {
	k := outside(doc, 0, `"`+key+`":`)
	if k < 0 {
		return 0, 0, false
	}
	from = k + len(key) + 3
	for to = from; to < len(doc) && doc[to] != ',' && doc[to] != '}'; to++ {
	}
	return from, to, true
}

func setValue(doc []byte, key, val string) []byte {
	if from, to, ok := value(doc, key); ok {
		return slices.Replace(doc, from, to, []byte(val)...)
	}
	return doc
}

func quoteValue(doc []byte, key string) []byte {
	from, to, ok := value(doc, key)
	if !ok || doc[from] == '"' {
		return doc
	}
	return slices.Replace(doc, from, to, []byte(`"  `+string(doc[from:to])+` "`)...)
}

// flattenStatus turns {"STATUS":[{…}],… into {…,…: STATUS becomes a string with its members beside it.
func flattenStatus(doc []byte) []byte {
	const head = `{"STATUS":[`
	i := outside(doc, 0, "}]")
	if !bytes.HasPrefix(doc, []byte(head)) || i < 0 {
		return doc
	}
	out := append([]byte(nil), doc[len(head):i]...)
	return append(out, doc[i+2:]...)
}
