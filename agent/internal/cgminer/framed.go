package cgminer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// DoFramed sends one request of Whatsminer's API 3, which is no cgminer dialect: four bytes of length, little endian, and a JSON
// document, both ways. name stands for the request in errors. The reply must be released.
func (c *Client) DoFramed(ctx context.Context, address, name, request string) (*Reply, error) {
	deadline := c.deadline(ctx)
	conn, err := c.dial(ctx, address, deadline)
	if err != nil {
		return nil, &Error{name, outcomeOfIO(err), err}
	}
	defer func() { _ = conn.Close() }() // the reply is complete or lost
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed connection needs no deadline
		defer stop()
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, &Error{name, outcomeOfIO(err), err}
	}
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(request)), uint32(len(request)))
	if _, err := conn.Write(append(frame, request...)); err != nil {
		return nil, &Error{name, outcomeOfIO(err), err}
	}
	var head [4]byte
	switch _, err := io.ReadFull(conn, head[:]); {
	case errors.Is(err, io.EOF):
		return nil, &Error{name, telemetry.OutcomeDenied, err}
	case err != nil:
		return nil, &Error{name, outcomeOfIO(err), fmt.Errorf("no length of a reply: %w", err)}
	}
	limit := c.MaxReply
	if limit <= 0 {
		limit = DefaultMaxReply
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size > int64(limit) {
		return nil, &Error{name, telemetry.OutcomeTooLarge, fmt.Errorf("%w (%d)", errTooLarge, limit)}
	}
	r := c.reply(name)
	r.doc.buf = slices.Grow(r.doc.buf[:0], int(size))[:size]
	if _, err := io.ReadFull(conn, r.doc.buf); err != nil {
		r.Release()
		return nil, &Error{name, outcomeOfIO(err), fmt.Errorf("reply of %d bytes: %w", size, err)}
	}
	r.received = time.Now()
	if err := r.doc.parse(); err != nil {
		r.Release()
		return nil, &Error{name, telemetry.OutcomeGarbage, err}
	}
	return r, nil
}
