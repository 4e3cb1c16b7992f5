package poll_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/asic"
	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/agent/internal/inventory"
	"github.com/hashinsight/hashinsight/agent/internal/poll"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/wire"
)

// TestAThirdOfTheFleetHangs polls 1,000 miners through the real driver and client while 300 of them accept and then say nothing,
// and 50 send a byte a second for ever. Each of the others has a good sample in every interval, from the first one on.
func TestAThirdOfTheFleetHangs(t *testing.T) {
	const (
		miners, hung, dripping = 1000, 300, 50
		interval               = 10 * time.Second
		cycles                 = 12
	)
	synctest.Test(t, func(t *testing.T) {
		var servers sync.WaitGroup
		client := &cgminer.Client{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			servers.Go(func() {
				switch n := number(address); {
				case n < hung:
					_, _ = io.Copy(io.Discard, theirs) // until the agent closes
				case n < hung+dripping:
					drip(theirs)
				default:
					answer(theirs)
				}
				_ = theirs.Close() // ends the exchange, however it went
			})
			return ours, nil
		}}
		inv, err := inventory.Open(inventory.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		decoder, err := wire.NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		address := map[string]string{} // miner → address
		good := map[string][]time.Time{}
		c := poll.Config{
			Inventory: inv, Registerer: prometheus.NewRegistry(),
			Open: func(t poll.Target) poll.Reader {
				return asic.NewReader(asic.Config{Address: t.Address, Client: client}).Read
			},
			Append: func(_ context.Context, payload []byte, _ wire.Meta) error {
				s, err := decoder.Samples(payload)
				if err != nil {
					return err
				}
				for _, info := range s.Infos {
					address[info.Miner.String()] = info.Address
				}
				for i := range s.Len() {
					if o := s.Observation(i); o.Outcome == telemetry.OutcomeOK {
						a := address[o.Miner.String()]
						good[a] = append(good[a], o.At)
					}
				}
				return nil
			},
		}
		for i := range miners {
			c.Targets = append(c.Targets, poll.Target{
				Address: fmt.Sprintf("10.9.%d.%d:4028", i/250, i%250), Interval: interval, ConnectTimeout: 3 * time.Second, Timeout: 10 * time.Second,
			})
		}
		p, err := poll.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(cycles*interval - time.Millisecond) // before the point of the grid that begins the next cycle
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		servers.Wait()
		for i, target := range c.Targets {
			at := good[target.Address]
			if i < hung+dripping {
				if len(at) > 0 {
					t.Errorf("%s has %d good samples", target.Address, len(at))
				}
				continue
			}
			if len(at) != cycles {
				t.Errorf("%s has %d good samples in %d intervals", target.Address, len(at), cycles)
			}
			for k := 1; k < len(at); k++ {
				if d := at[k].Sub(at[k-1]); d < 9*time.Second || d > 11*time.Second {
					t.Errorf("%s: samples %v apart", target.Address, d)
				}
			}
		}
	})
}

// number is the position of an address in the fleet.
func number(address string) int {
	var a, b int
	if _, err := fmt.Sscanf(address, "10.9.%d.%d:4028", &a, &b); err != nil {
		return -1
	}
	return a*250 + b
}

func drip(conn net.Conn) {
	if _, err := conn.Read(make([]byte, 4095)); err != nil {
		return
	}
	for {
		if _, err := conn.Write([]byte("{")); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// answer is a miner that takes 300 ms.
func answer(conn net.Conn) {
	request := make([]byte, 4095)
	n, err := conn.Read(request)
	if err != nil {
		return
	}
	time.Sleep(300 * time.Millisecond)
	reply := `{"STATUS":[{"STATUS":"S","Code":22}],"VERSION":[{"BMMiner":"2.0.0","API":"3.1","Type":"Antminer S9"}],"id":1}`
	if strings.Contains(string(request[:n]), "summary") {
		const summary = `[{"STATUS":[{"STATUS":"S","Code":11}],"SUMMARY":[{"Elapsed":9000,"GHS 5s":13500,"GHS av":13500}],"id":1}]`
		const stats = `[{"STATUS":[{"STATUS":"S","Code":70}],"STATS":[{"Type":"Antminer S9"},{"Elapsed":9000,"GHS 5s":13500,"miner_count":3}],"id":1}]`
		const pools = `[{"STATUS":[{"STATUS":"S","Code":7}],"POOLS":[{"URL":"stratum+tcp://a:1","Status":"Alive","Priority":0}],"id":1}]`
		reply = `{"summary":` + summary + `,"stats":` + stats + `,"pools":` + pools + `,"id":1}`
	}
	_, _ = conn.Write([]byte(reply + "\x00")) // the agent may have given up
}
