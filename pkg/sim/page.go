package sim

import (
	"math"
	"strconv"
)

// page writes one reply, as JSON or in cgminer's text form, by appending to one buffer. The same calls
// make both forms: what a record is called in text is given along.
type page struct {
	b     []byte
	text  bool
	fresh bool // nothing written yet in the record or list, so no comma is due
	glue  bool // leave out the comma between records, as some firmware does
	when  int64
	descr string // STATUS Description; "" leaves it out
}

// status begins a reply: the STATUS record, as cgminer writes it.
func (p *page) status(letter byte, code int, msg string) {
	if p.text {
		p.b = append(p.b, "STATUS="...)
		p.b = append(p.b, letter, ',')
		p.fresh = true
	} else {
		p.b = append(p.b, `{"STATUS":[{"STATUS":"`...)
		p.b = append(p.b, letter, '"')
		p.fresh = false
	}
	p.statusRest(code, msg)
	if p.text {
		p.b = append(p.b, '|')
		return
	}
	p.b = append(p.b, "}]"...)
}

func (p *page) statusRest(code int, msg string) {
	p.num("When", p.when)
	p.num("Code", int64(code))
	p.str("Msg", msg)
	if p.descr != "" {
		p.str("Description", p.descr)
	}
}

// flat begins a reply the way Whatsminer writes its own commands: STATUS is a string, the rest lies beside it.
// The caller adds Msg and closes.
func (p *page) flat(letter byte, code int) {
	p.open("STATUS=" + string(letter))
	if !p.text {
		p.str("STATUS", string(letter))
	}
	p.num("When", p.when)
	p.num("Code", int64(code))
	p.str("Description", "")
}

// section begins the list of records called name.
func (p *page) section(name string) {
	if !p.text {
		p.b = append(p.b, `,"`...)
		p.b = append(p.b, name...)
		p.b = append(p.b, `":[`...)
	}
	p.fresh = true
}

// record begins a record; its first member is id under name when numbered.
func (p *page) record(name string, id int, numbered bool) {
	if p.text {
		p.b = append(p.b, name...)
		if numbered {
			p.b = append(p.b, '=')
			p.b = strconv.AppendInt(p.b, int64(id), 10)
		}
		p.fresh = false
		return
	}
	if n := len(p.b); n > 0 && p.b[n-1] == '}' && !p.glue {
		p.b = append(p.b, ',')
	}
	p.b = append(p.b, '{')
	p.fresh = true
	if numbered {
		p.num(name, int64(id))
	}
}

// done ends a record.
func (p *page) done() {
	if p.text {
		p.b = append(p.b, '|')
		return
	}
	p.b = append(p.b, '}')
}

// end ends the list of records and the reply.
func (p *page) end() {
	if !p.text {
		p.b = append(p.b, `],"id":1}`...)
	}
}

// bare ends a reply that has only a STATUS record.
func (p *page) bare() {
	if !p.text {
		p.b = append(p.b, `,"id":1}`...)
	}
}

// open begins an object outside any list.
func (p *page) open(textName string) {
	if p.text {
		p.b = append(p.b, textName...)
		p.fresh = false
		return
	}
	p.b = append(p.b, '{')
	p.fresh = true
}

func (p *page) key(name string) {
	if !p.fresh {
		p.b = append(p.b, ',')
	}
	p.fresh = false
	if p.text {
		p.b = append(p.b, name...)
		p.b = append(p.b, '=')
		return
	}
	p.b = append(p.b, '"')
	p.b = append(p.b, name...)
	p.b = append(p.b, '"', ':')
}

// keyN is a key with a number behind it, such as chain_acn7.
func (p *page) keyN(name string, n int) {
	p.key(name)
	cut := len(p.b) - 1
	if !p.text {
		cut--
	}
	p.b = strconv.AppendInt(p.b[:cut], int64(n), 10)
	if p.text {
		p.b = append(p.b, '=')
		return
	}
	p.b = append(p.b, '"', ':')
}

func (p *page) num(name string, v int64) {
	p.key(name)
	p.b = strconv.AppendInt(p.b, v, 10)
}

func (p *page) numN(name string, n int, v int64) {
	p.keyN(name, n)
	p.b = strconv.AppendInt(p.b, v, 10)
}

// fix writes v with prec decimals.
func (p *page) fix(name string, v float64, prec int) {
	p.key(name)
	p.b = strconv.AppendFloat(p.b, v, 'f', prec, 64)
}

func (p *page) fixN(name string, n int, v float64, prec int) {
	p.keyN(name, n)
	p.b = strconv.AppendFloat(p.b, v, 'f', prec, 64)
}

// float writes v with all its digits and at least one decimal, as Rust programs do.
func (p *page) float(name string, v float64) {
	p.key(name)
	if v == math.Trunc(v) {
		p.b = strconv.AppendFloat(p.b, v, 'f', 1, 64)
		return
	}
	p.b = strconv.AppendFloat(p.b, v, 'f', -1, 64)
}

// quoted writes v with prec decimals, as a string.
func (p *page) quoted(name string, v float64, prec int) {
	p.key(name)
	p.quote()
	p.b = strconv.AppendFloat(p.b, v, 'f', prec, 64)
	p.quote()
}

func (p *page) quotedN(name string, n int, v float64, prec int) {
	p.keyN(name, n)
	p.quote()
	p.b = strconv.AppendFloat(p.b, v, 'f', prec, 64)
	p.quote()
}

func (p *page) yes(name string, v bool) {
	p.key(name)
	p.b = strconv.AppendBool(p.b, v)
}

func (p *page) str(name, v string) {
	p.key(name)
	p.quote()
	p.chars(v)
	p.quote()
}

func (p *page) strN(name string, n int, v string) {
	p.keyN(name, n)
	p.quote()
	p.chars(v)
	p.quote()
}

func (p *page) quote() {
	if !p.text {
		p.b = append(p.b, '"')
	}
}

// chars appends s with the few escapes that cgminer knows.
func (p *page) chars(s string) {
	for i := range len(s) {
		c := s[i]
		if p.text && (c == '|' || c == ',' || c == '=' || c == '\\') || !p.text && (c == '"' || c == '\\') {
			p.b = append(p.b, '\\')
		}
		p.b = append(p.b, c)
	}
}
