// Command hashinsight-sim serves a fleet of simulated miners on the addresses of one machine, for development, demonstrations and
// tests, and records what they answered. The fleet itself is package sim; this program only reads flags, opens the control
// endpoint and prints what was started. Scripts and people call it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hashinsight-sim:", err)
		os.Exit(1)
	}
}

// options are the flags as given.
type options struct {
	conf                                       sim.Config
	base, faulty, latency, control, ready, sch string
	folders                                    []string
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "hashinsight-sim",
		Short: "Serve a fleet of simulated miners",
		Long: `Serve a fleet of simulated miners that speak the cgminer API (TCP port 4028) as real firmware does.

Every miner has an address of its own, counted up from --base. On Linux all of 127.0.0.0/8 is there without any
setup, so one process can be thousands of miners. Rates, counters, temperatures and shares follow from --seed and the
time, so that two runs with one seed are alike. Each answered "summary" carries in "Best Share" a number that rises per
miner; --record writes one line for each:

  m  address        n  that number                     t  when the last byte was written, Unix time in ns
  r  rate, H/s      w  its window, s                   h  healthy: served without fault, usual rate in the window
  c  complete: nothing that a tolerant reader cannot   f  fault in force, mendable damage included
     mend was damaged

The first miner has the pool user <script>alert(1)</script>. A damaged reply that still carries everything counts as
healthy.

--schedule FILE and POST /faults take a JSON list:

  [{"family":"whatsminer", "count":3, "behaviour":"hang", "after":"30s", "for":"1m"},
   {"addresses":["127.20.0.7"], "behaviour":"droop", "factor":0.5},
   {"all":true, "share":"5%", "behaviour":"malformed", "form":"cut", "for":"10m"}]

  behaviours  ` + names(sim.Kinds()) + `
  forms       ` + names(sim.Forms()) + `
  selection   all, addresses, family, machine; of those share or count, evenly spread

--control serves GET /health, GET /fleet[?at=UNIX_MS] (what each miner would report now, or at a moment),
GET /truth?from=UNIX_MS&to=UNIX_MS (hashes really done, s with power, s in which it would have answered) and POST /faults
over HTTP, to anybody who reaches the address: it must be a loopback address.`,
		Example: `  hashinsight-sim --miners 200 --faulty 10% --control 127.0.0.1:4090
  hashinsight-sim --miners 10000 --latency 200ms-500ms,1%:5s-8s --record answers.jsonl --state sim.json
  hashinsight-sim --miners 0 --folder recordings/s9 --folder recordings/m30s`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	fl := c.Flags()
	fl.IntVar(&o.conf.Miners, "miners", 200, "number of simulated miners, recordings not counted")
	fl.StringVar(&o.base, "base", "127.20.0.1", "address of the first miner; the others follow")
	fl.IntVar(&o.conf.Port, "port", 4028, "TCP port of every miner")
	fl.Uint64Var(&o.conf.Seed, "seed", 1, "decides machines, rates, phases and which miners are faulty")
	fl.StringVar(&o.conf.Mix, "mix", sim.DefaultMix, "share of each kind of machine, name=weight,…; names are "+strings.Join(sim.MachineNames(), ", "))
	fl.StringVar(&o.faulty, "faulty", "0%", "share of miners that have a fault from the beginning, of every kind in turn")
	fl.StringVar(&o.latency, "latency", "2ms-20ms", "time to answer: RANGE, or RANGE,SHARE:RANGE with outliers, as in 200ms-500ms,1%:5s-8s")
	fl.StringVar(&o.sch, "schedule", "", "file with a JSON list of faults to schedule at the start")
	fl.StringVar(&o.conf.RecordFile, "record", "", "append every answered summary to this file, at most 100 ms late")
	fl.StringVar(&o.conf.StateFile, "state", "", "keep serial numbers, uptimes and counters in this file over a restart")
	fl.StringVar(&o.control, "control", "", "serve the control endpoint on this loopback address, for instance 127.0.0.1:0")
	fl.StringArrayVar(&o.folders, "folder", nil, "folder of recorded replies, served as one more miner behind the simulated ones; may be repeated")
	fl.StringVar(&o.ready, "ready-file", "", "when everything listens, write this file: JSON with pid, control address and the miners' addresses")
	return c
}

func names[S ~string](list []S) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = string(n)
	}
	return strings.Join(out, " ")
}

// config turns the flags into a fleet's configuration; every problem is reported.
func (o *options) config() (sim.Config, error) {
	c := o.conf
	var errs []error
	var err error
	if c.Base, err = netip.ParseAddr(o.base); err != nil {
		errs = append(errs, fmt.Errorf("--base: %w", err))
	}
	if c.Faulty, err = sim.ParseShare(o.faulty); err != nil {
		errs = append(errs, fmt.Errorf("--faulty: %w", err))
	}
	if c.Latency, err = sim.ParseLatency(o.latency); err != nil {
		errs = append(errs, fmt.Errorf("--latency: %w", err))
	}
	c.Instant = c.Latency == sim.Latency{}
	if o.sch != "" {
		raw, err := os.ReadFile(o.sch)
		if err == nil {
			c.Faults, err = sim.ParseFaults(raw)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--schedule: %w", err))
		}
	}
	for _, dir := range o.folders {
		c.Recordings = append(c.Recordings, sim.Recording{Dir: dir})
	}
	if o.control != "" {
		if a, err := netip.ParseAddrPort(o.control); err != nil || !a.Addr().IsLoopback() {
			errs = append(errs, fmt.Errorf("--control %q: give a loopback address and a port, for instance 127.0.0.1:0", o.control))
		}
	}
	return c, errors.Join(errs...)
}

func (o *options) run(ctx context.Context, out, errOut io.Writer) error {
	conf, err := o.config()
	if err != nil {
		return err
	}
	conf.Log = slog.New(slog.NewTextHandler(errOut, nil))
	fleet, err := sim.New(conf)
	if err != nil {
		return err
	}
	if err := fleet.Listen(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	control, serve, err := listenControl(ctx, o.control, fleet.Handler())
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		defer stop() // a fleet without its control endpoint is not what was asked for
		served <- serve()
	}()
	ran := make(chan error, 1)
	go func() {
		defer stop()
		ran <- fleet.Run(ctx)
	}()
	describe(out, fleet, control)
	if err := o.announce(fleet, control); err != nil {
		stop()
		return errors.Join(err, <-ran, <-served)
	}
	err = errors.Join(<-ran, <-served)
	if err == nil {
		s := fleet.Stats()
		fmt.Fprintf(out, "stopped after %d connections and %d answered summaries\n", s.Connections, s.Answers)
	}
	return err
}

// listenControl opens the control endpoint; serve blocks until ctx ends. Without an address it only waits.
func listenControl(ctx context.Context, addr string, h http.Handler) (bound string, serve func() error, err error) {
	if addr == "" {
		return "", func() error { <-ctx.Done(); return nil }, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("control endpoint: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second}
	return l.Addr().String(), func() error {
		done := context.AfterFunc(ctx, func() { srv.Close() })
		defer done()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("control endpoint: %w", err)
		}
		return nil
	}, nil
}

// describe prints what was started.
func describe(out io.Writer, fleet *sim.Fleet, control string) {
	miners := fleet.Miners()
	kinds, faults := make(map[string]int), make(map[string]int)
	now := time.Now()
	healthy := 0
	for _, m := range miners {
		kinds[m.Family+"  "+m.Machine]++
		e, _ := fleet.Expected(m.Address, now)
		switch {
		case e.Fault != "" && e.Healthy:
			faults[e.Fault+" (mendable)"]++
		case e.Fault != "":
			faults[e.Fault]++
		}
		if e.Healthy {
			healthy++
		}
	}
	fmt.Fprintf(out, "%d miners on %s to %s, %d served without fault\n", len(miners), miners[0].Address, miners[len(miners)-1].Address, healthy)
	for _, list := range []map[string]int{kinds, faults} {
		keys := make([]string, 0, len(list))
		for k := range list {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			fmt.Fprintf(out, "%7d  %s\n", list[k], k)
		}
	}
	if control != "" {
		fmt.Fprintf(out, "control: http://%s\n", control)
	}
}

// announce writes the ready file, whole or not at all.
func (o *options) announce(fleet *sim.Fleet, control string) error {
	if o.ready == "" {
		return nil
	}
	type miner struct {
		Address  string `json:"address"`
		Family   string `json:"family"`
		Machine  string `json:"machine"`
		Recorded bool   `json:"recorded,omitempty"`
	}
	doc := struct {
		PID     int     `json:"pid"`
		Control string  `json:"control,omitempty"`
		Miners  []miner `json:"miners"`
	}{PID: os.Getpid(), Control: control}
	for _, m := range fleet.Miners() {
		doc.Miners = append(doc.Miners, miner{m.Address, m.Family, m.Machine, m.Recorded})
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(o.ready), "."+filepath.Base(o.ready)+".new")
	if err := os.WriteFile(tmp, raw, 0o644); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := os.Rename(tmp, o.ready); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
