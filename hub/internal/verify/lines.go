package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Bounds of files in an exported directory, in bytes.
const (
	maxStatement = 64 << 20 // as package sla has it
	maxDocument  = 4 << 20  // a line of terms, assignments or excuses, as in a bundle
	maxItem      = 64 << 10 // a line of hours or leaves; the longest is some 5 kB
)

// malformed is an error that makes a directory false rather than unreadable.
type malformed struct{ text string }

func (m *malformed) Error() string { return m.text }

func bad(format string, args ...any) error { return &malformed{fmt.Sprintf(format, args...)} }

// lines reads a file line by line.
type lines struct {
	name string
	f    fs.File
	r    *bufio.Reader
	n    int
	line []byte // of next, used again
}

func (e *exported) open(name string) (*lines, error) {
	f, err := e.dir.Open(name)
	if err != nil {
		return nil, err
	}
	return &lines{name: name, f: f, r: bufio.NewReaderSize(f, 1<<16)}, nil
}

func (l *lines) close() { _ = l.f.Close() } // it was read

// next returns the next line without its newline, valid until the next call; io.EOF after the last.
func (l *lines) next(most int) ([]byte, error) {
	l.n++
	l.line = l.line[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch {
		case len(l.line) > most:
			return nil, bad("%s: line %d is longer than %d bytes", l.name, l.n, most)
		case err == nil:
			return l.line[:len(l.line)-1], nil
		case errors.Is(err, io.EOF) && len(l.line) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, bad("%s: it ends within line %d", l.name, l.n)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
}

// item reads the next line of JSON, which has one form: that in which the hub writes it.
func (l *lines) item(v any) error {
	line, err := l.next(maxItem)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, v); err != nil {
		return bad("%s: line %d: %v", l.name, l.n, err)
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, line) {
		return bad("%s: line %d is not in the one form that a hub writes", l.name, l.n)
	}
	return nil
}

// end is an error if there is another line.
func (l *lines) end() error {
	switch _, err := l.next(maxDocument); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return bad("%s: line %d is of nothing that the statement names", l.name, l.n)
	}
}

// bytes reads a whole file.
func (e *exported) bytes(name string, most int64) ([]byte, error) {
	f, err := e.dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = bad("%s has more than %d bytes", name, most)
	}
	return b, err
}

// hex reads a file of bytes in hexadecimal and a newline.
func (e *exported) hex(name string, size int) ([]byte, error) {
	text, err := e.bytes(name, 1<<10)
	if err != nil {
		return nil, err
	}
	digits, ended := bytes.CutSuffix(text, []byte("\n"))
	b, ok := unhex(string(digits), size)
	if !ok || !ended {
		return nil, bad("%s: want %d hexadecimal digits and a newline", name, 2*size)
	}
	return b, nil
}
