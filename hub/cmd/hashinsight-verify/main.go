// Command hashinsight-verify checks proof files without trusting the hub that made them, or this repository's hub at all: it reads a file, asks a chain where it is told
// to, and says what is proven, what is false, and what nobody can prove. main reads arguments and prints; packages proof, verify and sla do the work. Its steps and exit codes are an
// interface: README.md beside this file.
package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashinsight/hashinsight/hub/internal/verify"
	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/proof"
)

// version is set by the linker for releases; it leaves no other way than a package variable.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	defer stop()
	code := proof.Unchecked
	defer func() {
		if p := recover(); p != nil { // a bug of this program must not look like a verdict: Go's own exit code would be 2
			fmt.Fprintf(os.Stderr, "hashinsight-verify: a bug of this program, nothing was checked: %.1000q\n%s", fmt.Sprint(p), debug.Stack())
			code = proof.Unchecked
		}
		os.Exit(int(code))
	}()
	code = run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

const usage = `hashinsight-verify checks proof files of HashInsight; the hub that made them is neither asked nor believed.

  hashinsight-verify proof FILE [options]      check a proof file: a miner-hour, a statement, a bundle or a log entry
  hashinsight-verify bundle FILE [options]     the same; for a month's bundle
  hashinsight-verify recompute FILE [options]  compute a bundle's statement again from its facts, without asking a chain
  hashinsight-verify recompute DIR [options]   the same with the directory that hashinsight-hub statement export wrote
  hashinsight-verify version
  hashinsight-verify help

FILE is the file's name, or - for standard input. Options:
  --contract 0x…   address of the log's contract, from your own contract with the host: what the file itself says is not evidence
  --rpc URL        JSON-RPC endpoint of the chain, of your own choice; give two of different operators, and they have to agree
  --chain-id N     id of the chain the contract is on, from your own contract too
  --log-key KEY    the log's public key, if you were given one: 64 hexadecimal digits, or base64
  --hub-key KEY    the hub's public key for statements, likewise
  --site-key SITE=KEY
                   a site's public key, likewise, with the site's id; repeat it for every site and key. KEY alone is taken for
                   any site that no other --site-key names
  --evidence DIR   of recompute: files that hashinsight-hub evidence export wrote, of every hour of the month, the two hours
                   before it and the one after; the facts are then computed from the signed batches themselves. In the
                   directory of statement export --batches they are found
  -o text|json     form of the output

Exit codes: 0 proven, 1 false, 2 not yet final, 3 could not check (mistakes in the command among them).
`

// options are those of all commands.
type options struct {
	rpc      []string
	contract *[20]byte
	chainID  uint64
	logKey   ed25519.PublicKey
	hubKey   ed25519.PublicKey
	siteKeys []proof.SiteKey
	evidence string
	json     bool
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) proof.Verdict {
	mistake := func(err error) proof.Verdict {
		fmt.Fprintln(stderr, "hashinsight-verify:", safe(err.Error()))
		fmt.Fprintln(stderr, "hashinsight-verify help tells how it is used.")
		return proof.Unchecked
	}
	if len(args) == 0 {
		return mistake(errors.New("no command"))
	}
	command := args[0]
	switch command {
	case "help", "-h", "-help", "--help":
		_, _ = io.WriteString(stdout, usage)
		return proof.Proven
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, "hashinsight-verify", versionName())
		return proof.Proven
	case "proof", "bundle", "recompute":
	default:
		return mistake(fmt.Errorf("%q is no command", command))
	}
	o, files, err := parse(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return proof.Proven
	case err != nil:
		return mistake(err)
	case o.evidence != "" && command != "recompute":
		return mistake(fmt.Errorf("--evidence is an option of recompute, not of %s", command))
	case len(files) != 1:
		return mistake(fmt.Errorf("%s needs the name of one file, or - for standard input; given were %d", command, len(files)))
	}
	chain, err := verify.New(verify.Config{URLs: o.rpc, ChainID: o.chainID})
	if err != nil {
		return mistake(err)
	}
	in := stdin
	directory := false
	if files[0] != "-" {
		f, err := os.Open(files[0])
		if err != nil {
			return mistake(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return mistake(err)
		}
		in, directory = f, info.IsDir()
	}
	var r report
	switch {
	case directory && command == "recompute":
		r, err = recomputeExport(ctx, files[0], o, chain)
	case directory:
		err = fmt.Errorf("%s is a directory: %s checks a proof file, recompute takes what hashinsight-hub statement export wrote", files[0], command)
	case command == "recompute":
		r, err = recompute(ctx, in, o, chain)
	default:
		r = newReport(check(ctx, in, o, chain, verify.NewSLA()))
	}
	if err != nil {
		return mistake(err)
	}
	if err := r.write(stdout, o.json); err != nil {
		fmt.Fprintln(stderr, "hashinsight-verify: writing the result:", err)
		return proof.Unchecked
	}
	return r.Verdict
}

// check checks a file of any kind.
func check(ctx context.Context, in io.Reader, o *options, chain *verify.Endpoints, sla proof.SLA) *proof.Report {
	r := proof.Check(ctx, in, o.trust(chain), sla)
	if r.Event != nil && chain.Len() == 1 {
		note(&r, "note-endpoints", "one endpoint was believed: give a second --rpc of another operator, and they have to agree")
	}
	if r.Event != nil && o.chainID == 0 {
		note(&r, "note-chain-id", "that the contract is on chain %d says the file: compare it with your own contract, or give --chain-id", r.Anchor.ChainID)
	}
	return &r
}

func note(r *proof.Report, id, format string, args ...any) {
	r.Steps = append(r.Steps, proof.Step{ID: id, State: proof.Note, Text: fmt.Sprintf(format, args...)})
}

func (o *options) trust(chain *verify.Endpoints) proof.Trust {
	t := proof.Trust{Contract: o.contract, LogKey: o.logKey, HubKey: o.hubKey, SiteKeys: o.siteKeys}
	if chain.Len() > 0 {
		t.Chain = chain
	}
	return t
}

// parse reads options wherever they stand among the files.
func parse(args []string) (*options, []string, error) {
	o := &options{}
	f := flag.NewFlagSet("hashinsight-verify", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("rpc", "", func(s string) error { o.rpc = append(o.rpc, s); return nil })
	f.Func("contract", "", func(s string) error {
		b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
		if err != nil || len(b) != 20 || !strings.HasPrefix(s, "0x") {
			return errors.New("want 0x and 40 hexadecimal digits")
		}
		o.contract = (*[20]byte)(b)
		return nil
	})
	f.Func("chain-id", "", func(s string) (err error) {
		if o.chainID, err = strconv.ParseUint(s, 10, 64); err != nil || o.chainID == 0 {
			return errors.New("want the chain's number, such as 8453")
		}
		return nil
	})
	f.Func("log-key", "", func(s string) (err error) { o.logKey, err = parseKey(s); return err })
	f.Func("hub-key", "", func(s string) (err error) { o.hubKey, err = parseKey(s); return err })
	f.Func("site-key", "", func(s string) error {
		k, err := parseSiteKey(s)
		o.siteKeys = append(o.siteKeys, k)
		return err
	})
	f.StringVar(&o.evidence, "evidence", "", "")
	f.Func("o", "", func(s string) error {
		if s != "text" && s != "json" {
			return errors.New("want text or json")
		}
		o.json = s == "json"
		return nil
	})
	var files []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, nil, err
		}
		rest := f.Args()
		if len(rest) == 0 {
			return o, files, nil
		}
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			return o, append(files, rest...), nil
		}
		files, args = append(files, rest[0]), rest[1:]
	}
}

func parseKey(s string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		b, err = base64.StdEncoding.DecodeString(s)
	}
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("want a public key of 64 hexadecimal digits, or in base64")
	}
	return b, nil
}

// parseSiteKey reads SITE=KEY, or a key of no site in particular. Base64 of 32 bytes has its only = at the end, and a site's id is shorter than a key.
func parseSiteKey(s string) (k proof.SiteKey, err error) {
	site, key, bound := strings.Cut(s, "=")
	if !bound || key == "" {
		k.Key, err = parseKey(s)
		return k, err
	}
	if k.Site, err = ident.ParseSiteID(site); err != nil {
		return k, fmt.Errorf("want SITE=KEY: %w", err)
	}
	if k.Site == (ident.SiteID{}) {
		return k, errors.New("want SITE=KEY with the id of a site")
	}
	k.Key, err = parseKey(key)
	return k, err
}

func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
