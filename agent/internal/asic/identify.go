package asic

import (
	"strings"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"github.com/hashinsight/hashinsight/pkg/unit"
)

// family is a dialect that has a driver.
type family uint8

const (
	familyGeneric family = iota
	familyAntminer
	familyWhatsminer
	familyAvalon
	familyBraiins
	familyLuxOS
	familyThirdParty
	familySealMiner
	familyWhatsminer3
)

// driver reads one family.
type driver struct {
	asks   commands    // what one poll asks, joined where the firmware allows
	more   func(*poll) // asks what depends on those answers; may be nil
	decode func(*poll) // turns the answers into the observation
}

func (id *identity) driver() driver {
	switch id.family {
	case familyAntminer:
		return driver{asks: setOf(cmdSummary, cmdStats, cmdPools), decode: decodeAntminer}
	case familyWhatsminer:
		return driver{asks: setOf(cmdSummary, cmdEdevs, cmdPools), more: askWhatsminer, decode: decodeWhatsminer}
	case familyAvalon:
		return driver{asks: setOf(cmdSummary, cmdStats, cmdPools), more: askAvalon, decode: decodeAvalon}
	case familyBraiins:
		return driver{asks: setOf(cmdSummary, cmdDevs, cmdTemps, cmdFans, cmdPools), decode: decodeBraiins}
	case familyLuxOS:
		return driver{asks: setOf(cmdSummary, cmdStats, cmdDevs, cmdTemps, cmdFans, cmdPower, cmdConfig, cmdEvents, cmdPools), more: askLuxOS, decode: decodeLuxOS}
	case familyThirdParty:
		return driver{asks: setOf(cmdSummary, cmdStats, cmdPools), decode: decodeThirdParty}
	case familyWhatsminer3:
		return driver{more: askWhatsminer3, decode: decodeWhatsminer3}
	case familySealMiner:
		return driver{asks: setOf(cmdSummary, cmdStats, cmdPools), decode: decodeSealMiner}
	}
	asks := setOf(cmdSummary, cmdStats, cmdDevs, cmdPools)
	if id.info.Firmware == fluxOS {
		asks |= cmdAsccount.set()
	}
	return driver{asks: asks, decode: decodeGeneric}
}

// fluxOS is the one firmware of the generic driver that is asked more than the others.
const fluxOS = "FluxOS"

// identity is what is known about a miner.
type identity struct {
	family family
	info   telemetry.MinerInfo
	// typeText is the "Type" that the model was last taken from.
	typeText string
	scale    labelScale // of "GHS"
	mhs      labelScale // of "MHS"
	// averageTotal: "Total MH" of this firmware is an average rate, no counter.
	averageTotal bool
	// limit is the power of the profile named profile, on LuxOS.
	profile string
	limit   unit.Opt[unit.Watts]
}

// marks are tried in this order on the lower-cased text of a reply: third-party firmware before the maker's
// own, since it also names the machine it runs on.
var marks = []struct {
	text            string
	family          family
	maker, firmware string
}{
	{"bosminer", familyBraiins, "", "Braiins OS"},
	{"boser", familyBraiins, "", "Braiins OS"},
	{"luxminer", familyLuxOS, "Bitmain", "LuxOS"},
	{"vnish", familyThirdParty, "Bitmain", "VNish"},
	{"hiveon", familyThirdParty, "Bitmain", "Hiveon"},
	{"rwglr", familyThirdParty, "Bitmain", "MSKMiner"},
	{"marafw", familyGeneric, "", "Marathon"},
	{"kaonsu", familyGeneric, "", "Marathon"},
	{"whatsminer", familyWhatsminer, "MicroBT", "stock"},
	{"btminer", familyWhatsminer, "MicroBT", "stock"},
	{"bitmicro", familyWhatsminer, "MicroBT", "stock"},
	{"avalon", familyAvalon, "Canaan", "stock"},
	{"gcminer", familyGeneric, "Auradine", fluxOS},
	{"fluxos", familyGeneric, "Auradine", fluxOS},
	{"bdminer", familySealMiner, "Bitdeer", "stock"},
	{"innominer", familyGeneric, "Innosilicon", "stock"},
	{"kdaminer", familyGeneric, "Goldshell", "stock"},
	{"intchains_qomo", familyGeneric, "Goldshell", "stock"},
	{"bfgminer", familyGeneric, "", "bfgminer"},
	{"antminer", familyAntminer, "Bitmain", "stock"},
}

// identify asks the miner who it is. What it cannot tell is left to the generic driver and to sniff.
func (p *poll) identify() {
	r := p.r
	old, boards, fans := r.id, r.boards, r.fans
	defer func() {
		switch info := &r.id.info; {
		case p.over:
			r.id, r.boards, r.fans = old, boards, fans // nothing was learnt
		case r.id.family == old.family && info.Firmware == old.info.Firmware:
			// The same machine as before: what it does not say today it said earlier, and a board or fan that
			// a restart did not bring back is missing.
			r.boards, r.fans = boards, fans
			keepOld(&info.MAC, old.info.MAC)
			keepOld(&info.Serial, old.info.Serial)
			keepOld(&info.Model, old.info.Model)
			keepOld(&info.FirmwareVersion, old.info.FirmwareVersion)
			keepOld(&info.ControlBoard, old.info.ControlBoard)
			keepOld(&info.APIVersion, old.info.APIVersion)
		}
	}()
	address := old.info.Address
	r.id = identity{info: telemetry.MinerInfo{Address: address, Firmware: "unknown"},
		scale: labelScale(unit.GigahashPerSecond), mhs: labelScale(unit.MegahashPerSecond)}
	r.joined, r.denied, r.boards, r.fans = joinedUntried, 0, 0, 0

	reply := p.question(cmdVersion)
	if p.over {
		p.identifyAsleep()
		p.identifyWhatsminer3()
		return
	}
	found := reply != nil && r.id.match(reply)
	if reply != nil {
		p.describe(reply.Part("version").Record("VERSION"))
	}
	if found && r.id.family != familyWhatsminer && r.id.family != familyBraiins {
		return
	}
	if details := p.question(cmdDevdetails); details != nil && !p.over {
		if !found {
			r.id.match(details)
		}
		// cgminer-era Whatsminer firmware gives nothing away but the name of its driver.
		record := details.Part("devdetails").Record("DEVDETAILS")
		if !found && r.id.family == familyGeneric && record.Get("Name").Text() == "SM" {
			r.id.be(familyWhatsminer, "MicroBT", "stock")
		}
		set(&r.id.info.Model, record.Get("Model").Text())
	}
	p.describeWhatsminer()
	if r.id.family == familyBraiins {
		if model := r.id.info.Model; strings.Contains(model, "Antminer") {
			r.id.info.Maker = "Bitmain"
		}
	}
}

// describeWhatsminer asks for the versions, which only Whatsminer tells in this way.
func (p *poll) describeWhatsminer() {
	if p.r.id.family != familyWhatsminer || p.over {
		return
	}
	if v := p.question(cmdGetVersion); v != nil {
		msg := v.Root().Get("Msg")
		set(&p.r.id.info.FirmwareVersion, trimQuotes(msg.Get("fw_ver").Text()))
		set(&p.r.id.info.APIVersion, strings.TrimLeft(strings.TrimPrefix(msg.Get("api_ver").Text(), "whatsminer"), " v"))
	}
}

// identifyAsleep recognises a Whatsminer that was asleep when it was first met: it drops everything but
// "status".
func (p *poll) identifyAsleep() {
	if !p.mayBeAsleep() {
		return
	}
	p.over = false
	if reply := p.question(cmdStatus); reply != nil && reply.Root().Get("Msg").Get("btmineroff").Exists() {
		p.r.id.be(familyWhatsminer, "MicroBT", "stock")
		return
	}
	p.over = true
}

func keepOld(field *string, old string) {
	if *field == "" {
		*field = old
	}
}

// question sends a command of identification. What a miner cannot answer is no fault of the poll, unless
// the miner cannot be reached at all.
func (p *poll) question(c command) *cgminer.Reply {
	failed := p.failed
	n := len(p.replies)
	p.askOne(c)
	p.answered &^= c.set()
	if p.over {
		return nil
	}
	p.failed = failed
	if len(p.replies) == n {
		return nil
	}
	return p.replies[n]
}

func (id *identity) be(f family, maker, firmware string) {
	id.family, id.info.Firmware = f, firmware
	if maker != "" {
		id.info.Maker = maker
	}
	id.averageTotal = f == familyLuxOS
}

// match finds the firmware named in a reply.
func (id *identity) match(reply *cgminer.Reply) bool {
	text := reply.Lower()
	for _, m := range marks {
		if strings.Contains(text, m.text) {
			id.be(m.family, m.maker, m.firmware)
			return true
		}
	}
	return false
}

// describe takes model and version out of the VERSION record.
func (p *poll) describe(v cgminer.Value) {
	id := &p.r.id
	id.typed(v.Get("Type").Text())
	switch id.info.Firmware {
	case "Braiins OS":
		set(&id.info.FirmwareVersion, first(v, "BOSminer+", "BOSminer", "BOSer"))
	case "LuxOS":
		set(&id.info.FirmwareVersion, first(v, "Miner", "LUXminer"))
	case fluxOS:
		set(&id.info.FirmwareVersion, v.Get("GCMiner").Text())
	}
	if id.family == familyAvalon {
		set(&id.info.Model, first(v, "PROD", "MODEL"))
		set(&id.info.FirmwareVersion, first(v, "LVERSION", "CGVERSION", "VERSION"))
		set(&id.info.Serial, v.Get("DNA").Text())
	}
	built := v.Get("CompileTime").Text()
	if id.info.FirmwareVersion == "" {
		set(&id.info.FirmwareVersion, built)
	}
	set(&id.info.FirmwareBuilt, built)
	set(&id.info.APIVersion, v.Get("API").Text())
	setMAC(&id.info.MAC, v.Get("MAC").Text())
}

func first(v cgminer.Value, keys ...string) string {
	for _, k := range keys {
		if t := v.Get(k).Text(); t != "" {
			return t
		}
	}
	return ""
}

// typed takes the "Type" of a reply when it is another one than before.
func (id *identity) typed(t string) {
	if t != "" && t != id.typeText {
		id.typeText = strings.Clone(cut(t))
		id.describeType(id.typeText)
	}
}

// describeType takes an Antminer-like "Type", which may carry a firmware version behind a newline or in
// parentheses.
func (id *identity) describeType(t string) {
	model, version, _ := strings.Cut(t, "\n")
	if m, v, ok := strings.Cut(model, "("); ok {
		model, version = m, strings.TrimSuffix(strings.TrimSpace(v), ")")
	}
	model = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(model), "Hiveon"))
	set(&id.info.Model, model)
	if version != "" {
		set(&id.info.FirmwareVersion, version)
	}
	if id.info.Maker == "" && strings.Contains(strings.ToLower(t), "antminer") {
		id.info.Maker = "Bitmain"
	}
	id.scale = scaleOfModel(model)
}

// sniff identifies by the replies of a poll what answered nothing to "version" or "devdetails".
func (p *poll) sniff() {
	id := &p.r.id
	if id.info.Firmware != "unknown" {
		return // a firmware that the generic driver is for
	}
	for _, record := range records(p.parts[cmdStats].Section("STATS")) {
		name := record.Get("ID").Text()
		switch {
		case strings.HasPrefix(name, "AV") && hasModule(record):
			id.be(familyAvalon, "Canaan", "stock")
			return
		case len(name) > 2 && name[:2] == "SM" && record.Get("chip_num").Exists():
			id.be(familyWhatsminer, "MicroBT", "stock")
			return
		case record.Get("json-stats").Exists():
			id.be(familyGeneric, "Spondoolies", "stock")
			return
		case strings.Contains(strings.ToLower(record.Get("Type").Text()), "antminer"):
			id.be(familyAntminer, "Bitmain", "stock")
			return
		}
	}
	for _, c := range []command{cmdDevs, cmdEdevs} {
		switch p.parts[c].Record("DEVS").Get("Name").Text() {
		case "SM":
			id.be(familyWhatsminer, "MicroBT", "stock")
			return
		case "u6":
			id.be(familyGeneric, "StrongU", "stock")
			set(&id.info.Model, "STU-U6")
			return
		}
	}
	s := p.parts[cmdSummary].Record("SUMMARY")
	if s.Get("Factory GHS").Exists() || s.Get("Fan Speed In").Exists() && s.Get("Power Fanspeed").Exists() {
		id.be(familyWhatsminer, "MicroBT", "stock")
		return
	}
	// The program's name at the start of a Description; the operator can put other words there, so that
	// it counts only when nothing else told.
	for _, c := range []command{cmdSummary, cmdStats, cmdPools} {
		text := strings.ToLower(p.parts[c].Status().Description)
		for _, m := range marks {
			if strings.HasPrefix(text, m.text) {
				id.be(m.family, m.maker, m.firmware)
				if strings.HasPrefix(text, "innominer a9") {
					id.mhs = 1 // Equihash: its "MHS" are solutions per second
				}
				return
			}
		}
	}
}

// records returns the objects of a section.
func records(section cgminer.Value) []cgminer.Value {
	out := make([]cgminer.Value, 0, section.Len())
	for r := range section.All() {
		out = append(out, r)
	}
	return out
}

// setMAC takes a MAC address in any usual spelling; anything else is left out.
func setMAC(field *string, s string) {
	var hex [12]byte
	n := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == ':' || c == '-' || c == '.' || c == ' ':
			continue
		case c >= 'a' && c <= 'f':
			c -= 'a' - 'A'
		case c >= '0' && c <= '9', c >= 'A' && c <= 'F':
		default:
			return
		}
		if n == len(hex) {
			return
		}
		hex[n] = c
		n++
	}
	if n != len(hex) || string(hex[:]) == "000000000000" {
		return
	}
	var out [17]byte
	for i := range 6 {
		out[3*i], out[3*i+1] = hex[2*i], hex[2*i+1]
		if i < 5 {
			out[3*i+2] = ':'
		}
	}
	if *field != string(out[:]) {
		*field = string(out[:])
	}
}

func trimQuotes(s string) string { return strings.Trim(s, "' ") }
