//go:build unix

package proof_test

import (
	"os"
	"strconv"
	"testing"
)

// Names the file that shall receive the bundle of a month, for whoever measures another checker with it; HSI_PROOF_MONTH_MINERS says of how many miners.
const monthVariable = "HSI_PROOF_MONTH"

func TestMonthForOtherCheckers(t *testing.T) {
	to := os.Getenv(monthVariable)
	if to == "" {
		t.Skipf("writes a large file for other checkers: set %s to where it shall be", monthVariable)
	}
	miners := 1000
	if s := os.Getenv(monthVariable + "_MINERS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("%s_MINERS is %q, want a number of miners", monthVariable, s)
		}
		miners = n
	}
	file, trust, leaves := monthFile(t, miners)
	checkFile(t, file, trust)
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes, %d leaves", to, len(b), leaves)
}
