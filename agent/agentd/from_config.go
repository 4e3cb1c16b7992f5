package agentd

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hashinsight/hashinsight/agent/internal/config"
	"github.com/hashinsight/hashinsight/agent/internal/keys"
)

// FromConfig joins a loaded configuration and the site's identity.
func FromConfig(c config.Config, id *keys.Identity, log *slog.Logger, registry *prometheus.Registry) Config {
	out := Config{
		Dir: c.DataDir, identity: id,
		MaxInFlight: c.Poll.MaxInFlight, BatchInterval: c.Batch.Interval, MaxSamples: c.Batch.MaxSamples,
		SpoolMaxBytes: int64(c.Spool.MaxSize), SpoolSegmentBytes: int64(c.Spool.SegmentSize), SpoolGrace: c.Spool.Grace,
		Listen: c.ListenAddress(), Log: log, Registry: registry,
	}
	out.Hub = ways(id, c.Hub.Addresses(), c.Hub.Fallback != "off")
	if out.SpoolGrace == 0 {
		out.SpoolGrace = -1 // of a spool, 0 is the default
	}
	for _, m := range c.Miners() {
		out.Miners = append(out.Miners, Miner{
			Address: m.Address, Scan: m.Scan, Interval: m.Interval, ConnectTimeout: m.ConnectTimeout, Timeout: m.Timeout,
		})
	}
	return out
}
