package cgminer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkParse compares one pass over a reply with encoding/json doing the same.
func BenchmarkParse(b *testing.B) {
	text, err := os.ReadFile(filepath.Join("testdata", "joined.txt"))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		var d Doc
		for b.Loop() {
			if err := d.Parse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
