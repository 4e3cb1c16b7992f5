package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/agent/internal/asic"
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
)

// probeResult is what `probe -o json` prints.
type probeResult struct {
	Normalised asic.Normalised `json:"normalised"`
	Raw        []rawReply      `json:"raw"`
}

type rawReply struct {
	Command string `json:"command"`
	Reply   string `json:"reply,omitempty"` // as it came, invalid UTF-8 replaced
	Error   string `json:"error,omitempty"`
}

func probeCommand() *cobra.Command {
	var output string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "probe ADDRESS[:PORT]",
		Short: "Show what one miner answers, raw and normalised",
		Long: `Reads one miner as the agent would, prints what it makes of the answer, and then each raw reply. With -o json the
member "normalised" has documented names and units: _hs hashes per second, _s seconds, _c degrees Celsius, _w watts, _rpm
revolutions per minute; what is unknown is absent. The exit code is 1 when the miner could not be read.`,
		Example: "  hashinsight-agent probe 10.0.0.5\n  hashinsight-agent probe 10.0.0.5:4029 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if timeout <= 0 {
				return fmt.Errorf("--timeout %v is no time to wait: give for instance 10s", timeout)
			}
			address, err := minerAddress(args[0])
			if err != nil {
				return err
			}
			return probe(c.Context(), c.OutOrStdout(), address, output, timeout)
		},
	}
	outputFlag(c, &output, "text", "text|json")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long each request may take")
	return c
}

// minerAddress adds the port that the cgminer API has everywhere.
func minerAddress(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(a.String(), "4028"), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, "4028"
	}
	if n, err := strconv.Atoi(port); host == "" || err != nil || n < 1 || n > 65535 || strings.ContainsAny(host, " /") {
		return "", fmt.Errorf("%.60q is not ADDRESS or ADDRESS:PORT", s)
	}
	return net.JoinHostPort(host, port), nil
}

func probe(ctx context.Context, w io.Writer, address, output string, timeout time.Duration) error {
	raw, obs, info, readErr := asic.Probe(ctx, address, &cgminer.Client{Timeout: timeout})
	res := probeResult{Normalised: asic.Normalise(obs, info), Raw: []rawReply{}}
	for _, r := range raw {
		out := rawReply{Command: r.Command, Reply: strings.ToValidUTF8(string(r.Bytes), "\uFFFD")}
		if r.Err != nil {
			out.Error = r.Err.Error()
		}
		res.Raw = append(res.Raw, out)
	}
	var err error
	if output == "json" {
		err = printJSON(w, res)
	} else {
		err = printProbe(w, res)
	}
	if err != nil {
		return err
	}
	if readErr != nil {
		return fmt.Errorf("%s could not be read (%s): %w", address, res.Normalised.Outcome, readErr)
	}
	return nil
}

func printProbe(w io.Writer, res probeResult) error {
	n := res.Normalised
	rows := [][2]string{{"address", n.Address}, {"outcome", n.Outcome}, {"state", n.State}}
	text := func(name, v string) {
		if v != "" {
			rows = append(rows, [2]string{name, printable(v)})
		}
	}
	text("miner", strings.TrimSpace(n.Maker+" "+n.Model))
	text("firmware", strings.TrimSpace(n.Firmware+" "+n.FirmwareVersion))
	text("MAC", n.MAC)
	text("serial", n.Serial)
	text("host name", n.Hostname)
	number := func(name string, v *float64, scale float64, unit string) {
		if v != nil {
			text(name, strconv.FormatFloat(*v/scale, 'f', -1, 64)+" "+unit)
		}
	}
	number("hashrate", n.HashrateHS, 1e12, "TH/s")
	number("  over", n.HashrateWindowS, 1, "s")
	number("hashrate since start", n.HashrateAvgHS, 1e12, "TH/s")
	number("nominal hashrate", n.IdealHashrateHS, 1e12, "TH/s")
	number("power", n.PowerW, 1, "W")
	number("inlet", n.TempInletC, 1, "°C")
	for _, b := range n.Boards {
		var parts []string
		if b.HashrateHS != nil {
			parts = append(parts, strconv.FormatFloat(*b.HashrateHS/1e12, 'f', -1, 64)+" TH/s")
		}
		if b.Chips != nil {
			parts = append(parts, fmt.Sprintf("%d chips", *b.Chips))
		}
		if len(b.TempsC) > 0 {
			parts = append(parts, strings.Trim(fmt.Sprint(b.TempsC), "[]")+" °C")
		}
		text(fmt.Sprintf("board %d", b.Index), strings.Join(parts, ", "))
	}
	if len(n.FansRPM) > 0 {
		text("fans", strings.Trim(fmt.Sprint(n.FansRPM), "[]")+" rpm")
	}
	if n.UptimeS != nil {
		text("uptime", (time.Duration(*n.UptimeS) * time.Second).String())
	}
	count := func(name string, v *int64) {
		if v != nil {
			text(name, strconv.FormatInt(*v, 10))
		}
	}
	count("shares accepted", n.Accepted)
	count("shares rejected", n.Rejected)
	count("hardware errors", n.HardwareErrors)
	for i, p := range n.Pools {
		state := "alive not known"
		if p.Alive != nil {
			state = map[bool]string{true: "alive", false: "dead"}[*p.Alive]
		}
		text(fmt.Sprintf("pool %d", i), p.URL+" as "+p.Worker+", "+state)
	}
	text("repairs", strings.Join(n.Repairs, ", "))
	for _, e := range n.Errors {
		text("error", e)
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	for _, r := range res.Raw {
		fmt.Fprintf(w, "\n--- %s", r.Command)
		if r.Error != "" {
			fmt.Fprintf(w, ": %s", printable(r.Error))
		}
		fmt.Fprintf(w, "\n%s\n", printable(r.Reply))
	}
	return nil
}
