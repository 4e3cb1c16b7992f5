package sim

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// spec describes one kind of machine: its numbers, its commands and how its server behaves.
type spec struct {
	name     string // what --mix and the control endpoint call it
	family   string
	maker    string
	model    string // as the machine itself says it
	nominal  float64
	window   time.Duration // the shortest over which it reports a rate
	watts    float64       // at the wall, at the nominal rate
	boards   int
	chips    int // per board
	fans     int
	descr    string        // STATUS Description
	end      string        // bytes after a reply
	lingers  bool          // keeps the connection open after the reply until the client closes
	joined   bool          // answers joined commands
	cmdKey   bool          // takes {"cmd":…} beside {"command":…}
	silence  time.Duration // how long a silent client may hold the connection
	bareBad  bool          // "Invalid command" comes without Description
	flatBad  bool          // errors in Whatsminer's own form
	commands map[string]reply
	denied   map[string]bool // commands it knows and refuses to anybody
}

// reply appends the whole reply to one command.
type reply func(p *page, m *miner, v *reading, param string)

// longSilence is how long cgminer's successors here wait for a silent client. The real ones wait for ever; this
// bound only keeps a forgotten connection from living as long as the process.
const longSilence = 10 * time.Minute

// privileged are cgminer's commands that need write access.
const privileged = "addpool ascdisable ascenable ascidentify ascset debug disablepool enablepool failover-only hotplug lockstats " +
	"pgadisable pgaenable pgaidentify pgaset poolpriority poolquota privileged quit removepool restart save setconfig switchpool zero"

// readOnly are cgminer's harmless commands; a firmware that closed some of them answers "access denied".
const readOnly = "asc asccount check coin config devdetails devs edevs estats lcd notify pga pgacount pools stats summary usbstats version"

func deny(lists ...string) map[string]bool {
	out := make(map[string]bool)
	for _, list := range lists {
		for _, name := range strings.Fields(list) {
			out[name] = true
		}
	}
	return out
}

const (
	tera = 1e12 // H/s in a TH/s
	giga = 1e9
	mega = 1e6
)

// specs is the catalogue of machines, in the order in which a mix deals them out.
func specs() []*spec {
	antminer := map[string]reply{
		"version": antminerVersion, "summary": antminerSummary, "pools": antminerPools, "stats": antminerStats, "devs": antminerDevs,
	}
	s9 := map[string]reply{
		"version": antminerVersion, "summary": s9Summary, "pools": antminerPools, "stats": s9Stats, "devs": cgminerDevs,
	}
	whatsminer := map[string]reply{
		"summary": whatsminerSummary, "pools": whatsminerPools, "devs": whatsminerDevs, "edevs": whatsminerDevs,
		"devdetails": whatsminerDetails, "get_version": whatsminerVersion, "status": whatsminerStatus, "get_psu": whatsminerPSU,
	}
	m30 := map[string]reply{"version": cgminerVersion}
	for k, v := range whatsminer {
		m30[k] = v
	}
	avalon := map[string]reply{
		"version": avalonVersion, "summary": avalonSummary, "pools": cgminerPools, "devs": cgminerDevs, "edevs": cgminerDevs,
		"stats": avalonStats, "estats": avalonStats, "devdetails": cgminerDetails, "config": cgminerConfig, "coin": cgminerCoin,
		"asccount": cgminerCount, "check": cgminerCheck,
	}
	home := map[string]reply{
		"version": avalonVersion, "summary": cgminerSummary, "pools": cgminerPools, "devs": cgminerDevs, "edevs": cgminerDevs,
		"stats": homeStats, "estats": homeStats, "litestats": homeLiteStats, "devdetails": cgminerDetails,
		"config": cgminerConfig, "coin": cgminerCoin, "asccount": cgminerCount, "check": cgminerCheck,
	}
	braiins := map[string]reply{
		"version": braiinsVersion, "summary": braiinsSummary, "pools": braiinsPools, "devs": braiinsDevs, "edevs": braiinsDevs,
		"temps": braiinsTemps, "fans": braiinsFans, "devdetails": braiinsDetails, "tunerstatus": braiinsTuner,
	}
	generic := map[string]reply{
		"version": cgminerVersion, "summary": cgminerSummary, "pools": cgminerPools, "devs": cgminerDevs, "edevs": cgminerDevs,
		"stats": cgminerStats, "estats": cgminerStats, "devdetails": cgminerDetails, "config": cgminerConfig, "coin": cgminerCoin,
		"asccount": cgminerCount, "check": cgminerCheck,
	}
	closed := deny(privileged, readOnly)
	open := deny(privileged)
	second5 := 5 * time.Second
	return []*spec{
		{name: "antminer-s19", family: "antminer", maker: "Bitmain", model: "Antminer S19 Pro", nominal: 110 * tera, window: second5, watts: 3250,
			boards: 3, chips: 114, fans: 4, descr: "cgminer 1.0.0", end: "\x00", silence: longSilence, commands: antminer, denied: closed},
		{name: "whatsminer-m50", family: "whatsminer", maker: "MicroBT", model: "M50_VH60", nominal: 118 * tera, window: second5, watts: 3306,
			boards: 3, chips: 111, fans: 2, descr: "btminer", end: "", joined: true, cmdKey: true, silence: 10 * time.Second, flatBad: true,
			commands: whatsminer, denied: map[string]bool{}},
		{name: "antminer-s9", family: "antminer", maker: "Bitmain", model: "Antminer S9", nominal: 13.5 * tera, window: second5, watts: 1320,
			boards: 3, chips: 63, fans: 2, descr: "cgminer 4.9.0", end: "\x00", joined: true, silence: longSilence, commands: s9, denied: closed},
		{name: "avalon-1246", family: "avalon", maker: "Canaan", model: "1246", nominal: 90 * tera, window: 30 * time.Second, watts: 3420,
			boards: 3, chips: 120, fans: 4, descr: "cgminer 4.11.1", end: "\x00", joined: true, silence: longSilence, bareBad: true, commands: avalon, denied: open},
		{name: "braiins-s19", family: "braiins", maker: "Bitmain", model: "Antminer S19", nominal: 95 * tera, window: second5, watts: 3250,
			boards: 3, chips: 76, fans: 4, descr: "BOSer boser-openwrt 0.1.0-26ba61b9", end: "\n", joined: true, silence: longSilence, commands: braiins, denied: open},
		{name: "antminer-s21", family: "antminer", maker: "Bitmain", model: "Antminer S21", nominal: 200 * tera, window: second5, watts: 3500,
			boards: 3, chips: 108, fans: 4, descr: "cgminer 1.0.0", end: "\x00", joined: true, silence: longSilence, commands: antminer, denied: closed},
		{name: "whatsminer-m30s", family: "whatsminer", maker: "MicroBT", model: "M30S++_VH40", nominal: 110 * tera, window: second5, watts: 3410,
			boards: 3, chips: 215, fans: 2, descr: "btminer", end: "\x00\n", joined: true, cmdKey: true, silence: 10 * time.Second, commands: m30, denied: deny(privileged)},
		{name: "cgminer", family: "cgminer", maker: "", model: "", nominal: 40 * tera, window: second5, watts: 2000,
			boards: 2, chips: 72, fans: 0, descr: "cgminer 4.11.1", end: "\x00", joined: true, silence: longSilence, bareBad: true, commands: generic, denied: open},
		{name: "avalon-1066", family: "avalon", maker: "Canaan", model: "1066", nominal: 50 * tera, window: 30 * time.Second, watts: 3250,
			boards: 3, chips: 114, fans: 2, descr: "cgminer 4.11.1", end: "\x00", joined: true, silence: longSilence, bareBad: true, commands: avalon, denied: open},
		{name: "avalon-q", family: "avalon-home", maker: "Canaan", model: "Q", nominal: 90 * tera, window: second5, watts: 1674,
			boards: 1, chips: 160, fans: 4, descr: "cgminer 4.11.1", end: "\x00", lingers: true, joined: true, silence: longSilence, bareBad: true, commands: home, denied: open},
		{name: "braiins-s9", family: "braiins", maker: "Bitmain", model: "Antminer S9", nominal: 14 * tera, window: second5, watts: 1300,
			boards: 3, chips: 63, fans: 2, descr: "BOSminer+ 0.2.0-36c56a9363", end: "\n", joined: true, silence: longSilence, commands: braiins, denied: open},
	}
}

// DefaultMix is the share of each machine in a fleet that names none.
const DefaultMix = "antminer-s19=6,whatsminer-m50=4,antminer-s9=3,avalon-1246=3,braiins-s19=3,antminer-s21=4,whatsminer-m30s=4,cgminer=2,avalon-1066=1,avalon-q=1,braiins-s9=1"

// MachineNames lists what a mix may name: machines and families.
func MachineNames() []string {
	seen := make(map[string]bool)
	var out []string
	for _, s := range specs() {
		for _, n := range []string{s.name, s.family} {
			if !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	sort.Strings(out)
	return out
}

// parseMix reads "name=weight,…", where a name is a machine or a family, whose machines then share the weight.
func parseMix(mix string, all []*spec) ([]*spec, []float64, error) {
	weight := make(map[*spec]float64)
	for _, part := range strings.Split(mix, ",") {
		name, num, ok := strings.Cut(strings.TrimSpace(part), "=")
		w := 1.0
		if ok {
			var err error
			if w, err = strconv.ParseFloat(num, 64); err != nil || !(w >= 0 && w <= 1e6) {
				return nil, nil, fmt.Errorf("mix %q: weight %q is not a number from 0 to 1000000", mix, num)
			}
		}
		var hit []*spec
		for _, s := range all {
			if s.name == name {
				hit = []*spec{s}
				break
			}
			if s.family == name {
				hit = append(hit, s)
			}
		}
		if len(hit) == 0 {
			return nil, nil, fmt.Errorf("mix %q: %q is none of %s", mix, name, strings.Join(MachineNames(), ", "))
		}
		for _, s := range hit {
			weight[s] += w / float64(len(hit))
		}
	}
	var kinds []*spec
	var weights []float64
	for _, s := range all {
		if weight[s] > 0 {
			kinds, weights = append(kinds, s), append(weights, weight[s])
		}
	}
	if len(kinds) == 0 {
		return nil, nil, fmt.Errorf("mix %q: every weight is zero", mix)
	}
	return kinds, weights, nil
}

// deal hands out n machines by weight, so evenly spread that every beginning of the list has the mix of the whole.
func deal(n int, kinds []*spec, weights []float64) []*spec {
	var total float64
	for _, w := range weights {
		total += w
	}
	credit := make([]float64, len(kinds))
	out := make([]*spec, n)
	for i := range out {
		best := 0
		for k := range kinds {
			credit[k] += weights[k]
			if credit[k] > credit[best] {
				best = k
			}
		}
		credit[best] -= total
		out[i] = kinds[best]
	}
	return out
}
