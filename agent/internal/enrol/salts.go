package enrol

import (
	"context"
	"crypto/tls"

	"github.com/hashinsight/hashinsight/pkg/ident"
	"github.com/hashinsight/hashinsight/pkg/identity"
	enrolv1 "github.com/hashinsight/hashinsight/proto/enrol/v1"
)

// maxSalts is what one call may carry.
const maxSalts = 1000

// KeepSalts gives the hub salt keys of the site's miners. It asks on the Keeper's addresses and leaves everything else about the identity alone.
func (k *Keeper) KeepSalts(ctx context.Context, keys map[ident.MinerID][32]byte) error {
	return keepSalts(ctx, hub{k.c.Addresses(), k.c.Dial}, siteTLS(k.id, k.c.Now), keys)
}

// KeepSalts is Keeper.KeepSalts for a site whose identity somebody else keeps: cfg is what its telemetry uses.
func KeepSalts(ctx context.Context, addresses []string, dial Dialer, cfg *tls.Config, keys map[ident.MinerID][32]byte) error {
	if dial == nil {
		dial = plainDialer()
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{identity.EnrolALPN, "h2"}
	return keepSalts(ctx, hub{addresses, dial}, cfg, keys)
}

func keepSalts(ctx context.Context, h hub, cfg *tls.Config, keys map[ident.MinerID][32]byte) error {
	var requests []*enrolv1.KeepSaltsRequest
	for miner, key := range keys {
		n := len(requests)
		if n == 0 || len(requests[n-1].GetKeys()) == maxSalts {
			requests = append(requests, &enrolv1.KeepSaltsRequest{Protocol: identity.EnrolProtocol})
			n++
		}
		requests[n-1].Keys = append(requests[n-1].Keys, &enrolv1.SaltKey{MinerId: miner[:], Key: key[:]})
	}
	return h.do(ctx, cfg, func(ctx context.Context, client enrolv1.EnrolServiceClient) error {
		for _, q := range requests {
			if _, err := client.KeepSalts(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}
