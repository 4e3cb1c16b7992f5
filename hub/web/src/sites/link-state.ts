// How a site reaches the hub, read off its agent's address and its peer.

/** The address part of host:port, an IPv6 one without its brackets. */
export function hostOf(hostPort: string): string {
  const end = hostPort.lastIndexOf(':');
  if (end < 0) return hostPort;
  return hostPort.slice(0, end).replace(/^\[(.*)\]$/, '$1');
}

/** The way of a connection: one that comes from the site's own address inside the tunnel came through it. Null when there is none. */
export function wayOf(connected: boolean, remote: string | undefined, tunnelAddress: string | undefined): 'tunnel' | 'direct' | null {
  if (!connected || !remote) return null;
  return tunnelAddress !== undefined && hostOf(remote) === hostOf(tunnelAddress.replace(/\/\d+$/, '')) ? 'tunnel' : 'direct';
}
