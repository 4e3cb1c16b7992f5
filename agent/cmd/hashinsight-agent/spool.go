package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/agentd"
	"github.com/hashinsight/hashinsight/agent/internal/facts"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/spool"
	"github.com/hashinsight/hashinsight/pkg/evidence"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

func spoolCommand() *cobra.Command {
	c := &cobra.Command{Use: "spool", Short: "Look into the stored batches"}
	c.AddCommand(spoolExport(), spoolStats(), spoolVerify())
	return c
}

// exported is one line of `spool export`: one observation with the facts of its batch, or a batch that holds none.
type exported struct {
	Spool      ident.SpoolID  `json:"spool"`
	Seq        uint64         `json:"seq"`
	Kind       string         `json:"kind"`        // samples, gap, hour, key
	HeaderHash string         `json:"header_hash"` // hex
	Miner      *ident.MinerID `json:"miner,omitempty"`
	Address    string         `json:"address,omitempty"` // where the agent reached it then, as far as the spool and the inventory tell
	At         *time.Time     `json:"at,omitempty"`
	Outcome    string         `json:"outcome,omitempty"`
	State      string         `json:"state,omitempty"`
	HashrateHS *float64       `json:"hashrate_hs,omitempty"`
	BestShare  *int64         `json:"best_share,omitempty"`
	Flags      uint32         `json:"flags,omitempty"`
	Gap        *exportedGap   `json:"gap,omitempty"`
	PublicKey  string         `json:"public_key,omitempty"` // of kind key: hex
	Hour       *exportedHour  `json:"hour,omitempty"`
}

// exportedHour is the root of the leaves of an hour.
type exportedHour struct {
	Hour     time.Time     `json:"hour"`
	Spool    ident.SpoolID `json:"spool"`
	FirstSeq uint64        `json:"first_seq"`
	LastSeq  uint64        `json:"last_seq"`
	Miners   uint32        `json:"miners"`
	Root     string        `json:"root"` // hex
}

type exportedGap struct {
	Reason   string        `json:"reason"`
	Spool    ident.SpoolID `json:"spool"`
	FirstSeq uint64        `json:"first_seq"`
	LastSeq  uint64        `json:"last_seq"`
	Samples  uint64        `json:"samples"`
}

func spoolExport() *cobra.Command {
	var dir, output string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print every stored observation, oldest batch first",
		Long: `Prints one line of JSON for each stored observation, acknowledged or not, with the sequence number and header hash of
its batch. Nothing is changed. While an agent runs, its newest file cannot be read: the rest is printed and the exit code
is 1.`,
		Example: "  hashinsight-agent spool export --dir /var/lib/hashinsight-agent",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output, "jsonl"); err != nil {
				return err
			}
			w := bufio.NewWriterSize(c.OutOrStdout(), 1<<16)
			return errors.Join(export(c.Context(), w, dir), w.Flush())
		},
	}
	dataDirFlag(c, &dir)
	outputFlag(c, &output, "jsonl", "jsonl")
	return c
}

func dataDirFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "dir", "", "the agent's data directory (data_dir)")
	must(c.MarkFlagRequired("dir"))
}

// exporter turns batches into lines.
type exporter struct {
	out     *json.Encoder
	decoder *wire.Decoder
	address map[ident.MinerID]string // as last described in the spool; before that as in the inventory
}

func export(ctx context.Context, w io.Writer, dataDir string) error {
	dec, err := wire.NewDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	x := &exporter{out: json.NewEncoder(w), decoder: dec}
	x.out.SetEscapeHTML(false)
	if x.address, err = inventory.Addresses(dataDir); err != nil {
		return err
	}
	_, err = spool.Export(ctx, agentd.SpoolDir(dataDir), x.batch)
	return explainMissing(err, dataDir)
}

func explainMissing(err error, dataDir string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: is %s the agent's data_dir, and has the agent run?", err, dataDir)
	}
	return err
}

func (x *exporter) batch(b spool.Batch) error {
	hash := b.Header.Hash()
	line := exported{Spool: b.Header.Spool, Seq: b.Header.Seq, Kind: b.Header.Kind.String(), HeaderHash: hex.EncodeToString(hash[:])}
	switch b.Header.Kind {
	case evidence.KindSamples:
		return x.samples(line, b.Payload)
	case evidence.KindGap:
		g, err := evidence.ParseGap(b.Payload)
		if err != nil {
			return fmt.Errorf("batch %d: %w", b.Header.Seq, err)
		}
		line.Gap = &exportedGap{Reason: g.Reason.String(), Spool: g.Spool, FirstSeq: g.FirstSeq, LastSeq: g.LastSeq, Samples: g.Samples}
	case evidence.KindKey:
		k, err := evidence.ParseKey(b.Payload)
		if err != nil {
			return fmt.Errorf("batch %d: %w", b.Header.Seq, err)
		}
		line.PublicKey = hex.EncodeToString(k.Public)
	case evidence.KindHour:
		h, err := evidence.ParseHour(b.Payload)
		if err != nil {
			return fmt.Errorf("batch %d: %w", b.Header.Seq, err)
		}
		line.Hour = &exportedHour{
			Hour: time.UnixMilli(int64(h.Hour) * evidence.HourMS).UTC(), Spool: h.Spool, FirstSeq: h.FirstSeq, LastSeq: h.LastSeq, Miners: h.Leaves,
			Root: hex.EncodeToString(h.Root[:]),
		}
	}
	return x.out.Encode(line)
}

func (x *exporter) samples(line exported, payload []byte) error {
	s, err := x.decoder.Samples(payload)
	if err != nil {
		return fmt.Errorf("batch %d: %w", line.Seq, err)
	}
	for i := range s.Infos {
		x.address[s.Infos[i].Miner] = s.Infos[i].Address
	}
	for i := range s.Len() {
		o := s.Observation(i)
		at := o.At.UTC()
		line.Miner, line.Address, line.At = &o.Miner, x.address[o.Miner], &at
		line.Outcome, line.State, line.Flags = o.Outcome.String(), o.State.String(), uint32(o.Flags)
		line.HashrateHS, line.BestShare = hashrate(&o), nil
		if n, ok := o.BestShare.Get(); ok {
			line.BestShare = &n
		}
		if err := x.out.Encode(line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

func hashrate(o *telemetry.Observation) *float64 {
	if h, ok := o.Hashrate.Get(); ok {
		f := float64(h)
		return &f
	}
	return nil
}

// spoolSummary is what `spool stats` prints.
type spoolSummary struct {
	Segments int        `json:"segments"`
	Batches  uint64     `json:"batches"`
	Samples  uint64     `json:"samples"`
	Gaps     uint64     `json:"gaps"` // gap records: data that had to be dropped
	Payload  int64      `json:"payload_bytes"`
	Files    int64      `json:"file_bytes"`
	First    *time.Time `json:"first_sample_at,omitempty"`
	Last     *time.Time `json:"last_sample_at,omitempty"`
	Locked   []string   `json:"locked,omitempty"`  // being written by a running agent, not read
	Corrupt  []string   `json:"corrupt,omitempty"` // could not be read
	Aside    []string   `json:"aside,omitempty"`   // set aside as corrupt earlier

	LastHour *facts.Signed `json:"last_signed_hour,omitempty"`
	Waiting  int           `json:"hours_waiting"` // over and not signed
}

func spoolStats() *cobra.Command {
	var dir, output string
	c := &cobra.Command{
		Use:   "stats",
		Short: "Count what is stored",
		Long: `Counts stored batches and samples, and tells which hour was signed last and how many are over and wait. While an agent runs, its newest
file cannot be read, so that an hour that was signed a moment ago may count as waiting. What the hub has acknowledged is shown by a
running agent's /health.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			sum, err := summarise(c.Context(), dir)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), sum)
			}
			return printSummary(c.OutOrStdout(), sum)
		},
	}
	dataDirFlag(c, &dir)
	outputFlag(c, &output, "table", "table|json")
	return c
}

func summarise(ctx context.Context, dataDir string) (spoolSummary, error) {
	var sum spoolSummary
	var first, last int64
	hours, err := facts.NewCensus(agentd.SpoolDir(dataDir))
	if err != nil {
		return sum, err
	}
	rep, err := spool.Export(ctx, agentd.SpoolDir(dataDir), func(b spool.Batch) error {
		sum.Payload += int64(len(b.Payload))
		hours.Add(&b)
		switch b.Header.Kind {
		case evidence.KindSamples:
			sum.Samples += uint64(b.Header.Samples)
			if first == 0 || b.Header.FirstMS < first {
				first = b.Header.FirstMS
			}
			last = max(last, b.Header.LastMS)
		case evidence.KindGap:
			sum.Gaps++
		}
		return nil
	})
	if err != nil && !errors.Is(err, spool.ErrIncomplete) {
		return sum, explainMissing(err, dataDir)
	}
	sum.Segments, sum.Batches, sum.Locked, sum.Corrupt, sum.Aside = rep.Segments, rep.Batches, rep.Locked, rep.Corrupt, rep.Aside
	sum.LastHour, sum.Waiting = hours.Last, hours.Waiting(time.Now())
	if last > 0 {
		a, b := time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		sum.First, sum.Last = &a, &b
	}
	entries, err := os.ReadDir(agentd.SpoolDir(dataDir))
	if err != nil {
		return sum, fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			sum.Files += fi.Size()
		}
	}
	return sum, nil
}

func printSummary(w io.Writer, s spoolSummary) error {
	rows := [][2]string{
		{"segments", strconv.Itoa(s.Segments)}, {"batches", strconv.FormatUint(s.Batches, 10)}, {"samples", strconv.FormatUint(s.Samples, 10)},
		{"gap records", strconv.FormatUint(s.Gaps, 10)}, {"payload bytes", strconv.FormatInt(s.Payload, 10)}, {"file bytes", strconv.FormatInt(s.Files, 10)},
	}
	if s.First != nil {
		rows = append(rows, [2]string{"first sample", s.First.Format(time.RFC3339)}, [2]string{"last sample", s.Last.Format(time.RFC3339)})
	}
	if h := s.LastHour; h != nil {
		rows = append(rows, [2]string{"last signed hour", fmt.Sprintf("%s, %d miners, batch %d", h.Hour.Format(time.RFC3339), h.Miners, h.Seq)})
	}
	rows = append(rows, [2]string{"hours waiting", strconv.Itoa(s.Waiting)})
	for _, l := range []struct {
		what  string
		names []string
	}{{"in use by an agent", s.Locked}, {"corrupt", s.Corrupt}, {"set aside", s.Aside}} {
		for _, n := range l.names {
			rows = append(rows, [2]string{l.what, n})
		}
	}
	return printTable(w, rows)
}
