package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const root = "github.com/hashinsight/hashinsight"

// Heavy or one-sided dependencies, by import path prefix, and who may not have them: design.md, section 2.
var forbidden = []struct {
	module  string // directory
	imports []string
	why     string
}{
	{"proto", []string{root + "/pkg", root + "/agent", root + "/hub"}, "the protocol knows no program"},
	{"pkg", []string{root + "/agent", root + "/hub", "github.com/ethereum/", "github.com/jackc/pgx", "go.etcd.io/bbolt", "gocloud.dev", "github.com/aws/"},
		"pkg is what both sides and an outsider need"},
	{"agent", []string{root + "/hub", "github.com/ethereum/", "github.com/jackc/pgx", "gocloud.dev", "github.com/aws/"},
		"the agent has neither chain, nor database server, nor cloud"},
	{"hub", []string{root + "/agent", "github.com/kardianos/service", "go.etcd.io/bbolt"}, "the hub is no site"},
}

func TestModulesImportOnlyWhatTheyMay(t *testing.T) {
	for _, f := range forbidden {
		t.Run(f.module, func(t *testing.T) {
			for _, dep := range goList(t, "../../"+f.module, "-deps", "./...") {
				for _, bad := range f.imports {
					if strings.HasPrefix(dep, bad) {
						t.Errorf("%s imports %s: %s", f.module, dep, f.why)
					}
				}
			}
		})
	}
}

// Imports point one way: cmd → composition root → subjects → pkg. A subject may import the subjects listed for it and no
// other; a change of this table is a change of the design.
var arrows = map[string]map[string]string{
	"agent": {
		"internal/config": "", "internal/cgminer": "", "internal/asic": "cgminer", "internal/inventory": "",
		"internal/keys": "", "internal/enrol": "keys tunnel", "internal/spool": "", "internal/tunnel": "", "internal/uplink": "spool tunnel",
		"internal/poll": "asic cgminer inventory spool", "internal/facts": "inventory spool", "internal/faults": "",
	},
	"hub": {
		// config reads the form of an address with archive/place, verify that of an export with statement/export: both import nothing.
		"internal/apperr": "", "internal/config": "archive", "internal/pg": "", "internal/webui": "", "internal/webtls": "",
		"internal/sla": "", "internal/verify": "sla statement", "internal/batches": "archive", "internal/audit": "pg", "internal/access": "apperr pg audit", "internal/jobs": "pg", "internal/archive": "pg", "internal/fleet": "apperr pg", "internal/series": "apperr pg",
		"internal/pki": "apperr pg audit fleet", "internal/facts": "apperr archive audit pg pki",
		"internal/ingest":    "apperr facts pg fleet series",
		"internal/anchor":    "apperr audit pg proof",
		"internal/peers":     "apperr pg audit fleet pki",
		"internal/enrol":     "apperr audit facts fleet peers pg pki",
		"internal/customer":  "access apperr audit pg sla",
		"internal/statement": "apperr archive audit customer facts pg sla",
		"internal/proof":     "apperr facts pg sla statement",
		"internal/api":       "apperr pg audit access enrol customer facts fleet peers pki series sla statement webui webtls",
	},
}

func TestSubjectsImportOnlyWhatTheTableSays(t *testing.T) {
	for module, table := range arrows {
		prefix := root + "/" + module + "/internal/"
		for _, line := range goList(t, "../../"+module, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./internal/...") {
			fields := strings.Fields(line)
			name := strings.TrimPrefix(fields[0], prefix)
			subject, _, _ := strings.Cut(name, "/")
			allowed, known := table["internal/"+subject]
			if !known {
				t.Errorf("%s/internal/%s is not in the table of arrows: add it with what it may import", module, subject)
				continue
			}
			for _, dep := range fields[1:] {
				other, ours := strings.CutPrefix(dep, prefix)
				other, _, _ = strings.Cut(other, "/")
				if ours && other != subject && !strings.Contains(" "+allowed+" ", " "+other+" ") {
					t.Errorf("%s/internal/%s imports %s, the table allows it %q", module, subject, other, allowed)
				}
			}
		}
	}
}

// What an outsider checks proofs with is the standard library and what stands here: a dependency would be one more party to trust.
var standalone = []struct {
	module, pkg string
	ours        string // packages of this repository that it may have, under its path
	others      string // modules of others
}{
	{"pkg", "./ident", "pkg/ident", ""},
	{"pkg", "./evidence", "pkg/evidence pkg/ident pkg/telemetry pkg/unit", ""},
	{"pkg", "./proof", "pkg/proof pkg/evidence pkg/ident pkg/telemetry pkg/unit", ""},
	{"hub", "./internal/sla", "hub/internal/sla pkg/evidence pkg/ident pkg/telemetry pkg/unit", ""},
	// Evidence is compressed protobuf. Of protobuf's runtime only the encoding of numbers is there: reflection would be most of the program.
	{
		"hub", "./cmd/hashinsight-verify",
		"hub/cmd/hashinsight-verify hub/internal/verify hub/internal/batches hub/internal/archive/export hub/internal/statement/export hub/internal/sla pkg/wire pkg/proof pkg/evidence pkg/ident pkg/telemetry pkg/unit",
		"github.com/klauspost/compress google.golang.org/protobuf/encoding/protowire google.golang.org/protobuf/internal/errors google.golang.org/protobuf/internal/detrand",
	},
	{"hub", "./internal/verify", "hub/internal/verify hub/internal/statement/export hub/internal/sla pkg/proof pkg/evidence pkg/ident pkg/telemetry pkg/unit", ""},
}

func TestCheckingAProofNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, s := range standalone {
		for _, dep := range goList(t, "../../"+s.module, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", s.pkg) {
			if dep == "" { // the standard library's
				continue
			}
			name, ours := strings.CutPrefix(dep, root+"/")
			if ours && strings.Contains(" "+s.ours+" ", " "+name+" ") || slices.ContainsFunc(strings.Fields(s.others), func(m string) bool { return dep == m || strings.HasPrefix(dep, m+"/") }) {
				continue
			}
			t.Errorf("%s/%s has %s among its dependencies, the table allows the standard library, %q and %q", s.module, s.pkg, dep, s.ours, s.others)
		}
	}
}

// The chain's library is large and has one door: package anchor with its binding.
func TestOnlyAnchorKnowsTheChainsLibrary(t *testing.T) {
	anchor := root + "/hub/internal/anchor"
	for _, line := range goList(t, "../../hub", "-f", `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "./...") {
		fields := strings.Fields(line)
		ours := fields[0] == anchor || strings.HasPrefix(fields[0], anchor+"/")
		for _, dep := range fields[1:] {
			switch {
			case !ours && strings.HasPrefix(dep, "github.com/ethereum/"):
				t.Errorf("%s imports %s: only package anchor may", fields[0], dep)
			case strings.HasPrefix(dep, "github.com/ethereum/go-ethereum/ethclient/simulated"):
				t.Errorf("%s imports %s: it is a whole node, and follows forks to come: tests have anvil", fields[0], dep)
			}
		}
	}
}

// Dependencies that one subject alone may have, with its own folders: what they bring stays behind that subject.
var alone = []struct{ imports, subject, why string }{
	{"github.com/ethereum/", "internal/anchor", "the hub knows chains by package anchor"},
	{"github.com/transparency-dev/tessera", "internal/proof", "the hub knows its log by package proof"},
}

func TestOneSubjectAloneImportsWhatIsHeavy(t *testing.T) {
	for _, line := range goList(t, "../../hub", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		for _, a := range alone {
			home := root + "/hub/" + a.subject
			if fields[0] == home || strings.HasPrefix(fields[0], home+"/") {
				continue
			}
			for _, dep := range fields[1:] {
				if strings.HasPrefix(dep, a.imports) {
					t.Errorf("%s imports %s: %s", fields[0], dep, a.why)
				}
			}
		}
	}
}

func goList(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list in %s: %v", dir, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
