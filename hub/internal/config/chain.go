package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Endpoints are the URLs of RPC endpoints, separated by commas. They often hold a key, and print as hosts only.
type Endpoints string

// String implements fmt.Stringer.
func (e Endpoints) String() string {
	var hosts []string
	for _, text := range list(string(e)) {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			hosts = append(hosts, u.Scheme+"://"+u.Host)
		} else {
			hosts = append(hosts, hidden)
		}
	}
	return strings.Join(hosts, ",")
}

// GoString implements fmt.GoStringer.
func (e Endpoints) GoString() string { return e.String() }

// LogValue implements slog.LogValuer.
func (e Endpoints) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalJSON implements json.Marshaler.
func (e Endpoints) MarshalJSON() ([]byte, error) { return []byte(strconv.Quote(e.String())), nil }

// Drivers that anchor the log's checkpoints.
const (
	DriverContract = "log-contract"
	DriverNone     = "none" // checkpoints are signed, and anchored nowhere
)

// Chain is where the log is anchored, read from the settings. Its problems stop nothing but anchoring: a hub whose chain key is wrong still takes telemetry.
type Chain struct {
	On               bool // BLOCKCHAIN_ENABLED, and a driver that needs a chain
	Network          string
	ID               uint64
	URLs             []string
	Contract         string // 0x and 40 hex digits; empty: none yet
	PrivateKey       Secret
	Keystore         string
	KeystorePassword Secret
	MaxFee           *big.Int // wei for a unit of gas
	DayUSD, EtherUSD int64    // 10^-6 USD; 0: no limit, unknown
	Interval         time.Duration

	Problems []error // of what asking the chain needs
	Key      error   // what is wrong with the key, which only who anchors needs
	Target   error   // what is wrong with the contract's address, which deploying needs not
}

// Err is all that keeps a hub from anchoring.
func (c *Chain) Err() error { return errors.Join(append(slices.Clone(c.Problems), c.Key, c.Target)...) }

// networks are those whose chain ids and public endpoints are known.
var networks = map[string]struct {
	id  uint64
	url string
}{
	"base-sepolia": {84532, "https://sepolia.base.org"},
	"base-mainnet": {8453, "https://mainnet.base.org"},
}

var (
	privateKey = regexp.MustCompile(`^0x[0-9a-fA-F]{64}$`)
	address    = regexp.MustCompile(`^0x[0-9a-fA-F]{40}$`)
	decimal    = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,9})?$`)
)

// Chain reads the settings of the chain, and finds all that is wrong with them.
func (c *Config) Chain() Chain {
	ch := Chain{
		On: c.BlockchainEnabled && c.BlockchainDriver != DriverNone, Network: c.BlockchainNetwork, Contract: c.BlockchainContract,
		PrivateKey: c.BlockchainPrivateKey, Keystore: c.BlockchainKeystore, KeystorePassword: c.BlockchainKeystorePassword,
	}
	bad := func(format string, args ...any) { ch.Problems = append(ch.Problems, fmt.Errorf(format, args...)) }
	if c.BlockchainDriver != DriverContract && c.BlockchainDriver != DriverNone {
		bad("BLOCKCHAIN_DRIVER is %.40q: want %s or %s", c.BlockchainDriver, DriverContract, DriverNone)
	}
	known, ok := networks[c.BlockchainNetwork]
	ch.ID = known.id
	if !ok && c.BlockchainNetwork != "custom" {
		bad("BLOCKCHAIN_NETWORK is %.40q: want base-sepolia, base-mainnet or custom", c.BlockchainNetwork)
	}
	switch id, err := strconv.ParseUint(c.BlockchainChainID, 10, 63); {
	case c.BlockchainChainID == "" && c.BlockchainNetwork == "custom":
		bad("BLOCKCHAIN_CHAIN_ID is missing: BLOCKCHAIN_NETWORK is custom")
	case c.BlockchainChainID == "":
	case err != nil || id == 0:
		bad("BLOCKCHAIN_CHAIN_ID is %.40q: want a whole number from 1", c.BlockchainChainID)
	case ok && id != known.id:
		bad("BLOCKCHAIN_CHAIN_ID is %d: %s has %d; leave it away, or set BLOCKCHAIN_NETWORK=custom", id, c.BlockchainNetwork, known.id)
	default:
		ch.ID = id
	}
	ch.URLs = list(string(c.BaseRPCURL))
	switch {
	case len(ch.URLs) == 0 && known.url != "":
		ch.URLs = []string{known.url}
	case len(ch.URLs) == 0:
		bad("BASE_RPC_URL is missing: BLOCKCHAIN_NETWORK is custom")
	case len(ch.URLs) > 8:
		bad("BASE_RPC_URL has %d endpoints: want at most 8", len(ch.URLs))
	}
	for i, text := range ch.URLs {
		u, err := url.Parse(text) // its text can hold a key
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			bad("BASE_RPC_URL: number %d is no http or https URL", i+1)
		}
		if slices.Contains(ch.URLs[:i], text) {
			bad("BASE_RPC_URL: number %d is there twice: that two agree would mean nothing", i+1)
		}
	}
	switch {
	case c.BlockchainPrivateKey != "" && c.BlockchainKeystore != "":
		ch.Key = errors.New("BLOCKCHAIN_PRIVATE_KEY and BLOCKCHAIN_KEYSTORE are both set: want one of them")
	case c.BlockchainPrivateKey == "" && c.BlockchainKeystore == "":
		ch.Key = errors.New("BLOCKCHAIN_001: chain key not configured: set BLOCKCHAIN_PRIVATE_KEY (0x and 64 hex digits), or BLOCKCHAIN_KEYSTORE")
	case c.BlockchainPrivateKey != "" && !privateKey.MatchString(string(c.BlockchainPrivateKey)):
		ch.Key = fmt.Errorf("BLOCKCHAIN_001: BLOCKCHAIN_PRIVATE_KEY is malformed: want 0x and 64 hex digits, it has %d characters", len(c.BlockchainPrivateKey))
	}
	switch {
	case c.BlockchainContract == "":
		ch.Target = errors.New("BLOCKCHAIN_CONTRACT is missing: hashinsight-hub anchor deploy puts a contract on the chain and prints its address")
	case !address.MatchString(c.BlockchainContract):
		ch.Target = fmt.Errorf("BLOCKCHAIN_CONTRACT is %.60q: want 0x and 40 hex digits", c.BlockchainContract)
	}
	amount := func(name, text string, digits int) *big.Int {
		if text == "" {
			return nil
		}
		v, err := units(text, digits)
		if err != nil {
			bad("%s is %.40q: %w", name, text, err)
		}
		return v
	}
	ch.MaxFee = amount("BLOCKCHAIN_MAX_FEE_GWEI", c.BlockchainMaxFeeGwei, 9)
	if v := amount("BLOCKCHAIN_MAX_USD_DAY", c.BlockchainMaxUSDDay, 6); v != nil {
		ch.DayUSD = v.Int64()
	}
	if v := amount("BLOCKCHAIN_ETH_USD", c.BlockchainEthUSD, 6); v != nil {
		ch.EtherUSD = v.Int64()
	}
	if ch.DayUSD > 0 && ch.EtherUSD == 0 {
		bad("BLOCKCHAIN_ETH_USD is missing: BLOCKCHAIN_MAX_USD_DAY needs what one ETH costs")
	}
	d, err := time.ParseDuration(c.AnchorInterval)
	if err != nil || d < time.Second || d > 24*time.Hour {
		bad("ANCHOR_INTERVAL is %.40q: want 1s to 24h, such as 1h", c.AnchorInterval)
		d = time.Hour
	}
	ch.Interval = d
	return ch
}

// units reads a decimal number of something as whole units of 10^-digits, exactly.
func units(text string, digits int) (*big.Int, error) {
	whole, part, _ := strings.Cut(text, ".")
	part = strings.TrimRight(part, "0")
	if !decimal.MatchString(text) || len(part) > digits {
		return nil, fmt.Errorf("want a number such as 0.05, of at most %d digits after the point", digits)
	}
	v, _ := new(big.Int).SetString(whole+part+strings.Repeat("0", digits-len(part)), 10) // digits only
	if v.Sign() == 0 {
		return nil, errors.New("want more than 0: to limit nothing, leave it away")
	}
	return v, nil
}

// warnChain warns of what is probably a mistake.
func (c *Config) warnChain() {
	ch := c.Chain()
	if !ch.On {
		return
	}
	var hosts []string
	for _, text := range ch.URLs {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		if ip, perr := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (perr != nil || !ip.IsLoopback()) {
			c.Warnings = append(c.Warnings, "BASE_RPC_URL has an endpoint with http://: whoever is on the way can answer in its place")
		}
		if slices.Contains(hosts, u.Host) {
			c.Warnings = append(c.Warnings, "BASE_RPC_URL names "+net.JoinHostPort(u.Hostname(), u.Port())+" twice: two endpoints of one provider are one witness")
		}
		hosts = append(hosts, u.Host)
	}
	switch len(ch.URLs) {
	case 1:
		c.Warnings = append(c.Warnings, "BASE_RPC_URL has one endpoint, whose word is believed: of three, of different providers, two must agree, and one may fail")
	case 2:
		c.Warnings = append(c.Warnings, "BASE_RPC_URL has two endpoints, which must agree: while one of them fails nothing is anchored; with a third, of another provider, one may fail")
	}
}
