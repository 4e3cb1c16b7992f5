package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const chainKey = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"

func chainOf(t *testing.T, env ...string) (*Config, Chain) {
	t.Helper()
	c, err := Load(Sources{Environ: append([]string{"HASHINSIGHT_ENV=dev", "DATA_DIR=/x", "BLOCKCHAIN_ENABLED=true"}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	return c, c.Chain()
}

func TestChainIsReadFromTheSettings(t *testing.T) {
	t.Parallel()
	_, ch := chainOf(t, "BLOCKCHAIN_PRIVATE_KEY="+chainKey, "BLOCKCHAIN_CONTRACT=0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		"BLOCKCHAIN_MAX_FEE_GWEI=0.05", "BLOCKCHAIN_MAX_USD_DAY=.5", "BLOCKCHAIN_MAX_USD_DAY=0.50", "BLOCKCHAIN_ETH_USD=3000")
	if err := ch.Err(); err != nil || !ch.On || ch.ID != 84532 || len(ch.URLs) != 1 || ch.URLs[0] != "https://sepolia.base.org" || ch.Interval != time.Hour {
		t.Errorf("%+v, %v", ch, err)
	}
	if ch.MaxFee.String() != "50000000" || ch.DayUSD != 500_000 || ch.EtherUSD != 3_000_000_000 {
		t.Errorf("limits %s, %d, %d", ch.MaxFee, ch.DayUSD, ch.EtherUSD)
	}
	_, ch = chainOf(t, "BLOCKCHAIN_NETWORK=base-mainnet", "BASE_RPC_URL=https://a.example/v2/KEY, https://b.example", "ANCHOR_INTERVAL=1m")
	if ch.ID != 8453 || len(ch.URLs) != 2 || ch.Interval != time.Minute || len(ch.Problems) != 0 {
		t.Errorf("%+v", ch)
	}
	if ch.MaxFee == nil || ch.MaxFee.String() != "100000000000" {
		t.Errorf("nobody chose a limit, and a unit of gas may cost %s wei: an endpoint sets the price", ch.MaxFee)
	}
	_, ch = chainOf(t, "BLOCKCHAIN_NETWORK=custom", "BLOCKCHAIN_CHAIN_ID=31337", "BASE_RPC_URL=http://127.0.0.1:8545")
	if ch.ID != 31337 || len(ch.Problems) != 0 {
		t.Errorf("%+v", ch)
	}
	if _, ch = chainOf(t, "BLOCKCHAIN_DRIVER=none"); ch.On {
		t.Error("without a driver it is on")
	}
}

// A hub whose chain is set wrongly starts all the same, and says everything that is wrong.
func TestChainProblemsAreFoundAtOnceAndStopNothingElse(t *testing.T) {
	t.Parallel()
	c, ch := chainOf(t, "BLOCKCHAIN_PRIVATE_KEY="+chainKey[:40], "BLOCKCHAIN_CONTRACT=0x12", "BLOCKCHAIN_NETWORK=ropsten", "BLOCKCHAIN_CHAIN_ID=-1", "BLOCKCHAIN_DRIVER=ipfs",
		"BASE_RPC_URL=ftp://x/HUSH77,https://y,https://y", "BLOCKCHAIN_MAX_FEE_GWEI=1e9", "BLOCKCHAIN_MAX_USD_DAY=0", "BLOCKCHAIN_ETH_USD=0.1234567", "ANCHOR_INTERVAL=1d")
	text := fmt.Sprint(ch.Err())
	for _, want := range []string{"BLOCKCHAIN_001: BLOCKCHAIN_PRIVATE_KEY is malformed", "BLOCKCHAIN_CONTRACT", "BLOCKCHAIN_NETWORK", "BLOCKCHAIN_CHAIN_ID", "BLOCKCHAIN_DRIVER", "number 1 is no http", "number 3 is there twice",
		"BLOCKCHAIN_MAX_FEE_GWEI", "BLOCKCHAIN_MAX_USD_DAY", "BLOCKCHAIN_ETH_USD", "ANCHOR_INTERVAL"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing about %s in %s", want, text)
		}
	}
	shown, err := json.Marshal(c.Values())
	if err != nil {
		t.Fatal(err)
	}
	all := text + string(shown) + fmt.Sprintf("%+v %#v", c, c) + strings.Join(c.Warnings, " ")
	for _, secret := range []string{chainKey[:40], "HUSH77"} {
		if strings.Contains(all, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for name, env := range map[string][]string{
		"BLOCKCHAIN_001: chain key not configured": {"BLOCKCHAIN_PRIVATE_KEY="},
		"are both set":                   {"BLOCKCHAIN_PRIVATE_KEY=" + chainKey, "BLOCKCHAIN_KEYSTORE=/k.json"},
		"BLOCKCHAIN_CONTRACT is missing": {"BLOCKCHAIN_PRIVATE_KEY=" + chainKey},
		"base-sepolia has 84532":         {"BLOCKCHAIN_CHAIN_ID=8453"},
		"BLOCKCHAIN_CHAIN_ID is missing": {"BLOCKCHAIN_NETWORK=custom"},
		"BASE_RPC_URL is missing":        {"BLOCKCHAIN_NETWORK=custom"},
		"BLOCKCHAIN_ETH_USD is missing":  {"BLOCKCHAIN_MAX_USD_DAY=1"},
	} {
		if _, ch := chainOf(t, env...); !strings.Contains(fmt.Sprint(ch.Err()), name) {
			t.Errorf("want %q: %v", name, ch.Err())
		}
	}
}

func TestChainWarnings(t *testing.T) {
	t.Parallel()
	c, _ := chainOf(t, "BASE_RPC_URL=http://rpc.example/KEY")
	if text := strings.Join(c.Warnings, "\n"); !strings.Contains(text, "http://") || !strings.Contains(text, "one endpoint") || strings.Contains(text, "KEY") {
		t.Errorf("warnings %q", text)
	}
	if c, _ = chainOf(t, "BASE_RPC_URL=https://a.example,https://b.example"); len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "with a third") {
		t.Errorf("warnings of two %q", c.Warnings)
	}
	if c, _ = chainOf(t, "BASE_RPC_URL=https://a.example,https://b.example,https://c.example"); len(c.Warnings) != 0 {
		t.Errorf("warnings of three %q", c.Warnings)
	}
}
