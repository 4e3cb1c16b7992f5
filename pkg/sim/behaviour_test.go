package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

// inMinute schedules b for all miners, from one minute on, for two.
func inMinute(b sim.Behaviour) sim.Fault {
	return sim.Fault{Select: sim.Selection{All: true}, After: time.Minute, For: 2 * time.Minute, Behaviour: b}
}

func TestScheduledBehavioursBeginAndEnd(t *testing.T) {
	timedOut := func(_ []byte, err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
	has := func(text string) func([]byte, error) bool {
		return func(b []byte, err error) bool {
			return err == nil && json.Valid(b) && strings.Contains(string(b), text)
		}
	}
	for _, c := range []struct {
		name, machine string
		b             sim.Behaviour
		during        func([]byte, error) bool
		mendable      bool
	}{
		{"refuse", "cgminer", sim.Behaviour{Kind: sim.Refuse}, func(_ []byte, err error) bool { return refused(err) }, false},
		{"dead", "cgminer", sim.Behaviour{Kind: sim.Dead}, func(_ []byte, err error) bool { return refused(err) }, false},
		{"hang", "cgminer", sim.Behaviour{Kind: sim.Hang}, timedOut, false},
		{"reset", "cgminer", sim.Behaviour{Kind: sim.Reset}, func(_ []byte, err error) bool { return errors.Is(err, syscall.ECONNRESET) }, false},
		{"empty", "cgminer", sim.Behaviour{Kind: sim.Empty}, func(b []byte, err error) bool { return err == nil && len(b) == 0 }, false},
		{"endless", "cgminer", sim.Behaviour{Kind: sim.Endless}, func(_ []byte, err error) bool { return errors.Is(err, errTooMuch) }, false},
		{"cut off", "cgminer", sim.Behaviour{Kind: sim.Malformed, Form: sim.Cut}, func(b []byte, err error) bool { return err == nil && len(b) > 100 && !json.Valid(b) }, false},
		{"bare nan", "cgminer", sim.Behaviour{Kind: sim.Malformed, Form: sim.NotANumber}, func(b []byte, _ error) bool { return bytes.Contains(b, []byte(`"MHS av":nan,`)) }, true},
		{"sleeping Antminer", "antminer-s19", sim.Behaviour{Kind: sim.Sleeping}, has(`"GHS 5s":0.00,`), false},
		{"sleeping Whatsminer", "whatsminer-m50", sim.Behaviour{Kind: sim.Sleeping}, func(b []byte, err error) bool { return err == nil && len(b) == 0 }, false},
		{"overheated Whatsminer", "whatsminer-m30s", sim.Behaviour{Kind: sim.Overheated}, has(`"Error Code 0":600,`), false},
		{"no pool", "cgminer", sim.Behaviour{Kind: sim.NoPool}, has(`"MHS 5s":0.00,`), false},
		{"rebooting", "cgminer", sim.Behaviour{Kind: sim.Rebooting}, func(_ []byte, err error) bool { return refused(err) }, false},
		{"too slow", "cgminer", sim.Behaviour{Kind: sim.Slow, Latency: sim.Latency{Min: 20 * time.Second, Max: 30 * time.Second}}, timedOut, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf := only(c.machine, 1)
				conf.Faults = []sim.Fault{inMinute(c.b)}
				f, err := sim.New(conf)
				if err != nil {
					t.Fatal(err)
				}
				stop := run(t, f)
				defer stop()
				fine := func(when string) {
					if b, err := ask(t, f.DialContext, first, `{"command":"summary"}`); err != nil || !json.Valid(b) {
						t.Errorf("%s: %v, %.200q", when, err, b)
					}
					if e, _ := f.Expected(first, time.Now()); !e.Healthy {
						t.Errorf("%s: not healthy: %+v", when, e)
					}
				}
				fine("before")
				time.Sleep(80 * time.Second)
				if b, err := ask(t, f.DialContext, first, `{"command":"summary"}`); !c.during(b, err) {
					t.Errorf("during: %v, %.300q", err, b)
				}
				if e, _ := f.Expected(first, time.Now()); e.Healthy != c.mendable || e.Fault == "" {
					t.Errorf("during: healthy %v, fault %q", e.Healthy, e.Fault)
				}
				time.Sleep(3 * time.Minute)
				fine("after")
			})
		})
	}
}

func TestSleepingMachinesSayWhatTheirFirmwareSays(t *testing.T) {
	for _, c := range []struct{ machine, command, want string }{
		{"whatsminer-m50", "status", `"btmineroff":"true"`},
		{"whatsminer-m50", "status+summary", `{"status":[{"STATUS":"S"`},
		{"antminer-s19", "stats", `"chain_acs1":" xxx xxx`},
		{"antminer-s9", "stats", `"GHS 5s":"0.00"`},
		{"avalon-1246", "stats", `SYSTEMSTATU[Work: In Idle`},
		{"avalon-q", "litestats", `SoftOFF[4]`},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, err := sim.New(only(c.machine, 1))
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, f)
			defer stop()
			if _, err := f.Schedule(sim.Fault{Select: sim.Selection{Machine: c.machine}, Behaviour: sim.Behaviour{Kind: sim.Sleeping}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if got := string(must(t, f, first, `{"command":"`+c.command+`"}`)); !strings.Contains(got, c.want) {
				t.Errorf("%s %s: no %q in %.500q", c.machine, c.command, c.want, got)
			}
		})
	}
}

func TestHangEndsForTheClientThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := sim.New(only("cgminer", 1))
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		f.Schedule(sim.Fault{Select: sim.Selection{All: true}, For: 5 * time.Second, Behaviour: sim.Behaviour{Kind: sim.Hang}})
		began := time.Now()
		b, err := ask(t, f.DialContext, first, `{"command":"summary"}`)
		if err != nil || len(b) != 0 || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %q, %v; want the connection closed after 5 s", time.Since(began), b, err)
		}
		must(t, f, first, `{"command":"summary"}`)
	})
}

func TestLatencyIsDistributedAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := only("cgminer", 1)
		c.Instant = false
		var err error
		if c.Latency, err = sim.ParseLatency("200ms-500ms,10%:5s-8s"); err != nil {
			t.Fatal(err)
		}
		f, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		outliers := 0
		for range 500 {
			began := time.Now()
			must(t, f, first, `{"command":"summary"}`)
			switch took := time.Since(began); {
			case took >= 5*time.Second && took <= 8*time.Second:
				outliers++
			case took < 200*time.Millisecond || took > 500*time.Millisecond:
				t.Fatalf("answered after %v", took)
			}
		}
		if outliers < 25 || outliers > 75 {
			t.Errorf("%d outliers of 500, want about 50", outliers)
		}
	})
}

// damage is what each form leaves in a summary; "" where a summary has nothing to damage so.
var damage = map[sim.Form]string{
	sim.MissingComma: "", sim.Deed: "", sim.NotANumber: `"MHS av":nan,`, sim.BadEscape: `"Description":"\'BOSer`,
	sim.ControlChar: "\"Description\":\"\n\tBOSer", sim.ExtraComma: `,}],"id":1}`, sim.StatusString: `{"STATUS":"S","When":`,
	sim.PaddedNumber: `"Best Share":"  1 "`, sim.SecondDocument: "\"id\":1}\x00{\"STATUS\"", sim.MissingKeyGap: `"""temp0":31,`,
	sim.ListAsMap: `["110":"Intake`, sim.LeadingComma: `,"STATUS":[`, sim.HugeInteger: `:18446744073709551615,`,
	sim.DuplicateKey: `"Elapsed":1,"ELAPSED":2,`, sim.NestedJSON: `"{\"temps\":`, sim.FlatBoards: `"0 Temp 2":`,
	sim.OwnWords: `}{ row nan, ,} [,{`, sim.BadUTF8: "H\xe4lle \xff ", sim.Cut: "", sim.Tail: `,"id":1}`,
	sim.TextLine: "Socket connect failed", sim.HTTP: "HTTP/1.1 400", sim.Garbage: "",
}

func TestDamagedRepliesSayWhetherTheyCanBeMended(t *testing.T) {
	if len(damage) != len(sim.Forms()) {
		t.Errorf("%d forms are tested of %d", len(damage), len(sim.Forms()))
	}
	for _, form := range sim.Forms() {
		t.Run(string(form), func(t *testing.T) {
			c := only("braiins-s19", 1)
			c.KeepLast = 1
			c.Faults = []sim.Fault{{Select: sim.Selection{All: true}, Behaviour: sim.Behaviour{Kind: sim.Malformed, Form: form}}}
			f := start(t, c)
			conn, err := f.DialContext(t.Context(), "tcp", first)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte(`{"command":"summary"}`))
			var all bytes.Buffer
			all.ReadFrom(conn)
			if !bytes.Contains(all.Bytes(), []byte(damage[form])) {
				t.Errorf("no %q in %q", damage[form], all.Bytes())
			}
			got := f.Answers()
			if len(got) != 1 || got[0].Complete != form.Mendable() || got[0].Healthy != form.Mendable() || got[0].Fault != "malformed/"+string(form) {
				t.Fatalf("recorded %+v", got)
			}
			if carries := bytes.Contains(all.Bytes(), []byte(`"Best Share":`)) && bytes.Contains(all.Bytes(), []byte(`"MHS 5s":`)); carries != form.Mendable() && form != sim.Cut {
				t.Errorf("carries everything: %v in %q", carries, all.Bytes())
			}
		})
	}
	if _, err := sim.New(sim.Config{Miners: 1, Faults: []sim.Fault{inMinute(sim.Behaviour{Kind: sim.Malformed, Form: "sideways"})}}); err == nil {
		t.Error("an unknown form was taken")
	}
}

func TestSelections(t *testing.T) {
	f, err := sim.New(sim.Config{Miners: 100})
	if err != nil {
		t.Fatal(err)
	}
	slow := sim.Behaviour{Kind: sim.Slow, Latency: sim.Latency{Max: time.Second}}
	for _, c := range []struct {
		name string
		sel  sim.Selection
		want int // 0: an error
	}{
		{"all", sim.Selection{All: true}, 100},
		{"a share", sim.Selection{All: true, Share: 0.05}, 5},
		{"a count", sim.Selection{Family: "antminer", Count: 3}, 3},
		{"an address without a port", sim.Selection{Addresses: []string{"127.20.0.9"}}, 1},
		{"nothing named", sim.Selection{}, 0},
		{"nobody there", sim.Selection{Family: "steam"}, 0},
		{"a foreign address", sim.Selection{Addresses: []string{"10.0.0.1"}}, 0},
	} {
		n, err := f.Schedule(sim.Fault{Select: c.sel, For: time.Second, Behaviour: slow})
		if n != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d miners, %v; want %d", c.name, n, err, c.want)
		}
	}
}

func TestMoreThanCanBeScheduledIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := sim.New(only("cgminer", 1))
		if err != nil {
			t.Fatal(err)
		}
		fault := sim.Fault{Select: sim.Selection{All: true}, For: time.Minute, Behaviour: sim.Behaviour{Kind: sim.Droop, Factor: 0.5}}
		for range 64 {
			if _, err := f.Schedule(fault); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.Schedule(fault); err == nil {
			t.Error("the 65th was taken")
		}
		before, _ := f.Expected(first, time.Now())
		time.Sleep(3 * time.Hour)
		unfolded, _ := f.Expected(first, time.Now())
		if _, err := f.Schedule(fault); err != nil { // those that ended long ago make room
			t.Error(err)
		}
		after, _ := f.Expected(first, time.Now())
		if after.TotalMH != unfolded.TotalMH || after.TotalMH <= before.TotalMH {
			t.Errorf("counter %v, then %v, then %v", before.TotalMH, unfolded.TotalMH, after.TotalMH)
		}
	})
}

func TestStopClosesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := only("cgminer", 1)
		c.Faults = []sim.Fault{{Select: sim.Selection{All: true}, Behaviour: sim.Behaviour{Kind: sim.Hang}}}
		f, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		conn, err := f.DialContext(context.Background(), "tcp", first)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("still connected")
		}
		if _, err := f.DialContext(context.Background(), "tcp", first); !refused(err) {
			t.Errorf("after the stop: %v", err)
		}
	})
}
