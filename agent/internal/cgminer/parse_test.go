package cgminer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/hashinsight/hashinsight/pkg/telemetry"
	"pgregory.net/rapid"
)

// tree turns a value into what encoding/json makes of the same text with UseNumber.
func tree(v Value) any {
	switch v.Kind() {
	case Null:
		return nil
	case Bool:
		return v.Text() == "true"
	case Number:
		return json.Number(strings.Clone(v.Text()))
	case String:
		return strings.Clone(v.Text())
	case Array:
		out := []any{}
		for e := range v.All() {
			out = append(out, tree(e))
		}
		return out
	case Object:
		out := map[string]any{}
		for m := range v.All() {
			out[strings.Clone(m.Key())] = tree(m)
		}
		return out
	}
	return "missing"
}

func oracle(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// silentRepairs are repairs that encoding/json makes too, without saying so.
const silentRepairs = telemetry.RepairInvalidUTF8 | telemetry.RepairDuplicateKey

// checkAgainstOracle holds for every input: what is valid JSON (and within the bounds) gives the same tree as
// encoding/json and needs no repair; what is not valid is refused or repaired, never silently accepted.
func checkAgainstOracle(t testing.TB, b []byte) {
	t.Helper()
	var d Doc
	err := d.Parse(b)
	if bytes.IndexByte(b, 0) >= 0 || isText(bytes.TrimLeft(b, " \t\r\n")) {
		return // framing and the text form are not JSON's
	}
	if json.Valid(b) {
		if err != nil {
			if strings.Contains(err.Error(), "nested too deeply") || strings.Contains(err.Error(), "more values") {
				return
			}
			t.Fatalf("valid JSON refused: %v\n%q", err, b)
		}
		if r := d.Repairs() &^ silentRepairs; r != 0 {
			t.Fatalf("valid JSON repaired: %v\n%q", r.Names(), b)
		}
		want, oerr := oracle(b)
		if oerr != nil {
			t.Fatalf("oracle: %v", oerr)
		}
		if got := tree(d.Root()); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %#v\nwant %#v\nfrom %q", got, want, b)
		}
		return
	}
	if err == nil && d.Repairs()&^silentRepairs == 0 {
		t.Fatalf("invalid JSON accepted without a repair: %q", b)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkAgainstOracle(t, b)
		var d Doc
		if d.Parse(b) != nil {
			return
		}
		walk(d.Root())
		again := tree(d.Root())
		if err := d.Parse(b); err != nil || !reflect.DeepEqual(tree(d.Root()), again) {
			t.Fatalf("a second parse with the same Doc differs (%v): %q", err, b)
		}
	})
}

// walk calls every accessor on every value.
func walk(v Value) {
	v.Float()
	v.Int()
	v.Bool()
	for m := range v.All() {
		if v.Kind() == Object {
			v.Get(m.Key())
		}
		walk(m)
	}
}

func TestRepairs(t *testing.T) {
	tests := []struct {
		name, in, want string // want: the JSON that the mended document stands for
		repair         telemetry.Repairs
	}{
		{"two documents with a NUL between", "{\"a\":1}\x00},\"id\":1}\x00", `{"a":1}`, telemetry.RepairSecondDocument},
		{"a second document without NUL", `{"a":1}"}`, `{"a":1}`, telemetry.RepairSecondDocument},
		{"a NUL at the end is framing", "{\"a\":1}\x00", `{"a":1}`, 0},
		{"a newline and a NUL at the end are framing", "{\"a\":1}\n\x00\n", `{"a":1}`, 0},
		{"missing comma between records", `{"S":[{"T":"x"}{"N":0}]}`, `{"S":[{"T":"x"},{"N":0}]}`, telemetry.RepairMissingComma},
		{"missing comma before a name", `{"v":"""temp0":5}`, `{"v":"","temp0":5}`, telemetry.RepairMissingComma},
		{"missing comma after a number", `{"v":5"w":6}`, `{"v":5,"w":6}`, telemetry.RepairMissingComma},
		{"bare nan", `{"MHS av":nan,"b":-nan,"c":inf,"d":-Inf}`, `{"MHS av":null,"b":null,"c":null,"d":null}`, telemetry.RepairNotANumber},
		{"escape unknown to JSON", `{"v":"\'20200917\'"}`, `{"v":"'20200917'"}`, telemetry.RepairBadEscape},
		{"escape with too few digits", `{"v":"\u12g4"}`, `{"v":"u12g4"}`, telemetry.RepairBadEscape},
		{"raw newline in a string", "{\"v\":\"Antminer S9\nV1.3\"}", `{"v":"Antminer S9\nV1.3"}`, telemetry.RepairControlChar},
		{"comma before the end", `{"a":1,}`, `{"a":1}`, telemetry.RepairExtraComma},
		{"comma at the start of a list", `{"a":[,{"b":1},]}`, `{"a":[{"b":1}]}`, telemetry.RepairExtraComma},
		{"two commas", `{"a":1,,"b":2}`, `{"a":1,"b":2}`, telemetry.RepairExtraComma},
		{"list written like a map", `{"error_code":["110":"fan","600":"hot"]}`, `{"error_code":[{"110":"fan"},{"600":"hot"}]}`, telemetry.RepairListAsMap},
		{"reply begins with a comma", `,"id":1}`, `{"id":1}`, telemetry.RepairMissingBrace},
		{"bytes that are not UTF-8", "{\"v\":\"a\xffb\"}", `{"v":"a\ufffdb"}`, telemetry.RepairInvalidUTF8},
		{"the same name twice", `{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`, telemetry.RepairDuplicateKey},
		{"names that differ in case are two", `{"CGMiner":"1","Cgminer":"2"}`, `{"CGMiner":"1","Cgminer":"2"}`, 0},
		{"text form", `STATUS=S,When=1,Code=11,Msg=Summary|SUMMARY,Elapsed=68,User=a\,b|` + "\x00",
			`{"STATUS":[{"STATUS":"S","When":"1","Code":"11","Msg":"Summary"}],"SUMMARY":[{"Elapsed":"68","User":"a,b"}]}`, 0},
		{"text form, joined", `CMD=summary|STATUS=S,Code=11|SUMMARY,Elapsed=6|CMD=pools|STATUS=S,Code=7|POOL=0,URL=x|POOL=1,URL=y|`,
			`{"summary":[{"STATUS":[{"STATUS":"S","Code":"11"}],"SUMMARY":[{"Elapsed":"6"}]}],"pools":[{"STATUS":[{"STATUS":"S","Code":"7"}],"POOLS":[{"POOL":"0","URL":"x"},{"POOL":"1","URL":"y"}]}]}`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d Doc
			if err := d.Parse([]byte(tt.in)); err != nil {
				t.Fatal(err)
			}
			want, err := oracle([]byte(tt.want))
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(d.Root()); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if d.Repairs() != tt.repair {
				t.Errorf("repairs %v, want %v", d.Repairs().Names(), tt.repair.Names())
			}
		})
	}
}

func TestRefusedInput(t *testing.T) {
	for _, in := range []string{
		"", "\x00", "  ", "Socket connect failed: Connection refused", "HTTP/1.1 404 Not Found", `{"a":01}`, `{"a":1.}`, `{"a":+1}`,
		`{"a":.5}`, `{a:1}`, `{"a" 1}`, `{"a":[1 2]}`, `{"a":tru}`, `]`, `{]`, `[}`, `5 5`, `"x" y`, `{"a":NaNa}`,
		strings.Repeat("[", 100) + strings.Repeat("]", 100),
	} {
		var d Doc
		if err := d.Parse([]byte(in)); err == nil {
			t.Errorf("%q was accepted as %v (repairs %v)", in, tree(d.Root()), d.Repairs().Names())
		}
		if d.Root().Exists() {
			t.Errorf("%q left a value behind", in)
		}
	}
}

func TestCutOffAnywhereIsNoted(t *testing.T) {
	whole := `{"STATUS":[{"STATUS":"S","Code":11,"Msg":"x\u00e9y"}],"SUMMARY":[{"Elapsed":68,"ok":true,"n":null,"r":1.5e3}],"id":1}`
	for n := 1; n < len(whole); n++ {
		var d Doc
		if err := d.Parse([]byte(whole[:n])); !errors.Is(err, ErrCutOff) {
			t.Errorf("cut after %d bytes (%q): %v", n, whole[:n], err)
		}
	}
}

// TestRepairNeverInsideStrings puts what looks like a fault into texts that belong to users, valid replies and
// faulty ones, and wants every text back unchanged.
func TestRepairNeverInsideStrings(t *testing.T) {
	piece := rapid.SampledFrom([]string{"}{", "nan,", ",}", "[,", `""`, `\'`, `"`, `\`, ":nan", "\x01", "é", `},"id":1}`, "worker", "-inf", "\n", "<script>"})
	rapid.Check(t, func(t *rapid.T) {
		user := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "user"), "")
		quoted, err := json.Marshal(user)
		if err != nil {
			t.Fatal(err)
		}
		between := rapid.SampledFrom([]string{",", ""}).Draw(t, "comma")
		in := fmt.Sprintf(`{"POOLS":[{"User":%s,"A":1}%s{"User":%s,"MHS av":nan,}]}`, quoted, between, quoted)
		var d Doc
		if err := d.Parse([]byte(in)); err != nil {
			t.Fatal(err)
		}
		pools := d.Root().Get("POOLS")
		for i := range 2 {
			if got := pools.Index(i).Get("User").Text(); got != user {
				t.Fatalf("pool %d: user %q became %q", i, user, got)
			}
		}
		valid := fmt.Sprintf(`{"User":%s}`, quoted)
		if err := d.Parse([]byte(valid)); err != nil || d.Repairs() != 0 {
			t.Fatalf("%v, repairs %v for the valid %q", err, d.Repairs().Names(), valid)
		}
	})
}

func TestNumbers(t *testing.T) {
	tests := []struct {
		in    string // JSON
		float float64
		ok    bool
		int   int64
	}{
		{`12`, 12, true, 12},
		{`"  0.0000"`, 0, true, 0},
		{`""`, 0, false, 0},
		{`" "`, 0, false, 0},
		{`"nan"`, 0, false, 0},
		{`"-inf"`, 0, false, 0},
		{`nan`, 0, false, 0},
		{`null`, 0, false, 0},
		{`true`, 0, false, 0},
		{`"13883.81"`, 13883.81, true, 13883},
		{`-0.5`, -0.5, true, 0},
		{`18446744073709551615`, 18446744073709551615, true, math.MaxInt64},
		{`"-9999999999999999999999"`, -9999999999999999999999, true, math.MinInt64},
		{`1305083904.00000000`, 1305083904, true, 1305083904},
		{`9007199254740993`, 9007199254740992, true, 9007199254740993},
		{`1.5e3`, 1500, true, 1500},
		{`"1600M"`, 0, false, 0},
		{`"0x10"`, 0, false, 0},
		{`"1_000"`, 0, false, 0},
		{`"1.2.3"`, 0, false, 0},
		{`"."`, 0, false, 0},
		{`"-"`, 0, false, 0},
	}
	for _, tt := range tests {
		var d Doc
		if err := d.Parse([]byte(`[` + tt.in + `]`)); err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		v := d.Root().Index(0)
		if f, ok := v.Float(); f != tt.float || ok != tt.ok {
			t.Errorf("Float of %s = %v, %v", tt.in, f, ok)
		}
		if i, ok := v.Int(); i != tt.int || ok != tt.ok {
			t.Errorf("Int of %s = %v, %v", tt.in, i, ok)
		}
	}
}

func TestParseFloatAgreesWithStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`-?[0-9]{1,20}(\.[0-9]{0,25})?`).Draw(t, "number")
		want, err := strconv.ParseFloat(s, 64)
		if got, ok := ParseFloat(s); ok != (err == nil) || got != want {
			t.Fatalf("ParseFloat(%q) = %v, %v; strconv %v, %v", s, got, ok, want, err)
		}
	})
}

func TestMissingIsSafe(t *testing.T) {
	var v Value
	if v.Exists() || v.Get("x").Index(3).Get("y").Text() != "" || v.Len() != 0 || v.Key() != "" {
		t.Error("the missing value holds something")
	}
	for range v.All() {
		t.Error("the missing value has members")
	}
}

// TestManyMembers exercises the growth of the table that finds members.
func TestManyMembers(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, `,"key_%d":%d`, i, i)
	}
	text := "{" + b.String()[1:] + "}"
	var d Doc
	for range 3 {
		if err := d.Parse([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for i := range 3000 {
			if n, ok := d.Root().Get(fmt.Sprint("key_", i)).Int(); !ok || n != int64(i) {
				t.Fatalf("key_%d is %d, %v", i, n, ok)
			}
		}
		if d.Root().Get("key_3000").Exists() {
			t.Fatal("found what is not there")
		}
	}
}
