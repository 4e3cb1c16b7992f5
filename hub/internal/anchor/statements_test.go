package anchor

import (
	"testing"

	"github.com/hashinsight/hashinsight/hub/pgtest"
)

func TestStatementsFitTheSchema(t *testing.T) {
	if n := len(pgtest.PrepareStatements(t, pgtest.New(t))); n < 25 {
		t.Errorf("only %d statements found", n)
	}
}
