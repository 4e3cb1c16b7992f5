package asic

import (
	"context"
	"errors"

	"github.com/hashinsight/hashinsight/agent/internal/cgminer"
	"github.com/hashinsight/hashinsight/pkg/telemetry"
)

// RawReply is what a miner answered to one command, byte for byte but for the closing NUL.
type RawReply struct {
	Command string
	Bytes   []byte // what came, even when Err is set
	Err     error  // nil when the bytes are a reply, mended or not
}

// Probe reads one miner once and then fetches the raw reply to each command that its driver knows, one after
// the other. The raw replies are of later requests than the observation and may differ from it by what
// happened in between. The error is that of the read; when the miner cannot be reached there are no raw
// replies.
func Probe(ctx context.Context, address string, client *cgminer.Client) ([]RawReply, telemetry.Observation, telemetry.MinerInfo, error) {
	r := NewReader(Config{Address: address, Client: client})
	obs, info := r.Read(ctx)
	var err error
	if !obs.Outcome.Answered() {
		err = &cgminer.Error{Command: "probe " + address, Outcome: obs.Outcome, Err: errors.New("no reading")}
		if len(obs.Errors) > 0 {
			err = errors.New(obs.Errors[0])
		}
	}
	switch obs.Outcome {
	case telemetry.OutcomeRefused, telemetry.OutcomeUnreachable, telemetry.OutcomeTimeout:
		return nil, obs, info, err
	}
	commands := r.id.driver().asks | setOf(cmdVersion, cmdDevdetails)
	if r.id.family == familyWhatsminer {
		commands |= setOf(cmdGetVersion, cmdStatus, cmdDevs)
	}
	var raw []RawReply
	for c := range commands.all() {
		if ctx.Err() != nil {
			break
		}
		b, err := client.Raw(ctx, address, c.String())
		raw = append(raw, RawReply{Command: c.String(), Bytes: b, Err: err})
	}
	return raw, obs, info, err
}
