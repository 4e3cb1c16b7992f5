package agentd

import (
	"strings"
	"testing"
	"time"
)

func TestTheReasonSaysWhichClockIsBehind(t *testing.T) {
	for skew, want := range map[time.Duration]string{2 * time.Minute: "2m0s behind the hub's", -90 * time.Second: "1m30s ahead of the hub's"} {
		if got := clockReason(skew); !strings.Contains(got, want) {
			t.Errorf("%v: %q lacks %q", skew, got, want)
		}
	}
}
