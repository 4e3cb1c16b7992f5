package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Where no endpoint answers there is nothing to show of the contract, least of all that it holds no anchor; and where one of two answers neither.
func TestAnchorVerifySaysThatNothingWasRead(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer down.Close()
	host := strings.TrimPrefix(down.URL, "http://")
	env := append(environment(t), "BLOCKCHAIN_ENABLED=1", "BLOCKCHAIN_NETWORK=custom", "BLOCKCHAIN_CHAIN_ID=31337", "BLOCKCHAIN_PRIVATE_KEY=0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
		"BLOCKCHAIN_CONTRACT=0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "BASE_RPC_URL="+down.URL+"/v2/SECRET")
	stdout, stderr, err := output(t, env, "anchor", "verify")
	if err == nil || strings.Contains(stdout, "newest anchor") || !strings.Contains(stdout, "NOTHING READ") || !strings.Contains(err.Error()+stderr, "nothing could be read from the chain") ||
		!strings.Contains(stdout, host+" is set aside") || strings.Contains(stdout+stderr+err.Error(), "SECRET") {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
	stdout, _, err = output(t, env, "anchor", "verify", "-o", "json")
	if err == nil || strings.Contains(stdout, `"seq"`) || strings.Contains(stdout, `"latest_block"`) || !strings.Contains(stdout, `"read": false`) {
		t.Errorf("%v\n%s", err, stdout)
	}
}
