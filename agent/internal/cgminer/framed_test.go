package cgminer

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// TestDoFramed lets the other side of API 3 behave in every way it may.
func TestDoFramed(t *testing.T) {
	framed := func(s string) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(s))), s...) }
	for name, tt := range map[string]struct {
		answer  []byte
		outcome telemetry.Outcome
	}{
		"a reply":                     {framed(`{"code":0,"msg":{}}`), telemetry.OutcomeOK},
		"more than was announced":     {append(framed(`{"code":0}`), "rest"...), telemetry.OutcomeOK},
		"closed at once":              {nil, telemetry.OutcomeDenied},
		"a length that is cut off":    {[]byte{9, 0}, telemetry.OutcomeReset},
		"less than was announced":     {[]byte{200, 0, 0, 0, '{'}, telemetry.OutcomeReset},
		"a length beyond every reply": {[]byte{0, 0, 0, 0x7f, '{'}, telemetry.OutcomeTooLarge},
		"no document":                 {framed("hello"), telemetry.OutcomeGarbage},
		"nothing":                     {framed(""), telemetry.OutcomeGarbage},
		"a server of something else":  {[]byte("HTTP/1.0 400 Bad Request"), telemetry.OutcomeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			defer wg.Wait()
			const request = `{"cmd":"get.device.info"}`
			c := &Client{Timeout: 2 * time.Second, Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				wg.Go(func() {
					defer func() { _ = theirs.Close() }() // what was written is read or not wanted
					got := make([]byte, 4+len(request))
					if _, err := io.ReadFull(theirs, got); err != nil || binary.LittleEndian.Uint32(got) != uint32(len(request)) || string(got[4:]) != request {
						t.Errorf("request %q, %v", got, err)
					}
					_, _ = theirs.Write(tt.answer) // a client that has enough closes
				})
				return ours, nil
			}}
			r, err := c.DoFramed(t.Context(), "192.0.2.1:4433", "get.device.info", request)
			if o := OutcomeOf(err); o != tt.outcome {
				t.Fatalf("%v (%v), want %v", o, err, tt.outcome)
			}
			if err == nil {
				defer r.Release()
				if code, ok := r.Root().Get("code").Int(); !ok || code != 0 {
					t.Errorf("code %d, %v", code, ok)
				}
			}
		})
	}
}
