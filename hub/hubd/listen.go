package hubd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen opens a TCP listener. A port in use names its owner as far as this process may see it.
func listen(ctx context.Context, addr string, share bool) (net.Listener, error) {
	var lc net.ListenConfig
	if share {
		lc.Control = reusePort
	}
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by %s: stop it or choose another address", addr, portOwner(addr))
	}
	if errors.Is(err, syscall.EACCES) {
		return nil, fmt.Errorf("%s: this user may not listen there: choose a port above 1023 or grant CAP_NET_BIND_SERVICE", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}
