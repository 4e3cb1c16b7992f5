package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/klauspost/compress/gzip"

	"github.com/hashinsight/hashinsight/hub/internal/access"
	"github.com/hashinsight/hashinsight/hub/internal/fleet"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

const snapshotPath = "/api/snapshot"

// columns names the members of a compact row, in order. appendCompact writes them.
var columns = [...]string{
	"id", "site", "address", "model", "firmware", "worker", "state", "outcome", "at_ms", "answered_ms", "hashrate_hs", "hashrate_avg_hs",
	"ideal_hs", "temp_board_c", "temp_chip_c", "power_w", "fan_rpm_max", "uptime_s", "accepted", "rejected", "hw_errors", "poll_interval_s",
	"maker", // new ones come last: readers of today count on the places of those before
}

// Snapshot is the whole fleet in a compact form. It describes the answer; the handler appends it row by row.
type Snapshot struct {
	At      Time      `json:"at" doc:"Hub's clock"`
	Version int64     `json:"version" doc:"For Last-Event-ID of the events stream"`
	Columns []string  `json:"columns" nullable:"false" doc:"What the members of a row are, in order"`
	Sites   []siteRef `json:"sites" nullable:"false" doc:"A row's site is an index into these"`
	Rows    [][]any   `json:"rows" nullable:"false" doc:"One a miner; null where a value is unknown"`
}

func typeFor[T any]() reflect.Type { return reflect.TypeFor[T]() }

type snapshotInput struct {
	AcceptEncoding string `header:"Accept-Encoding"`
}

type snapshotOutput struct {
	ContentType     string `header:"Content-Type"`
	ContentEncoding string `header:"Content-Encoding"`
	Vary            string `header:"Vary"`
	Body            []byte
}

func (s *Server) snapshotRoutes() {
	register(s, audience(access.MinersRead), huma.Operation{
		OperationID: "get-snapshot", Method: http.MethodGet, Path: snapshotPath, Tags: []string{"live"},
		Summary:     "All miners in a compact form",
		Description: "Fetched once; the events stream keeps it up to date.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden}, Responses: encoded[Snapshot](s, "The whole fleet"),
	}, func(ctx context.Context, in *snapshotInput) (*snapshotOutput, error) {
		img, err := s.miners.get(ctx, fresh)
		if err != nil {
			return nil, err
		}
		plain, zipped := img.snapshot()
		out := &snapshotOutput{ContentType: "application/json", Vary: "Accept-Encoding", Body: plain}
		if strings.Contains(in.AcceptEncoding, "gzip") {
			out.ContentEncoding, out.Body = "gzip", zipped
		}
		return out, nil
	})
}

// snapshot returns the encoded snapshot, plain and compressed. It is made once an image.
func (b *image) snapshot() (plain, zipped []byte) {
	b.packed.Do(func() {
		size := 1024
		for _, r := range b.rows {
			size += len(r.compact) + 1
		}
		out := make([]byte, 0, size)
		out = append(out, `{"at":"`...)
		out = b.at.UTC().AppendFormat(out, timeLayout)
		out = append(out, `","version":`...)
		out = strconv.AppendInt(out, b.version, 10)
		out = append(out, `,"columns":`...)
		out = appendJSON(out, columns)
		out = append(out, `,"sites":`...)
		out = appendJSON(out, append([]siteRef{}, b.sites...))
		out = append(out, `,"rows":`...)
		out = appendRows(out, b.rows)
		b.plain = append(out, '}')
		var buf bytes.Buffer
		buf.Grow(size / 4)
		w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		if err == nil {
			_, _ = w.Write(b.plain) // to memory
			err = w.Close()
		}
		if err != nil { // the level is valid and memory does not fail
			panic(fmt.Sprintf("compress the snapshot: %v", err))
		}
		b.gzipped = buf.Bytes()
	})
	return b.plain, b.gzipped
}

func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // only strings and lists of them come here
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return append(b, text...)
}

func appendRows(b []byte, rows []*row) []byte {
	b = append(b, '[')
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r.compact...)
	}
	return append(b, ']')
}

// appendCompact writes the row of a miner in the order of columns.
func appendCompact(b []byte, m *fleet.Miner, site int) []byte {
	b = append(b, '[')
	b = appendString(b, m.Info.Miner.String())
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(site), 10)
	for _, text := range []string{m.Info.Address, strings.TrimSpace(m.Info.Maker + " " + m.Info.Model), m.Info.Firmware, m.Worker, m.State.String(), m.Outcome.String()} {
		b = appendString(append(b, ','), text)
	}
	b = strconv.AppendInt(append(b, ','), m.At.UnixMilli(), 10)
	if m.AnsweredAt.IsZero() {
		b = append(b, ",null"...)
	} else {
		b = strconv.AppendInt(append(b, ','), m.AnsweredAt.UnixMilli(), 10)
	}
	b = appendNumber(b, m.Hashrate)
	b = appendNumber(b, m.HashrateAvg)
	b = appendNumber(b, m.IdealHashrate)
	b = appendNumber(b, m.TempBoard)
	b = appendNumber(b, m.TempChip)
	b = appendNumber(b, m.Power)
	b = appendNumber(b, fastest(m.Fans))
	b = appendNumber(b, wholeSeconds(m.Uptime))
	b = appendNumber(b, m.Accepted)
	b = appendNumber(b, m.Rejected)
	b = appendNumber(b, m.HardwareErrors)
	b = appendFloat(append(b, ','), m.PollInterval.Seconds())
	b = appendString(append(b, ','), m.Info.Maker)
	return append(b, ']')
}

// appendNumber appends a comma and the value, null when it is unknown.
func appendNumber[T ~float64 | ~int64 | ~int32](b []byte, o unit.Opt[T]) []byte {
	b = append(b, ',')
	v, ok := o.Get()
	if !ok {
		return append(b, "null"...)
	}
	return appendFloat(b, float64(v))
}

// appendFloat writes a number without an exponent; what JSON cannot say is null.
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

func fastest(fans []unit.Opt[unit.RPM]) unit.Opt[unit.RPM] {
	var out unit.Opt[unit.RPM]
	for _, f := range fans {
		if v, ok := f.Get(); ok && (!out.Present() || v > out.Or(0)) {
			out = f
		}
	}
	return out
}

func wholeSeconds(o unit.Opt[time.Duration]) unit.Opt[int64] {
	d, ok := o.Get()
	if !ok {
		return unit.Opt[int64]{}
	}
	return unit.Some(int64(d / time.Second))
}
