package binding

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi/abigen"

	"github.com/hashinsight/hashinsight/pkg/proof"
)

var update = flag.Bool("update", false, "write the binding, and what verifiers compare with, again")

const (
	bindingFile   = "anchorlog.go"
	constantsFile = "../../../../pkg/proof/chain.go"
)

// out reads a file that the contract's build wrote.
func out(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "contracts", "out", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestBindingIsWhatTheContractGives(t *testing.T) {
	abi, creation := out(t, "AnchorLog.abi.json"), out(t, "AnchorLog.bin")
	want, err := abigen.BindV2([]string{"AnchorLog"}, []string{abi}, []string{creation}, "binding", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, bindingFile, []byte(want))

	runtime, err := hex.DecodeString(out(t, "AnchorLog.runtime.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(creation, hex.EncodeToString(runtime)) {
		t.Error("the creation code does not hold the runtime code as it is: deployed contracts would have other code than verifiers expect")
	}
	log := NewAnchorLog().abi.Events["HeadAnchored"]
	same(t, constantsFile, []byte(constants(sha256.Sum256(runtime), log.ID)))
}

func TestVerifiersExpectThisContract(t *testing.T) {
	runtime, err := hex.DecodeString(out(t, "AnchorLog.runtime.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if proof.AnchorLogCode != sha256.Sum256(runtime) {
		t.Errorf("proof.AnchorLogCode is %x: run go generate ./internal/anchor/binding", proof.AnchorLogCode)
	}
	if event := NewAnchorLog().abi.Events["HeadAnchored"]; proof.HeadAnchoredTopic != event.ID || event.Sig != proof.HeadAnchoredSignature {
		t.Errorf("proof.HeadAnchoredTopic is %x: run go generate ./internal/anchor/binding", proof.HeadAnchoredTopic)
	}
}

// same compares a committed file with what it should be, or writes it.
func same(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what hub/contracts/out gives (%v): run go generate ./internal/anchor/binding", path, err)
	}
}

// constants is the file of package proof that says what contract a verifier expects.
func constants(code, topic [32]byte) string {
	var b strings.Builder
	b.WriteString(`// Code generated from hub/contracts by the hub's package anchor/binding; DO NOT EDIT.

package proof

// HeadAnchoredSignature is the event of the contract AnchorLog, whose fields are: seq (indexed), hour, root of the anchor before, root, size.
const HeadAnchoredSignature = "HeadAnchored(uint64,uint64,bytes32,bytes32,uint64)"

`)
	array := func(name, doc string, v [32]byte) {
		fmt.Fprintf(&b, "// %s %s\nvar %s = [32]byte{\n", name, doc, name)
		for i := 0; i < len(v); i += 8 {
			row := make([]string, 8)
			for j := range row {
				row[j] = fmt.Sprintf("0x%02x", v[i+j])
			}
			fmt.Fprintf(&b, "\t%s,\n", strings.Join(row, ", "))
		}
		b.WriteString("}\n")
	}
	array("HeadAnchoredTopic", "is the first topic of that event: Keccak-256 of its signature.", topic)
	b.WriteString("\n")
	array("AnchorLogCode", "is the SHA-256 of the contract's runtime code, as eth_getCode returns it. It has no immutables: every deployment has these bytes.", code)
	return b.String()
}
