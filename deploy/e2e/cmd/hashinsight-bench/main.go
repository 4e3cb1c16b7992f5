// Command hashinsight-bench prints the results that `make bench` collected as the Markdown table of deploy/BENCHMARKS.md.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/hashinsight/hashinsight/pkg/bench"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: hashinsight-bench RESULTS.json")
		os.Exit(2)
	}
	results, err := bench.Load(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v (run make bench first)\n", err)
		os.Exit(1)
	}
	fmt.Printf("# Benchmarks\n\nWritten by `make bench` on %s: %d cores, %s/%s, %s. Ratios are of one run; the samples behind them are in `.run/bench.json`.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Println("| id | what | value | floor or peer | ratio | target | |")
	fmt.Println("|---|---|---|---|---|---|---|")
	cell := strings.NewReplacer("|", "/", "\n", " ")
	for _, r := range results {
		mark := "**missed**"
		if r.Met {
			mark = "met"
		}
		fmt.Printf("| %s | %s | %.4g %s | %.4g | %.3g | %s | %s |\n", r.ID, cell.Replace(r.What), r.Value, r.Unit, r.Floor, r.Ratio, cell.Replace(r.Target), mark)
	}
}
