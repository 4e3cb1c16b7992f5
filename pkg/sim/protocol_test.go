package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashinsight/hashinsight/pkg/sim"
)

func TestRequestsAreJudgedAsByRealServers(t *testing.T) {
	for _, c := range []struct {
		name, machine, request, letter string
		code                           int
	}{
		{"JSON", "cgminer", `{"command":"summary"}`, "S", 11},
		{"JSON with a parameter", "cgminer", `{"command":"check","parameter":"summary"}`, "S", 72},
		{"unknown extra keys are ignored", "cgminer", `{"command":"summary","new_api":true}`, "S", 11},
		{"a newline behind JSON is accepted", "cgminer", "{\"command\":\"summary\"}\n", "S", 11},
		{"a NUL behind JSON is not", "cgminer", "{\"command\":\"summary\"}\x00", "E", 23},
		{"nor a second object", "cgminer", `{"command":"summary"}{"command":"pools"}`, "E", 23},
		{"half a request", "cgminer", `{"command":"summ`, "E", 23},
		{"no command", "cgminer", `{"cmd":"summary"}`, "E", 24},
		{"Whatsminer takes cmd", "whatsminer-m30s", `{"cmd":"summary"}`, "S", 11},
		{"unknown command", "cgminer", `{"command":"nosuch"}`, "E", 14},
		{"case matters", "cgminer", `{"command":"Summary"}`, "E", 14},
		{"privileged command", "cgminer", `{"command":"quit"}`, "E", 45},
		{"stock Antminer allows five reads", "antminer-s19", `{"command":"config"}`, "E", 45},
		{"stock Antminer does not know everything", "antminer-s19", `{"command":"get_version"}`, "E", 14},
		{"S19 firmware refuses joined commands", "antminer-s19", `{"command":"summary+stats"}`, "E", 14},
		{"check without a name", "cgminer", `{"command":"check"}`, "E", 71},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, only(c.machine, 1))
			d := decode(t, must(t, f, first, c.request))
			if len(d.Status) != 1 || d.Status[0].STATUS != c.letter || d.Status[0].Code != c.code {
				t.Errorf("answered %+v, want %s/%d", d.Status, c.letter, c.code)
			}
		})
	}
}

func TestTextRequests(t *testing.T) {
	f := start(t, only("cgminer", 1))
	for request, want := range map[string]string{
		"summary":        "STATUS=S,When=",
		"check|summary":  "COMMAND,Exists=Y,Access=Y|",
		"summary\n":      "STATUS=E,When=",
		` {"command":1}`: "Code=14,Msg=Invalid command",
		"version+coin":   "CMD=version|STATUS=S",
	} {
		if got := string(must(t, f, first, request)); !strings.Contains(got, want) || strings.ContainsAny(got, "{}") {
			t.Errorf("%q answered %q, want text with %q", request, got, want)
		}
	}
	text := string(must(t, f, first, "pools"))
	if !strings.Contains(text, "|POOL=0,URL=stratum+tcp://pool-a.example.com:3333,Status=Alive,") || !strings.HasSuffix(text, "|") {
		t.Errorf("pools in text: %q", text)
	}
}

func TestJoinedReplyHasOneElementArrays(t *testing.T) {
	f := start(t, only("cgminer", 1))
	var got map[string]json.RawMessage
	raw := must(t, f, first, `{"command":"summary++pools+quit+nosuch+summary"}`)
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	if bytes.Count(raw, []byte(`"summary":[`)) != 1 || len(got) != 5 || string(got["id"]) != "1" {
		t.Errorf("sections of %q", raw)
	}
	for name, code := range map[string]int{"summary": 11, "pools": 7, "quit": 45, "nosuch": 14} {
		var sections []json.RawMessage
		if err := json.Unmarshal(got[name], &sections); err != nil || len(sections) != 1 {
			t.Errorf("section %s is %q, want an array of one", name, got[name])
			continue
		}
		if d := decode(t, sections[0]); d.Status[0].Code != code {
			t.Errorf("section %s has code %d, want %d", name, d.Status[0].Code, code)
		}
	}
}

func TestEachFamilyEndsItsRepliesInItsOwnWay(t *testing.T) {
	for machine, end := range map[string]string{
		"antminer-s9": "}\x00", "whatsminer-m50": `"id":1}`, "whatsminer-m30s": "}\x00\n", "braiins-s19": "}\n",
	} {
		f := start(t, only(machine, 1))
		c, err := f.DialContext(t.Context(), "tcp", first)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, `{"command":"summary"}`)
		got, err := io.ReadAll(c) // returns because the miner closes
		if err != nil || !strings.HasSuffix(string(got), end) {
			t.Errorf("%s ends in %q (%v), want %q", machine, got[len(got)-8:], err, end)
		}
		c.Close()
	}
}

func TestSecondRequestOnAConnectionIsIgnored(t *testing.T) {
	f, err := sim.New(only("cgminer", 1))
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	c, err := f.DialContext(t.Context(), "tcp", first)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, `{"command":"summary"}`)
	if _, err := drain(c); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil { // as on a socket
		t.Error(err)
	}
	if _, err := io.WriteString(c, `{"command":"pools"}`); err == nil {
		t.Error("a second request was taken")
	}
	stop()
	if n := f.Stats().Answers; n != 1 {
		t.Errorf("%d summaries answered, want 1", n)
	}
}

func TestSilentClientBlocksEverybodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := sim.New(only("cgminer", 2))
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, f)
		defer stop()
		silent, err := f.DialContext(t.Context(), "tcp", first)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		synctest.Wait()
		if _, err := ask(t, f.DialContext, first, `{"command":"summary"}`); err == nil || time.Since(began) < patience {
			t.Errorf("answered after %v (%v) although another client holds the miner", time.Since(began), err)
		}
		must(t, f, "127.31.0.2:4028", `{"command":"summary"}`) // its neighbour does not care
		silent.Close()
		must(t, f, first, `{"command":"summary"}`)

		// A hundred may wait; the next gets no answer at all.
		for range 101 {
			c, err := f.DialContext(t.Context(), "tcp", first)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := f.DialContext(ctx, "tcp", first); err == nil {
			t.Error("a full backlog took one more")
		}
	})
}

func TestEveryReplyDecodesUnlessItsFirmwareIsFaulty(t *testing.T) {
	commands := map[string][]string{
		"antminer":    {"version", "summary", "pools", "stats", "devs"},
		"whatsminer":  {"summary", "pools", "devs", "edevs", "devdetails", "get_version", "status", "get_psu"},
		"avalon":      {"version", "summary", "pools", "devs", "stats", "estats", "devdetails", "config", "coin", "asccount"},
		"avalon-home": {"version", "summary", "pools", "devs", "stats", "litestats"},
		"braiins":     {"version", "summary", "pools", "devs", "temps", "fans", "devdetails", "tunerstatus"},
		"cgminer":     {"version", "summary", "pools", "devs", "edevs", "stats", "devdetails", "config", "coin", "asccount"},
	}
	f := start(t, sim.Config{Miners: 32, Instant: true})
	seen := make(map[string]bool)
	for _, m := range f.Miners() {
		if seen[m.Machine] {
			continue
		}
		seen[m.Machine] = true
		for _, command := range commands[m.Family] {
			raw := must(t, f, m.Address, `{"command":"`+command+`"}`)
			if m.Machine == "antminer-s9" && command == "stats" {
				if json.Valid(raw) {
					t.Errorf("the S9's stats lost their missing comma: %.200q", raw)
				}
				raw = bytes.Replace(raw, []byte("}{"), []byte("},{"), 1)
			}
			var any map[string]any
			if err := json.Unmarshal(raw, &any); err != nil {
				t.Errorf("%s %s: %v in %.400q", m.Machine, command, err, raw)
			}
		}
	}
	if len(seen) != 11 {
		t.Errorf("32 miners hold %d kinds of machine, want all 11", len(seen))
	}
}

func TestFirstMinerCarriesMarkup(t *testing.T) {
	f := start(t, only("cgminer", 1))
	if user := decode(t, must(t, f, first, `{"command":"pools"}`)).Pools[0]["User"]; user != "<script>alert(1)</script>" {
		t.Errorf("pool user %q", user)
	}
}
